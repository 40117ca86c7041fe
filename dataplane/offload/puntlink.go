//go:build linux

package offload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// puntLink is the pair of links over which packets go to user space: what the
// programs send out of one end, a socket reads at the other. The machine's own
// stack has no use for either: they have no addresses, and what they carry is of
// an EtherType that it drops.
type puntLink struct{ out, in nl.Link }

// puntMTU lets every packet pass as it is.
const puntMTU = 65535

// puntNames are the ends' names: those of the instance.
func puntNames(instance string) (out, in string) {
	sum := sha256.Sum256([]byte(instance))
	base := "p" + hex.EncodeToString(sum[:2])
	return base + "a", base + "b"
}

func puntAlias(instance string) string { return "hnv:" + instance + "::punt" }

// makePuntLink makes it, or takes over the one that is there.
func makePuntLink(h *nl.Handle, instance string) (p puntLink, err error) {
	out, in := puntNames(instance)
	err = h.AddVeth(nl.LinkEnd{Name: out, MTU: puntMTU, NoARP: true}, nl.LinkEnd{Name: in, MTU: puntMTU, NoARP: true})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return p, fmt.Errorf("make the punt link: %w", err)
	}
	made := err == nil
	for _, end := range []struct {
		name string
		to   *nl.Link
	}{{out, &p.out}, {in, &p.in}} {
		l, err := h.Link(end.name)
		if err != nil {
			return p, fmt.Errorf("make the punt link: %w", err)
		}
		if !made && l.Alias != puntAlias(instance) && l.Alias != "" {
			return p, fmt.Errorf("make the punt link: interface %s is there already and is not ours: it must be renamed", end.name)
		}
		if err := h.SetSysctl("ipv6/conf/"+end.name+"/disable_ipv6", "1"); err != nil && !errors.Is(err, nl.ErrNotFound) {
			return p, fmt.Errorf("make the punt link: %w", err)
		}
		if err := h.SetLink(l.Index, nl.LinkChange{Alias: puntAlias(instance), MTU: puntMTU, NoARP: true, AddrGenNone: true, Up: true}); err != nil {
			return p, fmt.Errorf("make the punt link: %w", err)
		}
		*end.to = l
	}
	return p, nil
}

func removePuntLink(h *nl.Handle, instance string) (removed []string, err error) {
	out, _ := puntNames(instance)
	l, err := h.Link(out)
	if errors.Is(err, nl.ErrNotFound) || err == nil && l.Alias != puntAlias(instance) {
		return nil, nil
	}
	if err == nil {
		err = h.DelLink(out)
	}
	if err != nil {
		return nil, fmt.Errorf("remove the punt link: %w", err)
	}
	return []string{"link " + out}, nil
}

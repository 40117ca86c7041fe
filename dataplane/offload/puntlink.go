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
	base := "p" + hash4(instance)
	return base + "a", base + "b"
}

// hash4 is what links' names have of the instance's.
func hash4(instance string) string {
	sum := sha256.Sum256([]byte(instance))
	return hex.EncodeToString(sum[:2])
}

func puntAlias(instance string) string { return "hnv:" + instance + "::punt" }

// isOurs tells whether a link with a name of ours is ours: it has the alias, or was
// only just made when the process that made it died.
func isOurs(l nl.Link, alias string) bool { return l.Alias == alias || l.Alias == "" && !l.Up }

// findPuntLink looks for it; nl.ErrNotFound if it is not there, or is not ours.
func findPuntLink(h *nl.Handle, instance string) (p puntLink, err error) {
	out, in := puntNames(instance)
	if p.out, err = h.Link(out); err != nil {
		return p, err
	}
	if p.in, err = h.Link(in); err != nil {
		return p, err
	}
	if !isOurs(p.out, puntAlias(instance)) {
		return p, fmt.Errorf("interface %s is another's: %w", out, nl.ErrNotFound)
	}
	return p, nil
}

// makePuntLink makes it, or takes over the one that is there.
func makePuntLink(h *nl.Handle, instance string) (p puntLink, made bool, err error) {
	out, in := puntNames(instance)
	err = h.AddVeth(nl.LinkEnd{Name: out, MTU: puntMTU, NoARP: true}, nl.LinkEnd{Name: in, MTU: puntMTU, NoARP: true})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return p, false, fmt.Errorf("make the punt link: %w", err)
	}
	made = err == nil
	for _, end := range []struct {
		name string
		to   *nl.Link
	}{{in, &p.in}, {out, &p.out}} {
		l, err := h.Link(end.name)
		if err == nil && !made && !isOurs(l, puntAlias(instance)) {
			err = fmt.Errorf("interface %s is another's: it must be renamed", end.name)
		}
		if err == nil {
			err = setPuntEnd(h, instance, l)
		}
		if err != nil {
			return p, made, fmt.Errorf("make the punt link: %w", err)
		}
		*end.to = l
	}
	return p, made, nil
}

// segmented are the kinds of super-packets that the header which AF_PACKET gives
// to its readers cannot describe: the kernel cuts them on the way. What it leaves
// whole is plain TCP, by far the most.
var segmented = map[string]bool{
	"tx-gre-segmentation": false, "tx-gre-csum-segmentation": false, "tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false,
	"tx-ipxip4-segmentation": false, "tx-ipxip6-segmentation": false, "tx-tunnel-remcsum-segmentation": false, "tx-gso-partial": false,
	"tx-udp-segmentation": false, "tx-sctp-segmentation": false, "tx-gso-list": false,
}

func setPuntEnd(h *nl.Handle, instance string, l nl.Link) error {
	if err := h.SetFeatures(l.Name, segmented); err != nil {
		return err
	}
	if err := quiet(h, l.Name); err != nil {
		return err
	}
	return h.SetLink(l.Index, nl.LinkChange{Alias: puntAlias(instance), MTU: puntMTU, NoARP: true, AddrGenNone: true, Up: true})
}

// letAsk has the programs ask on behalf of the link which way a packet goes: the
// kernel tells it of links that forward alone, and those of the fabric must not.
// Nothing comes out of this one that could be forwarded. Whoever changes the setting
// of all links changes this one's, too, so it is put right again and again.
func letAsk(h *nl.Handle, l nl.Link) error {
	err := h.SetLink(l.Index, nl.LinkChange{Conf4: map[nl.Conf4]int{nl.Forwarding4: 1}})
	if six := h.SetSysctl("ipv6/conf/"+l.Name+"/forwarding", "1"); !errors.Is(six, nl.ErrNotFound) { // as without IPv6
		err = errors.Join(err, six)
	}
	if err != nil {
		return fmt.Errorf("have the kernel tell the ways over the fabric: %w", err)
	}
	return nil
}

// quiet keeps the machine's own stack from saying anything on the link.
func quiet(h *nl.Handle, link string) error {
	if err := h.SetSysctl("ipv6/conf/"+link+"/disable_ipv6", "1"); err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	return nil
}

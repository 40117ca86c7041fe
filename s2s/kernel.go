//go:build linux

package s2s

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/hnvgate/hnvgate/internal/netns"
)

const errExist = syscall.EEXIST

// kernel is a link of the kernel's WireGuard. It needs no process: one that comes
// later finds it as it was left, with its sessions.
type kernel struct {
	ctl  *wgctrl.Client
	link string
}

func (w *kernel) kind() Implementation { return Kernel }

func (w *kernel) show() (wgDevice, error) {
	d, err := w.ctl.Device(w.link)
	if err != nil {
		return wgDevice{}, fmt.Errorf("ask WireGuard about link %s: %w", w.link, err)
	}
	// The library also knows of sockets of other processes, by the link's name alone.
	if d.Type != wgtypes.LinuxKernel {
		return wgDevice{}, fmt.Errorf("link %s is not one of the kernel's WireGuard", w.link)
	}
	return fromKernel(d), nil
}

// change tells the kernel what differs, and nothing else.
func (w *kernel) change(_ netns.NS, have, want wgDevice, told map[Key]netip.AddrPort) (bool, error) {
	c, differs := planKernel(have, want, told, NewPrivateKey().Public())
	if !differs {
		return false, nil
	}
	if err := w.ctl.ConfigureDevice(w.link, c); err != nil {
		return false, fmt.Errorf("configure link %s: %w", w.link, err)
	}
	return true, nil
}

func (w *kernel) shape(Tunnel, int) {} // shaping.go

func (w *kernel) drops() (in, out uint64) { return 0, 0 }

func (w *kernel) ended() bool { return false }

func (w *kernel) close() {}

// endpointMark stands in the alias of a kernel's link, behind the tunnel's name, for the
// endpoints that its peers were given: whoever adopts the link can tell a peer that has
// moved, which is to be left where it is, from one that is to be found elsewhere now.
func endpointMark(d wgDevice) string {
	h := sha256.New()
	for _, k := range sortedKeys(d.peers) {
		fmt.Fprintf(h, "%x %s\n", k[:], d.peers[k].endpoint)
	}
	return "/" + hex.EncodeToString(h.Sum(nil)[:8])
}

// adopted gives the endpoints that the peers of a link, as it is, were given by whoever
// gave it the alias, as far as that can be told.
func adopted(alias string, have, want wgDevice) map[Key]netip.AddrPort {
	told := map[Key]netip.AddrPort{}
	same := strings.HasSuffix(alias, endpointMark(want))
	for k, p := range have.peers {
		told[k] = p.endpoint
		if same {
			told[k] = want.peers[k].endpoint
		}
	}
	return told
}

// alias is the mark of the tunnel's link.
func (t Tunnel) alias(kind Implementation) string {
	mark := ""
	if kind == Kernel {
		mark = endpointMark(t.wanted())
	}
	return aliasPrefix + t.Name + mark
}

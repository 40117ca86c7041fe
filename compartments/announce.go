//go:build linux

package compartments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// announceAddrs tells the link's neighbours that the addresses are at its MAC:
// by gratuitous ARP (RFC 5227 section 3) and unsolicited neighbour
// advertisements (RFC 4861 section 7.2.6). Neighbours that do not hear it find
// out by asking, so a link that is down is no error.
func announceAddrs(h *nl.Handle, index int, addrs []netip.Addr) error {
	l, err := h.LinkByIndex(index)
	if err != nil {
		return err
	}
	if !l.Up {
		return nil
	}
	for _, a := range addrs {
		err := h.SendFrame(index, announcement(l.MAC, a))
		if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("announce %s: %w", a, err)
		}
	}
	return nil
}

// announcement builds the frame.
//
//	ARP: Ethernet broadcast | request | sender and target: the address
//	ND:  Ethernet 33:33:0:0:0:1 | IPv6 from the address to ff02::1, hop limit 255 |
//	     advertisement, override flag, target: the address | option: the MAC
func announcement(mac [6]byte, a netip.Addr) []byte {
	if a.Is4() {
		b := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
		b = append(b, 0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1)
		b = append(append(b, mac[:]...), a.AsSlice()...)
		return append(append(b, 0, 0, 0, 0, 0, 0), a.AsSlice()...)
	}
	const next, advertisement, override, targetMAC = 58, 136, 0x20, 2
	all := netip.MustParseAddr("ff02::1").As16()
	b := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac[:]...)
	b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, next, 255)
	b = append(append(b, a.AsSlice()...), all[:]...)
	icmp := len(b)
	b = append(b, advertisement, 0, 0, 0, override, 0, 0, 0)
	b = append(b, a.AsSlice()...)
	b = append(append(b, targetMAC, 1), mac[:]...)

	sum := uint32(32 + next) // the pseudo header's length and protocol
	for _, part := range [][]byte{b[icmp-32 : icmp], b[icmp:]} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[icmp+2:], ^uint16(sum))
	return b
}

// A herald announces an address again: what announces only once may not be heard
// by all, as where a switch is still learning where the interface is.
type herald struct {
	left int
	next time.Time
}

const (
	heralds     = 2 // how often more
	heraldPause = time.Second
)

// herald remembers the addresses, which are announced now.
func (g *gateway) herald(addrs []netip.Addr, now time.Time) {
	if g.heralds == nil {
		g.heralds = map[netip.Addr]herald{}
	}
	for _, a := range addrs {
		g.heralds[a] = herald{heralds, now.Add(heraldPause)}
	}
}

// announceAgain does what is due, on links that work.
func (e *Engine) announceAgain(seen seenProvider) error {
	g := e.gw
	now := e.now()
	due := map[string][]netip.Addr{}
	for a, h := range g.heralds {
		name, ours := seen.placed[a]
		l, there := seen.links[name]
		if !ours || !there {
			delete(g.heralds, a)
			continue
		}
		if seen.health[name].fault != FaultNone {
			continue // when it works again is told by an event
		}
		if !h.next.After(now) {
			due[l.Name] = append(due[l.Name], a)
			h = herald{h.left - 1, now.Add(heraldPause)}
		}
		if g.heralds[a] = h; h.left == 0 {
			delete(g.heralds, a)
			continue
		}
		g.lookAgain(h.next.Sub(now))
	}
	for name, addrs := range due {
		if err := announceAddrs(e.out, seen.links[name].Index, addrs); err != nil {
			return err
		}
	}
	return nil
}

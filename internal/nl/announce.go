//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Announce tells the link's neighbours that the addresses are at its MAC:
// by gratuitous ARP (RFC 5227 section 3) and unsolicited neighbour
// advertisements (RFC 4861 section 7.2.6). Neighbours that do not hear it find
// out by asking, so a link that is down is no error.
func (h *Handle) Announce(index int, addrs []netip.Addr) error {
	l, err := h.LinkByIndex(index)
	if err != nil {
		return err
	}
	if !l.Up {
		return nil
	}
	for _, a := range addrs {
		err := h.SendFrame(index, Announcement(l.MAC, a))
		if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("announce %s: %w", a, err)
		}
	}
	return nil
}

// Announcement builds the frame that Announce sends.
//
//	ARP: Ethernet broadcast | request | sender and target: the address
//	ND:  Ethernet 33:33:0:0:0:1 | IPv6 from the address to ff02::1, hop limit 255 |
//	     advertisement, override flag, target: the address | option: the MAC
func Announcement(mac [6]byte, a netip.Addr) []byte {
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

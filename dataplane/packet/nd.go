package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// The ICMPv6 types of neighbor discovery (RFC 4861 section 4).
const (
	NDRouterSolicitation    = 133
	NDRouterAdvertisement   = 134
	NDNeighborSolicitation  = 135
	NDNeighborAdvertisement = 136
	NDRedirect              = 137
)

// The link-layer address options of the two messages.
const (
	ndOptSource = 1
	ndOptTarget = 2
)

const (
	ndLen    = 24 // without options
	ndOptLen = 8  // a link-layer address of 6 bytes
)

// ND is a neighbor solicitation or advertisement (RFC 4861 sections 4.3, 4.4).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Type 135, 136 |    Code 0     |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|S|O|                     Reserved                            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  Target address (128 bits)                    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Type 1 or 2  |   Length 1    |                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//	|                      Link-layer address                       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type ND struct {
	Type                        uint8 // NDNeighborSolicitation or NDNeighborAdvertisement
	Router, Solicited, Override bool  // of an advertisement
	Target                      netip.Addr
	LinkAddr                    [6]byte // the sender's, or in an advertisement the target's
	HasLinkAddr                 bool
}

// IsND tells whether the packet is a neighbor discovery message of any type.
func (h *Headers) IsND() bool {
	return h.Version == 6 && h.Proto == ProtoICMPv6 && h.FragOffset == 0 &&
		h.ICMPType >= NDRouterSolicitation && h.ICMPType <= NDRedirect
}

// Parse reads the neighbor discovery message in the frame b that h was decoded
// from, making every check that RFC 4861 sections 7.1.1 and 7.1.2 and RFC 6980
// section 5 ask of a receiver. A partial checksum must have been completed
// before. Messages about routers are left to drop.NDIgnored.
func (n *ND) Parse(b []byte, h *Headers) drop.Reason {
	*n = ND{}
	if !h.IsND() || h.L3+h.Length > len(b) {
		return drop.NDMalformed
	}
	m := b[h.L4 : h.L3+h.Length]
	switch {
	case h.TTL != 255, h.IsFragment(), h.ICMPCode != 0,
		Checksum(m, PseudoSum(h.Src, h.Dst, ProtoICMPv6, len(m))) != 0:
		return drop.NDMalformed
	case h.ICMPType != NDNeighborSolicitation && h.ICMPType != NDNeighborAdvertisement:
		return drop.NDIgnored
	case len(m) < ndLen:
		return drop.NDMalformed
	}
	n.Type = m[0]
	n.Target = netip.AddrFrom16([16]byte(m[8:]))
	option := uint8(ndOptSource)
	if n.Type == NDNeighborAdvertisement {
		n.Router, n.Solicited, n.Override = m[4]&0x80 != 0, m[4]&0x40 != 0, m[4]&0x20 != 0
		option = ndOptTarget
	}
	if n.Target.IsMulticast() || n.Target.IsUnspecified() || n.Target.Is4In6() {
		return drop.NDMalformed
	}
	if !n.parseOptions(m[ndLen:], option) {
		return drop.NDMalformed
	}
	switch {
	case h.Src.IsMulticast():
		return drop.NDMalformed
	case n.Type == NDNeighborAdvertisement:
		if h.Src.IsUnspecified() || n.Solicited && h.Dst.IsMulticast() {
			return drop.NDMalformed
		}
	case h.Src.IsUnspecified():
		// Duplicate address detection asks the group of the target and does
		// not say where it lives.
		if h.Dst != SolicitedNode(n.Target) || n.HasLinkAddr {
			return drop.NDMalformed
		}
	}
	return drop.None
}

// parseOptions walks the options (RFC 4861 section 4.6): each states its length
// in units of 8 bytes, never 0. Unknown ones are skipped.
func (n *ND) parseOptions(o []byte, want uint8) bool {
	for len(o) > 0 {
		if len(o) < 2 {
			return false
		}
		size := int(o[1]) * 8
		if size == 0 || size > len(o) {
			return false
		}
		if o[0] == want && !n.HasLinkAddr {
			if size != ndOptLen {
				return false
			}
			n.LinkAddr, n.HasLinkAddr = [6]byte(o[2:]), true
			if n.LinkAddr[0]&1 != 0 || n.LinkAddr == [6]byte{} {
				return false
			}
		}
		o = o[size:]
	}
	return true
}

// Append writes the ICMPv6 message behind b, with the checksum that it has
// between src and dst. The target must be an IPv6 address.
func (n *ND) Append(b []byte, src, dst netip.Addr) []byte {
	start := len(b)
	flags, option := uint8(0), uint8(ndOptSource)
	if n.Type == NDNeighborAdvertisement {
		option = ndOptTarget
		for i, set := range [...]bool{n.Router, n.Solicited, n.Override} {
			if set {
				flags |= 0x80 >> i
			}
		}
	}
	target := n.Target.As16()
	b = append(b, n.Type, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, target[:]...)
	if n.HasLinkAddr {
		b = append(b, option, 1)
		b = append(b, n.LinkAddr[:]...)
	}
	m := b[start:]
	binary.BigEndian.PutUint16(m[2:], Checksum(m, PseudoSum(src, dst, ProtoICMPv6, len(m))))
	return b
}

// Build makes f the Ethernet frame that carries the message from src to dst;
// false if f has no room.
func (n *ND) Build(f *Frame, dstMAC, srcMAC [6]byte, src, dst netip.Addr) bool {
	f.Reset()
	size := ndLen
	if n.HasLinkAddr {
		size += ndOptLen
	}
	b := f.Append(EthernetLen + IPv6Len + size)
	if b == nil {
		return false
	}
	PutEthernet(b, dstMAC, srcMAC, EtherTypeIPv6)
	putIPv6(b[EthernetLen:], src, dst, ProtoICMPv6, 255, 0, size)
	n.Append(b[:EthernetLen+IPv6Len], src, dst)
	return true
}

// BuildNeighborSolicitation makes f the frame that asks, in the name of srcMAC
// and src, who has the target address: one station, if dstMAC is its address, to
// see whether it still has it (RFC 4861 section 7.3.3), or those of the target's
// group, if dstMAC is a group's. False if f has no room.
func BuildNeighborSolicitation(f *Frame, dstMAC, srcMAC [6]byte, src, target netip.Addr) bool {
	dst := target
	if dstMAC[0]&1 != 0 {
		dst = SolicitedNode(target)
		dstMAC = MulticastMAC(dst)
	}
	n := ND{Type: NDNeighborSolicitation, Target: target, LinkAddr: srcMAC, HasLinkAddr: true}
	return n.Build(f, dstMAC, srcMAC, src, dst)
}

// SolicitedNode gives the solicited-node multicast address of an IPv6 address
// (RFC 4291 section 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// MulticastMAC gives the Ethernet address of an IP multicast address (RFC 2464
// section 7, RFC 1112 section 6.4).
func MulticastMAC(a netip.Addr) [6]byte {
	if a.Is4() {
		b := a.As4()
		return [6]byte{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

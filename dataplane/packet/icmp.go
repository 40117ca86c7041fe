package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// ICMPError is what a router has to tell the sender of a packet, in the terms
// of whichever IP version the packet has.
type ICMPError uint8

// The errors. The zero ICMPError is none of them.
const (
	TooBig          ICMPError = iota + 1 // RFC 1191 section 4, RFC 4443 section 3.2
	TimeExceeded                         // RFC 1812 section 5.3.1, RFC 4443 section 3.3
	NoRoute                              // RFC 1812 section 5.2.7.1, RFC 4443 section 3.1
	HostUnreachable                      // likewise
	AdminProhibited                      // likewise
)

// code gives type and code in either version.
func (e ICMPError) code(version uint8) (typ, code uint8, ok bool) {
	table := [...]struct{ t4, c4, t6, c6 uint8 }{
		TooBig:          {3, 4, 2, 0},
		TimeExceeded:    {11, 0, 3, 0},
		NoRoute:         {3, 0, 1, 0},
		HostUnreachable: {3, 1, 1, 3},
		AdminProhibited: {3, 13, 1, 1},
	}
	if e == 0 || int(e) >= len(table) {
		return 0, 0, false
	}
	t := table[e]
	if version == 4 {
		return t.t4, t.c4, true
	}
	return t.t6, t.c6, true
}

const (
	icmpLen     = 8
	maxError4   = 576  // RFC 1812 section 4.3.2.3
	maxError6   = 1280 // RFC 4443 section 2.4 (c)
	minMTU4     = 68   // RFC 791 section 3.2
	minMTU6     = 1280 // RFC 8200 section 5
	routerTTL   = 64
	routerClass = 0xc0 // internetwork control (RFC 1812 section 4.3.2.5)
)

// BuildICMPError makes f the message from the router with the addresses from
// and fromMAC about the packet orig, that h was decoded from. It has an Ethernet
// header, back to where orig came from, if orig has one. mtu is used by TooBig
// alone.
//
// False if there may be no such message (RFC 1812 section 4.3.2.7, RFC 4443
// section 2.4 (e)): about an ICMP error, a later fragment, a packet to a group
// or from an address that is not one station's; or if f has no room. orig must
// be as it was received, before its TTL was decremented, and not lie in f.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Type      |     Code      |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   0, or the MTU: its low 16 bits in IPv4, all 32 in IPv6      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    As much of the packet as fits: 576 bytes of message in     |
//	|                     IPv4, 1280 in IPv6                        |
func BuildICMPError(f *Frame, e ICMPError, orig []byte, h *Headers, from netip.Addr, fromMAC [6]byte, mtu int) bool {
	typ, code, ok := e.code(h.Version)
	if !ok || !mayReport(e, h) || h.L3+h.Length > len(orig) || from.Is4() != (h.Version == 4) {
		return false
	}
	ipLen, limit, lowest := IPv4Len, maxError4, minMTU4
	if h.Version == 6 {
		ipLen, limit, lowest = IPv6Len, maxError6, minMTU6
	}
	quote := orig[h.L3 : h.L3+min(h.Length, limit-ipLen-icmpLen)]
	eth := h.L3 // 0 or EthernetLen
	f.Reset()
	b := f.Append(eth + ipLen + icmpLen + len(quote))
	if b == nil {
		return false
	}
	if eth == EthernetLen {
		PutEthernet(b, h.SrcMAC, fromMAC, h.EtherType)
	}
	m := b[eth+ipLen:]
	m[0], m[1], m[2], m[3] = typ, code, 0, 0
	rest := uint32(0)
	if e == TooBig {
		rest = uint32(max(mtu, lowest))
		if h.Version == 4 {
			rest = min(rest, MaxPacket)
		}
	}
	binary.BigEndian.PutUint32(m[4:], rest)
	copy(m[icmpLen:], quote)
	sum := uint64(0)
	if h.Version == 4 {
		putIPv4(b[eth:], from, h.Src, ProtoICMP, routerTTL, routerClass, len(m))
	} else {
		putIPv6(b[eth:], from, h.Src, ProtoICMPv6, routerTTL, routerClass, len(m))
		sum = PseudoSum(from, h.Src, ProtoICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], Checksum(m, sum))
	return true
}

// mayReport holds the rules of RFC 1812 section 4.3.2.7 and RFC 4443 section
// 2.4 (e).
func mayReport(e ICMPError, h *Headers) bool {
	switch h.Version {
	case 4:
		if h.FragOffset != 0 || h.DstMAC[0]&1 != 0 ||
			!isStation4(h.Src) || isGroup4(h.Dst) {
			return false
		}
		return h.Proto != ProtoICMP || !isError4(h.ICMPType)
	case 6:
		if h.Src.IsUnspecified() || h.Src.IsMulticast() || h.Src.IsLoopback() {
			return false
		}
		// A packet to a group may be reported as too big, so that path MTU
		// discovery works for multicast.
		if e != TooBig && (h.Dst.IsMulticast() || h.DstMAC[0]&1 != 0) {
			return false
		}
		if h.Proto != ProtoICMPv6 {
			return true
		}
		// Of a later fragment nobody can say whether it is of an error.
		return h.FragOffset == 0 && h.ICMPType >= 128 && h.ICMPType != NDRedirect
	}
	return false
}

// isStation4 tells whether an IPv4 address can be one station's: not of the
// networks 0 and 127, not multicast, reserved or broadcast.
func isStation4(a netip.Addr) bool {
	b := a.As4()
	return b[0] != 0 && b[0] != 127 && b[0] < 224
}

// isError4 tells the ICMP errors from the queries (RFC 1122 section 3.2.2).
func isError4(typ uint8) bool {
	switch typ {
	case 3, 4, 5, 11, 12:
		return true
	}
	return false
}

// ICMP types of echo.
const (
	ICMPEchoReply     = 0
	ICMPEchoRequest   = 8
	ICMPv6EchoRequest = 128
	ICMPv6EchoReply   = 129
)

// IsEchoRequest tells whether the packet is an echo request.
func (h *Headers) IsEchoRequest() bool {
	if h.FragOffset != 0 || h.ICMPCode != 0 {
		return false
	}
	return h.Version == 4 && h.Proto == ProtoICMP && h.ICMPType == ICMPEchoRequest ||
		h.Version == 6 && h.Proto == ProtoICMPv6 && h.ICMPType == ICMPv6EchoRequest
}

// EchoReply turns the echo request in the frame f, that h was decoded from, into
// the reply to it (RFC 1122 section 3.2.2.6, RFC 4443 section 4.2): addresses
// swapped, the data as it was. Requests with IP options or in fragments are not
// answered. Anything but drop.None leaves f as it was, but for a checksum
// completed.
func EchoReply(f *Frame, h *Headers) drop.Reason {
	if !CompleteChecksum(f) {
		return drop.ChecksumUnsupported
	}
	b := f.Bytes()
	if !h.IsEchoRequest() || h.IsFragment() || h.HasOptions || h.DstMAC[0]&1 != 0 || f.Offload.GSO != GSONone ||
		h.L3+h.Length > len(b) || h.L4+icmpLen > h.L3+h.Length {
		return drop.EchoMalformed
	}
	m := b[h.L4 : h.L3+h.Length]
	sum := uint64(0)
	if h.Version == 6 {
		sum = PseudoSum(h.Src, h.Dst, ProtoICMPv6, len(m))
	}
	if Checksum(m, sum) != 0 {
		return drop.EchoMalformed
	}
	f.TrimBack(h.L3 + h.Length)
	if h.L3 == EthernetLen {
		PutEthernet(b, h.SrcMAC, h.DstMAC, h.EtherType)
	}
	old := binary.BigEndian.Uint16(m)
	class := h.DSCP<<2 | h.ECN
	if h.Version == 4 {
		m[0] = ICMPEchoReply
		putIPv4(b[h.L3:], h.Dst, h.Src, ProtoICMP, routerTTL, class, len(m))
	} else {
		m[0] = ICMPv6EchoReply
		putIPv6(b[h.L3:], h.Dst, h.Src, ProtoICMPv6, routerTTL, class, len(m))
	}
	now := binary.BigEndian.Uint16(m)
	binary.BigEndian.PutUint16(m[2:], UpdateChecksum(binary.BigEndian.Uint16(m[2:]), old, now))
	return drop.None
}

// putIPv4 writes an IPv4 header without options: unfragmented, with DF and so
// ID 0 (RFC 6864 section 4.1), and in front of a payload of n bytes.
func putIPv4(b []byte, src, dst netip.Addr, proto, ttl, class uint8, n int) {
	b[0], b[1] = 0x45, class
	binary.BigEndian.PutUint16(b[2:], uint16(IPv4Len+n))
	binary.BigEndian.PutUint32(b[4:], 0x4000)
	b[8], b[9], b[10], b[11] = ttl, proto, 0, 0
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], Checksum(b[:IPv4Len], 0))
}

// putIPv6 writes an IPv6 header in front of a payload of n bytes.
func putIPv6(b []byte, src, dst netip.Addr, proto, hops, class uint8, n int) {
	binary.BigEndian.PutUint32(b, 6<<28|uint32(class)<<20)
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	b[6], b[7] = proto, hops
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
}

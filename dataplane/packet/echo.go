package packet

import (
	"encoding/binary"
	"net/netip"
)

// Echo is an echo reply (RFC 792, RFC 4443 section 4.2) as its asker sees it.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	| Type 0 or 129 |    Code 0     |           Checksum            |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          Identifier           |        Sequence number        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  The data of the request ...
type Echo struct {
	ID, Seq uint16
	Off     int // where the data is in the frame
	Len     int // of the data
}

// IsEchoReply tells whether the packet is an echo reply, or the first fragment of
// one.
func (h *Headers) IsEchoReply() bool {
	if h.FragOffset != 0 || h.ICMPCode != 0 {
		return false
	}
	return h.Version == 4 && h.Proto == ProtoICMP && h.ICMPType == ICMPEchoReply ||
		h.Version == 6 && h.Proto == ProtoICMPv6 && h.ICMPType == ICMPv6EchoReply
}

// Parse reads the echo reply in the frame b that h was decoded from. A partial
// checksum must have been completed before. False if it is none, or a fragment,
// or its checksum is wrong.
func (e *Echo) Parse(b []byte, h *Headers) bool {
	*e = Echo{}
	if !h.IsEchoReply() || h.IsFragment() || h.L3+h.Length > len(b) || h.L4+icmpLen > h.L3+h.Length {
		return false
	}
	m := b[h.L4 : h.L3+h.Length]
	sum := uint64(0)
	if h.Version == 6 {
		sum = PseudoSum(h.Src, h.Dst, ProtoICMPv6, len(m))
	}
	if Checksum(m, sum) != 0 {
		return false
	}
	e.ID, e.Seq = binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:])
	e.Off, e.Len = h.L4+icmpLen, len(m)-icmpLen
	return true
}

// BuildEchoRequest makes f the Ethernet frame of an echo request with the data,
// which may not be fragmented. Both addresses are of one family. False if f has
// no room, or no IP packet could hold the data.
func BuildEchoRequest(f *Frame, dstMAC, srcMAC [6]byte, src, dst netip.Addr, id, seq uint16, data []byte) bool {
	ipLen, etherType, typ := IPv4Len, uint16(EtherTypeIPv4), uint8(ICMPEchoRequest)
	if dst.Is6() {
		ipLen, etherType, typ = IPv6Len, EtherTypeIPv6, ICMPv6EchoRequest
	}
	if src.Is6() != dst.Is6() || ipLen+icmpLen+len(data) > MaxPacket {
		return false
	}
	f.Reset()
	b := f.Append(EthernetLen + ipLen + icmpLen + len(data))
	if b == nil {
		return false
	}
	PutEthernet(b, dstMAC, srcMAC, etherType)
	m := b[EthernetLen+ipLen:]
	m[0], m[1], m[2], m[3] = typ, 0, 0, 0
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	copy(m[icmpLen:], data)
	sum := uint64(0)
	if dst.Is6() {
		putIPv6(b[EthernetLen:], src, dst, ProtoICMPv6, routerTTL, 0, len(m))
		sum = PseudoSum(src, dst, ProtoICMPv6, len(m))
	} else {
		putIPv4(b[EthernetLen:], src, dst, ProtoICMP, routerTTL, 0, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], Checksum(m, sum))
	return true
}

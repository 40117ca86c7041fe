package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// EtherTypes.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeVLAN = 0x8100 // IEEE 802.1Q customer tag
	EtherTypeIPv6 = 0x86dd
	EtherTypeQinQ = 0x88a8 // IEEE 802.1Q service tag
)

// IP protocol numbers.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoGRE    = 47
	ProtoICMPv6 = 58
)

// Lengths of headers without options.
const (
	EthernetLen = 14
	IPv4Len     = 20
	IPv6Len     = 40
	TCPLen      = 20
	UDPLen      = 8
)

// Headers is what one pass over a frame finds. It holds values only, so it
// stays good when the frame changes. Offsets count from the slice decoded.
type Headers struct {
	DstMAC, SrcMAC [6]byte
	EtherType      uint16

	L3 int // where the network header (or ARP) starts
	L4 int // where the transport header starts, or a later fragment's data

	Version  uint8 // 4, 6, or 0 where the frame holds no IP packet
	Src, Dst netip.Addr
	Proto    uint8 // of the transport header, behind any IPv6 extensions
	TTL      uint8
	DSCP     uint8
	ECN      uint8
	Length   int // of the IP packet, by its own header; the frame may be padded

	MoreFragments bool
	FragOffset    uint16 // in bytes
	FragID        uint32 // what its fragments have in common; of IPv6, zero in whole packets
	DontFragment  bool   // always true of IPv6 (RFC 8200 section 5)
	HasOptions    bool   // IPv4 options, or IPv6 extensions other than Fragment

	// Of TCP and UDP, zero in any but the first fragment.
	SrcPort, DstPort uint16
	// Of ICMP and ICMPv6, likewise.
	ICMPType, ICMPCode uint8
	ICMPID             uint16 // of echo requests and replies alone
	TCPFlags           uint8
}

// TCP flags as they stand in Headers.TCPFlags (RFC 9293 section 3.1).
const (
	TCPFin = 1 << iota
	TCPSyn
	TCPRst
	TCPPsh
	TCPAck
	TCPUrg
	TCPEce
	TCPCwr
)

// IsFragment tells whether the packet is a fragment, the first one included.
func (h *Headers) IsFragment() bool { return h.MoreFragments || h.FragOffset != 0 }

// DecodeEthernet reads an Ethernet frame and the IP packet in it, checking all
// that can be checked without tables. A frame of another EtherType is taken
// with Version 0; its L3 tells where its payload starts.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                     Destination MAC address                   |
//	+                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                               |                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//	|                       Source MAC address                      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|           EtherType           |           payload ...
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// A VLAN tag is refused: no tunnel frame may carry one (RFC 7637 section 3.3,
// RFC 7348 section 6.1).
func (h *Headers) DecodeEthernet(b []byte) drop.Reason {
	*h = Headers{}
	if len(b) < EthernetLen {
		return drop.InnerTruncated
	}
	h.DstMAC, h.SrcMAC = [6]byte(b), [6]byte(b[6:])
	h.EtherType = binary.BigEndian.Uint16(b[12:])
	h.L3, h.L4 = EthernetLen, EthernetLen
	if h.SrcMAC[0]&1 != 0 || h.SrcMAC == [6]byte{} {
		return drop.InnerSourceMAC
	}
	switch h.EtherType {
	case EtherTypeIPv4:
		return h.decodeIPv4(b)
	case EtherTypeIPv6:
		return h.decodeIPv6(b)
	case EtherTypeVLAN, EtherTypeQinQ:
		return drop.InnerVLAN
	}
	return drop.None
}

// PutEthernet writes an Ethernet header into the first EthernetLen bytes of b.
func PutEthernet(b []byte, dst, src [6]byte, etherType uint16) {
	copy(b, dst[:])
	copy(b[6:], src[:])
	binary.BigEndian.PutUint16(b[12:], etherType)
}

// DecodeIP reads an IP packet without an Ethernet header.
func (h *Headers) DecodeIP(b []byte) drop.Reason {
	*h = Headers{}
	if len(b) == 0 {
		return drop.InnerTruncated
	}
	switch b[0] >> 4 {
	case 4:
		h.EtherType = EtherTypeIPv4
		return h.decodeIPv4(b)
	case 6:
		h.EtherType = EtherTypeIPv6
		return h.decodeIPv6(b)
	}
	return drop.InnerMalformed
}

// decodeTransport reads the ports of TCP and UDP and the type of ICMP out of
// payload, what the IP packet holds from L4 on. A first fragment must hold
// them, or filters could be slipped past (RFC 1858 section 3, RFC 7112).
func (h *Headers) decodeTransport(payload []byte) drop.Reason {
	if h.FragOffset != 0 {
		// A fragment that starts within the TCP header rewrites its flags
		// (RFC 1858 section 3.2).
		if h.Proto == ProtoTCP && h.FragOffset == 8 {
			return drop.InnerMalformed
		}
		return drop.None
	}
	switch h.Proto {
	case ProtoTCP:
		if len(payload) < TCPLen {
			return drop.InnerTruncated
		}
		if doff := int(payload[12]>>4) * 4; doff < TCPLen || doff > len(payload) && !h.MoreFragments {
			return drop.InnerMalformed
		}
		h.ports(payload)
		h.TCPFlags = payload[13]
	case ProtoUDP:
		if len(payload) < UDPLen {
			return drop.InnerTruncated
		}
		if n := int(binary.BigEndian.Uint16(payload[4:])); n < UDPLen || n > len(payload) && !h.MoreFragments {
			return drop.InnerMalformed
		}
		h.ports(payload)
	case ProtoICMP, ProtoICMPv6:
		if len(payload) < 4 {
			return drop.InnerTruncated
		}
		h.ICMPType, h.ICMPCode = payload[0], payload[1]
		if len(payload) >= icmpLen && h.isEcho() {
			h.ICMPID = binary.BigEndian.Uint16(payload[4:])
		}
	}
	return drop.None
}

// isEcho tells whether the message is an echo request or reply of the packet's
// IP version (RFC 792, RFC 4443 section 4).
func (h *Headers) isEcho() bool {
	switch h.Proto {
	case ProtoICMP:
		return h.Version == 4 && (h.ICMPType == ICMPEchoRequest || h.ICMPType == ICMPEchoReply)
	case ProtoICMPv6:
		return h.Version == 6 && (h.ICMPType == ICMPv6EchoRequest || h.ICMPType == ICMPv6EchoReply)
	}
	return false
}

func (h *Headers) ports(payload []byte) {
	h.SrcPort = binary.BigEndian.Uint16(payload)
	h.DstPort = binary.BigEndian.Uint16(payload[2:])
}

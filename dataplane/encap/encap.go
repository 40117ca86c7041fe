package encap

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Kind is the kind of tunnel.
type Kind uint8

// The kinds. The zero Kind is none of them.
const (
	KindNVGRE Kind = iota + 1
	KindVXLAN
)

func (k Kind) String() string {
	switch k {
	case KindNVGRE:
		return "nvgre"
	case KindVXLAN:
		return "vxlan"
	}
	return "unknown"
}

// VXLANPort is the UDP destination port that IANA assigned to VXLAN.
const VXLANPort = 4789

// DefaultTTL is the outer TTL or hop limit where none is asked for.
const DefaultTTL = 64

const (
	greLen   = 8 // with the key
	vxlanLen = 8
)

// Header is what the outer headers of a tunnel packet say.
type Header struct {
	Kind     Kind
	Src, Dst netip.Addr // provider addresses
	VSID     uint32
	FlowID   uint8  // NVGRE: the entropy
	SrcPort  uint16 // VXLAN: the entropy
	TTL      uint8  // Push: 0 is DefaultTTL
	TOS      uint8  // or traffic class: DSCP and ECN
	ID       uint16 // of IPv4; Push: 0 is right, the packet is atomic

	InnerOff int // Parse: where the inner Ethernet header starts
	Total    int // Parse: the outer packet's length; bytes behind it are padding
}

// ECN gives the congestion field of the outer header (RFC 3168 section 5).
func (h *Header) ECN() uint8 { return h.TOS & 3 }

// The dynamic ports, from which RFC 7348 section 5 takes the source port.
const (
	firstPort = 49152
	portBits  = 14
)

// SetEntropy makes the FlowID and the UDP source port of the hash of the inner
// flow, so that the fabric spreads flows over its paths and keeps each on one
// (RFC 7637 section 4.1, RFC 7348 section 5).
func (h *Header) SetEntropy(flowHash uint32) {
	h.FlowID = uint8(flowHash >> 24)
	h.SrcPort = firstPort + uint16(flowHash>>(32-portBits))
}

// Overhead gives the bytes that a tunnel adds to an inner IP packet: the outer
// IP header, the tunnel header and the inner Ethernet header.
//
//	               IPv4   IPv6
//	NVGRE           42     62
//	VXLAN           50     70
func Overhead(k Kind, outer6 bool) int {
	n := packet.IPv4Len
	if outer6 {
		n = packet.IPv6Len
	}
	return n + k.headerLen() + packet.EthernetLen
}

// headerLen is the length of what stands between the outer IP header and the
// inner Ethernet header.
func (k Kind) headerLen() int {
	if k == KindVXLAN {
		return packet.UDPLen + vxlanLen
	}
	return greLen
}

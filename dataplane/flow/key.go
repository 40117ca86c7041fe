package flow

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Directions of a packet at a port, the values of Key.Dir.
const (
	Outbound = 1 // from the port into the switch: sent by the VM
	Inbound  = 2 // from the switch to the port
)

// Kinds of flows, the values of Key.Kind: they say what the ports of a key hold.
const (
	KindPorts       = iota // ports of TCP and UDP, zero in other protocols
	KindEchoRequest        // of ICMP or ICMPv6: the identifier, twice
	KindEchoReply          // likewise
	KindICMP               // any other message: type, and code
	KindFragment           // a later fragment: the upper and lower half of its identification
	KindEthernet           // no IP packet: the EtherType, and zero
)

// Key names the packets of one direction of a flow at a port. It holds no
// pointers and has no padding: two keys are of one flow if they are equal.
//
//	 0        16        32     34     36    37     38  39   40
//	+----------+----------+------+------+-----+------+---+----+
//	|   Src    |   Dst    |  source,    |Proto|Family|Dir|Kind|
//	|          |          |  dest. port |     |      |   |    |
//	+----------+----------+------+------+-----+------+---+----+
//
// IPv4 addresses are IPv4-mapped, MAC addresses stand in the first 6 bytes.
type Key struct {
	Src, Dst         [16]byte
	SrcPort, DstPort uint16 // as Kind says
	Proto            uint8  // IP protocol number
	Family           uint8  // 4, 6, or 0 where there is no IP packet
	Dir              uint8  // Outbound or Inbound
	Kind             uint8
}

// KeyOf gives the key of a packet that passes a port in a direction. The key of
// a later fragment, which shows no ports, is its FragmentKey.
//
// An echo request and the reply to it have kinds of their own, so that a peer
// may answer the requests sent to it, and not send some under the same
// identifier.
func KeyOf(dir uint8, h *packet.Headers) (k Key) {
	k.Set(dir, h)
	return k
}

// Set makes k what KeyOf gives. It saves the copy, which takes as long as all
// the rest.
func (k *Key) Set(dir uint8, h *packet.Headers) {
	if h.Version == 0 || h.FragOffset != 0 {
		*k = keyWithoutPorts(dir, h)
		return
	}
	k.Src, k.Dst = h.Src.As16(), h.Dst.As16()
	k.SrcPort, k.DstPort = h.SrcPort, h.DstPort
	k.Proto, k.Family, k.Dir, k.Kind = h.Proto, h.Version, dir, KindPorts
	if h.Proto == packet.ProtoICMP && h.Version == 4 || h.Proto == packet.ProtoICMPv6 && h.Version == 6 {
		k.setICMP(h)
	}
}

func keyWithoutPorts(dir uint8, h *packet.Headers) Key {
	if h.Version != 0 {
		return FragmentKey(dir, h, h.FragID)
	}
	k := Key{SrcPort: h.EtherType, Dir: dir, Kind: KindEthernet}
	copy(k.Src[:], h.SrcMAC[:])
	copy(k.Dst[:], h.DstMAC[:])
	return k
}

func (k *Key) setICMP(h *packet.Headers) {
	switch {
	case k.Family == 4 && h.ICMPType == packet.ICMPEchoRequest, k.Family == 6 && h.ICMPType == packet.ICMPv6EchoRequest:
		k.Kind, k.SrcPort, k.DstPort = KindEchoRequest, h.ICMPID, h.ICMPID
	case k.Family == 4 && h.ICMPType == packet.ICMPEchoReply, k.Family == 6 && h.ICMPType == packet.ICMPv6EchoReply:
		k.Kind, k.SrcPort, k.DstPort = KindEchoReply, h.ICMPID, h.ICMPID
	default:
		k.Kind, k.SrcPort, k.DstPort = KindICMP, uint16(h.ICMPType), uint16(h.ICMPCode)
	}
}

// protoFragment is the protocol in the key of IPv6 fragments: those of one
// packet need not name the same one (RFC 8200 section 4.5).
const protoFragment = 44

// FragmentKey gives the key that the fragments of one packet have in common:
// addresses, protocol and identification in IPv4 (RFC 791 section 2.3),
// addresses and identification in IPv6 (RFC 8200 section 4.5).
func FragmentKey(dir uint8, h *packet.Headers, id uint32) Key {
	k := Key{
		Src: h.Src.As16(), Dst: h.Dst.As16(), SrcPort: uint16(id >> 16), DstPort: uint16(id),
		Proto: h.Proto, Family: h.Version, Dir: dir, Kind: KindFragment,
	}
	if h.Version == 6 {
		k.Proto = protoFragment
	}
	return k
}

// Reverse gives the key of the replies: ends and direction swapped, and the
// kind of ICMP query and answer. Reverse of Reverse is the key itself.
func (k Key) Reverse() Key {
	r := Key{
		Src: k.Dst, Dst: k.Src, SrcPort: k.SrcPort, DstPort: k.DstPort,
		Proto: k.Proto, Family: k.Family, Dir: (k.Dir>>1 | k.Dir<<1) & 3, Kind: k.Kind,
	}
	switch k.Kind {
	case KindPorts:
		r.SrcPort, r.DstPort = k.DstPort, k.SrcPort
	case KindEchoRequest:
		r.Kind = KindEchoReply
	case KindEchoReply:
		r.Kind = KindEchoRequest
	case KindICMP:
		r.SrcPort = answerType(k.Family, k.SrcPort)
	}
	return r
}

// answerType gives the type of the answer to an ICMP query, and of the query
// that an answer is to: timestamp, information and address mask (RFC 792, RFC
// 950), node information (RFC 4620). Other messages have no answer, and their
// type stays.
func answerType(family uint8, typ uint16) uint16 {
	switch {
	case family == 4 && typ >= 13 && typ <= 18, family == 6 && (typ == 139 || typ == 140):
		return (typ - 1) ^ 1 + 1 // pairs begin with the odd one
	}
	return typ
}

// Source gives the source address, the zero Addr where the flow is not of IP.
func (k Key) Source() netip.Addr { return k.addr(k.Src) }

// Destination gives the destination address, likewise.
func (k Key) Destination() netip.Addr { return k.addr(k.Dst) }

func (k Key) addr(a [16]byte) netip.Addr {
	switch k.Family {
	case 4:
		return netip.AddrFrom4([4]byte(a[12:]))
	case 6:
		return netip.AddrFrom16(a)
	}
	return netip.Addr{}
}

// String shows the key to people: "outbound proto 6 10.1.1.11:40000 > 10.1.1.12:443".
func (k Key) String() string {
	dir := [...]string{"no direction", "outbound", "inbound", "no direction"}[k.Dir&3]
	src, dst := k.Source(), k.Destination()
	switch k.Kind {
	case KindPorts:
		return fmt.Sprintf("%s proto %d %s > %s", dir, k.Proto, netip.AddrPortFrom(src, k.SrcPort), netip.AddrPortFrom(dst, k.DstPort))
	case KindEchoRequest:
		return fmt.Sprintf("%s echo request %d %s > %s", dir, k.SrcPort, src, dst)
	case KindEchoReply:
		return fmt.Sprintf("%s echo reply %d %s > %s", dir, k.SrcPort, src, dst)
	case KindICMP:
		return fmt.Sprintf("%s icmp type %d code %d %s > %s", dir, k.SrcPort, k.DstPort, src, dst)
	case KindFragment:
		return fmt.Sprintf("%s proto %d fragment %#x %s > %s", dir, k.Proto, uint32(k.SrcPort)<<16|uint32(k.DstPort), src, dst)
	}
	return fmt.Sprintf("%s ethertype %#04x %x > %x", dir, k.SrcPort, k.Src[:6], k.Dst[:6])
}

// words gives the key as the five words that are hashed.
func (k *Key) words() (a, b, c, d, e uint64) {
	return binary.LittleEndian.Uint64(k.Src[:]), binary.LittleEndian.Uint64(k.Src[8:]),
		binary.LittleEndian.Uint64(k.Dst[:]), binary.LittleEndian.Uint64(k.Dst[8:]),
		uint64(k.SrcPort)<<48 | uint64(k.DstPort)<<32 |
			uint64(k.Proto)<<24 | uint64(k.Family)<<16 | uint64(k.Dir)<<8 | uint64(k.Kind)
}

package offload

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Frames for the tests, made by gopacket and then, some of them, spoiled.

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// ends are who speaks to whom.
type ends struct {
	smac, dmac [6]byte
	src, dst   netip.Addr
	ttl, tos   uint8
}

// frame draws an Ethernet frame between the ends, which are of one family.
func frame(r *rand.Rand, e ends) []byte {
	payload := make([]byte, []int{0, 1, 8, 33, 200, 900, 1390, 1400, 1450, 1800}[r.IntN(10)]+r.IntN(4))
	for i := range payload {
		payload[i] = byte(r.Uint32())
	}
	port := func() uint16 {
		return []uint16{53, 67, 68, 546, 547, 4789, 1, 40000, 443, 80, 9999, 22}[r.IntN(12)]
	}
	var network gopacket.NetworkLayer
	var l3 gopacket.SerializableLayer
	eth := &layers.Ethernet{SrcMAC: e.smac[:], DstMAC: e.dmac[:], EthernetType: layers.EthernetTypeIPv4}
	proto := []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolUDP, layers.IPProtocolICMPv4, layers.IPProtocolSCTP}[r.IntN(6)]
	six := e.src.Is6()
	if six && proto == layers.IPProtocolICMPv4 {
		proto = layers.IPProtocolICMPv6
	}
	if six {
		v6 := &layers.IPv6{Version: 6, HopLimit: e.ttl, TrafficClass: e.tos, FlowLabel: r.Uint32() & 0xfffff, NextHeader: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		l3, network = v6, v6
		eth.EthernetType = layers.EthernetTypeIPv6
	} else {
		v4 := &layers.IPv4{Version: 4, TTL: e.ttl, TOS: e.tos, Id: uint16(r.Uint32()), Protocol: proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		if r.IntN(2) == 0 {
			v4.Flags = layers.IPv4DontFragment
		}
		if r.IntN(20) == 0 {
			v4.Options = []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
		}
		l3, network = v4, v4
	}
	var l4 gopacket.SerializableLayer
	switch proto {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(port()), DstPort: layers.TCPPort(port()), ACK: true, Window: 1000, Seq: r.Uint32()}
		if r.IntN(3) == 0 {
			tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}
		}
		_ = tcp.SetNetworkLayerForChecksum(network)
		l4 = tcp
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(port()), DstPort: layers.UDPPort(port())}
		_ = udp.SetNetworkLayerForChecksum(network)
		l4 = udp
	case layers.IPProtocolICMPv4:
		kind := []uint8{0, 8, 8, 3, 11, 5, 13}[r.IntN(7)]
		l4 = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 7, Seq: 1}
	case layers.IPProtocolICMPv6:
		kind := []uint8{128, 128, 129, 1, 2, 3, 133, 134, 135, 137, 143, 200}[r.IntN(12)]
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
		_ = icmp.SetNetworkLayerForChecksum(network)
		l4 = icmp
	}
	if len(payload) > 3 && r.IntN(8) == 0 {
		copy(payload, "hnvguest")
	}
	if l4 == nil {
		return serialize(eth, l3, gopacket.Payload(payload))
	}
	return serialize(eth, l3, l4, gopacket.Payload(payload))
}

// fragment makes a frame with IPv4 one of a packet's fragments.
func fragment(r *rand.Rand, b []byte) {
	if binary.BigEndian.Uint16(b[12:]) == packet.EtherTypeIPv4 {
		binary.BigEndian.PutUint16(b[20:], uint16([]int{0x2000, 0x2010, 0x0010, 0x0001}[r.IntN(4)]))
		mend(b, 14)
	}
}

// mend puts the checksum of the IPv4 header at off right, if there is one.
func mend(b []byte, off int) {
	if len(b) < off+20 || b[off]>>4 != 4 {
		return
	}
	if n := int(b[off]&15) * 4; n >= 20 && len(b) >= off+n {
		b[off+10], b[off+11] = 0, 0
		binary.BigEndian.PutUint16(b[off+10:], packet.Checksum(b[off:off+n], 0))
	}
}

// spoil changes some bytes of the first n, and mends the IPv4 header at off most
// of the time; or it cuts the frame.
func spoil(r *rand.Rand, b []byte, n, off int) []byte {
	if r.IntN(6) == 0 {
		return b[:min(len(b), max(off+1, r.IntN(len(b)+1)))]
	}
	for range 1 + r.IntN(2) {
		if at := r.IntN(min(n, len(b))); r.IntN(2) == 0 {
			b[at] ^= 1 << r.IntN(8)
		} else {
			b[at] = byte(r.Uint32())
		}
	}
	if r.IntN(4) != 0 {
		mend(b, off)
	}
	return b
}

// outer are the headers of a tunnel packet.
type outer struct {
	src, dst netip.Addr
	vxlan    bool
	vsid     uint32
	tos      uint8
}

// wrap puts an inner frame into a tunnel packet, without package encap.
func wrap(o outer, inner []byte) []byte {
	proto := layers.IPProtocolGRE
	if o.vxlan {
		proto = layers.IPProtocolUDP
	}
	var l3 gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if o.src.Is6() {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: o.tos, NextHeader: proto, SrcIP: o.src.AsSlice(), DstIP: o.dst.AsSlice()}
		l3, network = v6, v6
	} else {
		v4 := &layers.IPv4{Version: 4, TTL: 64, TOS: o.tos, Protocol: proto, SrcIP: o.src.AsSlice(), DstIP: o.dst.AsSlice(), Flags: layers.IPv4DontFragment}
		l3, network = v4, v4
	}
	if !o.vxlan {
		return serialize(l3, &layers.GRE{KeyPresent: true, Key: o.vsid<<8 | 7, Protocol: layers.EthernetTypeTransparentEthernetBridging}, gopacket.Payload(inner))
	}
	udp := &layers.UDP{SrcPort: 50000, DstPort: 4789}
	_ = udp.SetNetworkLayerForChecksum(network)
	return serialize(l3, udp, &layers.VXLAN{ValidIDFlag: true, VNI: o.vsid}, gopacket.Payload(inner))
}

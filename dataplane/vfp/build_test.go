package vfp_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// pkt describes a packet, of which gopacket makes the bytes with right
// checksums: it is the oracle of rewriting.
type pkt struct {
	srcMAC, dstMAC [6]byte
	src, dst       netip.Addr
	proto          uint8
	sport, dport   uint16
	icmp           [2]uint8 // type and code
	id             uint16   // of an echo, or the second half of an error's first words
	ttl, tos       uint8
	options        bool // IPv4 options, or IPv6 extension headers
	noSum          bool // UDP without a checksum
	payload        []byte
}

func (p *pkt) version() uint8 {
	if p.src.Is4() {
		return 4
	}
	return 6
}

// ip gives the IP packet.
func (p *pkt) ip(t testing.TB) []byte {
	t.Helper()
	if p.version() == 4 {
		ip := &layers.IPv4{Version: 4, TTL: p.ttl, TOS: p.tos, Id: 7, Protocol: layers.IPProtocol(p.proto), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice()}
		if p.options {
			ip.Options = []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
		}
		return serialize(t, append([]gopacket.SerializableLayer{ip}, p.transport(t, ip)...)...)
	}
	ip := &layers.IPv6{Version: 6, HopLimit: p.ttl, TrafficClass: p.tos, FlowLabel: 0x12345, NextHeader: layers.IPProtocol(p.proto), SrcIP: p.src.AsSlice(), DstIP: p.dst.AsSlice()}
	b := serialize(t, append([]gopacket.SerializableLayer{ip}, p.transport(t, ip)...)...)
	if !p.options {
		return b
	}
	ext := []byte{60, 0, 1, 4, 0, 0, 0, 0, b[6], 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // hop-by-hop, destination options
	long := append(append(append([]byte{}, b[:40]...), ext...), b[40:]...)
	long[6] = 0
	binary.BigEndian.PutUint16(long[4:], uint16(len(long)-40))
	return long
}

func (p *pkt) transport(t testing.TB, ip gopacket.NetworkLayer) []gopacket.SerializableLayer {
	t.Helper()
	data := gopacket.Payload(p.payload)
	switch p.proto {
	case packet.ProtoTCP:
		l := &layers.TCP{SrcPort: layers.TCPPort(p.sport), DstPort: layers.TCPPort(p.dport), Seq: 0xfffff000, Ack: 7, ACK: true, PSH: true, Window: 1000}
		must(t, l.SetNetworkLayerForChecksum(ip))
		return []gopacket.SerializableLayer{l, data}
	case packet.ProtoUDP:
		l := &layers.UDP{SrcPort: layers.UDPPort(p.sport), DstPort: layers.UDPPort(p.dport)}
		must(t, l.SetNetworkLayerForChecksum(ip))
		b := serialize(t, l, data)
		sum := b[6:8]
		if p.noSum {
			sum[0], sum[1] = 0, 0
		} else if sum[0]|sum[1] == 0 {
			sum[0], sum[1] = 0xff, 0xff // gopacket leaves it out (RFC 768)
		}
		return []gopacket.SerializableLayer{gopacket.Payload(b)}
	case packet.ProtoICMP:
		l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(p.icmp[0], p.icmp[1]), Id: p.id, Seq: 1}
		return []gopacket.SerializableLayer{l, data}
	case packet.ProtoICMPv6:
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(p.icmp[0], p.icmp[1])}
		must(t, l.SetNetworkLayerForChecksum(ip))
		return []gopacket.SerializableLayer{l, gopacket.Payload(binary.BigEndian.AppendUint32(nil, uint32(p.id)<<16|1)), data}
	}
	return []gopacket.SerializableLayer{data}
}

// frame gives the packet in an Ethernet frame.
func (p *pkt) frame(t testing.TB) []byte {
	t.Helper()
	b := append([]byte(nil), make([]byte, packet.EthernetLen)...)
	typ := uint16(packet.EtherTypeIPv4)
	if p.version() == 6 {
		typ = packet.EtherTypeIPv6
	}
	packet.PutEthernet(b, p.dstMAC, p.srcMAC, typ)
	return append(b, p.ip(t)...)
}

// with says what the packet is once t is applied to it.
func (p pkt) with(t *vfp.Transposition) pkt {
	if t.Set&vfp.SetSrc != 0 {
		p.src = t.NewSrc
	}
	if t.Set&vfp.SetDst != 0 {
		p.dst = t.NewDst
	}
	if t.Set&vfp.SetSrcPort != 0 {
		p.sport = t.NewSrcPort
		if p.icmp[0] == 8 || p.icmp[0] == 128 {
			p.id = t.NewSrcPort
		}
	}
	if t.Set&vfp.SetDstPort != 0 {
		p.dport = t.NewDstPort
		if (p.proto == packet.ProtoICMP && p.icmp[0] == 0) || p.icmp[0] == 129 {
			p.id = t.NewDstPort
		}
	}
	if t.Set&vfp.SetSrcMAC != 0 {
		p.srcMAC = t.NewSrcMAC
	}
	if t.Set&vfp.SetDstMAC != 0 {
		p.dstMAC = t.NewDstMAC
	}
	if t.Set&vfp.SetDSCP != 0 {
		p.tos = p.tos&3 | t.NewDSCP<<2
	}
	if t.DecTTL {
		p.ttl--
	}
	return p
}

// mirrored is t for packets of the other direction, as ICMP errors quote them.
func mirrored(t *vfp.Transposition) vfp.Transposition {
	var m vfp.Transposition
	if t.Set&vfp.SetSrc != 0 {
		m.Set, m.NewDst = m.Set|vfp.SetDst, t.NewSrc
	}
	if t.Set&vfp.SetDst != 0 {
		m.Set, m.NewSrc = m.Set|vfp.SetSrc, t.NewDst
	}
	if t.Set&vfp.SetSrcPort != 0 {
		m.Set, m.NewDstPort = m.Set|vfp.SetDstPort, t.NewSrcPort
	}
	if t.Set&vfp.SetDstPort != 0 {
		m.Set, m.NewSrcPort = m.Set|vfp.SetSrcPort, t.NewDstPort
	}
	return m
}

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return append([]byte(nil), buf.Bytes()...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFrame(t testing.TB, b []byte) *packet.Frame {
	t.Helper()
	f := packet.NewFrame(max(2048, len(b)))
	if !f.Set(b) {
		t.Fatal("the frame does not fit")
	}
	return f
}

func decode(t testing.TB, b []byte) *packet.Headers {
	t.Helper()
	h := new(packet.Headers)
	if r := h.DecodeEthernet(b); r != drop.None {
		t.Fatalf("decode: %s\n%x", r, b)
	}
	return h
}

// packet makes one that a Transposition of the family fits.
func (g gen) packet(version uint8) pkt {
	p := pkt{
		srcMAC: [6]byte{2, 0, 0, 0, 0, byte(g.IntN(256))}, dstMAC: [6]byte{2, 0, 0, 0, 1, byte(g.IntN(256))},
		src: g.anyAddr(version), dst: g.anyAddr(version), sport: uint16(g.IntN(65536)), dport: uint16(g.IntN(65536)),
		ttl: uint8(2 + g.IntN(254)), tos: uint8(g.IntN(256)), options: g.chance(30), noSum: g.chance(20),
		payload: g.bytes(g.IntN(200)),
	}
	p.proto = pick[uint8](g, packet.ProtoTCP, packet.ProtoTCP, packet.ProtoUDP, packet.ProtoUDP, packet.ProtoICMP, 132)
	if p.proto == packet.ProtoICMP {
		p.icmp, p.id = [2]uint8{pick[uint8](g, 0, 8, 13, 10), 0}, uint16(g.IntN(65536))
		if version == 6 {
			p.proto, p.icmp = packet.ProtoICMPv6, [2]uint8{pick[uint8](g, 128, 129, 130), 0}
		}
	}
	return p
}

func (g gen) anyAddr(version uint8) netip.Addr {
	if version == 4 {
		return netip.AddrFrom4([4]byte{10, byte(g.IntN(256)), byte(g.IntN(256)), byte(g.IntN(256))})
	}
	b := [16]byte(g.bytes(16))
	b[0] = 0xfd
	return netip.AddrFrom16(b)
}

func (g gen) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g gen) transposition(version uint8) vfp.Transposition {
	all := vfp.Transposition{
		NewSrc: g.anyAddr(version), NewDst: g.anyAddr(version), NewSrcPort: uint16(g.IntN(65536)), NewDstPort: uint16(g.IntN(65536)),
		NewSrcMAC: [6]byte{2, 0, 0, 0, 2, byte(g.IntN(256))}, NewDstMAC: [6]byte{2, 0, 0, 0, 3, byte(g.IntN(256))}, NewDSCP: uint8(g.IntN(64)),
	}
	all.Set = vfp.Fields(g.IntN(128))
	t := vfp.Transposition{DecTTL: g.chance(30)}
	return t.Then(all)
}

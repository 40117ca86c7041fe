package packet_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var (
	mac1 = [6]byte{0x00, 0x15, 0x5d, 0, 0, 1}
	mac2 = [6]byte{0x00, 0x15, 0x5d, 0, 0, 2}
	ca1  = netip.MustParseAddr("10.1.1.11")
	ca2  = netip.MustParseAddr("10.1.1.12")
	six1 = netip.MustParseAddr("fd00:1::11")
	six2 = netip.MustParseAddr("fd00:1::12")
)

// serialize builds a packet with gopacket, lengths and checksums filled in.
func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range ls {
		switch l := l.(type) {
		case gopacket.NetworkLayer:
			network = l
		case *layers.TCP:
			must(t, l.SetNetworkLayerForChecksum(network))
		case *layers.UDP:
			must(t, l.SetNetworkLayerForChecksum(network))
		case *layers.ICMPv6:
			must(t, l.SetNetworkLayerForChecksum(network))
		}
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return buf.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ether(typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: mac2[:], SrcMAC: mac1[:], EthernetType: typ}
}

func ipv4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: 64, Id: 0x1234, TOS: 0xb9, Flags: layers.IPv4DontFragment,
		Protocol: proto, SrcIP: ca1.AsSlice(), DstIP: ca2.AsSlice(),
	}
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, HopLimit: 64, TrafficClass: 0xb9, FlowLabel: 0x12345,
		NextHeader: next, SrcIP: six1.AsSlice(), DstIP: six2.AsSlice(),
	}
}

func payload(n int) gopacket.Payload {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func tcp() *layers.TCP {
	return &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 0xfffff000, Ack: 7, ACK: true, PSH: true, Window: 1000}
}

func udp() *layers.UDP { return &layers.UDP{SrcPort: 40001, DstPort: 9} }

func frameTCP4(t testing.TB, n int) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolTCP), tcp(), payload(n))
}

func frameTCP6(t testing.TB, n int) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolTCP), tcp(), payload(n))
}

func frameUDP4(t testing.TB, n int) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolUDP), udp(), payload(n))
}

func frameUDP6(t testing.TB, n int) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolUDP), udp(), payload(n))
}

func frameEcho4(t testing.TB) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv4), ipv4(layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 9, Seq: 1}, payload(56))
}

func frameEcho6(t testing.TB) []byte {
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolICMPv6),
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, &layers.ICMPv6Echo{Identifier: 9, SeqNumber: 1}, payload(56))
}

// hopByHop, routing and destination options as raw bytes: gopacket cannot
// serialize all of them.
func frameExt6(t testing.TB) []byte {
	ext := []byte{
		43, 0, 1, 4, 0, 0, 0, 0, // hop-by-hop: PadN
		60, 0, 253, 0, 0, 0, 0, 0, // routing, experimental type
		17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // destination options
		0x9c, 0x40, 0x00, 0x35, 0, 12, 0, 1, 1, 2, 3, 4, // UDP
	}
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(0), gopacket.Payload(ext))
}

func frameFrag6(t testing.TB, offset uint16, more bool) []byte {
	field := offset
	if more {
		field |= 1
	}
	ext := append([]byte{17, 0, byte(field >> 8), byte(field), 0, 0, 0, 1}, payload(64)...)
	if offset == 0 {
		copy(ext[8:], []byte{0x9c, 0x40, 0x00, 0x35, 1, 0, 0, 1})
	}
	return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(layers.IPProtocolIPv6Fragment), gopacket.Payload(ext))
}

func frameFrag4(t testing.TB, offset uint16, more bool) []byte {
	ip := ipv4(layers.IPProtocolUDP)
	ip.Flags, ip.FragOffset = 0, offset/8
	if more {
		ip.Flags = layers.IPv4MoreFragments
	}
	data := payload(64)
	if offset == 0 {
		copy(data, []byte{0x9c, 0x40, 0x00, 0x35, 1, 0, 0, 1})
	}
	return serialize(t, ether(layers.EthernetTypeIPv4), ip, data)
}

// samples are good frames of every sort, for tests that want all.
func samples(t testing.TB) map[string][]byte {
	options := ipv4(layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}}
	return map[string][]byte{
		"tcp4":      frameTCP4(t, 100),
		"tcp4 opts": serialize(t, ether(layers.EthernetTypeIPv4), options, tcp(), payload(7)),
		"tcp6":      frameTCP6(t, 100),
		"udp4":      frameUDP4(t, 33),
		"udp6":      frameUDP6(t, 33),
		"udp6 ext":  frameExt6(t),
		"echo4":     frameEcho4(t),
		"echo6":     frameEcho6(t),
		"frag4 1st": frameFrag4(t, 0, true),
		"frag4 mid": frameFrag4(t, 1480, true),
		"frag4 end": frameFrag4(t, 1480, false),
		"frag6 1st": frameFrag6(t, 0, true),
		"frag6 mid": frameFrag6(t, 1480, true),
		"frag6 end": frameFrag6(t, 1480, false),
	}
}

func newFrame(t testing.TB, b []byte) *packet.Frame {
	t.Helper()
	f := packet.NewFrame(max(2048, len(b)))
	if !f.Set(b) {
		t.Fatal("frame does not fit")
	}
	return f
}

func decode(t testing.TB, b []byte) *packet.Headers {
	t.Helper()
	h := new(packet.Headers)
	if r := h.DecodeEthernet(b); r != drop.None {
		t.Fatalf("decode: %s", r)
	}
	return h
}

func noAllocs(t *testing.T, name string, fn func()) {
	t.Helper()
	if n := testing.AllocsPerRun(200, fn); n != 0 {
		t.Errorf("%s: %v allocations a run", name, n)
	}
}

package s2s

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

var (
	localMap  = Map{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("100.64.1.0/24")}
	remoteMap = Map{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("100.65.0.0/16")}
	localSix  = Map{netip.MustParsePrefix("fd01::/61"), netip.MustParsePrefix("fdaa:0:0:18::/61")}
	remoteSix = Map{netip.MustParsePrefix("fd01::/48"), netip.MustParsePrefix("fdbb::/48")}
	mapped    = Tunnel{LocalMaps: []Map{localMap, localSix}, RemoteMaps: []Map{remoteMap, remoteSix}}
)

func serialize(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

// build makes an IP packet with gopacket, which computes the checksums.
func build(t testing.TB, src, dst, kind string, payload []byte) []byte {
	t.Helper()
	var ip gopacket.NetworkLayer
	proto := map[string]layers.IPProtocol{"tcp": layers.IPProtocolTCP, "udp": layers.IPProtocolUDP, "icmp": layers.IPProtocolICMPv4,
		"error": layers.IPProtocolICMPv4, "icmp6": layers.IPProtocolICMPv6, "error6": layers.IPProtocolICMPv6}[kind]
	if net.ParseIP(src).To4() != nil {
		ip = &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
	} else {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	}
	ls := []gopacket.SerializableLayer{ip.(gopacket.SerializableLayer)}
	switch kind {
	case "tcp":
		l := &layers.TCP{SrcPort: 4000, DstPort: 80, SYN: true, Window: 1000, Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0x05, 0xb4}}}}
		_ = l.SetNetworkLayerForChecksum(ip)
		ls = append(ls, l)
	case "udp":
		l := &layers.UDP{SrcPort: 4000, DstPort: 53}
		_ = l.SetNetworkLayerForChecksum(ip)
		ls = append(ls, l)
	case "icmp":
		ls = append(ls, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 7, Seq: 1})
	case "error":
		ls = append(ls, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: 1400})
	case "icmp6":
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		_ = l.SetNetworkLayerForChecksum(ip)
		ls = append(ls, l)
	case "error6":
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 4)}
		_ = l.SetNetworkLayerForChecksum(ip)
		ls = append(ls, l)
		payload = append(make([]byte, 4), payload...)
	}
	return serialize(t, append(ls, gopacket.Payload(payload))...)
}

// What comes out is what gopacket makes of the translated addresses.
func TestTranslate(t *testing.T) {
	data := []byte("an odd number of bytes.")
	for _, c := range []struct {
		kind                         string
		insideA, insideB, outA, outB string // tenant, site: as the tenant and as the site sees them
	}{
		{"tcp", "10.1.1.7", "100.65.1.7", "100.64.1.7", "10.1.1.7"},
		{"udp", "10.1.1.255", "100.65.200.9", "100.64.1.255", "10.1.200.9"},
		{"icmp", "10.1.1.7", "100.65.1.7", "100.64.1.7", "10.1.1.7"},
		{"udp", "10.1.2.7", "9.9.9.9", "10.1.2.7", "9.9.9.9"}, // nothing to translate
		{"tcp", "fd01:0:0:5::7", "fdbb:0:0:1::9", "fdaa:0:0:1d::7", "fd01:0:0:1::9"},
		{"udp", "fd01::7", "fdbb::9", "fdaa:0:0:18::7", "fd01::9"},
		{"icmp6", "fd01::7", "fdbb::9", "fdaa:0:0:18::7", "fd01::9"},
	} {
		out, in := newRewriters(mapped)
		got := build(t, c.insideA, c.insideB, c.kind, data)
		translated(t, &out, got)
		if want := build(t, c.outA, c.outB, c.kind, data); !bytes.Equal(got, want) {
			t.Errorf("%s out:\n%x, want\n%x", c.kind, got, want)
		}
		got = build(t, c.outB, c.outA, c.kind, data)
		translated(t, &in, got)
		if want := build(t, c.insideB, c.insideA, c.kind, data); !bytes.Equal(got, want) {
			t.Errorf("%s in:\n%x, want\n%x", c.kind, got, want)
		}
		// An error about it, from a router of the site (which is translated) back
		// to the tenant, quotes what the site saw; the tenant must see its own.
		six := net.ParseIP(c.insideA).To4() == nil
		kind, router, routerSeen := "error", "10.1.9.9", "100.65.9.9"
		if six {
			kind, router, routerSeen = "error6", "fd01:0:0:9::9", "fdbb:0:0:9::9"
		}
		for _, cut := range []int{0, 20} {
			seen, own := build(t, c.outA, c.outB, c.kind, data), build(t, c.insideA, c.insideB, c.kind, data)
			got = build(t, router, c.outA, kind, seen[:len(seen)-cut])
			translated(t, &in, got)
			if want := build(t, routerSeen, c.insideA, kind, own[:len(own)-cut]); !bytes.Equal(got, want) {
				t.Errorf("%s quoted in %s, %d bytes cut:\n%x, want\n%x", c.kind, kind, cut, got, want)
			}
		}
	}
}

func translated(t *testing.T, r *rewriter, b []byte) {
	t.Helper()
	p, ok := parsePacket(b)
	if !ok {
		t.Fatal("not parsed")
	}
	r.apply(&p)
}

// A fragment that is not the first has no ports, and bytes that look like them.
func TestTranslateFragment(t *testing.T) {
	out, _ := newRewriters(mapped)
	b := build(t, "10.1.1.7", "100.65.1.7", "udp", make([]byte, 64))
	b[7] = 8 // offset: the IP checksum is mended, whatever it was
	rest := bytes.Clone(b[20:])
	translated(t, &out, b)
	if !bytes.Equal(rest, b[20:]) {
		t.Error("the data of a fragment changed")
	}
	if !bytes.Equal(b[12:16], []byte{100, 64, 1, 7}) {
		t.Errorf("source is %v", b[12:16])
	}
}

// UDP without a checksum stays without one.
func TestTranslateUDPWithoutChecksum(t *testing.T) {
	out, _ := newRewriters(mapped)
	b := build(t, "10.1.1.7", "100.65.1.7", "udp", []byte("x"))
	b[26], b[27] = 0, 0
	translated(t, &out, b)
	if b[26] != 0 || b[27] != 0 {
		t.Errorf("checksum is %x", b[26:28])
	}
}

func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		src, dst  string
		mtu, want int
	}{{"10.0.0.1", "10.0.0.2", 1420, 1380}, {"fd00::1", "fd00::2", 1420, 1360}, {"10.0.0.1", "10.0.0.2", 1500, 1460}, {"10.0.0.1", "10.0.0.2", 9000, 1460}} {
		b := build(t, c.src, c.dst, "tcp", []byte("data"))
		p, _ := parsePacket(b)
		p.clampMSS(c.mtu)
		first := layers.LayerTypeIPv4
		if p.six {
			first = layers.LayerTypeIPv6
		}
		pkt := gopacket.NewPacket(b, first, gopacket.Default)
		tcp := pkt.Layer(layers.LayerTypeTCP).(*layers.TCP)
		mss := int(tcp.Options[1].OptionData[0])<<8 | int(tcp.Options[1].OptionData[1])
		if mss != c.want {
			t.Errorf("MTU %d: MSS is %d, want %d", c.mtu, mss, c.want)
		}
		_ = tcp.SetNetworkLayerForChecksum(pkt.NetworkLayer())
		had := tcp.Checksum
		again := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(again, gopacket.SerializeOptions{ComputeChecksums: true}, tcp, gopacket.Payload(tcp.Payload)); err != nil {
			t.Fatal(err)
		}
		if tcp.Checksum != had {
			t.Errorf("checksum is %x, want %x", had, tcp.Checksum)
		}
	}
}

// Whatever a tenant or a site sends, nothing panics, and translating there and
// back gives the same packet.
func FuzzPolicy(f *testing.F) {
	inner := build(f, "100.64.1.7", "10.1.1.7", "udp", []byte("x"))
	for _, b := range [][]byte{
		build(f, "10.1.1.7", "100.65.1.7", "tcp", nil), build(f, "10.1.1.7", "100.65.1.7", "udp", []byte("x")),
		build(f, "10.1.1.7", "100.65.1.7", "error", inner), build(f, "fd01::7", "fdbb::9", "icmp6", nil),
		{0x60}, {0x4f}, {},
	} {
		f.Add(b)
	}
	out, in := newRewriters(mapped)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := parsePacket(b)
		if !ok {
			return
		}
		before := bytes.Clone(b)
		out.apply(&p)
		if len(b) != len(before) {
			t.Fatal("the length changed")
		}
		p.clampMSS(1420)
		back, ok := parsePacket(b)
		if !ok {
			t.Fatal("not an IP packet any more")
		}
		in.apply(&back)
	})
}

func BenchmarkPolicy(b *testing.B) {
	pkt := build(b, "10.1.1.7", "100.65.1.7", "udp", make([]byte, 1300))
	p := &policy{mtu: 1420, outLimit: newLimit(MaxKbps)}
	p.out, p.in = newRewriters(mapped)
	buf := bytes.Clone(pkt)
	b.ReportAllocs()
	for now := int64(0); b.Loop(); now += 1000 {
		copy(buf, pkt[:40])
		p.outbound(buf, now)
	}
}

func TestPolicyAllocatesNothing(t *testing.T) {
	pkt := build(t, "10.1.1.7", "100.65.1.7", "tcp", make([]byte, 1300))
	p := &policy{mtu: 1420, outLimit: newLimit(MaxKbps)}
	p.out, p.in = newRewriters(mapped)
	buf := bytes.Clone(pkt)
	if n := testing.AllocsPerRun(100, func() { copy(buf, pkt[:40]); p.outbound(buf, 0) }); n != 0 {
		t.Errorf("%v allocations for each packet", n)
	}
}

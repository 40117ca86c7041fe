package dataplane

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// icmpBack reads the one ICMP message that came back to the port.
func icmpBack(t *testing.T, n *nic) (typ, code uint8, from string, mtu int) {
	t.Helper()
	frames := n.drain()
	if len(frames) != 1 {
		t.Fatalf("port %s got %d frames, want one ICMP message; drops %v", n.mac, len(frames), n.host.allDrops())
	}
	b := frames[0].bytes
	d := decode(t, b)
	sum := uint64(0)
	if d.Version == 6 {
		sum = packet.PseudoSum(d.Src, d.Dst, packet.ProtoICMPv6, len(b)-d.L4)
	}
	if packet.Checksum(b[d.L4:], sum) != 0 || d.SrcMAC != routerMAC || d.DstMAC != n.mac.Bytes() {
		t.Errorf("the message is malformed or from the wrong MAC: %x", b)
	}
	return d.ICMPType, d.ICMPCode, d.Src.String(), int(b[d.L4+6])<<8 | int(b[d.L4+7])
}

func TestICMPErrors(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	big := strings.Repeat("x", 1440)
	df := func(from, to string, dst hnv.MAC) []byte {
		b := udp(mac11, dst, from, to, big)
		if ip(from).Is4() {
			b[20] |= 0x40
			b[24], b[25] = 0, 0
			sum := packet.Checksum(b[14:34], 0)
			b[24], b[25] = byte(sum>>8), byte(sum)
		}
		return b
	}
	for _, s := range []*site{contoso, fabrikam} {
		// 1500 less 42 or 50; of 20 or 40 + 8 + 1440 bytes of packet.
		mtu := map[hnv.Encap]int{hnv.NVGRE: 1458, hnv.VXLAN: 1450}[s.Encap]
		for _, tc := range []struct {
			what      string
			frame     []byte
			typ, code uint8
			from      string
			mtu       int
			drop      drop.Reason
		}{
			{"TTL 1", ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 1, &layers.UDP{}, "x"), 11, 0, "10.1.1.1", 0, drop.TTLExpired},
			{"hop limit 1", ipFrame(mac11, hnv.RouterMAC, "fd00:1::11", "fd00:2::11", 1, &layers.UDP{}, "x"), 3, 0, "fd00:1::1", 0, drop.TTLExpired},
			{"nobody there", udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.99", "x"), 3, 1, "10.1.1.1", 0, drop.DestinationUnknown},
			{"nobody there, IPv6", udp(mac11, hnv.RouterMAC, "fd00:1::11", "fd00:2::99", "x"), 1, 3, "fd00:1::1", 0, drop.DestinationUnknown},
			{"too big, routed", df("10.1.1.11", "10.1.2.11", hnv.RouterMAC), 3, 4, "10.1.1.1", mtu, drop.TooBig},
			{"too big, bridged", df("10.1.1.11", "10.1.1.12", mac12), 3, 4, "10.1.1.1", mtu, drop.TooBig},
			{"too big, to a local port", df("10.1.1.11", "10.1.1.13", mac13), 3, 4, "10.1.1.1", 1458, drop.TooBig},
			{"too big, IPv6", df("fd00:1::11", "fd00:2::11", hnv.RouterMAC), 2, 0, "fd00:1::1", mtu, drop.TooBig},
		} {
			before := s.vm11.host.drops(s.Name.String())[tc.drop]
			s.vm11.send(tc.frame)
			l.settle()
			typ, code, from, got := icmpBack(t, s.vm11)
			if typ != tc.typ || code != tc.code || from != tc.from || got != tc.mtu {
				t.Errorf("%s of %s: type %d code %d MTU %d from %s; want %d %d %d %s", tc.what, s.Name, typ, code, got, from, tc.typ, tc.code, tc.mtu, tc.from)
			}
			if n := s.vm11.host.drops(s.Name.String())[tc.drop]; n != before+1 {
				t.Errorf("%s: %s is counted %d times, want %d", tc.what, tc.drop, n, before+1)
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
		// The greatest packet that fits passes.
		s.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", strings.Repeat("x", mtu-28)))
		expect(t, l, s.vm12, strings.Repeat("x", mtu-28), contoso, fabrikam)
	}
}

func TestNoRoute(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	c := contoso.Tenant
	c.Routes = nil
	if err := l.hosts[1].sw.Apply(c); err != nil {
		t.Fatal(err)
	}
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "x"))
	if typ, code, from, _ := icmpBack(t, contoso.vm11); typ != 3 || code != 0 || from != "10.1.1.1" {
		t.Errorf("type %d code %d from %s", typ, code, from)
	}
	fabrikam.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "x"))
	expect(t, l, fabrikam.gw, "x", contoso, fabrikam)
}

// One tenant's flood uses up its own ICMP errors only, and they come back with
// time.
func TestICMPErrorsAreLimited(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	expired := ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 1, &layers.UDP{}, "x")
	for range 500 {
		contoso.vm11.send(expired)
	}
	if n := len(contoso.vm11.drain()); n != DefaultICMPBurst {
		t.Errorf("%d errors at once, want %d", n, DefaultICMPBurst)
	}
	fabrikam.vm11.send(expired)
	if n := len(fabrikam.vm11.drain()); n != 1 {
		t.Error("the other tenant gets no error")
	}
	l.now = l.now.Add(time.Second / DefaultICMPRate)
	contoso.vm11.send(expired)
	contoso.vm11.send(expired)
	if n := len(contoso.vm11.drain()); n != 1 {
		t.Errorf("%d errors after the time of one", n)
	}
	for _, c := range l.hosts[1].sw.Counters() {
		if c.Name.String() == "contoso" && (c.ICMPErrors != DefaultICMPBurst+1 || c.ICMPWithheld != 502-DefaultICMPBurst-1 || c.DropsByReason[drop.TTLExpired] != 502) {
			t.Errorf("counters are %+v", c)
		}
	}
}

func TestPingTheRouter(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for to, from := range map[string]string{"10.1.1.1": "10.1.1.11", "10.1.2.1": "10.1.1.11"} {
			s.vm11.send(ipFrame(mac11, hnv.RouterMAC, from, to, 1, echo(), "ping"))
			l.settle()
			if typ, _, src, _ := icmpBack(t, s.vm11); typ != 0 || src != to {
				t.Errorf("ping %s: type %d from %s", to, typ, src)
			}
		}
		expect(t, l, nil, "", contoso, fabrikam)
	}
	if len(l.tap) != 0 {
		t.Error("the router answers over the fabric")
	}
}

// A packet that is too big and may be fragmented arrives whole after
// reassembly.
func TestFragmentation(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, to := range []struct {
			n   *nic
			dst hnv.MAC
			ip  string
		}{{s.vm12, mac12, "10.1.1.12"}, {s.vm13, mac13, "10.1.1.13"}, {s.v21, hnv.RouterMAC, "10.1.2.11"}} {
			payload := strings.Repeat("0123456789", 180)
			s.vm11.send(udp(mac11, to.dst, "10.1.1.11", to.ip, payload))
			l.settle()
			var data []byte
			frames := to.n.drain()
			for i, f := range frames {
				d := decode(t, f.bytes)
				if int(d.FragOffset) != len(data) || d.MoreFragments != (i < len(frames)-1) || d.Length > 1458 {
					t.Errorf("fragment %d: offset %d more %v length %d", i, d.FragOffset, d.MoreFragments, d.Length)
				}
				data = append(data, f.bytes[d.L4:d.L3+d.Length]...)
			}
			if len(frames) != 2 || !bytes.Equal(data[8:], []byte(payload)) {
				t.Errorf("%s: %d fragments with %d bytes, want 2 with %d", to.ip, len(frames), len(data), len(payload)+8)
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
	}
}

// superPacket is what a kernel hands over for TCP: many segments in one, with a
// partial checksum.
func superPacket(src, dst hnv.MAC, from, to string, size int) sent {
	b := ipFrame(src, dst, from, to, 64, &layers.TCP{SrcPort: 1000, DstPort: 80, Seq: 7, ACK: true, PSH: true, Window: 100}, strings.Repeat("abcdefghij", size/10))
	var h packet.Headers
	if h.DecodeEthernet(b) != drop.None {
		panic("malformed")
	}
	sum := packet.Fold(packet.PseudoSum(h.Src, h.Dst, packet.ProtoTCP, len(b)-h.L4))
	b[h.L4+16], b[h.L4+17] = byte(sum>>8), byte(sum)
	gso := packet.GSOTCPv4
	if h.Version == 6 {
		gso = packet.GSOTCPv6
	}
	return sent{b, packet.Offload{NeedsCsum: true, CsumStart: uint16(h.L4), CsumOffset: 16, GSO: gso, GSOSize: 1380, HdrLen: uint16(h.L4 + 20)}}
}

// Super-packets are cut for the fabric and stay whole between local ports.
func TestSuperPackets(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, v := range []struct{ from, near, far string }{{"10.1.1.11", "10.1.1.13", "10.1.2.11"}, {"fd00:1::11", "", "fd00:2::11"}} {
			if v.near != "" {
				whole := superPacket(mac11, mac13, v.from, v.near, 30000)
				s.vm11.sendOffloaded(whole)
				l.settle()
				if got := s.vm13.drain(); len(got) != 1 || !bytes.Equal(got[0].bytes, whole.bytes) || got[0].offload != whole.offload {
					t.Errorf("%s: the local port got %d frames", v.near, len(got))
				}
			}
			s.vm11.sendOffloaded(superPacket(mac11, hnv.RouterMAC, v.from, v.far, 30000))
			l.settle()
			total := 0
			for i, f := range s.v21.drain() {
				p := gopacket.NewPacket(f.bytes, layers.LayerTypeEthernet, gopacket.Default)
				tcp, _ := p.TransportLayer().(*layers.TCP)
				d := decode(t, f.bytes)
				if tcp == nil || int(tcp.Seq) != 7+total || d.TTL != 63 || f.offload != (packet.Offload{}) ||
					packet.Checksum(f.bytes[d.L4:], packet.PseudoSum(d.Src, d.Dst, packet.ProtoTCP, len(f.bytes)-d.L4)) != 0 {
					t.Fatalf("segment %d is wrong: %s", i, p)
				}
				total += len(tcp.Payload)
			}
			if total != 30000 {
				t.Errorf("%s: %d bytes arrived of 30000; drops %v %v", v.far, total, s.vm11.host.allDrops(), s.v21.host.allDrops())
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
		// With a segment size that the tunnel has no room for, the sender hears
		// of it.
		tooBig := superPacket(mac11, hnv.RouterMAC, "fd00:1::11", "fd00:2::11", 30000)
		tooBig.offload.GSOSize = 1440
		s.vm11.sendOffloaded(tooBig)
		l.settle()
		if typ, _, _, mtu := icmpBack(t, s.vm11); typ != 2 || mtu < 1450 {
			t.Errorf("type %d, MTU %d", typ, mtu)
		}
	}
	// A frame whose checksum is partial is complete on the fabric.
	part := superPacket(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 500)
	part.offload.GSO, part.offload.GSOSize = packet.GSONone, 0
	contoso.vm11.sendOffloaded(part)
	l.settle()
	for _, f := range contoso.v21.drain() {
		d := decode(t, f.bytes)
		if packet.Checksum(f.bytes[d.L4:], packet.PseudoSum(d.Src, d.Dst, packet.ProtoTCP, len(f.bytes)-d.L4)) != 0 {
			t.Error("the checksum is wrong")
		}
	}
}

// Congestion marks pass the tunnel as RFC 6040 says; DSCP stays inside.
func TestCongestionMarks(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	mark := func(class byte) []byte {
		b := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")
		b[15] = class
		b[24], b[25] = 0, 0
		sum := packet.Checksum(b[14:34], 0)
		b[24], b[25] = byte(sum>>8), byte(sum)
		return b
	}
	contoso.vm11.send(mark(0xb8 | packet.ECT0))
	l.step()
	var h encap.Header
	if r := encap.Parse(l.tap[0].bytes, &h); r != drop.None || h.TOS != packet.ECT0 {
		t.Errorf("outer class is %#x, want ECT(0) alone", h.TOS)
	}
	contoso.vm12.drain()
	for _, tc := range []struct {
		inner, outer, want uint8
		drop               bool
	}{{packet.ECT0, packet.CE, packet.CE, false}, {packet.NotECT, packet.CE, 0, true}, {packet.NotECT, packet.NotECT, packet.NotECT, false}} {
		p := edit(outerPacket(hnv.NVGRE, paHost1, paHost2, 5001, mark(0xb8|tc.inner)), func(b []byte) { b[1] = tc.outer })
		l.hosts[2].inject(p)
		got := contoso.vm12.drain()
		if tc.drop {
			if len(got) != 0 || l.hosts[2].drops("contoso")[drop.ECNInvalid] != 1 {
				t.Errorf("%+v: not dropped", tc)
			}
			continue
		}
		if d := decode(t, got[0].bytes); d.ECN != tc.want || d.DSCP != 0xb8>>2 {
			t.Errorf("%+v: arrives with ECN %d DSCP %#x", tc, d.ECN, d.DSCP)
		}
	}
}

// A kernel that merges packets hands over a tunnel packet greater than any on
// the wire, its inner checksum still partial: it stays whole.
func TestSuperPacketFromFabric(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	gate := l.hosts[0]
	for _, s := range []*site{contoso, fabrikam} {
		inner := superPacket(hnv.RouterMAC, s.gw.mac, "10.1.1.11", "203.0.113.5", 20000)
		outer := outerPacket(s.Encap, paHost1, paGate, s.base, inner.bytes)
		give := func(change func(*packet.Offload)) []sent {
			f := packet.NewFrame(1 << 16)
			f.Set(outer)
			f.Offload = inner.offload
			f.Offload.CsumStart += uint16(len(outer) - len(inner.bytes))
			f.Offload.HdrLen += uint16(len(outer) - len(inner.bytes))
			change(&f.Offload)
			gate.w.FromProvider([]*packet.Frame{f})
			gate.w.Flush()
			return s.gw.drain()
		}
		got := give(func(*packet.Offload) {})
		if len(got) != 1 || !bytes.Equal(got[0].bytes, inner.bytes) || got[0].offload != inner.offload {
			t.Errorf("%s: got %d frames; drops %v", s.Name, len(got), gate.allDrops())
		}
		if got := give(func(o *packet.Offload) { o.GSOSize = 1440 }); len(got) != 0 || gate.drops(s.Name.String())[drop.TooBig] != 1 {
			t.Errorf("%s: segments greater than the port takes are not dropped: %v", s.Name, gate.allDrops())
		}
		// Merged by the outer header: several tunnel packets in a row.
		if got := give(func(o *packet.Offload) { o.GSO, o.CsumStart, o.CsumOffset = packet.GSOUDP, 20, 6 }); len(got) != 0 {
			t.Errorf("%s: several tunnel packets in one are delivered as one", s.Name)
		}
		// Without the request to segment it is simply too big.
		if got := give(func(o *packet.Offload) { *o = packet.Offload{} }); len(got) != 0 || gate.drops(s.Name.String())[drop.TooBig] != 2 {
			t.Errorf("%s: %v", s.Name, gate.allDrops())
		}
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

// A batch of super-packets becomes more packets than a Worker keeps waiting.
func TestManySegments(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h := l.hosts[1]
	s := superPacket(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 60000)
	var frames []*packet.Frame
	for range BatchSize {
		f := packet.NewFrame(1 << 16)
		f.Set(s.bytes)
		f.Offload = s.offload
		frames = append(frames, f)
	}
	h.w.FromPort(contoso.vm11.id, frames)
	h.w.Flush()
	if len(h.w.spare) > maxSpare || len(h.w.lent) != 0 {
		t.Errorf("the worker keeps %d frames", len(h.w.spare))
	}
	l.settle()
	total := 0
	for _, f := range contoso.v21.drain() {
		total += len(f.bytes) - 54
	}
	if total != BatchSize*60000 {
		t.Errorf("%d bytes arrived of %d", total, BatchSize*60000)
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

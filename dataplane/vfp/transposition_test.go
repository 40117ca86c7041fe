package vfp_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// apply rewrites b, holds ApplyHeaders and Inverse to it, and gives the result.
func apply(t testing.TB, tr vfp.Transposition, b []byte, o packet.Offload) ([]byte, packet.Offload) {
	t.Helper()
	return applyOf(t, tr, b, o, nil)
}

// applyOf is apply for an ICMP error about quoted, a packet of the flow's other
// direction, which tells the ports of the flow.
func applyOf(t testing.TB, tr vfp.Transposition, b []byte, o packet.Offload, quoted *pkt) ([]byte, packet.Offload) {
	t.Helper()
	f := newFrame(t, b)
	f.Offload = o
	h := decode(t, b)
	if r := tr.Apply(f, h); r != drop.None {
		t.Fatalf("%+v: %s\n%x", tr, r, b)
	}
	result := append([]byte(nil), f.Bytes()...)
	after := decode(t, result)
	moved := *h
	tr.ApplyHeaders(&moved)
	if d := cmp.Diff(after, &moved, compareAddr); d != "" {
		t.Fatalf("%+v: headers as decoded and as rewritten: -want +got\n%s", tr, d)
	}

	// Back again, but for the TTL: that is a matter of going on, not of who is who.
	flow := *h
	if quoted != nil {
		flow.SrcPort, flow.DstPort, flow.ICMPID = quoted.dport, quoted.sport, 0
		if quoted.proto == packet.ProtoICMP || quoted.proto == packet.ProtoICMPv6 {
			flow.ICMPID = quoted.id
		}
	}
	inverse := tr.Inverse(&flow)
	if r := inverse.Apply(f, after); r != drop.None {
		t.Fatalf("inverse of %+v: %s", tr, r)
	}
	want := b
	if tr.DecTTL {
		g := newFrame(t, b)
		g.Offload = o
		hop := vfp.Transposition{DecTTL: true}
		if r := hop.Apply(g, h); r != drop.None {
			t.Fatal(r)
		}
		want = g.Bytes()
	}
	if !bytes.Equal(f.Bytes(), want) {
		t.Fatalf("inverse of %+v:\ngot  %x\nwant %x", tr, f.Bytes(), want)
	}
	return result, f.Offload
}

func TestApplyAgainstGopacket(t *testing.T) {
	for seed := range uint64(4000) {
		g := newGen(seed)
		version := pick[uint8](g, 4, 6)
		p, tr := g.packet(version), g.transposition(version)
		after := p.with(&tr)
		got, _ := apply(t, tr, p.frame(t), packet.Offload{})
		if want := after.frame(t); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %+v of %+v\ngot  %x\nwant %x", seed, tr, p, got, want)
		}
	}
}

func TestApplyOnICMPErrors(t *testing.T) {
	for seed := range uint64(4000) {
		g := newGen(seed)
		version := pick[uint8](g, 4, 6)
		tr := g.transposition(version)
		inner := g.packet(version)
		mirror := mirrored(&tr)
		innerAfter := inner.with(&mirror)
		quote, quoteAfter := inner.ip(t), innerAfter.ip(t)
		p := g.packet(version)
		p.src, p.dst = inner.dst, inner.src
		p.proto, p.icmp = packet.ProtoICMP, [2]uint8{pick[uint8](g, 3, 4, 5, 11, 12), 4}
		least := packet.IPv4Len + 8
		if version == 6 {
			p.proto, p.icmp = packet.ProtoICMPv6, [2]uint8{pick[uint8](g, 1, 2, 3, 4), 0}
			least = packet.IPv6Len
		}
		if inner.options {
			least += 24
		}
		n := least + g.IntN(max(1, len(quote)-least))
		n = min(n, len(quote))
		n = whole(quote, n, inner.proto)
		p.payload = quote[:n]
		after := p.with(&tr)
		after.payload = quoteAfter[:n]
		got, _ := applyOf(t, tr, p.frame(t), packet.Offload{}, &inner)
		if want := after.frame(t); !bytes.Equal(got, want) {
			t.Fatalf("seed %d: %+v of %+v quoting %+v\ngot  %x\nwant %x", seed, tr, p, inner, got, want)
		}
	}
}

// whole shortens the first n bytes of the IP packet ip where they end within a
// checksum or port of its transport header, or hold a checksum and not all that
// changes: such bytes cannot be fixed.
func whole(ip []byte, n int, proto uint8) int {
	var l4 int
	if ip[0]>>4 == 4 {
		l4 = int(ip[0]&15) * 4
	} else if l4 = 40; ip[6] == 0 {
		l4 = 64
	}
	icmp := proto == packet.ProtoICMP || proto == packet.ProtoICMPv6
	switch over := n - l4; {
	case icmp && over >= 3 && over < 6:
		return l4 + 2
	case over == 1, over == 3, over == 7 && proto == packet.ProtoUDP, over == 17 && proto == packet.ProtoTCP:
		return n - 1
	}
	return n
}

// partial makes the checksum of a TCP or UDP frame a partial one.
func partial(t *testing.T, b []byte) packet.Offload {
	t.Helper()
	h := decode(t, b)
	offset := 16
	if h.Proto == packet.ProtoUDP {
		offset = 6
	}
	binary.BigEndian.PutUint16(b[h.L4+offset:], packet.Fold(packet.PseudoSum(h.Src, h.Dst, h.Proto, h.L3+h.Length-h.L4)))
	return packet.Offload{NeedsCsum: true, CsumStart: uint16(h.L4), CsumOffset: uint16(offset)}
}

func TestApplyKeepsPartialChecksums(t *testing.T) {
	for seed := range uint64(2000) {
		g := newGen(seed)
		version := pick[uint8](g, 4, 6)
		p, tr := g.packet(version), g.transposition(version)
		p.proto, p.noSum, p.icmp = pick[uint8](g, packet.ProtoTCP, packet.ProtoUDP), false, [2]uint8{}
		after := p.with(&tr)
		b, want := p.frame(t), after.frame(t)
		complete := append([]byte(nil), want...)
		o, wantO := partial(t, b), partial(t, want)
		got, gotO := apply(t, tr, b, o)
		if !bytes.Equal(got, want) || gotO != wantO {
			t.Fatalf("seed %d: %+v of %+v\ngot  %x\nwant %x", seed, tr, p, got, want)
		}
		f := newFrame(t, got)
		f.Offload = gotO
		if !packet.CompleteChecksum(f) || !bytes.Equal(f.Bytes(), complete) {
			t.Fatalf("seed %d: completed\n%x\nwant\n%x", seed, f.Bytes(), complete)
		}
	}
}

// Cutting a super-packet and rewriting it are the same in either order.
func TestApplyOnSuperPackets(t *testing.T) {
	for seed := range uint64(300) {
		g := newGen(seed)
		version := pick[uint8](g, 4, 6)
		p, tr := g.packet(version), g.transposition(version)
		p.proto, p.options, p.noSum, p.icmp = pick[uint8](g, packet.ProtoTCP, packet.ProtoUDP), false, false, [2]uint8{}
		p.payload = g.bytes(3000 + g.IntN(20000))
		b := p.frame(t)
		o := partial(t, b)
		o.GSOSize = 1400
		switch {
		case p.proto == packet.ProtoUDP:
			o.GSO = packet.GSOUDP
		case version == 4:
			o.GSO = packet.GSOTCPv4
		default:
			o.GSO = packet.GSOTCPv6
		}
		var want [][]byte
		for _, s := range segments(t, b, o) {
			s, _ = apply(t, tr, s, packet.Offload{})
			want = append(want, s)
		}
		super, after := apply(t, tr, b, o)
		for i, got := range segments(t, super, after) {
			if i >= len(want) || !bytes.Equal(got, want[i]) {
				t.Fatalf("seed %d, segment %d of %d: %+v", seed, i, len(want), tr)
			}
		}
	}
}

func segments(t *testing.T, b []byte, o packet.Offload) (list [][]byte) {
	t.Helper()
	f := newFrame(t, b)
	f.Offload = o
	var s packet.Segments
	if r := s.Start(f); r != drop.None {
		t.Fatal(r)
	}
	for s.Left() > 0 {
		dst := packet.NewFrame(2048)
		if !s.Next(dst) {
			t.Fatal("the segment does not fit")
		}
		list = append(list, append([]byte(nil), dst.Bytes()...))
	}
	return list
}

// Fragments of a rewritten packet are the rewritten fragments of the packet:
// only the first has ports and a checksum.
func TestApplyOnFragments(t *testing.T) {
	for seed := range uint64(500) {
		g := newGen(seed)
		p, tr := g.packet(4), g.transposition(4)
		var quoted *pkt
		if g.chance(30) { // an ICMP error in fragments
			inner := g.packet(4)
			inner.options, inner.src, inner.dst = false, p.dst, p.src
			quoted = &inner
			p.proto, p.icmp = packet.ProtoICMP, [2]uint8{3, 4}
			p.payload = append(inner.ip(t), g.bytes(1000)...)
		} else {
			p.payload = g.bytes(1000 + g.IntN(1000))
		}
		b := p.frame(t)
		whole, _ := applyOf(t, tr, b, packet.Offload{}, quoted)
		want := fragments(t, whole, 200)
		for i, frag := range fragments(t, b, 200) {
			got, _ := applyOf(t, tr, frag, packet.Offload{}, quoted)
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("seed %d, fragment %d: %+v of %+v\ngot  %x\nwant %x", seed, i, tr, p, got, want[i])
			}
		}
	}
}

func fragments(t *testing.T, b []byte, mtu int) (list [][]byte) {
	t.Helper()
	var s packet.Fragments
	if r := s.Start(newFrame(t, b), mtu); r != drop.None {
		t.Fatal(r)
	}
	for s.Left() > 0 {
		dst := packet.NewFrame(2048)
		if !s.Next(dst) {
			t.Fatal("the fragment does not fit")
		}
		list = append(list, append([]byte(nil), dst.Bytes()...))
	}
	return list
}

func TestApplyOnIPv6Fragments(t *testing.T) {
	g := newGen(1)
	p := g.packet(6)
	p.proto, p.options, p.noSum, p.payload, p.icmp = packet.ProtoUDP, false, false, g.bytes(240), [2]uint8{}
	tr := vfp.Transposition{Set: vfp.SetSrc | vfp.SetDst | vfp.SetSrcPort | vfp.SetDstPort, NewSrc: g.anyAddr(6), NewDst: g.anyAddr(6), NewSrcPort: 5, NewDstPort: 6}
	after := p.with(&tr)
	piece := func(b []byte, first, more bool) []byte {
		data, field := b[54:54+128], []byte{17, 0, 0, 1, 0, 0, 0, 9}
		if !first {
			data, field = b[54+128:], []byte{17, 0, 0, 128, 0, 0, 0, 9}
		}
		f := append(append(append([]byte{}, b[:54]...), field...), data...)
		f[20] = 44
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
		return f
	}
	for _, first := range []bool{true, false} {
		got, _ := apply(t, tr, piece(p.frame(t), first, first), packet.Offload{})
		if want := piece(after.frame(t), first, first); !bytes.Equal(got, want) {
			t.Errorf("first %v:\ngot  %x\nwant %x", first, got, want)
		}
	}
}

// A checksum that comes to zero is written as ones in UDP (RFC 768).
func TestApplyWritesNoZeroUDPChecksum(t *testing.T) {
	g := newGen(3)
	p := g.packet(4)
	p.proto, p.options, p.noSum, p.payload, p.icmp = packet.ProtoUDP, false, false, []byte{0, 0}, [2]uint8{}
	tr := vfp.Transposition{Set: vfp.SetDstPort, NewDstPort: 4242}
	after := p.with(&tr)
	sum := after.frame(t)[14+20+6:]
	p.payload = []byte{sum[0], sum[1]} // what was missing to the full sum
	after = p.with(&tr)
	want := after.frame(t)
	if binary.BigEndian.Uint16(want[14+20+6:]) != 0xffff {
		t.Fatal("the packet does not try what it should")
	}
	if got, _ := apply(t, tr, p.frame(t), packet.Offload{}); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// A wrong checksum is not made right on the way: the receiver has to notice.
func TestApplyKeepsWrongChecksumsWrong(t *testing.T) {
	g := newGen(4)
	p := g.packet(4)
	p.proto, p.options, p.icmp = packet.ProtoTCP, false, [2]uint8{}
	b := p.frame(t)
	b[len(b)-1] ^= 0x10
	tr := vfp.Transposition{Set: vfp.SetSrc | vfp.SetSrcPort, NewSrc: netip.MustParseAddr("192.0.2.1"), NewSrcPort: 9}
	got, _ := apply(t, tr, b, packet.Offload{})
	h := decode(t, got)
	if packet.Checksum(got[h.L4:], packet.PseudoSum(h.Src, h.Dst, h.Proto, len(got)-h.L4)) == 0 {
		t.Error("the wrong checksum became right")
	}
}

func TestApplyRefuses(t *testing.T) {
	g := newGen(5)
	tcp, six := g.packet(4), g.packet(6)
	tcp.proto, six.proto = packet.ProtoTCP, packet.ProtoTCP
	dying := tcp
	dying.ttl = 1
	broken, short, alien := tcp, tcp, tcp
	for p, quote := range map[*pkt][]byte{&broken: {0x41}, &short: {0x45}, &alien: {0x65}} {
		p.proto, p.icmp, p.payload = packet.ProtoICMP, [2]uint8{3, 1}, append(quote, make([]byte, 19)...)
	}
	short.payload = short.payload[:19]
	src4 := vfp.Transposition{Set: vfp.SetSrc, NewSrc: g.anyAddr(4)}
	src6 := vfp.Transposition{Set: vfp.SetSrc, NewSrc: g.anyAddr(6)}
	hop := vfp.Transposition{Set: vfp.SetSrcMAC, DecTTL: true}
	arp := append(append([]byte{}, tcp.frame(t)[:12]...), 8, 6, 0, 1)
	for name, c := range map[string]struct {
		tr   vfp.Transposition
		b    []byte
		o    packet.Offload
		want drop.Reason
	}{
		"family 4 of 6":      {src6, tcp.frame(t), packet.Offload{}, drop.RuleUnsupported},
		"family 6 of 4":      {src4, six.frame(t), packet.Offload{}, drop.RuleUnsupported},
		"no IP":              {src4, arp, packet.Offload{}, drop.RuleUnsupported},
		"no TTL":             {hop, arp, packet.Offload{}, drop.RuleUnsupported},
		"TTL":                {hop, dying.frame(t), packet.Offload{}, drop.TTLExpired},
		"checksum elsewhere": {src4, tcp.frame(t), packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 6}, drop.ChecksumUnsupported},
		"checksum before":    {src4, tcp.frame(t), packet.Offload{NeedsCsum: true, CsumStart: 14, CsumOffset: 10}, drop.ChecksumUnsupported},
		"quote broken":       {src4, broken.frame(t), packet.Offload{}, drop.InnerMalformed},
		"quote short":        {src4, short.frame(t), packet.Offload{}, drop.InnerTruncated},
		"quote alien":        {src4, alien.frame(t), packet.Offload{}, drop.InnerMalformed},
	} {
		f := newFrame(t, c.b)
		f.Offload = c.o
		if r := c.tr.Apply(f, decode(t, c.b)); r != c.want {
			t.Errorf("%s: %s, want %s", name, r, c.want)
		}
		if !bytes.Equal(f.Bytes(), c.b) {
			t.Errorf("%s: the frame changed", name)
		}
	}
	f := newFrame(t, arp)
	mac := vfp.Transposition{Set: vfp.SetDstMAC, NewDstMAC: [6]byte{2, 9}}
	if r := mac.Apply(f, decode(t, arp)); r != drop.None || f.Bytes()[1] != 9 {
		t.Errorf("MAC address of ARP: %s %x", r, f.Bytes())
	}
}

// Reply is for the packets that come back: they look to the opener of the flow
// as if nothing had been rewritten.
func TestReply(t *testing.T) {
	for seed := range uint64(500) {
		g := newGen(seed)
		version := pick[uint8](g, 4, 6)
		p, tr := g.packet(version), g.transposition(version)
		if p.proto == packet.ProtoICMP || p.proto == packet.ProtoICMPv6 {
			p.icmp[0] = map[uint8]uint8{4: 8, 6: 128}[version]
		}
		tr.Set &^= vfp.SetDSCP | vfp.SetSrcMAC | vfp.SetDstMAC
		h := decode(t, p.frame(t))
		there := p.with(&tr)
		back := func(p pkt) pkt {
			p.src, p.dst, p.sport, p.dport = p.dst, p.src, p.dport, p.sport
			if p.proto == packet.ProtoICMP || p.proto == packet.ProtoICMPv6 {
				p.icmp[0] = map[uint8]uint8{4: 0, 6: 129}[version]
			}
			return p
		}
		answer, want := back(there), back(p)
		if tr.DecTTL {
			answer.ttl, want.ttl = p.ttl, p.ttl-1
		}
		got, _ := apply(t, tr.Reply(h), answer.frame(t), packet.Offload{})
		if w := want.frame(t); !bytes.Equal(got, w) {
			t.Fatalf("seed %d: %+v of %+v\ngot  %x\nwant %x", seed, tr, p, got, w)
		}
	}
}

package encap_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func golden(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	must(t, err)
	return b
}

var shortest = [14]byte{0: 0x02, 5: 9, 6: 0x02, 11: 8, 12: 0x08, 13: 0x00}

func TestGolden(t *testing.T) {
	for name, want := range map[string]string{
		"nvgre4": `45 b9 002a 0000 4000 21 2f d47d c0a8010a c0a80214  2000 6558 001389 a7`,
		"vxlan4": `45 02 0032 0000 4000 40 11 b64a c0a8010a c0a80214  c350 12b5 001e 0000  08 000000 fffffe 00`,
		"nvgre6": `6b 9 00001 0016 2f 40 fd000002000000000000000000000010 fd000002000000000000000000000020  2000 6558 001000 01`,
		"vxlan6": `60 3 0c000 001e 11 ff fd000002000000000000000000000010 fd000002000000000000000000000020  c000 12b5 001e 95a2  08 000000 001389 00`,
	} {
		h := headers()[name]
		got := pushed(t, h, shortest[:])
		if wire := append(golden(t, want), shortest[:]...); !bytes.Equal(got, wire) {
			t.Errorf("%s: wrote\n%x, want\n%x", name, got, wire)
		}
		h.InnerOff, h.Total = len(got)-14, len(got)
		var back encap.Header
		if r := encap.Parse(got, &back); r != drop.None || back != h {
			t.Errorf("%s: read %s, %+v, want %+v", name, r, back, h)
		}
	}
}

func TestRoundTripAgreesWithGopacket(t *testing.T) {
	frame := inner(t, 1000)
	for name, h := range headers() {
		b := pushed(t, h, frame)
		first := layers.LayerTypeIPv4
		if h.Src.Is6() {
			first = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(b, first, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Fatalf("%s: gopacket: %v", name, p.ErrorLayer().Error())
		}
		switch l := p.Layers()[0].(type) {
		case *layers.IPv4:
			if src, _ := netip.AddrFromSlice(l.SrcIP); src != h.Src || int(l.Length) != len(b) || l.Flags != layers.IPv4DontFragment || l.TTL != h.TTL || l.TOS != h.TOS || packet.Checksum(b[:20], 0) != 0 {
				t.Errorf("%s: gopacket %+v", name, l)
			}
		case *layers.IPv6:
			if dst, _ := netip.AddrFromSlice(l.DstIP); dst != h.Dst || int(l.Length) != len(b)-40 || l.HopLimit != h.TTL || l.TrafficClass != h.TOS || l.FlowLabel == 0 {
				t.Errorf("%s: gopacket %+v", name, l)
			}
		}
		switch h.Kind {
		case encap.KindNVGRE:
			g := p.Layer(layers.LayerTypeGRE).(*layers.GRE)
			if !g.KeyPresent || g.ChecksumPresent || g.SeqPresent || g.Version != 0 || g.Key != h.VSID<<8|uint32(h.FlowID) || g.Protocol != layers.EthernetTypeTransparentEthernetBridging {
				t.Errorf("%s: gopacket %+v", name, g)
			}
		case encap.KindVXLAN:
			u, v := p.Layer(layers.LayerTypeUDP).(*layers.UDP), p.Layer(layers.LayerTypeVXLAN).(*layers.VXLAN)
			if uint16(u.SrcPort) != h.SrcPort || u.DstPort != 4789 || !v.ValidIDFlag || v.VNI != h.VSID {
				t.Errorf("%s: gopacket %+v %+v", name, u, v)
			}
			if h.Src.Is4() && u.Checksum != 0 {
				t.Errorf("%s: UDP checksum %#04x over IPv4", name, u.Checksum)
			}
			if h.Src.Is6() {
				udp := b[40:]
				if u.Checksum == 0 || packet.Checksum(udp, packet.PseudoSum(h.Src, h.Dst, 17, len(udp))) != 0 {
					t.Errorf("%s: UDP checksum %#04x is wrong", name, u.Checksum)
				}
			}
		}
		if tcp, ok := p.TransportLayer().(*layers.TCP); h.Kind == encap.KindNVGRE && (!ok || tcp.DstPort != 443) {
			t.Errorf("%s: gopacket finds no inner TCP", name)
		}
		if !bytes.Equal(b[len(b)-len(frame):], frame) {
			t.Errorf("%s: the inner frame changed", name)
		}
	}
}

// What gopacket builds, with its own idea of the headers, must be read alike.
func TestParseWhatGopacketBuilds(t *testing.T) {
	ip := &layers.IPv4{
		Version: 4, TTL: 9, Id: 77, TOS: 4, Protocol: layers.IPProtocolGRE, SrcIP: pa1.AsSlice(), DstIP: pa2.AsSlice(),
		Options: []layers.IPv4Option{{OptionType: 0x94, OptionLength: 4, OptionData: []byte{0, 0}}},
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip,
		&layers.GRE{KeyPresent: true, Key: 5001<<8 | 3, Protocol: 0x6558}, gopacket.Payload(inner(t, 10))))
	var h encap.Header
	want := encap.Header{Kind: encap.KindNVGRE, Src: pa1, Dst: pa2, VSID: 5001, FlowID: 3, TTL: 9, TOS: 4, ID: 77, InnerOff: 32, Total: len(buf.Bytes())}
	if r := encap.Parse(buf.Bytes(), &h); r != drop.None || h != want {
		t.Errorf("%s, %+v, want %+v", r, h, want)
	}
}

func TestPaddingBehindTheOuterPacket(t *testing.T) {
	for name, h := range headers() {
		b := pushed(t, h, shortest[:])
		var got encap.Header
		padded := append(bytes.Clone(b), 1, 2, 3, 4, 5, 6)
		if r := encap.Parse(padded, &got); r != drop.None || got.Total != len(b) {
			t.Errorf("%s: %s, Total %d, want %d", name, r, got.Total, len(b))
		}
	}
}

func TestParseRefuses(t *testing.T) {
	frame := inner(t, 10)
	gre, vx := pushed(t, headers()["nvgre4"], frame), pushed(t, headers()["vxlan4"], frame)
	gre6, vx6 := pushed(t, headers()["nvgre6"], frame), pushed(t, headers()["vxlan6"], frame)
	raw := func(b []byte, off int, with ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[off:], with)
		return c
	}
	mapped := netip.MustParseAddr("::ffff:192.168.1.10").As16()
	total := func(n int) []byte { return edit(gre, 2, byte(n>>8), byte(n)) }
	for name, c := range map[string]struct {
		b    []byte
		want drop.Reason
	}{
		"empty":             {nil, drop.OuterMalformed},
		"version 5":         {edit(gre, 0, 0x55), drop.OuterMalformed},
		"IHL 4":             {raw(gre, 0, 0x44), drop.OuterMalformed},
		"IHL beyond":        {raw(gre[:30], 0, 0x4f), drop.OuterMalformed},
		"length 0":          {total(0), drop.OuterLength},
		"length below IHL":  {total(19), drop.OuterLength},
		"length beyond":     {total(len(gre) + 1), drop.OuterLength},
		"no room for GRE":   {total(23), drop.OuterLength},
		"no room for key":   {total(27), drop.OuterLength},
		"no room for inner": {total(41), drop.InnerTruncated},
		"no inner at all":   {total(28), drop.InnerTruncated},
		"no room for UDP":   {edit(vx, 2, 0, 27), drop.OuterLength},
		"checksum":          {raw(gre, 11, gre[11]^1), drop.OuterChecksum},
		"TTL flipped":       {raw(vx, 8, vx[8]^0x80), drop.OuterChecksum},
		"first fragment":    {edit(gre, 6, 0x20), drop.OuterFragment},
		"later fragment":    {edit(gre, 6, 0x00, 0x10), drop.OuterFragment},
		"fragment at 8":     {edit(gre, 6, 0x40, 0x01), drop.OuterFragment},
		"UDP fragment":      {edit(vx, 6, 0x3f, 0xff), drop.OuterFragment},
		"TCP":               {edit(gre, 9, 6), drop.OuterProtocol},
		"IPIP":              {edit(gre, 9, 4), drop.OuterProtocol},

		"GRE version 1":          {raw(gre, 21, 1), drop.GREVersion},
		"GRE version 7":          {raw(gre, 21, 7), drop.GREVersion},
		"GRE checksum":           {raw(gre, 20, 0xa0), drop.GREFlags},
		"GRE sequence":           {raw(gre, 20, 0x30), drop.GREFlags},
		"GRE routing":            {raw(gre, 20, 0x60), drop.GREReserved},
		"GRE bit 4":              {raw(gre, 20, 0x28), drop.GREReserved},
		"GRE bit 5":              {raw(gre, 20, 0x24), drop.GREReserved},
		"GRE no key":             {raw(gre, 20, 0x00), drop.GRENoKey},
		"GRE bits 6-12 are free": {raw(gre, 20, 0x23, 0xf8), drop.None},
		"GRE carries IP":         {raw(gre, 22, 0x08, 0x00), drop.GREProtocol},
		"GRE carries ERSPAN":     {raw(gre, 22, 0x88, 0xbe), drop.GREProtocol},
		"VSID 0":                 {raw(gre, 24, 0, 0, 0), drop.VSIDReserved},
		"VSID 4095":              {raw(gre, 24, 0, 0x0f, 0xff), drop.VSIDReserved},
		"VSID 4096":              {raw(gre, 24, 0, 0x10, 0), drop.None},
		"VSID 16777214":          {raw(gre, 24, 0xff, 0xff, 0xfe), drop.None},
		"VSID 16777215":          {raw(gre, 24, 0xff, 0xff, 0xff), drop.VSIDReserved},

		"UDP port":                 {raw(vx, 22, 0x12, 0xb6), drop.UDPPort},
		"Linux' old VXLAN port":    {raw(vx, 22, 0x21, 0x18), drop.UDPPort},
		"UDP length short":         {raw(vx, 25, vx[25]-1), drop.UDPLength},
		"UDP length long":          {raw(vx, 25, vx[25]+1), drop.UDPLength},
		"UDP length 0":             {raw(vx, 24, 0, 0), drop.UDPLength},
		"no room for VXLAN":        {edit(raw(vx, 24, 0, 15), 2, 0, 35), drop.OuterLength},
		"VXLAN holds nothing":      {edit(raw(vx, 24, 0, 16), 2, 0, 36), drop.InnerTruncated},
		"VXLAN I clear":            {raw(vx, 28, 0xf7), drop.VXLANNoVNI},
		"VXLAN reserved is free":   {raw(vx, 28, 0xff, 1, 2, 3), drop.None},
		"VXLAN last byte free":     {raw(vx, 35, 0xff), drop.None},
		"VNI 0":                    {raw(vx, 32, 0, 0, 0), drop.VSIDReserved},
		"UDP checksum is not read": {raw(vx, 26, 0xde, 0xad), drop.None},

		"v6 length":            {raw(gre6, 4, 0xff), drop.OuterLength},
		"v6 jumbo":             {raw(gre6, 4, 0, 0), drop.OuterLength},
		"v6 TCP":               {raw(gre6, 6, 6), drop.OuterProtocol},
		"v6 routing header":    {raw(gre6, 6, 43), drop.OuterProtocol},
		"v6 fragment":          {raw(gre6, 6, 44), drop.OuterFragment},
		"v6 mapped source":     {raw(gre6, 8, mapped[:]...), drop.OuterMalformed},
		"v6 mapped target":     {raw(gre6, 24, mapped[:]...), drop.OuterMalformed},
		"v6 UDP port":          {raw(vx6, 42, 0), drop.UDPPort},
		"v6 options beyond":    {raw(raw(gre6, 6, 60), 41, 64), drop.OuterLength},
		"v6 checksum not read": {raw(vx6, 46, 0xde, 0xad), drop.None},
		"v6 zero checksum":     {raw(vx6, 46, 0, 0), drop.None},
	} {
		var h encap.Header
		if got := encap.Parse(c.b, &h); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Linux' GRE over IPv6 puts a Tunnel Encapsulation Limit in front.
func TestParseSkipsIPv6Options(t *testing.T) {
	b := pushed(t, headers()["nvgre6"], inner(t, 10))
	hop, dest := []byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{47, 1, 4, 1, 4, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	c := append(bytes.Clone(b[:40]), append(append(bytes.Clone(hop), dest...), b[40:]...)...)
	c[5], c[6] = c[5]+24, 0
	var h encap.Header
	if r := encap.Parse(c, &h); r != drop.None || h.VSID != 0x1000 || h.InnerOff != 40+24+8 || h.Total != len(c) {
		t.Errorf("%s, %+v", r, h)
	}
	c[40+8] = 60 // Destination Options again
	if r := encap.Parse(c, &h); r != drop.OuterProtocol {
		t.Errorf("twice: %s", r)
	}
	frag := bytes.Clone(c)
	frag[40+8] = 44
	if r := encap.Parse(frag, &h); r != drop.OuterFragment {
		t.Errorf("a fragment behind options: %s", r)
	}
}

func TestParseTruncatedAtEveryByte(t *testing.T) {
	for name, h := range headers() {
		b := pushed(t, h, inner(t, 50))
		for n := range len(b) {
			want := drop.OuterLength
			if n < 20 || h.Src.Is6() && n < 40 {
				want = drop.OuterMalformed
			}
			var got encap.Header
			if r := encap.Parse(b[:n:n], &got); r != want {
				t.Errorf("%s cut to %d bytes: %s, want %s", name, n, r, want)
			}
		}
	}
}

func TestOverhead(t *testing.T) {
	for _, c := range []struct {
		k    encap.Kind
		six  bool
		want int
	}{{encap.KindNVGRE, false, 42}, {encap.KindVXLAN, false, 50}, {encap.KindNVGRE, true, 62}, {encap.KindVXLAN, true, 70}} {
		if got := encap.Overhead(c.k, c.six); got != c.want {
			t.Errorf("%s over IPv6 %v: %d, want %d", c.k, c.six, got, c.want)
		}
	}
	for name, h := range headers() {
		frame := inner(t, 100)
		if got := len(pushed(t, h, frame)) - (len(frame) - 14); got != encap.Overhead(h.Kind, h.Src.Is6()) {
			t.Errorf("%s: Push adds %d to the IP packet", name, got)
		}
	}
	if s := encap.KindNVGRE.String() + encap.KindVXLAN.String() + encap.Kind(9).String(); s != "nvgrevxlanunknown" {
		t.Errorf("kinds are called %s", s)
	}
}

func TestPushRefusesWithoutChange(t *testing.T) {
	good := headers()["nvgre4"]
	bad := func(change func(h *encap.Header)) encap.Header {
		h := good
		change(&h)
		return h
	}
	for name, h := range map[string]encap.Header{
		"no kind":       bad(func(h *encap.Header) { h.Kind = 0 }),
		"unknown kind":  bad(func(h *encap.Header) { h.Kind = 3 }),
		"no source":     bad(func(h *encap.Header) { h.Src = netip.Addr{} }),
		"no target":     bad(func(h *encap.Header) { h.Dst = netip.Addr{} }),
		"no addresses":  bad(func(h *encap.Header) { h.Src, h.Dst = netip.Addr{}, netip.Addr{} }),
		"two families":  bad(func(h *encap.Header) { h.Dst = six1 }),
		"VSID 4095":     bad(func(h *encap.Header) { h.VSID = 4095 }),
		"VSID 16777215": bad(func(h *encap.Header) { h.VSID = 0xffffff }),
	} {
		f := packet.NewFrame(100)
		f.Set(shortest[:])
		if encap.Push(f, &h) || !bytes.Equal(f.Bytes(), shortest[:]) {
			t.Errorf("%s: taken, or the frame changed", name)
		}
	}
	f := &packet.Frame{Buf: make([]byte, 100), Off: 27, End: 60}
	if encap.Push(f, &good) || f.Off != 27 {
		t.Error("pushed into 27 bytes of headroom")
	}
	f = packet.NewFrame(65535)
	f.Append(65535 - 27)
	if encap.Push(f, &good) || f.Len() != 65535-27 {
		t.Error("made an outer packet of more than 65535 bytes")
	}
}

func TestPushDefaults(t *testing.T) {
	b := pushed(t, encap.Header{Kind: encap.KindVXLAN, Src: pa1, Dst: pa2, VSID: 5001}, shortest[:])
	var h encap.Header
	if r := encap.Parse(b, &h); r != drop.None || h.TTL != encap.DefaultTTL || h.SrcPort < 49152 {
		t.Errorf("%s, %+v", r, h)
	}
}

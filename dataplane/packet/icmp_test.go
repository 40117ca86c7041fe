package packet_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var (
	router  = [6]byte{0x02, 0x68, 0x6e, 0, 0, 1}
	router4 = netip.MustParseAddr("10.1.1.1")
	router6 = netip.MustParseAddr("fd00:1::1")
)

// checksumsAreRight recomputes every checksum in the frame naively, and has
// gopacket find no fault.
func checksumsAreRight(t testing.TB, b []byte) {
	t.Helper()
	h := decode(t, b)
	l4 := b[h.L4 : h.L3+h.Length]
	if h.IsFragment() {
		return
	}
	var pseudo []byte
	if h.Version == 6 || h.Proto != packet.ProtoICMP {
		pseudo = append(h.Src.AsSlice(), h.Dst.AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(l4)))
		pseudo = append(pseudo, 0, 0, 0, h.Proto)
	}
	if h.Proto == packet.ProtoUDP && l4[6]|l4[7] == 0 {
		return
	}
	if got := naive(append(pseudo, l4...)); got != 0 {
		t.Errorf("transport checksum is off by %#04x in %x", got, b)
	}
	if p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default); p.ErrorLayer() != nil {
		t.Errorf("gopacket: %v", p.ErrorLayer().Error())
	}
}

func TestICMPErrors(t *testing.T) {
	for _, c := range []struct {
		e                  packet.ICMPError
		t4, c4, t6, c6     uint8
		mtu                int
		wantMTU4, wantMTU6 uint32
	}{
		{packet.TooBig, 3, 4, 2, 0, 1458, 1458, 1458},
		{packet.TooBig, 3, 4, 2, 0, 10, 68, 1280},
		{packet.TooBig, 3, 4, 2, 0, 70000, 65535, 70000},
		{packet.TimeExceeded, 11, 0, 3, 0, 1458, 0, 0},
		{packet.NoRoute, 3, 0, 1, 0, 0, 0, 0},
		{packet.HostUnreachable, 3, 1, 1, 3, 0, 0, 0},
		{packet.AdminProhibited, 3, 13, 1, 1, 0, 0, 0},
	} {
		for _, orig := range [][]byte{frameTCP4(t, 1400), frameTCP4(t, 0), frameTCP6(t, 1400), frameTCP6(t, 0), frameEcho4(t), frameEcho6(t)} {
			h := decode(t, orig)
			from, typ, code, mtu, limit, ip := router4, c.t4, c.c4, c.wantMTU4, 576, 20
			if h.Version == 6 {
				from, typ, code, mtu, limit, ip = router6, c.t6, c.c6, c.wantMTU6, 1280, 40
			}
			f := packet.NewFrame(2000)
			if !packet.BuildICMPError(f, c.e, orig, h, from, router, c.mtu) {
				t.Fatalf("error %d about IPv%d refused", c.e, h.Version)
			}
			b := f.Bytes()
			checksumsAreRight(t, b)
			g := decode(t, b)
			if g.TTL != 64 || g.DSCP != 48 || g.ECN != 0 || g.DontFragment != true {
				t.Errorf("error %d about IPv%d: %+v", c.e, h.Version, g)
			}
			if g.Src != from || g.Dst != h.Src || g.SrcMAC != router || g.DstMAC != h.SrcMAC || g.ICMPType != typ || g.ICMPCode != code {
				t.Errorf("error %d about IPv%d: %+v", c.e, h.Version, g)
			}
			m := b[g.L4:]
			if got := binary.BigEndian.Uint32(m[4:]); got != mtu {
				t.Errorf("error %d about IPv%d: rest is %d, want %d", c.e, h.Version, got, mtu)
			}
			want := orig[14 : 14+min(h.Length, limit-ip-8)]
			if g.Length > limit || !bytes.Equal(m[8:], want) {
				t.Errorf("error %d about IPv%d: length %d, quotes %d bytes, want %d", c.e, h.Version, g.Length, len(m)-8, len(want))
			}
		}
	}
}

func TestICMPErrorsThatMayNotBe(t *testing.T) {
	icmp := func(typ uint8) []byte {
		return serialize(t, ether(layers.EthernetTypeIPv4), ipv4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0)}, payload(28))
	}
	icmp6 := func(typ uint8) []byte {
		return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(58), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}, payload(44))
	}
	frag6 := func() []byte {
		return serialize(t, ether(layers.EthernetTypeIPv6), ipv6(44), gopacket.Payload{58, 0, 0, 8, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	}
	src4 := func(a ...byte) []byte { return edit(frameTCP4(t, 9), true, 26, a...) }
	src6 := func(s string) []byte {
		a := netip.MustParseAddr(s).As16()
		return edit(frameTCP6(t, 9), false, 22, a[:]...)
	}
	dst6 := func(s string) []byte {
		a := netip.MustParseAddr(s).As16()
		return edit(frameTCP6(t, 9), false, 38, a[:]...)
	}
	for name, b := range map[string][]byte{
		"unreachable":    icmp(3),
		"quench":         icmp(4),
		"redirect":       icmp(5),
		"time exceeded":  icmp(11),
		"parameter":      icmp(12),
		"later fragment": frameFrag4(t, 1480, true),
		"from 0.0.0.0":   src4(0, 0, 0, 0),
		"from loopback":  src4(127, 0, 0, 1),
		"from group":     src4(224, 0, 0, 1),
		"from broadcast": src4(255, 255, 255, 255),
		"to group":       edit(frameTCP4(t, 9), true, 30, 239, 1, 1, 1),
		"to broadcast":   edit(frameTCP4(t, 9), true, 30, 255, 255, 255, 255),
		"to group MAC":   edit(frameTCP4(t, 9), false, 0, 1),
		"ICMPv6 error":   icmp6(1),
		"v6 redirect":    icmp6(137),
		"v6 fragment":    frag6(),
		"from ::":        src6("::"),
		"from ::1":       src6("::1"),
		"from v6 group":  src6("ff02::1"),
		"to v6 group":    dst6("ff02::1"),
		"to v6 MAC":      edit(frameTCP6(t, 9), false, 0, 0x33),
		"ARP":            arpRequest.Append(golden(t, "ffffffffffff 00155d000001 0806")),
	} {
		h := decode(t, b)
		from := router4
		if h.Version == 6 {
			from = router6
		}
		if packet.BuildICMPError(packet.NewFrame(1500), packet.TimeExceeded, b, h, from, router, 0) {
			t.Errorf("%s: an error was made", name)
		}
	}
	for _, b := range [][]byte{src4(10, 0, 0, 5), src4(1, 0, 0, 0), src4(126, 0, 0, 1), src4(128, 0, 0, 1), src4(223, 255, 255, 255)} {
		if !packet.BuildICMPError(packet.NewFrame(1500), packet.TimeExceeded, b, decode(t, b), router4, router, 0) {
			t.Errorf("no error to %s", decode(t, b).Src)
		}
	}
	// Too big is the one error about packets to an IPv6 group.
	group := dst6("ff0e::1")
	if !packet.BuildICMPError(packet.NewFrame(1500), packet.TooBig, group, decode(t, group), router6, router, 1400) {
		t.Error("no packet too big for an IPv6 group")
	}
	good := frameTCP4(t, 1400)
	for name, made := range map[string]bool{
		"no such error": packet.BuildICMPError(packet.NewFrame(1500), 0, good, decode(t, good), router4, router, 0),
		"nor this":      packet.BuildICMPError(packet.NewFrame(1500), 99, good, decode(t, good), router4, router, 0),
		"ARP":           packet.BuildICMPError(packet.NewFrame(1500), packet.NoRoute, ndARP(t), decode(t, ndARP(t)), router6, router, 0),
		"other family":  packet.BuildICMPError(packet.NewFrame(1500), packet.NoRoute, good, decode(t, good), router6, router, 0),
		"no room":       packet.BuildICMPError(packet.NewFrame(500), packet.NoRoute, good, decode(t, good), router4, router, 0),
		"cut":           packet.BuildICMPError(packet.NewFrame(1500), packet.NoRoute, good[:100], decode(t, good), router4, router, 0),
	} {
		if made {
			t.Errorf("%s: an error was made", name)
		}
	}
}

func TestICMPErrorWithoutEthernet(t *testing.T) {
	orig := frameTCP4(t, 100)[14:]
	var h packet.Headers
	h.DecodeIP(orig)
	f := packet.NewFrame(1500)
	if !packet.BuildICMPError(f, packet.TooBig, orig, &h, router4, [6]byte{}, 1400) {
		t.Fatal("refused")
	}
	var g packet.Headers
	if r := g.DecodeIP(f.Bytes()); r != drop.None || g.ICMPType != 3 || g.ICMPCode != 4 {
		t.Errorf("%s, %+v", r, g)
	}
}

func TestEchoReply(t *testing.T) {
	for name, b := range map[string][]byte{"IPv4": edit(frameEcho4(t), true, 22, 9), "IPv6": edit(frameEcho6(t), false, 21, 9)} {
		for _, pad := range []int{0, 7} {
			f := newFrame(t, append(bytes.Clone(b), make([]byte, pad)...))
			h := decode(t, b)
			if r := packet.EchoReply(f, h); r != drop.None {
				t.Fatalf("%s: %s", name, r)
			}
			checksumsAreRight(t, f.Bytes())
			g := decode(t, f.Bytes())
			wantType := uint8(packet.ICMPEchoReply)
			if h.Version == 6 {
				wantType = packet.ICMPv6EchoReply
			}
			if g.Src != h.Dst || g.Dst != h.Src || g.SrcMAC != h.DstMAC || g.DstMAC != h.SrcMAC || g.ICMPType != wantType || g.TTL != 64 || g.DSCP != h.DSCP || g.ECN != h.ECN {
				t.Errorf("%s: %+v", name, g)
			}
			if !bytes.Equal(f.Bytes()[g.L4+4:], b[h.L4+4:]) {
				t.Errorf("%s: the data came back changed", name)
			}
		}
	}
	f := newFrame(t, frameEcho6(t))
	partial(t, f)
	if r := packet.EchoReply(f, decode(t, f.Bytes())); r != drop.None {
		t.Errorf("with a partial checksum: %s", r)
	}
	checksumsAreRight(t, f.Bytes())
}

func TestEchoReplyRefuses(t *testing.T) {
	options := ipv4(1)
	options.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 4, OptionData: []byte{4, 0}}}
	first := ipv4(1)
	first.Flags = layers.IPv4MoreFragments
	echo := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}
	bad := frameEcho4(t)
	bad[50] ^= 1
	for name, b := range map[string][]byte{
		"checksum": bad,
		"options":  serialize(t, ether(layers.EthernetTypeIPv4), options, echo, payload(8)),
		"fragment": serialize(t, ether(layers.EthernetTypeIPv4), first, echo, payload(8)),
		"a reply":  serialize(t, ether(layers.EthernetTypeIPv4), ipv4(1), &layers.ICMPv4{}, payload(8)),
		"TCP":      frameTCP4(t, 8),
		"short":    serialize(t, ether(layers.EthernetTypeIPv4), ipv4(1), gopacket.Payload{8, 0, 0xf7, 0xff}),
		"to group": edit(frameEcho4(t), false, 0, 1),
	} {
		f := newFrame(t, b)
		if r := packet.EchoReply(f, decode(t, b)); r != drop.EchoMalformed || !bytes.Equal(f.Bytes(), b) {
			t.Errorf("%s: %s, changed: %v", name, r, !bytes.Equal(f.Bytes(), b))
		}
	}
	f := newFrame(t, frameEcho4(t))
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 5000}
	if r := packet.EchoReply(f, decode(t, f.Bytes())); r != drop.ChecksumUnsupported {
		t.Errorf("checksum outside the frame: %s", r)
	}
}

func TestECN(t *testing.T) {
	const n, e1, e0, ce, dropped = packet.NotECT, packet.ECT1, packet.ECT0, packet.CE, 255
	// RFC 6040 figure 4; rows inner, columns outer, both Not-ECT, ECT(1), ECT(0), CE.
	want := [4][4]uint8{
		n:  {n: n, e1: n, e0: n, ce: dropped},
		e1: {n: e1, e1: e1, e0: e1, ce: ce},
		e0: {n: e0, e1: e1, e0: e0, ce: ce},
		ce: {n: ce, e1: ce, e0: ce, ce: ce},
	}
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			got, ok := packet.DecapECN(outer, inner)
			if ok != (want[inner][outer] != dropped) || ok && got != want[inner][outer] {
				t.Errorf("inner %d outer %d: %d, %v; want %d", inner, outer, got, ok, want[inner][outer])
			}
		}
	}
	for _, b := range [][]byte{frameTCP4(t, 10), frameTCP6(t, 10)} {
		for ecn := range uint8(4) {
			before := *decode(t, b)
			packet.SetECN(b[14:], ecn)
			before.ECN = ecn
			if got := *decode(t, b); got != before {
				t.Errorf("SetECN(%d): %+v, want %+v", ecn, got, before)
			}
		}
	}
	packet.SetECN(nil, 1)
	packet.SetECN([]byte{0x45}, 1)
}

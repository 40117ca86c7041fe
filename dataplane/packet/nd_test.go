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
	solicitation = packet.ND{Type: packet.NDNeighborSolicitation, Target: six2, LinkAddr: mac1, HasLinkAddr: true}
	allNodes     = netip.MustParseAddr("ff02::1")
)

// ndFrame builds the message as it goes from src to dst.
func ndFrame(t testing.TB, n packet.ND, src, dst netip.Addr) []byte {
	t.Helper()
	f := packet.NewFrame(128)
	mac := mac2
	if dst.IsMulticast() {
		mac = packet.MulticastMAC(dst)
	}
	if !n.Build(f, mac, mac1, src, dst) {
		t.Fatal("no room")
	}
	return bytes.Clone(f.Bytes())
}

func parseND(t testing.TB, b []byte) (packet.ND, drop.Reason) {
	t.Helper()
	var n packet.ND
	r := n.Parse(b, decode(t, b))
	return n, r
}

func TestNDGolden(t *testing.T) {
	want := golden(t, `3333ff000012 00155d000001 86dd
		60000000 0020 3a ff fd000001000000000000000000000011 ff0200000000000000000001ff000012
		87 00 2250 00000000 fd000001000000000000000000000012 01 01 00155d000001`)
	got := ndFrame(t, solicitation, six1, packet.SolicitedNode(six2))
	if !bytes.Equal(got, want) {
		t.Errorf("built\n%x, want\n%x", got, want)
	}
	if n, r := parseND(t, want); r != drop.None || n != solicitation {
		t.Errorf("parsed %s, %+v", r, n)
	}
	advertisement := packet.ND{Type: packet.NDNeighborAdvertisement, Target: six1, LinkAddr: mac1, HasLinkAddr: true, Router: true, Solicited: true, Override: true}
	want = golden(t, `88 00 4153 e0000000 fd000001000000000000000000000011 02 01 00155d000001`)
	if got := advertisement.Append(nil, six1, six2); !bytes.Equal(got, want) {
		t.Errorf("appended\n%x, want\n%x", got, want)
	}
}

func TestNDRoundTripAgreesWithGopacket(t *testing.T) {
	for _, n := range []packet.ND{
		solicitation,
		{Type: packet.NDNeighborSolicitation, Target: six2},
		{Type: packet.NDNeighborAdvertisement, Target: six1, LinkAddr: mac1, HasLinkAddr: true, Router: true, Solicited: true, Override: true},
		{Type: packet.NDNeighborAdvertisement, Target: six1, Solicited: true},
		{Type: packet.NDNeighborAdvertisement, Target: six1, Override: true},
	} {
		b := ndFrame(t, n, six1, six2)
		if got, r := parseND(t, b); r != drop.None || got != n {
			t.Errorf("%+v: parsed %s, %+v", n, r, got)
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if p.ErrorLayer() != nil {
			t.Fatalf("gopacket: %v", p.ErrorLayer().Error())
		}
		checksumsAreRight(t, b)
		switch l := p.Layers()[len(p.Layers())-1].(type) {
		case *layers.ICMPv6NeighborSolicitation:
			if n.Type != 135 || !bytes.Equal(l.TargetAddress, n.Target.AsSlice()) || len(l.Options) == 1 != n.HasLinkAddr {
				t.Errorf("%+v: gopacket %+v", n, l)
			}
		case *layers.ICMPv6NeighborAdvertisement:
			if n.Type != 136 || l.Router() != n.Router || l.Solicited() != n.Solicited || l.Override() != n.Override {
				t.Errorf("%+v: gopacket %+v", n, l)
			}
		default:
			t.Errorf("gopacket reads a %s", l.LayerType())
		}
	}
}

// fixICMPv6 makes the checksum of an ICMPv6 frame without extensions right.
func fixICMPv6(b []byte) []byte {
	src, dst := netip.AddrFrom16([16]byte(b[22:])), netip.AddrFrom16([16]byte(b[38:]))
	m := b[54:]
	m[2], m[3] = 0, 0
	binary.BigEndian.PutUint16(m[2:], packet.Checksum(m, packet.PseudoSum(src, dst, 58, len(m))))
	return b
}

func TestNDRefuses(t *testing.T) {
	ns := ndFrame(t, solicitation, six1, packet.SolicitedNode(six2))
	na := ndFrame(t, packet.ND{Type: packet.NDNeighborAdvertisement, Target: six1, LinkAddr: mac1, HasLinkAddr: true, Solicited: true}, six1, six2)
	with := func(b []byte, off int, v ...byte) []byte {
		c := bytes.Clone(b)
		copy(c[off:], v)
		return fixICMPv6(c)
	}
	group, zero := allNodes.As16(), make([]byte, 16)
	short := bytes.Clone(ns[:54+16])
	binary.BigEndian.PutUint16(short[18:], 16)
	cutOption := bytes.Clone(ns[:54+25])
	binary.BigEndian.PutUint16(cutOption[18:], 25)
	badSum := bytes.Clone(ns)
	badSum[56] ^= 1
	for name, c := range map[string]struct {
		b    []byte
		want drop.Reason
	}{
		"hop limit":            {with(ns, 21, 254), drop.NDMalformed},
		"code":                 {with(ns, 55, 1), drop.NDMalformed},
		"checksum":             {badSum, drop.NDMalformed},
		"short":                {fixICMPv6(short), drop.NDMalformed},
		"target group":         {with(ns, 62, group[:]...), drop.NDMalformed},
		"target zero":          {with(ns, 62, zero...), drop.NDMalformed},
		"option length 0":      {with(ns, 79, 0), drop.NDMalformed},
		"option beyond":        {with(ns, 79, 2), drop.NDMalformed},
		"option one byte":      {fixICMPv6(cutOption), drop.NDMalformed},
		"link address group":   {with(ns, 80, 1), drop.NDMalformed},
		"link address zero":    {with(ns, 80, zero[:6]...), drop.NDMalformed},
		"source group":         {with(ns, 22, group[:]...), drop.NDMalformed},
		"DAD with address":     {with(ns, 22, zero...), drop.NDMalformed},
		"DAD to unicast":       {with(ndFrame(t, packet.ND{Type: 135, Target: six2}, netip.IPv6Unspecified(), six2), 0), drop.NDMalformed},
		"solicited to group":   {with(na, 38, group[:]...), drop.NDMalformed},
		"NA from nowhere":      {with(na, 22, zero...), drop.NDMalformed},
		"router solicitation":  {with(ns, 54, 133), drop.NDIgnored},
		"router advertisement": {with(ns, 54, 134), drop.NDIgnored},
		"redirect":             {with(ns, 54, 137), drop.NDIgnored},
		"echo":                 {frameEcho6(t), drop.NDMalformed},
		"TCP":                  {frameTCP6(t, 10), drop.NDMalformed},
		"IPv4":                 {frameEcho4(t), drop.NDMalformed},
	} {
		if _, r := parseND(t, c.b); r != c.want {
			t.Errorf("%s: %s, want %s", name, r, c.want)
		}
	}
	for name, b := range map[string][]byte{
		"DAD":             ndFrame(t, packet.ND{Type: 135, Target: six2}, netip.IPv6Unspecified(), packet.SolicitedNode(six2)),
		"unsolicited":     with(with(na, 38, group[:]...), 58, 0),
		"reserved bits":   with(ndFrame(t, packet.ND{Type: 136, Target: six1}, six1, six2), 58, 0x1f, 0xff, 0xff, 0xff),
		"unknown option":  with(ns, 78, 14),
		"NS with option2": with(ns, 78, 2),
	} {
		if n, r := parseND(t, b); r != drop.None {
			t.Errorf("%s: %s", name, r)
		} else if n.Router || n.Solicited || n.Override {
			t.Errorf("%s: flags that are not set: %+v", name, n)
		} else if n.HasLinkAddr && name != "unsolicited" {
			t.Errorf("%s: took the link address of another option", name)
		}
	}
}

func TestIsND(t *testing.T) {
	for name, b := range samples(t) {
		if decode(t, b).IsND() {
			t.Errorf("%s is taken for neighbor discovery", name)
		}
	}
	ns := ndFrame(t, solicitation, six1, packet.SolicitedNode(six2))
	for typ := range 256 {
		h := decode(t, ns)
		h.ICMPType = uint8(typ)
		if h.IsND() != (typ >= 133 && typ <= 137) {
			t.Errorf("ICMPv6 type %d: %v", typ, h.IsND())
		}
	}
}

func TestMulticastAddresses(t *testing.T) {
	if got, want := packet.SolicitedNode(netip.MustParseAddr("2037::01:800:200e:8c6c")), netip.MustParseAddr("ff02::1:ff0e:8c6c"); got != want {
		t.Errorf("solicited node is %s, want %s (RFC 4291 section 2.7.1)", got, want)
	}
	if got := packet.MulticastMAC(netip.MustParseAddr("ff02::1:ff0e:8c6c")); got != [6]byte{0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c} {
		t.Errorf("IPv6 multicast MAC is %x", got)
	}
	if got := packet.MulticastMAC(netip.MustParseAddr("239.129.2.3")); got != [6]byte{0x01, 0, 0x5e, 0x01, 0x02, 0x03} {
		t.Errorf("IPv4 multicast MAC is %x", got)
	}
}

func TestBuildNeighborSolicitation(t *testing.T) {
	want := packet.ND{Type: packet.NDNeighborSolicitation, Target: six2, LinkAddr: mac1, HasLinkAddr: true}
	for _, c := range []struct {
		dstMAC, sent [6]byte
		dst          netip.Addr
	}{
		{mac2, mac2, six2},
		{packet.BroadcastMAC(), packet.MulticastMAC(packet.SolicitedNode(six2)), packet.SolicitedNode(six2)},
	} {
		f := packet.NewFrame(100)
		if !packet.BuildNeighborSolicitation(f, c.dstMAC, mac1, six1, six2) {
			t.Fatal("no room")
		}
		checksumsAreRight(t, f.Bytes())
		h := decode(t, f.Bytes())
		var n packet.ND
		if r := n.Parse(f.Bytes(), h); r != drop.None || n != want || h.Src != six1 || h.Dst != c.dst || h.DstMAC != c.sent || h.SrcMAC != mac1 {
			t.Errorf("to %x: %s, %+v in %+v", c.dstMAC, r, n, h)
		}
	}
	if packet.BuildNeighborSolicitation(packet.NewFrame(85), mac2, mac1, six1, six2) {
		t.Error("built into 85 bytes")
	}
}

package capture

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// web is a dropped packet of which everything is known.
var web = Meta{
	Point: Drop, RDID: rdid1, VSID: 5001, Reason: drop.SourceCASpoofed,
	EtherType: packet.EtherTypeIPv4, Proto: packet.ProtoTCP,
	Src: ca1, Dst: ca2, SrcPort: 40000, DstPort: 443, SrcPA: pa1, DstPA: pa2,
}

func TestFilter(t *testing.T) {
	six := web
	six.Src, six.Dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	six.SrcPA, six.DstPA = six.Src, six.Dst
	asked := Meta{Point: PortIn, Target: netip.MustParseAddr("fd00::9")}
	v5001, v5002 := must(hnv.NewVSID(5001)), must(hnv.NewVSID(5002))
	for _, c := range []struct {
		name string
		f    Filter
		m    Meta
		want bool
	}{
		{"everything", Filter{}, web, true},
		{"nothing known", Filter{}, Meta{Point: FabricIn}, true},
		{"tenant", Filter{Tenant: rdid1}, web, true},
		{"other tenant, same addresses", Filter{Tenant: rdid2}, web, false},
		{"tenant of a packet whose tenant is not known", Filter{Tenant: rdid2}, Meta{Point: Drop}, false},
		{"VSID", Filter{VSID: v5001}, web, true},
		{"other VSID", Filter{VSID: v5002}, web, false},
		{"CA is source", Filter{CA: prefix("10.1.1.11/32")}, web, true},
		{"CA is destination", Filter{CA: prefix("10.1.1.12/32")}, web, true},
		{"CA in a prefix", Filter{CA: prefix("10.1.1.77/24")}, web, true},
		{"CA is a PA", Filter{CA: prefix("192.168.1.10/32")}, web, false},
		{"CA of the other family", Filter{CA: prefix("0.0.0.0/0")}, six, false},
		{"CA asked for", Filter{CA: prefix("fd00::9/128")}, asked, true},
		{"no CA is known", Filter{CA: prefix("0.0.0.0/0")}, Meta{Point: PortIn}, false},
		{"PA is source", Filter{PA: prefix("192.168.1.10/32")}, web, true},
		{"PA is destination", Filter{PA: prefix("192.168.1.20/32")}, web, true},
		{"PA is a CA", Filter{PA: prefix("10.1.1.11/32")}, web, false},
		{"PA over IPv6", Filter{PA: prefix("fd00::/64")}, six, true},
		{"EtherType", Filter{EtherType: packet.EtherTypeIPv4}, web, true},
		{"other EtherType", Filter{EtherType: packet.EtherTypeARP}, web, false},
		{"protocol", Filter{Proto: packet.ProtoTCP}, web, true},
		{"other protocol", Filter{Proto: packet.ProtoUDP}, web, false},
		{"source port", Filter{Port: 40000}, web, true},
		{"destination port", Filter{Port: 443}, web, true},
		{"other port", Filter{Port: 80}, web, false},
		{"drops", Filter{OnlyDrops: true}, web, true},
		{"drops, of a packet that goes on", Filter{OnlyDrops: true}, asked, false},
		{"reason", Filter{Reason: drop.SourceCASpoofed}, web, true},
		{"other reason", Filter{Reason: drop.NoRoute}, web, false},
		{"reason, of a packet that goes on", Filter{Reason: drop.NoRoute}, asked, false},
		{"point", Filter{Points: []Point{FabricIn, Drop}}, web, true},
		{"other point", Filter{Points: []Point{FabricIn, PortOut}}, web, false},
		{"all at once", Filter{rdid1, v5001, prefix("10.1.1.11/32"), prefix("192.168.1.0/24"), 0x800, 6, 443, []Point{Drop}, true, drop.SourceCASpoofed}, web, true},
		{"all but one", Filter{rdid1, v5001, prefix("10.1.1.11/32"), prefix("192.168.1.0/24"), 0x800, 6, 444, []Point{Drop}, true, drop.SourceCASpoofed}, web, false},
	} {
		if err := c.f.check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := c.f.points()&(1<<c.m.Point) != 0 && c.f.match(&c.m); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFilterRefuses(t *testing.T) {
	f := Filter{
		CA: prefix("::ffff:10.0.0.1/128"), PA: netip.PrefixFrom(pa1, 33),
		Points: []Point{PortIn, 9}, OnlyDrops: true, Reason: 255,
	}
	err := f.check()
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{"CA prefix", "PA prefix", "capture point 9", "only drops", "drop reason 255"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %q", err, want)
		}
	}
}

func TestFilterString(t *testing.T) {
	for want, f := range map[string]Filter{
		"everything": {},
		"vsid=5001 ca=10.1.1.11/32 point=port-in point=drop": {VSID: must(hnv.NewVSID(5001)), CA: prefix("10.1.1.11/32"), Points: []Point{PortIn, Drop}},
		"rdid=11111111-2222-4333-8444-555555555555 pa=192.168.1.0/24 ethertype=0x0800 proto=6 port=443 drops drop=no-route": {
			Tenant: rdid1, PA: prefix("192.168.1.0/24"), EtherType: 0x800, Proto: 6, Port: 443, OnlyDrops: true, Reason: drop.NoRoute},
	} {
		if got := f.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPointText(t *testing.T) {
	for p := FabricIn; p <= Drop; p++ {
		var q Point
		if err := q.UnmarshalText(must(p.MarshalText())); err != nil || q != p {
			t.Errorf("%s reads back as %s: %v", p, q, err)
		}
	}
	var q Point
	if q.UnmarshalText([]byte("unknown")) == nil || q.UnmarshalText(nil) == nil {
		t.Error("a point that is none was read")
	}
}

// ARP and neighbor discovery are about addresses that stand in no IP header.
func TestMetaOfARPAndND(t *testing.T) {
	m, _ := arp(t, contoso, rdid1)
	if m.Src != ca1 || m.Dst != ca2 || m.EtherType != packet.EtherTypeARP {
		t.Errorf("%+v", m)
	}
	target := netip.MustParseAddr("fd00::12")
	f := packet.NewFrame(128)
	n := packet.ND{Type: packet.NDNeighborSolicitation, Target: target, LinkAddr: mac1, HasLinkAddr: true}
	group := packet.SolicitedNode(target)
	n.Build(f, packet.MulticastMAC(group), mac1, netip.MustParseAddr("fd00::11"), group)
	describe(t, &m, f.Bytes())
	if m.Target != target || m.Dst != group || m.Proto != packet.ProtoICMPv6 {
		t.Errorf("%+v", m)
	}
	// What is left from the packet before does not stick to the next one.
	_, b := arp(t, contoso, rdid1)
	describe(t, &m, b)
	if m.Target.IsValid() || m.Proto != 0 {
		t.Errorf("%+v", m)
	}
}

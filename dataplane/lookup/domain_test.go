package lookup

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func vsid(t testing.TB, n uint32) hnv.VSID {
	t.Helper()
	v, err := hnv.NewVSID(n)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func subnet(t testing.TB, v uint32, prefixes ...string) hnv.Subnet {
	t.Helper()
	s := hnv.Subnet{VSID: vsid(t, v)}
	for _, p := range prefixes {
		pfx := netip.MustParsePrefix(p)
		s.Prefixes = append(s.Prefixes, hnv.SubnetPrefix{Prefix: pfx, Gateway: pfx.Addr().Next()})
	}
	return s
}

func record(t testing.TB, v uint32, ca, pa string) hnv.Record {
	t.Helper()
	a := netip.MustParseAddr(ca)
	b := a.As16()
	mac, err := hnv.MACFrom([6]byte{2, 0, byte(v >> 8), byte(v), b[14], b[15]})
	if err != nil {
		t.Fatal(err)
	}
	return hnv.Record{VSID: vsid(t, v), CA: a, MAC: mac, PA: netip.MustParseAddr(pa), Rule: hnv.RuleNVGRE, Type: hnv.Static}
}

func route(t testing.TB, v uint32, prefix, hop string, metric uint32) hnv.CustomerRoute {
	t.Helper()
	return hnv.CustomerRoute{VSID: vsid(t, v), Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr(hop), Metric: metric}
}

func name(t testing.TB, s string) hnv.Name {
	t.Helper()
	n, err := hnv.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// twoTenants gives two domains with the same prefixes, CAs and routes in
// different VSIDs (first and first+1000) and on different PAs.
func twoTenants(t testing.TB) (contoso, fabrikam Config) {
	t.Helper()
	make := func(n string, v uint32, pa string, encap hnv.Encap) Config {
		return Config{
			Name: name(t, n), RDID: hnv.NewRDID(), Encap: encap,
			Subnets: []hnv.Subnet{
				subnet(t, v, "10.254.254.0/29", "fd00:fe::/64"),
				subnet(t, v+1, "10.1.1.0/24", "fd00:1::/64"),
				subnet(t, v+2, "10.1.2.0/24"),
			},
			Routes: []hnv.CustomerRoute{
				route(t, v, "0.0.0.0/0", "10.254.254.2", 10),
				route(t, v, "0.0.0.0/0", "10.254.254.3", 20),
				route(t, v, "::/0", "fd00:fe::2", 0),
				route(t, v+1, "172.16.0.0/12", "10.1.1.12", 5),
				route(t, v+1, "172.16.0.0/12", "10.1.1.11", 5),
				route(t, v+2, "10.1.1.64/26", "10.1.2.11", 0),
				route(t, v+1, "10.1.2.0/24", "10.1.1.11", 0), // a subnet's own prefix: without effect
			},
			Records: []hnv.Record{
				record(t, v, "10.254.254.2", pa+"1"),
				record(t, v, "fd00:fe::2", pa+"1"),
				record(t, v+1, "10.1.1.11", pa+"2"),
				record(t, v+1, "10.1.1.12", pa+"3"),
				record(t, v+1, "10.1.1.70", pa+"3"),
				record(t, v+1, "fd00:1::11", pa+"2"),
				record(t, v+2, "10.1.2.11", pa+"2"),
			},
		}
	}
	return make("contoso", 5000, "192.168.1.1", hnv.NVGRE), make("fabrikam", 6000, "192.168.2.1", hnv.VXLAN)
}

func build(t testing.TB, c Config) *Domain {
	t.Helper()
	d, err := Build(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTwoTenantsWithTheSameAddresses(t *testing.T) {
	a, b := twoTenants(t)
	contoso, fabrikam := build(t, a), build(t, b)
	for _, tc := range []struct {
		d     *Domain
		v     uint32
		own   string
		other string
	}{{contoso, 5000, "192.168.1.1", "192.168.2.1"}, {fabrikam, 6000, "192.168.2.1", "192.168.1.1"}} {
		rt, rec := tc.d.Resolve(netip.MustParseAddr("10.1.1.11"))
		if rec == nil || rec.PA.String() != tc.own+"2" || rt.VSID != tc.v+1 {
			t.Errorf("%s: 10.1.1.11 resolves to %+v, %+v", tc.d.Name, rt, rec)
		}
		if tc.d.Record(11001-tc.v, netip.MustParseAddr("10.1.1.11")) != nil {
			t.Errorf("%s knows a record of the other tenant's VSID", tc.d.Name)
		}
		for _, last := range "123" {
			if !tc.d.Hosts(AddrFrom(netip.MustParseAddr(tc.own + string(last)))) {
				t.Errorf("%s does not know its host %s%c", tc.d.Name, tc.own, last)
			}
			if tc.d.Hosts(AddrFrom(netip.MustParseAddr(tc.other + string(last)))) {
				t.Errorf("%s takes %s%c for a host of its own", tc.d.Name, tc.other, last)
			}
		}
	}
}

func TestRoutes(t *testing.T) {
	c, _ := twoTenants(t)
	d := build(t, c)
	for _, tc := range []struct {
		to   string
		want string // on-link VSID and record, or hops
	}{
		{"10.1.1.11", "on-link 5001, record"},
		{"10.1.1.12", "on-link 5001, record"},
		{"10.1.1.13", "on-link 5001"},
		{"10.1.1.1", "on-link 5001"},
		{"10.1.1.70", "on-link 5001, record"}, // a record beats the route cut out of its subnet
		{"10.1.1.71", "via 5002/10.1.2.11"},
		{"10.1.2.50", "on-link 5002"}, // not via 10.1.1.11
		{"172.16.5.5", "via 5001/10.1.1.11 5001/10.1.1.12"},
		{"8.8.8.8", "via 5000/10.254.254.2"}, // only the lowest metric
		{"fd00:1::11", "on-link 5001, record"},
		{"fd00:1::12", "on-link 5001"},
		{"2001:db8::1", "via 5000/fd00:fe::2"},
	} {
		rt, rec := d.Resolve(netip.MustParseAddr(tc.to))
		got := describe(rt, rec)
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.to, got, tc.want)
		}
	}
	if rt, rec := d.Resolve(netip.Addr{}); rt != nil || rec != nil {
		t.Error("the invalid address resolves to something")
	}
}

func describe(rt *Route, rec *Record) string {
	switch {
	case rt == nil:
		return "none"
	case rt.OnLink() && rec != nil:
		return fmt.Sprintf("on-link %d, record", rt.VSID)
	case rt.OnLink():
		return fmt.Sprintf("on-link %d", rt.VSID)
	}
	s := "via"
	for _, h := range rt.Hops {
		s += fmt.Sprintf(" %d/%s", h.VSID(), h.CA())
	}
	return s
}

func TestIPv4MappedIsNotIPv4(t *testing.T) {
	c, _ := twoTenants(t)
	c.Routes = nil
	d := build(t, c)
	for _, ca := range []string{"::ffff:10.1.1.11", "::10.1.1.11", "a01:10b::"} {
		if rt, rec := d.Resolve(netip.MustParseAddr(ca)); rt != nil || rec != nil {
			t.Errorf("%s resolves to %+v, %+v", ca, rt, rec)
		}
		if d.Record(5001, netip.MustParseAddr(ca)) != nil {
			t.Errorf("%s has a record", ca)
		}
	}
	if AddrFrom(netip.MustParseAddr("10.1.1.11")) == AddrFrom(netip.MustParseAddr("a01:10b::")) {
		t.Error("an IPv4 address equals the IPv6 address of the same bytes")
	}
}

func TestGateway(t *testing.T) {
	c, _ := twoTenants(t)
	c.Subnets[2].Prefixes = append(c.Subnets[2].Prefixes, subnet(t, 5002, "10.7.0.0/16").Prefixes...)
	d := build(t, c)
	for _, tc := range []struct {
		v          uint32
		near, want string
	}{
		{5001, "10.1.1.11", "10.1.1.1"},
		{5001, "8.8.8.8", "10.1.1.1"},
		{5001, "fd00:1::11", "fd00:1::1"},
		{5002, "10.7.3.3", "10.7.0.1"},
		{5002, "10.1.2.11", "10.1.2.1"},
		{5002, "fd00:1::11", "invalid IP"},
		{6001, "10.1.1.11", "invalid IP"},
	} {
		got := d.Gateway(tc.v, netip.MustParseAddr(tc.near))
		if got.String() != tc.want {
			t.Errorf("gateway of %d near %s is %s, want %s", tc.v, tc.near, got, tc.want)
		}
		if got.IsValid() != d.IsGateway(tc.v, got) {
			t.Errorf("IsGateway(%d, %s) disagrees", tc.v, got)
		}
	}
	if d.IsGateway(5001, netip.MustParseAddr("10.1.2.1")) {
		t.Error("a gateway counts in another subnet than its own")
	}
}

func TestUpdate(t *testing.T) {
	c, _ := twoTenants(t)
	d := build(t, c)
	old := AddrFrom(netip.MustParseAddr("192.168.1.13"))
	moved := record(t, 5001, "10.1.1.12", "192.168.9.9")
	gone := record(t, 5001, "10.1.1.70", "192.168.1.13").RecordKey()
	next, err := d.Update([]hnv.Record{moved}, []hnv.RecordKey{gone, {VSID: vsid(t, 5001), CA: netip.MustParseAddr("10.1.1.99")}})
	if err != nil {
		t.Fatal(err)
	}
	if rec := next.Record(5001, moved.CA); rec == nil || rec.PA.String() != "192.168.9.9" {
		t.Errorf("the moved record is %+v", rec)
	}
	if next.Record(5001, gone.CA) != nil || next.Records() != d.Records()-1 {
		t.Error("the deleted record is still there")
	}
	if next.Hosts(old) || !next.Hosts(AddrFrom(moved.PA)) {
		t.Error("the set of hosts did not follow the records")
	}
	if !d.Hosts(old) || d.Record(5001, gone.CA) == nil {
		t.Error("the predecessor changed")
	}
}

func TestRefusals(t *testing.T) {
	alter := func(f func(*Config)) Config {
		c, _ := twoTenants(t)
		f(&c)
		return c
	}
	for what, c := range map[string]Config{
		"no RDID":                alter(func(c *Config) { c.RDID = hnv.RDID{} }),
		"VSID twice":             alter(func(c *Config) { c.Subnets = append(c.Subnets, subnet(t, 5001, "10.9.0.0/16")) }),
		"overlapping prefixes":   alter(func(c *Config) { c.Subnets = append(c.Subnets, subnet(t, 5009, "10.1.0.0/16")) }),
		"gateway outside":        alter(func(c *Config) { c.Subnets[1].Prefixes[0].Gateway = netip.MustParseAddr("10.9.9.9") }),
		"route to a foreign hop": alter(func(c *Config) { c.Routes[0].VSID = vsid(t, 6000) }),
		"route across families":  alter(func(c *Config) { c.Routes[0].NextHop = netip.MustParseAddr("fd00:fe::2") }),
		"foreign record":         alter(func(c *Config) { c.Records[0].VSID = vsid(t, 6000) }),
		"CA outside":             alter(func(c *Config) { c.Records[2].CA = netip.MustParseAddr("10.1.2.99") }),
		"CA off-link":            alter(func(c *Config) { c.Records[2].CA = netip.MustParseAddr("8.8.8.8") }),
		"CA of the router":       alter(func(c *Config) { c.Records[2].CA = netip.MustParseAddr("10.1.1.1") }),
		"no PA":                  alter(func(c *Config) { c.Records[2].PA = netip.Addr{} }),
		"no rule":                alter(func(c *Config) { c.Records[2].Rule = "" }),
		"no type":                alter(func(c *Config) { c.Records[2].Type = "" }),
		"a MAC without a PA": alter(func(c *Config) {
			c.Records[2].CA, c.Records[2].PA, c.Records[2].Type = netip.Addr{}, netip.Addr{}, hnv.L2Only
		}),
		"team of two families": alter(func(c *Config) { c.Records[2].TeamPAs = []netip.Addr{netip.MustParseAddr("fd00::1")} }),
		"team of nobody":       alter(func(c *Config) { c.Records[2].TeamPAs = make([]netip.Addr, 1) }),
		"too large a team":     alter(func(c *Config) { c.Records[2].TeamPAs = make([]netip.Addr, hnv.MaxTeamPAs+1) }),
		"ACL that is missing":  alter(func(c *Config) { c.Subnets[1].ACL = name(t, "web") }),
	} {
		if _, err := Build(c); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	c := alter(func(c *Config) {
		r := c.Records[0]
		r.CA, r.Type = netip.Addr{}, hnv.L2Only
		c.Records = append(c.Records, r)
	})
	if d := build(t, c); d.Records() != len(c.Records) {
		t.Error("a record without a CA was not counted")
	}
}

package lookup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
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
	if d := build(t, c); d.Records() != len(c.Records)-1 {
		t.Error("a record without a CA was counted")
	}
}

// TestAgainstOracle holds Resolve, Record and Hosts against a naive model, for
// two tenants that draw from the same few addresses.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(25) {
		r := rand.New(rand.NewPCG(seed, 7))
		for _, v := range []uint32{5000, 6000} {
			c := randomConfig(t, r, v)
			d := build(t, c)
			records := map[hnv.RecordKey]hnv.Record{}
			for _, rec := range c.Records {
				records[rec.RecordKey()] = rec
			}
			for range 5 {
				compare(t, r, d, c, records)
				put, del := randomRecords(t, r, c.Subnets, r.IntN(4)), randomRecords(t, r, c.Subnets, r.IntN(4))
				var keys []hnv.RecordKey
				for _, rec := range del {
					keys = append(keys, rec.RecordKey())
					delete(records, rec.RecordKey())
				}
				for _, rec := range put {
					records[rec.RecordKey()] = rec
				}
				next, err := d.Update(put, keys)
				if err != nil {
					t.Fatal(err)
				}
				d = next
			}
		}
	}
}

func compare(t *testing.T, r *rand.Rand, d *Domain, c Config, records map[hnv.RecordKey]hnv.Record) {
	t.Helper()
	if d.Records() != len(records) {
		t.Fatalf("%d records, want %d", d.Records(), len(records))
	}
	for range 200 {
		a := randomAddr(r)
		rt, rec := d.Resolve(a)
		if got, want := describe(rt, rec), oracle(c, records, a); got != want {
			t.Fatalf("%s resolves to %s, want %s\nsubnets %v\nroutes %v", a, got, want, c.Subnets, c.Routes)
		}
		for _, s := range c.Subnets {
			want, there := records[hnv.RecordKey{VSID: s.VSID, CA: a}]
			got := d.Record(s.VSID.Uint32(), a)
			if (got != nil) != there || there && (got.PA != AddrFrom(want.PA) || got.MAC != want.MAC.Bytes()) {
				t.Fatalf("record %s/%s is %+v, want %+v", s.VSID, a, got, want)
			}
		}
	}
	for last := range 6 {
		pa := netip.AddrFrom4([4]byte{192, 168, 0, byte(last)})
		want := false
		for _, rec := range records {
			want = want || rec.PA == pa
		}
		if d.Hosts(AddrFrom(pa)) != want {
			t.Fatalf("Hosts(%s) = %v", pa, !want)
		}
	}
}

// oracle says the same as Resolve by looking at everything.
func oracle(c Config, records map[hnv.RecordKey]hnv.Record, a netip.Addr) string {
	for _, s := range c.Subnets {
		if p, ok := s.PrefixOf(a); ok {
			if _, ok := records[hnv.RecordKey{VSID: s.VSID, CA: a}]; ok {
				return fmt.Sprintf("on-link %d, record", s.VSID.Uint32())
			}
			if p.Gateway == a {
				return fmt.Sprintf("on-link %d", s.VSID.Uint32())
			}
		}
	}
	bits, best := -1, "none"
	for _, s := range c.Subnets {
		if p, ok := s.PrefixOf(a); ok {
			bits, best = p.Prefix.Bits(), fmt.Sprintf("on-link %d", s.VSID.Uint32())
		}
	}
	for _, rt := range c.Routes {
		if !rt.Prefix.Contains(a) || rt.Prefix.Bits() <= bits {
			continue
		}
		bits = rt.Prefix.Bits()
		metric := rt.Metric
		for _, o := range c.Routes {
			if o.Prefix == rt.Prefix {
				metric = min(metric, o.Metric)
			}
		}
		var hops []string
		for _, o := range c.Routes {
			if h := fmt.Sprintf(" %d/%s", o.VSID.Uint32(), o.NextHop); o.Prefix == rt.Prefix && o.Metric == metric && !slices.Contains(hops, h) {
				hops = append(hops, h)
			}
		}
		slices.SortFunc(hops, func(x, y string) int {
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			return slices.Compare([]byte(x), []byte(y))
		})
		best = "via"
		for _, h := range hops {
			best += h
		}
	}
	return best
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(3) == 0 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(r.IntN(3)), 15: byte(r.IntN(6))})
	}
	return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(6))})
}

func randomConfig(t *testing.T, r *rand.Rand, v uint32) Config {
	c := Config{RDID: hnv.NewRDID(), Encap: hnv.NVGRE}
	for i := range uint32(3) {
		bits := 24 + r.IntN(6)
		c.Subnets = append(c.Subnets, subnet(t, v+i, fmt.Sprintf("10.0.%d.0/%d", i, bits), fmt.Sprintf("fd00:%d::/%d", i, 32+r.IntN(90))))
	}
	for range r.IntN(30) {
		a := randomAddr(r)
		p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
		hop := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(3)), byte(r.IntN(6))})
		if a.Is6() {
			hop = netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(r.IntN(6))})
		}
		c.Routes = append(c.Routes, hnv.CustomerRoute{VSID: vsid(t, v+uint32(r.IntN(3))), Prefix: p, NextHop: hop, Metric: uint32(r.IntN(2))})
	}
	c.Records = randomRecords(t, r, c.Subnets, r.IntN(20))
	return c
}

func randomRecords(t *testing.T, r *rand.Rand, subnets []hnv.Subnet, n int) []hnv.Record {
	var out []hnv.Record
	for range 10 * n {
		a := randomAddr(r)
		for _, s := range subnets {
			if p, ok := s.PrefixOf(a); ok && a != p.Gateway && len(out) < n {
				out = append(out, record(t, s.VSID.Uint32(), a.String(), fmt.Sprintf("192.168.0.%d", r.IntN(6))))
			}
		}
	}
	return out
}

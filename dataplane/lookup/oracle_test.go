package lookup

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// model is a naive Domain: all records, looked at one by one.
type model struct {
	c       Config
	records map[hnv.RecordKey]hnv.Record
}

// TestAgainstOracle holds a Domain that is updated again and again against a
// naive model, for two tenants that draw from the same few addresses.
func TestAgainstOracle(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		for _, v := range []uint32{5000, 6000} {
			m := model{c: randomConfig(t, r, v), records: map[hnv.RecordKey]hnv.Record{}}
			d := build(t, m.c)
			m.update(m.c.Records, nil)
			held := map[*Mapping]func() *Record{} // and what it should lead to
			for range 12 {
				m.compare(t, r, d)
				for m, want := range held {
					checkMapping(t, m, want())
				}
				now := func() *Domain { return d }
				m.hold(t, r, d, now, held)
				put := randomRecords(r, m.c.Subnets, r.IntN(6))
				var del []hnv.RecordKey
				for _, rec := range randomRecords(r, m.c.Subnets, r.IntN(6)) {
					del = append(del, rec.RecordKey())
				}
				before := maps.Clone(m.records)
				next, err := d.Update(put, del)
				if err != nil {
					t.Fatal(err)
				}
				m.update(put, del)
				if want := rekeyed(before, m.records); want != (next.Gen() != d.Gen()) || next.Gen() < d.Gen() {
					t.Fatalf("Gen goes from %d to %d; keys changed: %v", d.Gen(), next.Gen(), want)
				}
				d = next
			}
		}
	}
}

// update does what Domain.Update should.
func (m *model) update(put []hnv.Record, del []hnv.RecordKey) {
	for _, k := range del {
		delete(m.records, k)
	}
	for _, r := range put {
		if old, had := m.records[r.RecordKey()]; had && r.Type == hnv.Dynamic && old.Type != hnv.Dynamic {
			continue
		}
		m.records[r.RecordKey()] = r
	}
}

// rekeyed tells whether flows must be decided anew.
func rekeyed(a, b map[hnv.RecordKey]hnv.Record) bool {
	if len(a) != len(b) {
		return true
	}
	for k, x := range a {
		y, there := b[k]
		if !there || x.MAC != y.MAC || (x.Type == hnv.GatewayWildcard) != (y.Type == hnv.GatewayWildcard) {
			return true
		}
	}
	return false
}

func (m *model) compare(t *testing.T, r *rand.Rand, d *Domain) {
	t.Helper()
	if d.Records() != len(m.records) {
		t.Fatalf("%d records, want %d", d.Records(), len(m.records))
	}
	for range 100 {
		a := randomAddr(r)
		rt, rec := d.Resolve(a)
		if got, want := describe(rt, rec), oracle(m.c, m.records, a); got != want {
			t.Fatalf("%s resolves to %s, want %s\nsubnets %v\nroutes %v", a, got, want, m.c.Subnets, m.c.Routes)
		}
		for _, s := range m.c.Subnets {
			want, there := m.records[hnv.RecordKey{VSID: s.VSID, CA: a}]
			checkRecord(t, d, d.Record(s.VSID.Uint32(), a), want, there)
		}
	}
	for last := range 8 {
		pa := netip.AddrFrom4([4]byte{192, 168, 0, byte(last)})
		want := false
		for _, rec := range m.records {
			want = want || slices.Contains(rec.PAs(), pa)
		}
		if d.Hosts(AddrFrom(pa)) != want {
			t.Fatalf("Hosts(%s) = %v", pa, !want)
		}
	}
	for _, s := range m.c.Subnets {
		if got, want := flooded(d.Flood(s.VSID.Uint32())), m.flood(s.VSID); !slices.Equal(got, want) {
			t.Fatalf("flood list of %s is %v, want %v\n%v", s.VSID, got, want, m.records)
		}
		for last := range byte(6) {
			mac, _ := hnv.MACFrom([6]byte{2, 5: last})
			want, there := m.station(s.VSID, mac)
			checkRecord(t, d, d.Station(s.VSID.Uint32(), mac.Bytes()), want, there)
		}
	}
	m.compareLists(t, d)
}

func (m *model) compareLists(t *testing.T, d *Domain) {
	t.Helper()
	wild, claimed, rewrites := map[Key]bool{}, map[netip.Addr]int{}, map[Addr]Key{}
	for _, r := range m.records {
		if r.Type == hnv.GatewayWildcard {
			wild[KeyOf(r.VSID.Uint32(), r.CA)] = true
		}
		if r.Rule == hnv.RuleRewrite && r.CA.IsValid() {
			claimed[r.PA]++
			rewrites[AddrFrom(r.PA)] = KeyOf(r.VSID.Uint32(), r.CA)
		}
	}
	maps.DeleteFunc(rewrites, func(pa Addr, _ Key) bool { return claimed[pa.Netip()] > 1 })
	var of4, of6 []Key
	for _, k := range d.Wildcards() {
		if !wild[k] {
			t.Fatalf("%v is among the wildcards", k)
		}
		if k.CA().Is4() {
			of4 = append(of4, k)
		} else {
			of6 = append(of6, k)
		}
	}
	if len(d.Wildcards()) != len(wild) || !slices.Equal(of4, d.WildcardsFor(netip.IPv4Unspecified())) ||
		!slices.Equal(of6, d.WildcardsFor(netip.IPv6Unspecified())) {
		t.Fatalf("wildcards are %v, want %v", d.Wildcards(), wild)
	}
	if got := maps.Collect(d.Rewrites); !maps.Equal(got, rewrites) {
		t.Fatalf("rewrites are %v, want %v", got, rewrites)
	}
	for pa := range claimed {
		want, there := rewrites[AddrFrom(pa)]
		if k, ok := d.Rewritten(AddrFrom(pa)); ok != there || k != want {
			t.Fatalf("PA %s stands for %v, %v; want %v, %v", pa, k, ok, want, there)
		}
	}
}

func checkRecord(t *testing.T, d *Domain, got *Record, want hnv.Record, there bool) {
	t.Helper()
	switch {
	case !there && got == nil:
		return
	case (got != nil) != there,
		got.PA != AddrFrom(want.PA), got.MAC != want.MAC.Bytes(), got.Rule != ruleFrom(want.Rule),
		got.Type != typeFrom(want.Type), got.UseVMMAC != want.UseVMMAC:
		t.Fatalf("record is %+v, want %+v (%v)", got, want, there)
	}
	pas := want.PAs()
	slices.SortFunc(pas[1:], netip.Addr.Compare)
	var is []netip.Addr
	for _, pa := range d.PAs(got) {
		is = append(is, pa.Netip())
		if !d.IsAt(got, pa) {
			t.Fatalf("%v is not at %s", want, pa)
		}
	}
	if !slices.Equal(is, pas) || d.IsAt(got, AddrFrom(netip.MustParseAddr("192.168.0.99"))) {
		t.Fatalf("PAs of %v are %v", want, is)
	}
}

// station finds what most records of the MAC say, after its L2Only record.
func (m *model) station(v hnv.VSID, mac hnv.MAC) (hnv.Record, bool) {
	if r, ok := m.records[hnv.RecordKey{VSID: v, MAC: mac}]; ok {
		return r, true
	}
	type said struct {
		r hnv.Record
		n int
	}
	var all []said
	for _, r := range m.records {
		if r.VSID != v || r.MAC != mac {
			continue
		}
		r.CA = netip.Addr{}
		if i := slices.IndexFunc(all, func(s said) bool { return s.r.Equal(r) }); i >= 0 {
			all[i].n++
		} else {
			all = append(all, said{r, 1})
		}
	}
	if len(all) == 0 {
		return hnv.Record{}, false
	}
	best := slices.MinFunc(all, func(a, b said) int {
		if a.n != b.n {
			return b.n - a.n
		}
		order := func(r hnv.Record) string {
			return fmt.Sprint(r.PA, ruleFrom(r.Rule), typeFrom(r.Type), map[bool]int{true: 1}[r.UseVMMAC], len(r.TeamPAs) > 0, r.TeamPAs)
		}
		if order(a.r) < order(b.r) {
			return -1
		}
		return 1
	})
	return best.r, true
}

func flooded(list []Target) (out []string) {
	for _, t := range list {
		out = append(out, fmt.Sprint(t.PA, t.Rule, t.L2Only))
	}
	slices.Sort(out)
	return out
}

// flood joins PAs to hosts by looking at all records again and again.
func (m *model) flood(v hnv.VSID) (out []string) {
	host := map[netip.Addr]int{}
	for i := range 8 {
		host[netip.AddrFrom4([4]byte{192, 168, 0, byte(i)})] = i
	}
	for range host {
		for _, r := range m.records {
			for _, pa := range r.TeamPAs {
				low := min(host[pa], host[r.PA])
				host[pa], host[r.PA] = low, low
			}
		}
	}
	for h := range 8 {
		rules, l2only, own := map[hnv.Rule]int{}, false, map[netip.Addr]int{}
		for _, r := range m.records {
			if r.VSID == v && host[r.PA] == h && r.Rule != hnv.RuleRewrite {
				rules[r.Rule]++
				own[r.PA]++
				l2only = l2only || r.Type == hnv.L2Only
			}
		}
		if len(own) == 0 {
			continue
		}
		pa := slices.MinFunc(slices.SortedFunc(maps.Keys(own), netip.Addr.Compare), func(a, b netip.Addr) int { return own[b] - own[a] })
		rule := ruleFrom(hnv.Rule(m.c.Encap))
		switch n, x := rules[hnv.RuleNVGRE], rules[hnv.RuleVXLAN]; {
		case n > x:
			rule = RuleNVGRE
		case n < x:
			rule = RuleVXLAN
		}
		out = append(out, fmt.Sprint(pa, rule, l2only))
	}
	slices.Sort(out)
	return out
}

// hold takes hold of some Mappings of d, and checks that those of one key are one.
func (m *model) hold(t *testing.T, r *rand.Rand, d *Domain, now func() *Domain, held map[*Mapping]func() *Record) {
	t.Helper()
	for range 6 {
		s := m.c.Subnets[r.IntN(len(m.c.Subnets))]
		v, ca := s.VSID.Uint32(), randomAddr(r)
		rec := func() *Record { return now().Record(v, ca) }
		p := d.Mapping(KeyOf(v, ca))
		if (p == nil) != (rec() == nil) || p != d.Mapping(KeyOf(v, ca)) {
			t.Fatalf("mapping %p of %+v", p, rec())
		}
		if p != nil {
			held[p] = rec
		}
	}
}

func checkMapping(t *testing.T, m *Mapping, want *Record) {
	t.Helper()
	if got := m.Record(); (got == nil) != (want == nil) || got != nil && *got != *want {
		t.Fatalf("a mapping leads to %+v, want %+v", got, want)
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
	c.Records = randomRecords(r, c.Subnets, r.IntN(20))
	return c
}

func randomRecords(r *rand.Rand, subnets []hnv.Subnet, n int) []hnv.Record {
	var out []hnv.Record
	pa := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 0, byte(r.IntN(6))}) }
	for range 10 * n {
		if len(out) == n {
			break
		}
		s := subnets[r.IntN(len(subnets))]
		mac, _ := hnv.MACFrom([6]byte{2, 5: byte(r.IntN(6))})
		rec := hnv.Record{
			VSID: s.VSID, CA: randomAddr(r), MAC: mac, PA: pa(), UseVMMAC: r.IntN(4) == 0,
			Rule: []hnv.Rule{hnv.RuleNVGRE, hnv.RuleNVGRE, hnv.RuleVXLAN, hnv.RuleRewrite}[r.IntN(4)],
			Type: []hnv.RecordType{hnv.Static, hnv.Static, hnv.Dynamic, hnv.GatewayWildcard, hnv.L2Only}[r.IntN(5)],
		}
		if rec.Type == hnv.L2Only {
			rec.CA = netip.Addr{}
		} else if p, ok := s.PrefixOf(rec.CA); !ok || rec.CA == p.Gateway {
			continue
		}
		for r.IntN(3) == 0 && rec.Rule != hnv.RuleRewrite {
			if a := pa(); a != rec.PA && !slices.Contains(rec.TeamPAs, a) {
				rec.TeamPAs = append(rec.TeamPAs, a)
			}
		}
		slices.SortFunc(rec.TeamPAs, netip.Addr.Compare)
		out = append(out, rec)
	}
	return out
}

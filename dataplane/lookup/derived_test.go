package lookup

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

func with(r hnv.Record, changes ...func(*hnv.Record)) hnv.Record {
	for _, f := range changes {
		f(&r)
	}
	return r
}

func at(pa string, team ...string) func(*hnv.Record) {
	return func(r *hnv.Record) {
		r.PA, r.TeamPAs = netip.MustParseAddr(pa), nil
		for _, a := range team {
			r.TeamPAs = append(r.TeamPAs, netip.MustParseAddr(a))
		}
	}
}

func as(t hnv.RecordType) func(*hnv.Record) {
	return func(r *hnv.Record) {
		if r.Type = t; t == hnv.L2Only {
			r.CA = netip.Addr{}
		}
	}
}

func by(rule hnv.Rule) func(*hnv.Record) { return func(r *hnv.Record) { r.Rule = rule } }

func mac(last byte) func(*hnv.Record) {
	return func(r *hnv.Record) { r.MAC, _ = hnv.MACFrom([6]byte{2, 5: last}) }
}

// A VM with two CAs is found by its MAC whichever of them is left.
func TestStationOfSeveralCAs(t *testing.T) {
	for _, v := range []uint32{5001, 6001} { // two tenants with the same CAs and MACs
		c := oneSubnet(t, v, 0)
		pa := map[uint32]string{5001: "192.168.1.11", 6001: "192.168.2.11"}[v]
		first := with(record(t, v, "10.1.1.11", pa), mac(1))
		second := with(record(t, v, "10.1.1.12", pa), mac(1))
		c.Records = []hnv.Record{first, second}
		d := build(t, c)
		find := func(d *Domain) string {
			r := d.Station(v, [6]byte{2, 5: 1})
			if r == nil {
				return "unknown"
			}
			return r.PA.String()
		}
		for _, gone := range c.Records {
			if got := find(succeed(t, d, nil, []hnv.RecordKey{gone.RecordKey()})); got != pa {
				t.Errorf("without %s the station is at %s", gone.CA, got)
			}
		}
		if got := find(succeed(t, d, nil, []hnv.RecordKey{first.RecordKey(), second.RecordKey()})); got != "unknown" {
			t.Errorf("without records the station is at %s", got)
		}
		moved := succeed(t, d, []hnv.Record{with(first, at("192.168.3.3")), with(second, at("192.168.3.3"))}, nil)
		l2 := succeed(t, moved, []hnv.Record{with(first, as(hnv.L2Only), at("192.168.4.4"))}, nil)
		if find(moved) != "192.168.3.3" || find(l2) != "192.168.4.4" {
			t.Errorf("moved, the station is at %s; by its L2Only record at %s", find(moved), find(l2))
		}
		if d.Station(11002-v, [6]byte{2, 5: 1}) != nil {
			t.Error("the station is known in the other tenant's subnet")
		}
	}
}

func TestFlood(t *testing.T) {
	c := oneSubnet(t, 5001, 0)
	c.Subnets = append(c.Subnets, subnet(t, 5002, "10.1.2.0/24"))
	rec := func(last string, f ...func(*hnv.Record)) hnv.Record {
		return with(record(t, 5001, "10.1.1."+last, "192.168.1.1"), f...)
	}
	c.Records = []hnv.Record{
		// A team, whose VMs prefer one or the other member: one copy.
		rec("11", at("192.168.1.2", "192.168.1.1")),
		rec("12", at("192.168.1.2", "192.168.1.1")),
		rec("13", at("192.168.1.1", "192.168.1.2")),
		// A host under migration from NVGRE to VXLAN.
		rec("14", at("192.168.1.3")),
		rec("15", at("192.168.1.3"), by(hnv.RuleVXLAN)),
		rec("16", at("192.168.1.3"), by(hnv.RuleVXLAN)),
		// One of each: the tenant's own.
		rec("17", at("192.168.1.4"), by(hnv.RuleVXLAN)),
		rec("18", at("192.168.1.4")),
		// Rewrite alone is no tunnel.
		rec("19", at("192.168.1.5"), by(hnv.RuleRewrite)),
		rec("20", at("192.168.1.6"), as(hnv.L2Only)),
		record(t, 5002, "10.1.2.11", "192.168.1.7"),
	}
	d := build(t, c)
	want := []string{"192.168.1.2 1 false", "192.168.1.3 2 false", "192.168.1.4 1 false", "192.168.1.6 1 true"}
	if got := flooded(d.Flood(5001)); !slices.Equal(got, want) {
		t.Errorf("5001: %q, want %q", got, want)
	}
	if got := flooded(d.Flood(5002)); !slices.Equal(got, []string{"192.168.1.7 1 false"}) {
		t.Errorf("5002: %q", got)
	}
	if d.Flood(6001) != nil {
		t.Error("a foreign subnet has hosts")
	}
	// The same lists, where nothing in them changes.
	same := succeed(t, d, []hnv.Record{rec("21", at("192.168.1.2", "192.168.1.1"))}, nil)
	if &same.Flood(5001)[0] != &d.Flood(5001)[0] {
		t.Error("a list was copied for nothing")
	}
	// Two hosts turn out to be one, and two again.
	joined := succeed(t, d, []hnv.Record{record(t, 5002, "10.1.2.12", "192.168.1.3"), with(record(t, 5002, "10.1.2.13", "192.168.1.3"), at("192.168.1.3", "192.168.1.4"))}, nil)
	if got := flooded(joined.Flood(5001)); !slices.Equal(got, []string{want[0], want[1], want[3]}) {
		t.Errorf("joined: %q", got)
	}
	apart := succeed(t, joined, nil, []hnv.RecordKey{record(t, 5002, "10.1.2.13", "192.168.1.3").RecordKey()})
	if got := flooded(apart.Flood(5001)); !slices.Equal(got, want) {
		t.Errorf("apart again: %q", got)
	}
}

func TestDynamicNeverReplacesWhatWasConfigured(t *testing.T) {
	for _, configured := range []hnv.RecordType{hnv.Static, hnv.GatewayWildcard} {
		c := oneSubnet(t, 5001, 0)
		mine := with(record(t, 5001, "10.1.1.11", "192.168.1.1"), as(configured))
		learned := with(record(t, 5001, "10.1.1.11", "192.168.1.2"), as(hnv.Dynamic))
		for _, order := range [][]hnv.Record{{mine, learned}, {learned, mine}} {
			c.Records = order
			d := build(t, c)
			next := succeed(t, d, []hnv.Record{learned}, nil)
			if r := next.Record(5001, mine.CA); r.PA != AddrFrom(mine.PA) || next.Gen() != d.Gen() {
				t.Errorf("%s gave way: %+v", configured, r)
			}
		}
		d := succeed(t, build(t, c), []hnv.Record{learned}, []hnv.RecordKey{mine.RecordKey()})
		if r := d.Record(5001, mine.CA); r.Type != Dynamic || r.PA != AddrFrom(learned.PA) {
			t.Errorf("after it was deleted: %+v", r)
		}
	}
}

func TestWildcardsAreTheLastResort(t *testing.T) {
	c := oneSubnet(t, 5001, 1)
	c.Routes = []hnv.CustomerRoute{route(t, 5001, "172.16.0.0/12", "10.1.1.11", 0)}
	gw := with(record(t, 5001, "10.1.1.2", "192.168.1.1"), as(hnv.GatewayWildcard))
	c.Records = append(c.Records, gw)
	d := build(t, c)
	if !slices.Equal(d.Wildcards(), []Key{KeyOf(5001, gw.CA)}) || d.WildcardsFor(netip.IPv6Loopback()) != nil {
		t.Errorf("wildcards: %v", d.Wildcards())
	}
	for to, want := range map[string]string{
		"8.8.8.8":    "none", // for the wildcard
		"172.16.5.5": "via 5001/10.1.1.11",
		"10.1.1.77":  "on-link 5001", // nowhere
		"10.1.1.2":   "on-link 5001, record",
	} {
		if got := describe(d.Resolve(netip.MustParseAddr(to))); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
	tame := succeed(t, d, []hnv.Record{with(gw, as(hnv.Static))}, nil)
	if len(tame.Wildcards()) != 0 || tame.Gen() == d.Gen() {
		t.Error("a wildcard that is one no more still counts")
	}
}

func TestTeamNumbersRunOut(t *testing.T) {
	x := (&teams{}).clone()
	team := func(n int) (teamKey, []Addr) {
		pas := []Addr{AddrFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})), AddrFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}))}
		var k teamKey
		copy(k[:], pas)
		return k, pas
	}
	for n := range maxTeams {
		if id, err := x.add(team(n)); err != nil || int(id) != n+1 {
			t.Fatalf("team %d is number %d: %v", n, id, err)
		}
	}
	if _, err := x.add(team(maxTeams)); err == nil {
		t.Fatal("there is one team too many")
	}
	x.remove(4711)
	if id, err := x.add(team(maxTeams)); err != nil || id != 4711 {
		t.Fatalf("a number given back is not used again: %d, %v", id, err)
	}
}

// A record of a later Domain, as a Mapping leads to, may name a team that an
// earlier one does not know.
func TestTeamOfALaterDomain(t *testing.T) {
	c := oneSubnet(t, 5001, 1)
	d := build(t, c)
	next := succeed(t, d, []hnv.Record{with(c.Records[0], at("192.168.1.1", "192.168.1.2"))}, nil)
	r := next.Record(5001, c.Records[0].CA)
	if pas := d.PAs(r); len(pas) != 1 || pas[0] != r.PA {
		t.Errorf("an earlier domain takes the PAs for %v", pas)
	}
	if len(next.PAs(r)) != 2 || !next.Hosts(AddrFrom(netip.MustParseAddr("192.168.1.2"))) || next.teams.ids == nil {
		t.Error("the team is not known")
	}
	last := succeed(t, next, c.Records, nil)
	if len(last.teams.ids) != 0 || last.Hosts(AddrFrom(netip.MustParseAddr("192.168.1.2"))) {
		t.Error("a team that no record names is kept")
	}
}

func TestSubnetAndTenantSettings(t *testing.T) {
	c := oneSubnet(t, 5001, 0)
	web := name(t, "web")
	c.Subnets = append(c.Subnets, subnet(t, 5002, "10.1.2.0/24"))
	s := &c.Subnets[0]
	s.ACL, s.Learning, s.MulticastGroup, s.DHCP = web, &hnv.Learning{MaxPerPort: 3}, netip.MustParseAddr("239.1.1.1"), ca(5)
	c.ACLs = []hnv.ACL{{Name: name(t, "other")}, {Name: web}}
	c.QoS, c.StormPPS = &hnv.QoS{InKbps: 7}, 9
	d := build(t, c)
	got := d.Subnet(5001)
	if got == nil || got.VSID != 5001 || got.ACL != web || got.Learning.MaxPerPort != 3 || got.Group.String() != "239.1.1.1" || got.DHCP != ca(5) ||
		len(got.Prefixes) != 1 {
		t.Errorf("subnet 5001: %+v", got)
	}
	if plain := d.Subnet(5002); plain == nil || plain.ACL.IsValid() || plain.Learning != nil || plain.Group.IsValid() || plain.DHCP.IsValid() {
		t.Errorf("subnet 5002: %+v", plain)
	}
	if d.Subnet(6001) != nil || d.ACL(web) != &d.ACLs[1] || d.ACL(name(t, "none")) != nil || d.QoS.InKbps != 7 || d.StormPPS != 9 {
		t.Error("the tenant's settings did not arrive")
	}
}

// A host has all PAs of the teams that have one in common, and a PA of no team
// names no others.
func TestHostPAs(t *testing.T) {
	c := oneSubnet(t, 5001, 3)
	d := build(t, c)
	next := succeed(t, d, []hnv.Record{
		with(c.Records[0], at("192.168.1.1", "192.168.1.2")),
		with(c.Records[1], at("192.168.1.2", "192.168.1.3")),
		with(c.Records[2], at("192.168.1.9")),
	}, nil)
	team := []string{"192.168.1.1", "192.168.1.2", "192.168.1.3"}
	for pa, want := range map[string][]string{"192.168.1.1": team, "192.168.1.2": team, "192.168.1.3": team, "192.168.1.9": nil, "192.168.1.99": nil} {
		for _, one := range []*Domain{d, next} {
			var got []string
			for _, a := range one.HostPAs(AddrFrom(netip.MustParseAddr(pa))) {
				got = append(got, a.String())
			}
			if one == d && got != nil || one == next && !slices.Equal(got, want) {
				t.Errorf("the host of %s has %v, want %v", pa, got, want)
			}
		}
	}
}

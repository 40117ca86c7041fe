package hnv

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// wide is base with what hosts and ports add: an ACL of the same name in both
// tenants, on a subnet and on a port of each.
func wide(t *testing.T) *Fabric {
	t.Helper()
	f := base(t)
	var cs []Change
	for name, v := range map[string]uint32{"contoso": 5001, "fabrikam": 6001} {
		x, _ := f.Tenant(must(ParseName(name)))
		x.Subnets = slices.Clone(x.Subnets)
		x.Subnets[0].ACL = must(ParseName("web"))
		cs = append(cs, Change{Put: x}, Change{Put: acl(name, "web", fmt.Sprintf("%d inbound allow tcp * *@443", v))},
			Change{Put: Port{Interface: fmt.Sprintf("tap%d", v), VSID: vsid(v + 1), MAC: stationMAC(1), ACL: must(ParseName("web"))}})
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	return f
}

// at changes a record.
func at(r Record, how ...func(*Record)) Record {
	for _, h := range how {
		h(&r)
	}
	return r
}

func mac(n byte) func(*Record) { return func(r *Record) { r.MAC = stationMAC(n) } }
func as(ty RecordType) func(*Record) {
	return func(r *Record) {
		r.Type = ty
		if ty == L2Only {
			r.CA = netip.Addr{}
		}
	}
}
func by(rule Rule) func(*Record) { return func(r *Record) { r.Rule = rule } }
func team(pas ...string) func(*Record) {
	return func(r *Record) {
		r.TeamPAs = nil
		for _, p := range pas {
			r.TeamPAs = append(r.TeamPAs, addr(p))
		}
	}
}

// sub changes a subnet of a tenant.
func sub(t Tenant, i int, how func(*Subnet)) Tenant {
	t.Subnets = slices.Clone(t.Subnets)
	how(&t.Subnets[i])
	return t
}

func TestContradictions(t *testing.T) {
	contoso, fabrikam := tenant("contoso", 5001, "203.0.113.10"), tenant("fabrikam", 6001, "203.0.113.20")
	contoso.Subnets[0].ACL, fabrikam.Subnets[0].ACL = must(ParseName("web")), must(ParseName("web"))
	group := func(g string) func(*Subnet) { return func(s *Subnet) { s.MulticastGroup = addr(g) } }
	dhcp := func(a string) func(*Subnet) { return func(s *Subnet) { s.DHCP = addr(a) } }
	rewritten := at(record(5001, "10.1.1.50", "192.168.1.50"), mac(50), by(RuleRewrite))
	l2 := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(L2Only))
	learned := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic))
	rdid := NewRDID()
	for name, c := range map[string]struct {
		before []Object // what stands
		put    []Object
		del    []Object
		kind   error
		says   []string // both sides
	}{
		"dynamic over static": {nil, []Object{at(record(5001, "10.1.1.11", "192.168.1.12"), as(Dynamic), mac(9))}, nil, ErrConflict,
			[]string{"5001/10.1.1.11", "dynamic record (MAC 00:15:5d:00:01:09 at 192.168.1.12)", "static one (MAC 00:15:5d:00:00:01 at 192.168.1.11)"}},
		"dynamic beside l2only": {[]Object{l2}, []Object{at(learned, func(r *Record) { r.PA = addr("192.168.1.61") })}, nil, ErrConflict,
			[]string{"5001/10.1.1.60 (dynamic) is at 192.168.1.61", "5001/00:15:5d:00:01:3c (l2only) is at 192.168.1.60", "MAC 00:15:5d:00:01:3c of VSID 5001"}},
		"l2only beside static": {[]Object{at(record(5001, "10.1.1.61", "192.168.1.61"), mac(60))}, []Object{l2}, nil, ErrConflict,
			[]string{"5001/10.1.1.61 (static) is at 192.168.1.61", "(l2only) is at 192.168.1.60"}},
		"l2only by another rule": {[]Object{l2}, []Object{at(record(5001, "10.1.1.61", "192.168.1.60"), mac(60), by(RuleVXLAN))}, nil, ErrConflict,
			[]string{"(static) is at 192.168.1.60 by vxlan", "(l2only) is at 192.168.1.60 by nvgre"}},
		"l2only with another team": {[]Object{l2}, []Object{at(record(5001, "10.1.1.61", "192.168.1.60"), mac(60), team("192.168.1.62"))}, nil, ErrConflict,
			[]string{"at 192.168.1.60+192.168.1.62", "(l2only) is at 192.168.1.60 by"}},
		"dynamic beside static": {[]Object{at(record(5001, "10.1.1.61", "192.168.1.61"), mac(60))}, []Object{learned}, nil, ErrConflict,
			[]string{"5001/10.1.1.60 (dynamic) is at 192.168.1.60", "5001/10.1.1.61 (static) is at 192.168.1.61"}},
		"two rewrites of one PA": {[]Object{rewritten}, []Object{at(record(6001, "10.1.1.50", "192.168.1.50"), by(RuleRewrite))}, nil, ErrConflict,
			[]string{"192.168.1.50", "5001/10.1.1.50 of tenant contoso", "6001/10.1.1.50 of tenant fabrikam"}},
		"rewrite at a host's PA": {nil, []Object{at(rewritten, func(r *Record) { r.PA = addr("192.168.1.11") })}, nil, ErrConflict,
			[]string{"192.168.1.11", "5001/10.1.1.50", "5001/10.1.1.11", "by nvgre"}},
		"a host at a rewrite's PA": {[]Object{rewritten}, []Object{record(6001, "10.1.1.12", "192.168.1.50")}, nil, ErrConflict,
			[]string{"192.168.1.50", "5001/10.1.1.50 of tenant contoso", "6001/10.1.1.12 of tenant fabrikam"}},
		"a team at a rewrite's PA": {[]Object{rewritten}, []Object{at(record(6001, "10.1.1.12", "192.168.1.51"), team("192.168.1.50"))}, nil, ErrConflict,
			[]string{"5001/10.1.1.50", "6001/10.1.1.12"}},
		"rewrite at the gateway's PA": {nil, []Object{at(rewritten, func(r *Record) { r.PA = addr("192.168.1.1") })}, nil, ErrConflict,
			[]string{"192.168.1.1", "5001/10.1.1.50", "compartments, as of tenant contoso"}},
		"the gateway's PA becomes a rewrite's": {[]Object{at(rewritten, func(r *Record) { r.PA = addr("192.168.0.7") })},
			[]Object{ProviderAddress{Addr: prefix("192.168.0.7/24"), Interface: "pa0"}}, nil, ErrConflict, []string{"192.168.0.7", "5001/10.1.1.50", "tenant contoso"}},
		"rewrite into another family": {nil, []Object{at(rewritten, func(r *Record) { r.PA = addr("fd00::1") })}, nil, ErrInvalid, []string{"10.1.1.50", "fd00::1", "family"}},
		"rewrite without a CA":        {nil, []Object{at(rewritten, as(L2Only))}, nil, ErrInvalid, []string{"customer address, which is missing"}},
		"rewrite at a team":           {nil, []Object{at(rewritten, team("192.168.1.51"))}, nil, ErrInvalid, []string{"not a team"}},
		"team of two families":        {nil, []Object{at(record(5001, "10.1.1.12", "192.168.1.11"), team("fd00::1"))}, nil, ErrInvalid, []string{"192.168.1.11", "fd00::1"}},
		"team names one twice":        {nil, []Object{at(record(5001, "10.1.1.12", "192.168.1.11"), team("192.168.1.12", "192.168.1.11"))}, nil, ErrInvalid, []string{"192.168.1.11 is named twice"}},
		"team off the fabric":         {nil, []Object{at(record(5001, "10.1.1.12", "192.168.1.11"), team("172.16.0.1"))}, nil, ErrNotFound, []string{"172.16.0.1 is not on the fabric"}},
		"too large a team": {nil, []Object{at(record(5001, "10.1.1.12", "192.168.1.11"), func(r *Record) {
			for i := range MaxTeamPAs + 1 {
				r.TeamPAs = append(r.TeamPAs, netip.AddrFrom4([4]byte{192, 168, 1, byte(20 + i)}))
			}
		})}, nil, ErrInvalid, []string{"8 further provider addresses"}},

		"one route in two VSIDs": {
			[]Object{CustomerRoute{RDID: rdid, VSID: vsid(8001), Prefix: prefix("172.16.0.0/12"), NextHop: addr("10.1.1.9")}, func() Tenant {
				x := tenant("northwind", 8001, "203.0.113.40")
				x.RDID = rdid
				return x
			}()},
			[]Object{CustomerRoute{RDID: rdid, VSID: vsid(8002), Prefix: prefix("172.16.0.0/12"), NextHop: addr("10.1.1.9")}}, nil, ErrConflict,
			[]string{"8002/172.16.0.0/12/10.1.1.9", "8001/172.16.0.0/12/10.1.1.9"}},

		"group is unicast":            {nil, []Object{sub(contoso, 0, group("10.0.0.1"))}, nil, ErrInvalid, []string{"10.0.0.1 is not a multicast address"}},
		"group of the link":           {nil, []Object{sub(contoso, 0, group("224.0.0.5"))}, nil, ErrInvalid, []string{"224.0.0.5", "choose another"}},
		"group of another tenant":     {[]Object{sub(contoso, 0, group("239.1.1.1"))}, []Object{sub(fabrikam, 1, group("239.1.1.1"))}, nil, ErrConflict, []string{"tenant fabrikam", "239.1.1.1 of VSID 6002", "tenant contoso"}},
		"DHCP outside":                {nil, []Object{sub(contoso, 0, dhcp("10.1.3.4"))}, nil, ErrInvalid, []string{"VSID 5001", "10.1.3.4 is outside"}},
		"DHCP at the router":          {nil, []Object{sub(contoso, 0, dhcp("10.1.1.1"))}, nil, ErrInvalid, []string{"10.1.1.1", "distributed router's address in VSID 5001"}},
		"DHCP at the broadcast":       {nil, []Object{sub(contoso, 0, dhcp("10.1.1.255"))}, nil, ErrInvalid, []string{"broadcast"}},
		"learning too much":           {nil, []Object{sub(contoso, 0, func(s *Subnet) { s.Learning = &Learning{MaxPerPort: 5000} })}, nil, ErrInvalid, []string{"5000"}},
		"learning too long":           {nil, []Object{sub(contoso, 0, func(s *Subnet) { s.Learning = &Learning{AgeSeconds: 1 << 30} })}, nil, ErrInvalid, []string{"seconds"}},
		"rate":                        {nil, []Object{func() Tenant { x := contoso; x.QoS = &QoS{InKbps: 1 << 60}; return x }()}, nil, ErrInvalid, []string{"kbit/s"}},
		"DSCP":                        {nil, []Object{func() Tenant { x := contoso; x.QoS = &QoS{DSCP: "64"}; return x }()}, nil, ErrInvalid, []string{`"64"`, "0 to 63"}},
		"storm":                       {nil, []Object{func() Tenant { x := contoso; x.StormPPS = 1 << 31; return x }()}, nil, ErrInvalid, []string{"storm limit"}},
		"port's rate":                 {nil, []Object{Port{Interface: "tap1", VSID: vsid(5001), MAC: stationMAC(1), OutKbps: 1 << 60}}, nil, ErrInvalid, []string{"port tap1", "kbit/s"}},
		"subnet's ACL is not there":   {nil, []Object{sub(contoso, 1, func(s *Subnet) { s.ACL = must(ParseName("db")) })}, nil, ErrNotFound, []string{"VSID 5002 names ACL db"}},
		"port's ACL is not there":     {nil, []Object{Port{Interface: "tap1", VSID: vsid(5001), MAC: stationMAC(1), ACL: must(ParseName("db"))}}, nil, ErrNotFound, []string{"port tap1: tenant contoso", "no ACL db"}},
		"port's ACL is another's":     {[]Object{acl("fabrikam", "db")}, []Object{Port{Interface: "tap1", VSID: vsid(5001), MAC: stationMAC(1), ACL: must(ParseName("db"))}}, nil, ErrNotFound, []string{"tenant contoso", "no ACL db"}},
		"ACL of nobody":               {nil, []Object{acl("northwind", "web")}, nil, ErrNotFound, []string{"ACL northwind/web: tenant northwind does not exist"}},
		"ACL in use by a subnet":      {nil, nil, []Object{acl("contoso", "web")}, ErrInUse, []string{"ACL contoso/web is that of VSID 5001"}},
		"ACL in use by a port":        {nil, []Object{sub(contoso, 0, func(s *Subnet) { s.ACL = Name{} })}, []Object{acl("contoso", "web")}, ErrInUse, []string{"ACL contoso/web is that of port tap5001"}},
		"tenant with an ACL and more": {nil, nil, []Object{contoso}, ErrInUse, []string{"tenant contoso still has 4 ACLs"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := wide(t)
			apply := func(objects, gone []Object) error {
				var cs []Change
				for _, o := range objects {
					cs = append(cs, Change{Put: o})
				}
				for _, o := range gone {
					cs = append(cs, Change{Delete: o})
				}
				_, err := f.Apply(cs)
				return err
			}
			if err := apply(c.before, nil); err != nil {
				t.Fatal(err)
			}
			before := dump(f)
			err := apply(c.put, c.del)
			if !errors.Is(err, c.kind) {
				t.Fatalf("error %v, want kind %v", err, c.kind)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if got := dump(f); got != before {
				t.Errorf("refused, it left\n%s\nof\n%s", got, before)
			}
			derived(t, f)
		})
	}
}

// What looks like a contradiction and is none.
func TestNoContradictions(t *testing.T) {
	contoso, fabrikam := tenant("contoso", 5001, "203.0.113.10"), tenant("fabrikam", 6001, "203.0.113.20")
	group := func(g string) func(*Subnet) { return func(s *Subnet) { s.MulticastGroup = addr(g) } }
	l2 := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(L2Only))
	learned := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic))
	elsewhere := func(r Record) Record { r.PA = addr("192.168.1.61"); return r }
	rw := func(ca, pa string) Record { return at(record(5001, ca, pa), by(RuleRewrite)) }
	for name, steps := range map[string][][]Object{
		"a VM with two addresses moves record by record": {{record(5001, "10.1.1.71", "192.168.1.60"), record(5001, "10.1.1.72", "192.168.1.60")}, {record(5001, "10.1.1.71", "192.168.1.61")}},
		"static over dynamic":                            {{learned}, {at(learned, as(Static))}},
		"dynamic over dynamic":                           {{learned}, {at(learned, mac(61))}},
		"a station moves as a whole":                     {{l2, learned}, {elsewhere(learned), elsewhere(l2)}},
		"the team is told in another order":              {{at(l2, team("192.168.1.61"))}, {at(elsewhere(learned), team("192.168.1.60"))}},
		"two rewrites swap":                              {{rw("10.1.1.71", "192.168.1.71"), rw("10.1.1.72", "192.168.1.72")}, {rw("10.1.1.71", "192.168.1.72"), rw("10.1.1.72", "192.168.1.71")}},
		"the same MAC in another VSID":                   {{l2, elsewhere(at(record(6001, "10.1.1.60", "192.168.1.60"), mac(60)))}},
		"one group for two subnets of a tenant":          {{sub(sub(contoso, 0, group("239.1.1.1")), 1, group("239.1.1.1"))}},
		"groups swap":                                    {{sub(contoso, 0, group("239.1.1.1")), sub(fabrikam, 0, group("239.1.1.2"))}, {sub(contoso, 0, group("239.1.1.2")), sub(fabrikam, 0, group("239.1.1.1"))}},
		"a tenant with its ACL":                          {{sub(tenant("northwind", 7001, "203.0.113.30"), 0, func(s *Subnet) { s.ACL = must(ParseName("web")) }), acl("northwind", "web")}},
		"the next hop of its own prefix": {{CustomerRoute{RDID: must(ParseRDID("11111111-1111-4111-8111-111111111111")), VSID: vsid(7001), Prefix: prefix("10.1.0.0/16"), NextHop: addr("10.1.1.77")}, func() Tenant {
			x := tenant("northwind", 7001, "203.0.113.30")
			x.RDID = must(ParseRDID("11111111-1111-4111-8111-111111111111"))
			return x
		}()}},
	} {
		f := base(t)
		for i, objects := range steps {
			var cs []Change
			for _, o := range objects {
				cs = append(cs, Change{Put: o})
			}
			if _, err := f.Apply(cs); err != nil {
				t.Errorf("%s: step %d: %v", name, i+1, err)
			}
			derived(t, f)
		}
	}
}

// A learned address goes where its VM goes, and goes with it.
func TestFollowers(t *testing.T) {
	f := base(t)
	l2 := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(L2Only))
	one := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic))
	two := at(record(5001, "10.1.1.61", "192.168.1.60"), mac(60), as(Dynamic))
	other := at(record(5001, "10.1.1.62", "192.168.1.60"), mac(61), as(Dynamic))
	foreign := at(record(6001, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic))
	if _, err := f.Apply([]Change{{Put: l2}, {Put: one}, {Put: two}, {Put: other}, {Put: foreign}}); err != nil {
		t.Fatal(err)
	}
	moved := l2
	moved.PA, moved.TeamPAs, moved.Rule = addr("192.168.1.70"), []netip.Addr{addr("192.168.1.71")}, RuleVXLAN
	if got := f.WithFollowers([]Change{{Put: l2}, {Put: record(5001, "10.1.1.11", "192.168.1.99")}}); len(got) != 2 {
		t.Errorf("what does not move brings along %v", got[2:])
	}
	cs := f.WithFollowers([]Change{{Put: moved}, {Delete: two}})
	if len(cs) != 3 {
		t.Fatalf("the move brings along %v, want one record", cs[2:])
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	got, _ := f.Get(KindRecord, one.Key())
	if r := got.(Record); r.PA != moved.PA || !slices.Equal(r.TeamPAs, moved.TeamPAs) || r.Rule != RuleVXLAN || r.Type != Dynamic {
		t.Errorf("the learned record is %+v", r)
	}
	for _, o := range []Record{other, foreign} {
		if got, _ := f.Get(KindRecord, o.Key()); !got.(Record).Equal(o) {
			t.Errorf("another station's record is %+v now", got)
		}
	}
	cs = f.WithFollowers([]Change{{Delete: Record{VSID: l2.VSID, MAC: l2.MAC}}})
	if len(cs) != 2 || cs[1].Delete == nil || cs[1].Delete.Key() != one.Key() {
		t.Fatalf("the end brings along %v", cs[1:])
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	derived(t, f)
}

// derived fails if an index says anything else than a new one would.
func derived(t *testing.T, f *Fabric) {
	t.Helper()
	g := NewFabric(f.site)
	for _, k := range Kinds() {
		for _, o := range f.List(k) {
			g.place(o)
		}
	}
	if !reflect.DeepEqual(f.owners, g.owners) || !reflect.DeepEqual(f.rdids, g.rdids) || !reflect.DeepEqual(f.groups, g.groups) {
		t.Errorf("owners %v, RDIDs %v, groups %v; want %v, %v, %v", f.owners, f.rdids, f.groups, g.owners, g.rdids, g.groups)
	}
	if !reflect.DeepEqual(f.index.pas, g.index.pas) || !reflect.DeepEqual(f.index.special, g.index.special) {
		t.Errorf("PAs %v, special %v; want %v, %v", f.index.pas, f.index.special, g.index.pas, g.index.special)
	}
	// Stations may be indexed where they need no longer be, never the other way.
	for v := range g.index.stations {
		if f.index.stations[v] == nil {
			t.Errorf("the stations of VSID %s are not indexed", v)
		}
	}
	for v, m := range f.index.stations {
		n := 0
		for mac, keys := range m {
			n += len(keys)
			for _, k := range keys {
				if r, ok := f.records[v][k]; !ok || r.MAC != mac {
					t.Errorf("VSID %s: MAC %s is said to have %s", v, mac, k)
				}
			}
		}
		if n != len(f.records[v]) {
			t.Errorf("VSID %s: %d records are indexed of %d", v, n, len(f.records[v]))
		}
	}
}

// The records of a station are those of its MAC in its VSID, whoever else has
// both.
func TestStationRecords(t *testing.T) {
	f := base(t)
	var cs []Change
	for _, v := range []uint32{5001, 6001} {
		for _, r := range []Record{
			at(record(v, "10.1.1.60", "192.168.1.60"), mac(60), as(L2Only)),
			at(record(v, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic)),
			at(record(v, "10.1.1.61", "192.168.1.60"), mac(60)),
			at(record(v, "10.1.1.62", "192.168.1.60"), mac(61)),
		} {
			cs = append(cs, Change{Put: r})
		}
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	keys := func() (out []string) {
		for _, r := range f.StationRecords(vsid(5001), stationMAC(60)) {
			out = append(out, r.Key())
		}
		slices.Sort(out)
		return out
	}
	l2only := at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(L2Only)).Key()
	if got := keys(); !slices.Equal(got, slices.Sorted(slices.Values([]string{l2only, "5001/10.1.1.60", "5001/10.1.1.61"}))) {
		t.Errorf("the station has %v", got)
	}
	if _, err := f.Apply([]Change{{Delete: at(record(5001, "10.1.1.60", "192.168.1.60"), mac(60), as(Dynamic))}}); err != nil {
		t.Fatal(err)
	}
	if got := keys(); len(got) != 2 {
		t.Errorf("without its learned address the station has %v", got)
	}
}

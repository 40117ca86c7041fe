package hnv

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func vsid(n uint32) VSID { return must(NewVSID(n)) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
	site   = Site{Uplinks: []string{"internet"}, PAInterfaces: []string{"pa0"}}
)

// tenant gives one with the literature's addresses: base and base+1 hold
// 10.1.1.0/24 and 10.1.2.0/24, base-1 is the gateway subnet.
func tenant(name string, base uint32, external string) Tenant {
	return Tenant{
		Name: must(ParseName(name)), Encap: NVGRE,
		Subnets: []Subnet{
			{VSID: vsid(base), Prefixes: []SubnetPrefix{{Prefix: prefix("10.1.1.0/24")}}},
			{VSID: vsid(base + 1), Prefixes: []SubnetPrefix{{Prefix: prefix("10.1.2.0/24")}}},
			{VSID: vsid(base - 1), Prefixes: []SubnetPrefix{{Prefix: prefix("10.254.254.0/29")}}},
		},
		Gateway: &Gateway{VSID: vsid(base - 1), Uplink: "internet", NAT: &NAT{Pool: []ExternalRange{must(ParseExternalRange(external))}}},
	}
}

func record(v uint32, ca, pa string) Record {
	return Record{VSID: vsid(v), CA: addr(ca), MAC: must(ParseMAC("00:15:5d:00:00:01")), PA: addr(pa), Rule: RuleNVGRE, Type: Static}
}

func mapping(t, ext, in string) NATMapping {
	return NATMapping{Tenant: must(ParseName(t)), Proto: TCP, External: netip.MustParseAddrPort(ext), Internal: netip.MustParseAddrPort(in)}
}

// base has both tenants with identical CAs and a record each.
func base(t *testing.T) *Fabric {
	t.Helper()
	f := NewFabric(site)
	_, err := f.Apply([]Change{
		{Put: mapping("contoso", "203.0.113.10:443", "10.1.1.11:443")}, // out of order on purpose
		{Put: record(5001, "10.1.1.11", "192.168.1.11")},
		{Put: record(6001, "10.1.1.11", "192.168.2.14")},
		{Put: tenant("contoso", 5001, "203.0.113.10")},
		{Put: tenant("fabrikam", 6001, "203.0.113.20")},
		{Put: ProviderRoute{Prefix: prefix("192.168.0.0/16"), NextHop: addr("192.168.1.254")}},
		{Put: ProviderAddress{Addr: prefix("192.168.1.1/24"), Interface: "pa0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDefaults(t *testing.T) {
	f := base(t)
	c, _ := f.Tenant(must(ParseName("contoso")))
	if !c.RDID.IsValid() || c.Gateway.CAs[0] != addr("10.254.254.2") || c.Subnets[0].Prefixes[0].Gateway != addr("10.1.1.1") ||
		c.Gateway.NAT.ConnectionLimit != DefaultConnectionLimit {
		t.Errorf("defaults: %+v %+v", c, c.Gateway)
	}
	again := tenant("contoso", 5001, "203.0.113.10")
	if _, err := f.Apply([]Change{{Put: again}}); err != nil {
		t.Fatal(err)
	}
	if c2, _ := f.Tenant(c.Name); c2.RDID != c.RDID {
		t.Errorf("a replacement without RDID changed it from %s to %s", c.RDID, c2.RDID)
	}
}

func TestTenantsWithTheSameAddresses(t *testing.T) {
	f := base(t)
	for n, pa := range map[string]string{"contoso": "192.168.1.11", "fabrikam": "192.168.2.14"} {
		rs := f.TenantRecords(must(ParseName(n)))
		if len(rs) != 1 || rs[0].CA != addr("10.1.1.11") || rs[0].PA != addr(pa) {
			t.Errorf("%s has records %v", n, rs)
		}
	}
	if rs := f.TenantRoutes(must(ParseName("fabrikam"))); len(rs) != 0 {
		t.Errorf("fabrikam has routes %v", rs)
	}
}

func TestRefusals(t *testing.T) {
	with := func(f func(*Tenant)) Tenant {
		x := tenant("northwind", 7001, "203.0.113.30")
		f(&x)
		return x
	}
	cases := map[string]struct {
		change Change
		kind   error
		says   string
	}{
		"VSID of another tenant":   {Change{Put: with(func(x *Tenant) { x.Subnets[0].VSID = vsid(5001) })}, ErrConflict, "VSID 5001 belongs to tenant contoso"},
		"VSID twice":               {Change{Put: with(func(x *Tenant) { x.Subnets[0].VSID = x.Subnets[1].VSID })}, ErrInvalid, "named twice"},
		"RDID of a tenant changes": {Change{Put: func() Tenant { x := tenant("contoso", 5001, "203.0.113.10"); x.RDID = NewRDID(); return x }()}, ErrConflict, "stays it"},
		"own subnets overlap":      {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Prefix = prefix("10.1.0.0/16") })}, ErrInvalid, "overlaps"},
		"host bits":                {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Prefix = prefix("10.1.1.7/24") })}, ErrInvalid, "write 10.1.1.0/24"},
		"loopback subnet":          {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Prefix = prefix("127.1.0.0/16") })}, ErrInvalid, "loopback"},
		"multicast subnet":         {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Prefix = prefix("ff02::/64") })}, ErrInvalid, "multicast"},
		"tiny subnet":              {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Prefix = prefix("10.1.1.0/31") })}, ErrInvalid, "no room"},
		"gateway outside":          {Change{Put: with(func(x *Tenant) { x.Subnets[0].Prefixes[0].Gateway = addr("10.1.2.1") })}, ErrInvalid, "outside 10.1.1.0/24"},
		"gateway CA outside":       {Change{Put: with(func(x *Tenant) { x.Gateway.CAs = []netip.Addr{addr("10.9.9.9")} })}, ErrInvalid, "outside the gateway subnet"},
		"gateway CA is router's":   {Change{Put: with(func(x *Tenant) { x.Gateway.CAs = []netip.Addr{addr("10.254.254.1")} })}, ErrInvalid, "distributed router"},
		"gateway CA broadcast":     {Change{Put: with(func(x *Tenant) { x.Gateway.CAs = []netip.Addr{addr("10.254.254.7")} })}, ErrInvalid, "broadcast"},
		"unknown uplink":           {Change{Put: with(func(x *Tenant) { x.Gateway.Uplink = "moon" })}, ErrNotFound, "it has internet"},
		"external overlap":         {Change{Put: with(func(x *Tenant) { x.Gateway.NAT.Pool[0].Addr = addr("203.0.113.10") })}, ErrConflict, "overlaps 203.0.113.10 of tenant contoso"},
		"external ports overlap":   {Change{Put: with(func(x *Tenant) { x.Gateway.NAT.Pool[0] = ExternalRange{addr("203.0.113.10"), 1024, 2000} })}, ErrConflict, "203.0.113.10:1024-2000"},
		"external on fabric":       {Change{Put: with(func(x *Tenant) { x.Gateway.NAT.Pool[0].Addr = addr("192.168.1.77") })}, ErrConflict, "lies in the fabric"},
		"external inside":          {Change{Put: with(func(x *Tenant) { x.Gateway.NAT.Pool[0].Addr = addr("10.1.1.9") })}, ErrInvalid, "own virtual network"},
		"record exists":            {Change{Put: record(5001, "10.1.1.11", "192.168.1.12"), Create: true}, ErrConflict, "lookup record 5001/10.1.1.11 exists already (tenant contoso, MAC 00:15:5d:00:00:01, PA 192.168.1.11)"},
		"record CA outside":        {Change{Put: record(5001, "10.1.2.11", "192.168.1.12")}, ErrInvalid, "outside VSID 5001 (10.1.1.0/24)"},
		"record CA is router":      {Change{Put: record(5001, "10.1.1.1", "192.168.1.12")}, ErrConflict, "distributed router's"},
		"record CA broadcast":      {Change{Put: record(5001, "10.1.1.255", "192.168.1.12")}, ErrInvalid, "broadcast"},
		"record CA compartment":    {Change{Put: record(5000, "10.254.254.2", "192.168.1.12")}, ErrConflict, "compartment's own"},
		"record PA off fabric":     {Change{Put: record(5001, "10.1.1.12", "172.16.0.1")}, ErrNotFound, "172.16.0.1 is not on the fabric"},
		"record VSID unknown":      {Change{Put: record(9999, "10.1.1.12", "192.168.1.12")}, ErrNotFound, "VSID 9999 belongs to no tenant"},
		"record without CA":        {Change{Put: Record{VSID: vsid(5001), MAC: stationMAC(1), PA: addr("192.168.1.12"), Rule: RuleNVGRE, Type: Static}}, ErrInvalid, "only type l2only"},
		"PA interface unknown":     {Change{Put: ProviderAddress{Addr: prefix("192.168.5.1/24"), Interface: "eth9"}}, ErrNotFound, "it has pa0"},
		"PA host bits gone":        {Change{Put: ProviderAddress{Addr: prefix("192.168.5.0/24"), Interface: "pa0"}}, ErrInvalid, "network address"},
		"PA over external":         {Change{Put: ProviderAddress{Addr: prefix("203.0.113.1/24"), Interface: "pa0"}}, ErrConflict, "external address 203.0.113."},
		"provider route off-link":  {Change{Put: ProviderRoute{Prefix: prefix("172.16.0.0/12"), NextHop: addr("10.0.0.1")}}, ErrNotFound, "on-link at no provider address"},
		"mapping foreign address":  {Change{Put: mapping("contoso", "203.0.113.20:80", "10.1.1.11:80")}, ErrConflict, "not within tenant contoso's"},
		"mapping port in use":      {Change{Put: mapping("contoso", "203.0.113.10:443", "10.1.1.12:443"), Create: true}, ErrConflict, "NAT mapping tcp/203.0.113.10:443 exists already (tenant contoso, to 10.1.1.11:443)"},
		"mapping port of another":  {Change{Put: mapping("fabrikam", "203.0.113.10:443", "10.1.1.12:443"), Create: true}, ErrConflict, "exists already (tenant contoso"},
		"mapping foreign port":     {Change{Put: mapping("fabrikam", "203.0.113.10:443", "10.1.1.12:443")}, ErrConflict, "in use by a mapping of tenant contoso"},
		"mapping internal":         {Change{Put: mapping("contoso", "203.0.113.10:80", "10.7.1.11:80")}, ErrInvalid, "none of tenant contoso's"},
		"mapping to the router":    {Change{Put: mapping("contoso", "203.0.113.10:80", "10.1.1.1:80")}, ErrInvalid, "router's"},
		"mapping port 0":           {Change{Put: mapping("contoso", "203.0.113.10:0", "10.1.1.11:80")}, ErrInvalid, "port from 1"},
		"route wrong RDID":         {Change{Put: CustomerRoute{RDID: NewRDID(), VSID: vsid(5000), Prefix: prefix("0.0.0.0/0"), NextHop: addr("10.254.254.2")}}, ErrConflict, "tenant contoso"},
		"port on the fabric":       {Change{Put: Port{Interface: "pa0", VSID: vsid(5001), MAC: stationMAC(1)}}, ErrConflict, "PA interface"},
		"tenant in use":            {Change{Delete: tenant("contoso", 5001, "203.0.113.10")}, ErrInUse, "still has 2"},
		"tenant loses subnet":      {Change{Put: tenant("contoso", 8001, "203.0.113.10")}, ErrInUse, "5001/10.1.1.11"},
		"provider route in use":    {Change{Delete: ProviderRoute{Prefix: prefix("192.168.0.0/16"), NextHop: addr("192.168.1.254")}}, ErrInUse, "192.168.2.14"},
		"provider addr in use":     {Change{Delete: ProviderAddress{Addr: prefix("192.168.1.1/24")}}, ErrInUse, "192.168.1.254"},
		"tenant exists":            {Change{Put: tenant("contoso", 5001, "203.0.113.10"), Create: true}, ErrConflict, "tenant contoso exists already (RDID "},
		"PA exists":                {Change{Put: ProviderAddress{Addr: prefix("192.168.1.1/16"), Interface: "pa0"}, Create: true}, ErrConflict, "provider address 192.168.1.1 exists already (192.168.1.1/24 on pa0): delete it"},
		"provider route exists":    {Change{Put: ProviderRoute{Prefix: prefix("192.168.0.0/16"), NextHop: addr("192.168.1.254")}, Create: true}, ErrConflict, "provider route 192.168.0.0/16/192.168.1.254 exists already (metric 0)"},
		"mapping is not there":     {Change{Delete: mapping("contoso", "203.0.113.10:1", "10.1.1.11:443")}, ErrNotFound, "NAT mapping tcp/203.0.113.10:1 does not exist"},
		"delete what is not":       {Change{Delete: record(5001, "10.1.1.99", "192.168.1.1")}, ErrNotFound, "does not exist"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := base(t)
			want := dump(f)
			undo, err := f.Apply([]Change{{Put: record(6001, "10.1.1.200", "192.168.1.11")}, c.change})
			if err == nil {
				t.Fatal("taken")
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want kind %v and %q", err, c.kind, c.says)
			}
			if undo != nil || !reflect.DeepEqual(dump(f), want) {
				t.Error("a refused change left something behind")
			}
		})
	}
}

// stationMAC gives some station's MAC.
func stationMAC(n byte) MAC { return must(MACFrom([6]byte{0, 0x15, 0x5d, 0, 1, n})) }

func dump(f *Fabric) string {
	var b strings.Builder
	for _, k := range Kinds() {
		for _, o := range f.List(k) {
			fmt.Fprintf(&b, "%s %+v\n", k, o)
			if t, ok := o.(Tenant); ok {
				fmt.Fprintf(&b, "  %+v\n", t.Gateway)
			}
		}
	}
	fmt.Fprintln(&b, f.owners, f.rdids, len(f.records))
	return b.String()
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := base(t).Apply([]Change{{Put: record(5001, "10.9.1.1", "192.168.1.1")}, {Put: record(5001, "10.1.1.12", "8.8.8.8")}})
	if err == nil || !strings.Contains(err.Error(), "10.9.1.1") || !strings.Contains(err.Error(), "8.8.8.8") {
		t.Errorf("error %v", err)
	}
}

func TestSharedExternalAddress(t *testing.T) {
	f := NewFabric(Site{Uplinks: []string{"internet", "other"}})
	if _, err := f.Apply([]Change{
		{Put: tenant("contoso", 5001, "203.0.113.10:10000-19999")},
		{Put: tenant("fabrikam", 6001, "203.0.113.10:20000-29999")},
		{Put: mapping("contoso", "203.0.113.10:10443", "10.1.1.11:443")},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply([]Change{{Put: mapping("contoso", "203.0.113.10:20443", "10.1.1.11:443")}}); !errors.Is(err, ErrConflict) {
		t.Errorf("a port of the other's range was taken: %v", err)
	}
	elsewhere := tenant("northwind", 7001, "203.0.113.10:30000-39999")
	elsewhere.Gateway.Uplink = "other"
	if _, err := f.Apply([]Change{{Put: elsewhere}}); !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "one uplink only") {
		t.Errorf("one address at two uplinks: %v", err)
	}
}

// Two tenants swap what each of them has alone, in one set of changes; and the
// same, undone or refused, leaves all as it was.
func TestSwap(t *testing.T) {
	f := base(t)
	before := dump(f)
	c, _ := f.Tenant(must(ParseName("contoso")))
	b, _ := f.Tenant(must(ParseName("fabrikam")))
	swapped := func(t, other Tenant) Tenant {
		g := *other.Gateway
		return Tenant{Name: t.Name, Encap: t.Encap, Subnets: other.Subnets, Gateway: &g}
	}
	changes := []Change{
		{Put: swapped(c, b)}, {Put: swapped(b, c)},
		{Delete: mapping("contoso", "203.0.113.10:443", "10.1.1.11:443")},
	}
	undo, err := f.Apply(changes)
	if err != nil {
		t.Fatal(err)
	}
	if x, _ := f.TenantOfVSID(vsid(5001)); x.Name != b.Name {
		t.Errorf("VSID 5001 is %s's", x.Name)
	}
	if x := f.rdids[c.RDID]; x != c.Name {
		t.Errorf("RDID %s is %s's", c.RDID, x)
	}
	undo()
	if got := dump(f); got != before {
		t.Errorf("undone, there is\n%s\nwant\n%s", got, before)
	}
	for i := range changes[:2] {
		if _, err := f.Apply(append(changes[i:i+1:i+1], changes[2])); !errors.Is(err, ErrConflict) {
			t.Errorf("half of a swap: %v", err)
		}
		if got := dump(f); got != before {
			t.Errorf("half of a swap left\n%s\nwant\n%s", got, before)
		}
	}
}

// Where a tenant takes over another's VSID, what stays in it must fit.
func TestTakenVSID(t *testing.T) {
	f := base(t)
	old, _ := f.Tenant(must(ParseName("contoso")))
	heir := tenant("northwind", 5001, "203.0.113.30")
	heir.Subnets[0].Prefixes[0].Prefix = prefix("10.7.1.0/24")
	gone := []Change{{Delete: old}, {Delete: mapping("contoso", "203.0.113.10:443", "10.1.1.11:443")}}
	before := dump(f)
	_, err := f.Apply(append(gone, Change{Put: heir}))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "10.1.1.11 is outside VSID 5001 (10.7.1.0/24)") {
		t.Errorf("a record that fits no more: %v", err)
	}
	if got := dump(f); got != before {
		t.Errorf("refused, it left\n%s\nof\n%s", got, before)
	}
	heir.Subnets[0].Prefixes[0].Prefix = prefix("10.1.1.0/25")
	if _, err := f.Apply(append(gone, Change{Put: heir})); err != nil {
		t.Error(err)
	}
	if rs := f.TenantRecords(heir.Name); len(rs) != 1 {
		t.Errorf("the heir has records %v", rs)
	}
}

func TestCascade(t *testing.T) {
	f := base(t)
	cs, err := f.Cascade(must(ParseName("contoso")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Apply(cs); err != nil {
		t.Fatal(err)
	}
	if len(f.List(KindRecord)) != 1 || len(f.List(KindTenant)) != 1 || len(f.List(KindNATMapping)) != 0 {
		t.Errorf("left after cascade: %s", dump(f))
	}
}

// Random sets of changes, half of them undone: the state must be what a fabric
// fed only the kept ones has.
func TestApplyUndoRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	f := base(t)
	kept, seen := 0, map[Kind]int{}
	seen[KindCustomerRoute] = 1 // none in this test
	for range 3000 {
		var cs []Change
		for range 1 + rng.IntN(4) {
			cs = append(cs, randomChange(rng))
		}
		before := dump(f)
		undo, err := f.Apply(cs)
		switch {
		case err != nil:
			if dump(f) != before {
				t.Fatalf("refused (%v) but changed:\n%s\nto\n%s", err, before, dump(f))
			}
		case rng.IntN(2) == 0:
			undo()
			if dump(f) != before {
				t.Fatalf("undo of %+v left\n%s\nwanted\n%s", cs, dump(f), before)
			}
		default:
			kept++
			if err := sound(f); err != nil {
				t.Fatalf("after %+v: %v", cs, err)
			}
		}
		derived(t, f)
		if t.Failed() {
			t.Fatalf("after %+v: %v", cs, err)
		}
		for _, k := range Kinds() {
			seen[k] = max(seen[k], len(f.List(k)))
		}
	}
	if kept < 200 {
		t.Fatalf("only %d sets were taken: the test says little", kept)
	}
	if slices.Contains(slices.Collect(maps.Values(seen)), 0) || seen[KindACL] < 3 {
		t.Errorf("the most of each kind was %v: the test says little", seen)
	}
}

// sound goes through everything, pair by pair, without any index.
func sound(f *Fabric) error {
	for _, o := range f.List(KindRecord) {
		r := o.(Record)
		if err := f.admitRecord(r, nil); err != nil {
			return err
		}
		for _, o := range f.List(KindRecord) {
			p := o.(Record)
			if p.Equal(r) {
				continue
			}
			if r.Rule == RuleRewrite && slices.Contains(p.PAs(), r.PA) {
				return fmt.Errorf("%s shares its PA with %s", r.Key(), p.Key())
			}
			if bound := r.Type == L2Only || r.Type == Dynamic; bound && p.VSID == r.VSID && p.MAC == r.MAC {
				if !samePAs(p, r) || (r.Type == L2Only || p.Type == L2Only) && p.Rule != r.Rule {
					return fmt.Errorf("%s is elsewhere than %s", r.Key(), p.Key())
				}
			}
		}
	}
	for _, t := range f.Tenants() {
		if err := f.admitTenant(t); err != nil {
			return err
		}
		for _, s := range t.Subnets {
			if _, ok := f.ACL(t.Name, s.ACL); !ok && s.ACL.IsValid() {
				return fmt.Errorf("VSID %s names ACL %s", s.VSID, s.ACL)
			}
		}
	}
	ports := map[netip.AddrPort]string{}
	for _, o := range f.List(KindS2SConnection) {
		c := o.(S2SConnection)
		at, ok := f.ListenAt(c)
		end := netip.AddrPortFrom(at.Addr, c.ListenPort)
		if !ok || ports[end] != "" || c.ListenPort == 0 {
			return fmt.Errorf("%s listens at %s, as %q", c.Key(), end, ports[end])
		}
		ports[end] = c.Key()
	}
	for _, o := range f.List(KindBGPPeer) {
		if _, ok := f.BGPRouter(o.(BGPPeer).Tenant); !ok {
			return fmt.Errorf("BGP peer %s has no router", o.Key())
		}
	}
	addrs := map[netip.Addr]Name{}
	for _, t := range f.Tenants() {
		for a := range f.routedAddrs(t.Name) {
			if other, taken := addrs[a]; taken {
				return fmt.Errorf("%s is %s's and %s's", a, t.Name, other)
			}
			addrs[a] = t.Name
		}
	}
	for _, p := range f.Ports() {
		if err := f.admitPort(p); err != nil {
			return err
		}
	}
	for _, a := range f.ACLs() {
		if err := errors.Join(a.Check(), f.admitACL(a)); err != nil {
			return err
		}
	}
	return nil
}

func randomChange(rng *rand.Rand) Change {
	v := []uint32{5001, 5002, 6001, 6002, 7001}[rng.IntN(5)]
	var o Object
	name := []string{"contoso", "fabrikam", "northwind"}[rng.IntN(3)]
	web := []Name{{}, must(ParseName("web")), must(ParseName("db"))}[rng.IntN(3)]
	switch rng.IntN(13) {
	case 0:
		x := tenant(name, map[string]uint32{"contoso": 5001, "fabrikam": 6001, "northwind": 7001}[name],
			map[string]string{"contoso": "203.0.113.10", "fabrikam": "203.0.113.20", "northwind": "203.0.113.30"}[name])
		x.Subnets[0].ACL = web
		if rng.IntN(2) == 0 {
			x.Subnets[1].MulticastGroup = addr(fmt.Sprintf("239.1.1.%d", rng.IntN(2)))
		}
		o = x
	case 1:
		o = mapping([]string{"contoso", "fabrikam"}[rng.IntN(2)], fmt.Sprintf("203.0.113.%d:%d", 10+10*rng.IntN(2), 80+rng.IntN(3)), "10.1.1.11:80")
	case 2:
		o = Port{Interface: fmt.Sprintf("tap%d", rng.IntN(3)), VSID: vsid(v), MAC: stationMAC(byte(rng.IntN(3))), ACL: web}
	case 3:
		o = ProviderRoute{Prefix: prefix("172.16.0.0/12"), NextHop: addr("192.168.1.254")}
	case 4, 5:
		o = acl(name, []string{"web", "db"}[rng.IntN(2)], fmt.Sprintf("%d inbound allow tcp * *@80", 1+rng.IntN(3)))
	case 6:
		r := record(v, fmt.Sprintf("10.1.%d.%d", 1+rng.IntN(2), 20+rng.IntN(2)), fmt.Sprintf("192.168.1.%d", 11+rng.IntN(4)))
		o = at(r, mac(byte(rng.IntN(2))), as([]RecordType{Dynamic, L2Only, Static}[rng.IntN(3)]), by([]Rule{RuleNVGRE, RuleNVGRE, RuleRewrite}[rng.IntN(3)]))
	case 9:
		o = attachment(name, []string{"dc", "lab"}[rng.IntN(2)], fmt.Sprintf("198.51.100.%d/32", rng.IntN(4)))
	case 10:
		o = connection(name, []string{"hq", "branch"}[rng.IntN(2)], byte(1+rng.IntN(3)), byte(1+rng.IntN(3)))
	case 11:
		o = BGPRouter{Tenant: must(ParseName(name)), ASN: uint32(64512 + rng.IntN(2))}
	case 12:
		o = bgpPeer(name, []string{"r1", "r2"}[rng.IntN(2)], fmt.Sprintf("169.254.0.%d", 1+rng.IntN(3)), uint32(64512+rng.IntN(2)))
	default:
		o = record(v, fmt.Sprintf("10.1.%d.%d", 1+rng.IntN(2), 10+rng.IntN(4)), []string{"192.168.1.11", "172.16.0.1"}[rng.IntN(2)])
	}
	if rng.IntN(3) == 0 {
		return Change{Delete: o}
	}
	return Change{Put: o, Create: rng.IntN(4) == 0}
}

package control

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// hosted is a tenant of which this machine is not the gateway.
func hosted(name string, base uint32) hnv.Tenant {
	t := theTenant(name, base, "203.0.113.10")
	t.Gateway = nil
	return t
}

func thePort(ifname string, v uint32) hnv.Port {
	return hnv.Port{Interface: ifname, VSID: vsid(v), MAC: must(hnv.ParseMAC("00:15:5d:00:00:01"))}
}

func quiet(o *Options) { o.DriftInterval = time.Hour }

// A host has the tables of the tenants whose ports it has and of no other: from
// before the first is plugged in until after the last is out.
func TestHostedTenantsComeAndGo(t *testing.T) {
	m, e := newMemory(t), newEngines()
	contoso, fabrikam := hosted("contoso", 5001), hosted("fabrikam", 6001)
	m.change(put(theAddress), put(contoso), put(fabrikam),
		put(theRecord(5001, "10.1.1.11", "192.168.1.11")), put(theRecord(6001, "10.1.1.11", "192.168.1.11")))
	c := startWith(t, m, e, quiet)
	eventually(t, "both ready", func() bool { return ready(c, "contoso")() && ready(c, "fabrikam")() })
	s, _ := c.TenantStatus(t.Context(), contoso.Name)
	if len(s.Conditions) != 1 || s.Conditions[0].Reason != "NotHere" || s.Records != 1 {
		t.Errorf("status of a tenant that is not here: %+v", s)
	}
	reason := func() string {
		s, _ := c.TenantStatus(t.Context(), contoso.Name)
		return s.Conditions[0].Reason
	}
	calm(t, c)
	for round := range 20 {
		if got := e.took(); len(got) > 0 {
			t.Fatalf("round %d begins with %q", round, got)
		}
		m.change(put(thePort("tap1", 5001)))
		eventually(t, "the first port", func() bool { return e.has("vm/tap1") })
		eventually(t, "told", func() bool { return reason() == "Applied" })
		calm(t, c)
		built := e.applied("contoso")
		m.change(put(thePort("tap2", 5002)))
		eventually(t, "the second port", func() bool { return e.has("vm/tap2") })
		if e.applied("contoso") != built {
			t.Fatal("a second port makes the tables be built anew")
		}
		m.change(hnv.Change{Delete: thePort("tap1", 5001)})
		eventually(t, "the first is out", func() bool { return !e.has("vm/tap1") })
		if !e.loaded(contoso) {
			t.Fatal("the tables are gone before the last port is")
		}
		m.change(hnv.Change{Delete: thePort("tap2", 5002)})
		eventually(t, "all gone", func() bool { return !e.has("vm/tap2") && !e.loaded(contoso) })
		eventually(t, "told", func() bool { return reason() == "NotHere" })
		got := slices.Compact(e.took())
		if want := []string{"tables of contoso", "plug vm/tap1", "plug vm/tap2", "unplug vm/tap1", "unplug vm/tap2", "no tables of contoso"}; !slices.Equal(got, want) {
			t.Fatalf("round %d: %q", round, got)
		}
	}
	if e.applied("fabrikam") > 0 {
		t.Error("the tables of a tenant without a port were loaded")
	}
}

// Before a port is plugged in, its tenant's tables are there; where they are
// refused, it is not plugged in.
func TestTablesComeBeforeThePort(t *testing.T) {
	m, e := newMemory(t), newEngines()
	contoso := hosted("contoso", 5001)
	e.fail["dataplane contoso"] = errBroken
	m.change(put(theAddress), put(contoso), put(thePort("tap1", 5001)))
	c := start(t, m, e)
	eventually(t, "tried", func() bool { return e.applied("contoso") > 3 })
	eventually(t, "pending with the reason", func() bool {
		l := c.ports.list()
		return len(l) == 1 && l[0].Phase == v1.PhasePending && l[0].Message == "tenant contoso: "+errBroken.Error()
	})
	if e.has("vm/tap1") {
		t.Error("plugged in without tables")
	}
	e.set("dataplane contoso", nil)
	eventually(t, "plugged in", func() bool { return e.has("vm/tap1") })
	if got := e.took(); got[0] != "tables of contoso" {
		t.Errorf("the order was %q", got)
	}
}

// A port that changes sides takes one tenant's tables away and brings another's.
func TestPortChangesSides(t *testing.T) {
	m, e := newMemory(t), newEngines()
	contoso, fabrikam := hosted("contoso", 5001), hosted("fabrikam", 6001)
	m.change(put(theAddress), put(contoso), put(fabrikam), put(thePort("tap1", 5001)))
	c := startWith(t, m, e, quiet)
	eventually(t, "contoso's", func() bool { return e.has("vm/tap1") && e.loaded(contoso) && !e.loaded(fabrikam) })
	calm(t, c)
	e.took()
	m.change(put(thePort("tap1", 6001)))
	eventually(t, "fabrikam's", func() bool { return e.loaded(fabrikam) && !e.loaded(contoso) })
	if got, want := e.took(), []string{"tables of fabrikam", "plug vm/tap1", "no tables of contoso"}; !slices.Equal(slices.Compact(got), want) {
		t.Errorf("the order was %q", got)
	}
}

// Learning and rewriting need the tables where no port is plugged in yet.
func TestSpecialRecordsBringATenant(t *testing.T) {
	m, e := newMemory(t), newEngines()
	contoso := hosted("contoso", 5001)
	m.change(put(theAddress), put(contoso), put(hosted("fabrikam", 6001)))
	c := startWith(t, m, e, quiet)
	eventually(t, "ready", ready(c, "contoso"))
	l2 := theRecord(5001, "10.1.1.11", "192.168.1.1")
	l2.CA, l2.Type = netip.Addr{}, hnv.L2Only
	rewritten := theRecord(5001, "10.1.1.12", "192.168.1.1")
	rewritten.Rule = hnv.RuleRewrite
	for name, r := range map[string]hnv.Record{"L2Only": l2, "rewritten": rewritten} {
		elsewhere := r
		elsewhere.PA = netip.MustParseAddr("192.168.1.9")
		m.change(put(elsewhere))
		eventually(t, "handled", ready(c, "contoso"))
		if e.loaded(contoso) {
			t.Errorf("%s: a record at another host brought the tables", name)
		}
		m.change(put(r))
		eventually(t, name+" is here", func() bool { return e.loaded(contoso) })
		m.change(hnv.Change{Delete: r})
		eventually(t, name+" is gone", func() bool { return !e.loaded(contoso) })
	}
	if e.applied("fabrikam") > 0 {
		t.Error("the other tenant was loaded")
	}
}

// Everything that is said of a tenant reaches the dataplane, and nothing of one
// with the same names and addresses.
func TestTablesSayEverything(t *testing.T) {
	m, e := newMemory(t), newEngines()
	web := must(hnv.ParseName("web"))
	acl := func(tenant string, port uint16) hnv.ACL {
		return hnv.ACL{Tenant: must(hnv.ParseName(tenant)), Name: web, Rules: []hnv.ACLRule{{
			Priority: 100, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: port, Hi: port}},
		}}}
	}
	contoso := hosted("contoso", 5001)
	contoso.QoS = &hnv.QoS{InKbps: 1000, OutKbps: 2000, DSCP: hnv.CopyDSCP}
	contoso.StormPPS = 77
	contoso.Subnets[0].ACL = web
	contoso.Subnets[0].Learning = &hnv.Learning{MaxPerPort: 3}
	contoso.Subnets[0].MulticastGroup = netip.MustParseAddr("239.1.1.1")
	contoso.Subnets[0].DHCP = netip.MustParseAddr("10.1.1.5")
	fabrikam := hosted("fabrikam", 6001)
	port := thePort("tap1", 5001)
	port.ACL, port.InKbps, port.OutKbps = web, 10, 20
	record := theRecord(5001, "10.1.1.11", "192.168.1.11")
	record.TeamPAs = []netip.Addr{netip.MustParseAddr("192.168.1.12")}
	m.change(put(theAddress), put(contoso), put(fabrikam), put(acl("contoso", 443)), put(acl("fabrikam", 80)), put(record), put(port), put(thePort("tap2", 6001)))
	c := startWith(t, m, e, quiet)
	eventually(t, "plugged in", func() bool { return e.has("vm/tap1") && e.has("vm/tap2") })
	calm(t, c)
	e.mu.Lock()
	got, spec, other := e.tables[contoso.RDID], e.specs["vm/tap1"], e.tables[fabrikam.RDID]
	e.mu.Unlock()
	stored, _ := m.f.Tenant(contoso.Name)
	if !reflect.DeepEqual(got.QoS, contoso.QoS) || got.StormPPS != 77 || !reflect.DeepEqual(got.Subnets, stored.Subnets) ||
		!reflect.DeepEqual(got.ACLs, []hnv.ACL{acl("contoso", 443)}) || !reflect.DeepEqual(got.Records, []hnv.Record{record}) {
		t.Errorf("the dataplane has %+v", got)
	}
	if spec.ACL != web || spec.InKbps != 10 || spec.OutKbps != 20 || spec.RDID != contoso.RDID || spec.MTU != 1458 {
		t.Errorf("the port is %+v", spec)
	}
	if !reflect.DeepEqual(other.ACLs, []hnv.ACL{acl("fabrikam", 80)}) || other.QoS != nil || other.Subnets[0].ACL.IsValid() {
		t.Errorf("the other tenant has %+v", other)
	}
	// What changes later is told too, of the one whose it is.
	before := e.applied("fabrikam")
	m.change(put(acl("contoso", 8443)))
	eventually(t, "the ACL changed", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.tables[contoso.RDID].ACLs[0].Rules[0].DstPorts[0].Lo == 8443
	})
	if e.applied("fabrikam") != before {
		t.Error("the other tenant's tables were built anew")
	}
}

// Tables are built when something of the tenant changed, and neither by time
// going by nor by what happens to others: flows are decided anew each time.
func TestTablesAreBuiltOnlyWhenTheyChange(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")))
	c := start(t, m, e) // it looks for drift every 20 ms
	eventually(t, "both ready", func() bool { return ready(c, "contoso")() && ready(c, "fabrikam")() })
	calm(t, c)
	looks := func() int {
		return len(slices.DeleteFunc(e.of("contoso"), func(s string) bool { return s != "compartment" }))
	}
	n, before := looks(), e.applied("contoso")
	for i := range 5 {
		m.change(put(theRecord(6001, fmt.Sprintf("10.1.1.%d", 20+i), "192.168.1.11")), put(theRecord(5001, fmt.Sprintf("10.1.1.%d", 20+i), "192.168.1.11")))
		m.change(put(hnv.NATMapping{Tenant: must(hnv.ParseName("fabrikam")), Proto: hnv.TCP,
			External: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.20"), uint16(100+i)), Internal: netip.MustParseAddrPort("10.1.1.11:443")}))
	}
	eventually(t, "looked again", func() bool { return looks() > n+3 })
	if got := e.applied("contoso"); got != before {
		t.Errorf("contoso's tables were built %d times more", got-before)
	}
	rdid := theTenant("contoso", 5001, "203.0.113.10").RDID
	eventually(t, "records came the short way", func() bool { return e.pa(rdid, 5001, "10.1.1.24") == "192.168.1.11" })
}

// What a host is told lets it reach its VMs' neighbours and the compartments, and
// names nobody else.
func TestHostObjects(t *testing.T) {
	m := newMemory(t)
	dual := theTenant("fabrikam", 6001, "203.0.113.20")
	dual.Subnets[2].Prefixes = append(dual.Subnets[2].Prefixes, hnv.SubnetPrefix{Prefix: netip.MustParsePrefix("fd00:254::/64")})
	dual.Encap = hnv.VXLAN
	web := hnv.ACL{Name: must(hnv.ParseName("web"))}
	contosos, fabrikams := web, web
	contosos.Tenant, fabrikams.Tenant = must(hnv.ParseName("contoso")), dual.Name
	northwind := hosted("northwind", 7001)
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(dual), put(northwind), put(contosos), put(fabrikams),
		put(theRecord(5001, "10.1.1.11", "192.168.1.11")), put(theRecord(5001, "10.1.1.12", "192.168.1.12")),
		put(theRecord(6001, "10.1.1.11", "192.168.1.12")), put(theRecord(7001, "10.1.1.11", "192.168.1.13")),
		put(hnv.CustomerRoute{RDID: dual.RDID, VSID: vsid(6001), Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: netip.MustParseAddr("10.1.1.11")}))
	names := func(pas ...string) (out []string) {
		var as []netip.Addr
		for _, p := range pas {
			as = append(as, netip.MustParseAddr(p))
		}
		for _, o := range HostObjects(m.f, as) {
			out = append(out, string(o.Kind())+" "+o.Key())
		}
		return out
	}
	if got, want := names("192.168.1.11"), []string{
		"tenant contoso", "acl contoso/web", "record 5001/10.1.1.11", "record 5001/10.1.1.12", "record 5000/10.254.254.2",
		"customer-route 5000/0.0.0.0/0/10.254.254.2",
	}; !slices.Equal(got, want) {
		t.Errorf("the host of contoso alone is told\n%q, want\n%q", got, want)
	}
	if got, want := names("192.168.1.12"), []string{
		"tenant contoso", "tenant fabrikam", "acl contoso/web", "acl fabrikam/web",
		"record 5001/10.1.1.11", "record 5001/10.1.1.12", "record 6001/10.1.1.11",
		"record 5000/10.254.254.2", "record 6000/10.254.254.2", "record 6000/fd00:254::2",
		"customer-route 6001/172.16.0.0/12/10.1.1.11", "customer-route 5000/0.0.0.0/0/10.254.254.2",
		"customer-route 6000/0.0.0.0/0/10.254.254.2", "customer-route 6000/::/0/fd00:254::2",
	}; !slices.Equal(got, want) {
		t.Errorf("the host of both is told\n%q, want\n%q", got, want)
	}
	if got, want := names("192.168.1.13"), []string{"tenant northwind", "record 7001/10.1.1.11"}; !slices.Equal(got, want) {
		t.Errorf("the host of a tenant without gateway is told %q", got)
	}
	if got := names("192.168.1.77"); got != nil {
		t.Errorf("a host without VMs is told %q", got)
	}

	// The host takes it as its own configuration, and has the same tables.
	host := hnv.NewFabric(hnv.Site{PAInterfaces: []string{"pa0"}})
	changes := []hnv.Change{put(hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.12/24"), Interface: "pa0"})}
	for _, o := range HostObjects(m.f, []netip.Addr{netip.MustParseAddr("192.168.1.12")}) {
		changes = append(changes, put(o))
	}
	if _, err := host.Apply(changes); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"contoso", "fabrikam"} {
		here, _ := host.Tenant(must(hnv.ParseName(n)))
		there, _ := m.f.Tenant(here.Name)
		mine, theirs := tables(host, here, nil), tables(m.f, there, nil)
		if here.Gateway != nil || len(mine.Records) != len(theirs.Records) || len(mine.Routes) != len(theirs.Routes) || !reflect.DeepEqual(mine.Subnets, theirs.Subnets) {
			t.Errorf("%s: the host has\n%+v, the gateway\n%+v", n, mine, theirs)
		}
	}

	// Each host is told the gateway's address of its own family, if there is one.
	m.change(put(hnv.ProviderAddress{Addr: netip.MustParsePrefix("fd99::1/64"), Interface: "pa0"}),
		put(theRecord(5001, "10.1.1.13", "fd99::13")), put(theRecord(6001, "10.1.1.13", "fd99::13")))
	for host, want := range map[string]string{"fd99::13": "fd99::1", "192.168.1.12": "192.168.1.1"} {
		found := 0
		for _, o := range HostObjects(m.f, []netip.Addr{netip.MustParseAddr(host)}) {
			if r, ok := o.(hnv.Record); ok && (r.VSID == vsid(5000) || r.VSID == vsid(6000)) {
				found++
				if r.PA.String() != want {
					t.Errorf("%s is told that compartment %s is at %s, want %s", host, r.CA, r.PA, want)
				}
			}
		}
		if found != 3 {
			t.Errorf("%s is told of %d addresses of compartments, want 3", host, found)
		}
	}
}

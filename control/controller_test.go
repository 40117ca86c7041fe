package control

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

func ready(c *Controller, name string) func() bool {
	return func() bool {
		s, err := c.TenantStatus(context.Background(), must(hnv.ParseName(name)))
		return err == nil && s.Phase == v1.PhaseReady
	}
}

// What the engines are given for a gateway tenant, in full.
func TestDesired(t *testing.T) {
	m := newMemory(t)
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")),
		put(theRecord(5001, "10.1.1.11", "192.168.1.11")), put(theRecord(6001, "10.1.1.11", "192.168.1.12")),
		put(hnv.CustomerRoute{RDID: theTenant("x", 5001, "1.1.1.1").RDID, VSID: vsid(5001), Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: netip.MustParseAddr("10.1.1.11")}),
		put(hnv.NATMapping{Tenant: must(hnv.ParseName("contoso")), Proto: hnv.TCP, External: netip.MustParseAddrPort("203.0.113.10:443"), Internal: netip.MustParseAddrPort("10.1.1.11:443")}))
	d, ok := desired(m.f, must(hnv.ParseName("contoso")), machine{paMTU: 1500})
	if !ok {
		t.Fatal("no desired state")
	}
	contoso, _ := m.f.Tenant(must(hnv.ParseName("contoso")))
	tables := tables(m.f, contoso, nil)
	wantSpec := &compartments.Spec{
		Name: must(hnv.ParseName("contoso")), RDID: contoso.RDID, VSID: vsid(5000), MAC: must(hnv.ParseMAC("02:68:6e:00:13:88")), MTU: 1458,
		CAs: []netip.Prefix{netip.MustParsePrefix("10.254.254.2/29")},
		Routes: []compartments.Route{
			{Prefix: netip.MustParsePrefix("10.1.1.0/24"), Via: netip.MustParseAddr("10.254.254.1")},
			{Prefix: netip.MustParsePrefix("10.1.2.0/24"), Via: netip.MustParseAddr("10.254.254.1")},
			{Prefix: netip.MustParsePrefix("172.16.0.0/12"), Via: netip.MustParseAddr("10.254.254.1")},
		},
		Uplink: "internet", External: []hnv.ExternalRange{{Addr: netip.MustParseAddr("203.0.113.10")}},
	}
	if !reflect.DeepEqual(d.Compartment, wantSpec) {
		t.Errorf("compartment %+v\nwant        %+v", d.Compartment, wantSpec)
	}
	var recs []string
	for _, r := range tables.Records {
		recs = append(recs, fmt.Sprint(r.Key(), " ", r.MAC, " ", r.PA, " ", r.Rule))
	}
	if want := []string{"5001/10.1.1.11 00:15:5d:00:00:01 192.168.1.11 nvgre", "5000/10.254.254.2 02:68:6e:00:13:88 192.168.1.1 nvgre"}; !slices.Equal(recs, want) {
		t.Errorf("records %q, want %q: another tenant's, or none of the compartment", recs, want)
	}
	if !d.Here || d.Records != len(tables.Records) || d.RDID != contoso.RDID {
		t.Errorf("here %v with %d records, RDID %s", d.Here, d.Records, d.RDID)
	}
	if n := len(d.NAT.Mappings); n != 1 || d.NAT.Inside != "wnv5000" || d.NAT.InsideMTU != 1458 || len(d.NAT.InsidePrefixes) != 3 {
		t.Errorf("NAT %+v", d.NAT)
	}
	if d.Port.Kind != dataplane.PortCompartment || d.Port.VSID != vsid(5000) || d.Port.MAC != wantSpec.MAC {
		t.Errorf("port %+v", d.Port)
	}
	if r := tables.Routes[len(tables.Routes)-1]; r.Prefix.String() != "0.0.0.0/0" || r.Metric != derivedMetric {
		t.Errorf("no default route to the compartment: %+v", tables.Routes)
	}

	// With provider addresses of both families, there is room for the longer tunnel.
	m.change(put(hnv.ProviderAddress{Addr: netip.MustParsePrefix("fd99::1/64"), Interface: "pa0"}))
	d, _ = desired(m.f, contoso.Name, machine{paMTU: 1500})
	if d.Compartment.MTU != 1438 || d.Port.MTU != 1438 || d.NAT.InsideMTU != 1438 {
		t.Errorf("MTU %d, %d and %d, want 1438", d.Compartment.MTU, d.Port.MTU, d.NAT.InsideMTU)
	}
}

// Super-packets are cut in the compartment where the tunnels would not take them.
func TestWholePackets(t *testing.T) {
	for _, c := range []struct {
		encap hnv.Encap
		pa    string
		whole bool
	}{{hnv.NVGRE, "192.168.1.1/24", false}, {hnv.VXLAN, "192.168.1.1/24", false}, {hnv.NVGRE, "fd99::1/64", false}, {hnv.VXLAN, "fd99::1/64", true}} {
		m := newMemory(t)
		contoso := theTenant("contoso", 5001, "203.0.113.10")
		contoso.Encap = c.encap
		m.change(put(hnv.ProviderAddress{Addr: netip.MustParsePrefix(c.pa), Interface: "pa0"}), put(contoso))
		d, ok := desired(m.f, contoso.Name, machine{paMTU: 1500})
		if !ok || d.Compartment.Whole != c.whole {
			t.Errorf("%s at %s: whole is %v", c.encap, c.pa, !c.whole)
		}
	}
}

func TestBuildOrder(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	eventually(t, "contoso ready", ready(c, "contoso"))
	if got := e.of("contoso")[:3]; !slices.Equal(got, []string{"compartment", "nat", "dataplane"}) {
		t.Errorf("built in the order %v", got)
	}
	if !e.has("compartment/contoso") {
		t.Error("the compartment is not plugged in")
	}
}

// Where NAT cannot be put in place, no packet may get in.
func TestNATFailureKeepsThePortOut(t *testing.T) {
	m, e := newMemory(t), newEngines()
	e.fail["nat contoso"] = errBroken
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")))
	c := start(t, m, e)
	eventually(t, "fabrikam ready", ready(c, "fabrikam"))
	eventually(t, "several tries", func() bool { return len(e.of("contoso")) > 6 })
	if e.has("compartment/contoso") {
		t.Error("the port is in although NAT failed")
	}
	s, _ := c.TenantStatus(context.Background(), must(hnv.ParseName("contoso")))
	i := slices.IndexFunc(s.Conditions, func(c v1.Condition) bool { return c.Type == condNAT })
	if s.Phase != v1.PhaseError || i < 0 || s.Conditions[i].Status || !strings.Contains(s.Conditions[i].Message, "broken on purpose") {
		t.Errorf("status %+v", s)
	}
	e.set("nat contoso", nil)
	eventually(t, "contoso ready after all", ready(c, "contoso"))
	e.set("nat contoso", errBroken)
	eventually(t, "port pulled", func() bool { return !e.has("compartment/contoso") })
}

func TestOneStuckTenantHoldsNobody(t *testing.T) {
	m, e := newMemory(t), newEngines()
	gate := make(chan struct{})
	e.block["compartment contoso"] = gate
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")))
	c := start(t, m, e)
	t.Cleanup(func() { close(gate) })
	eventually(t, "fabrikam ready", ready(c, "fabrikam"))
	if ready(c, "contoso")() {
		t.Error("contoso is ready although its engine is stuck")
	}
}

// A record goes to the dataplane without the compartment being touched, and
// only to its own tenant.
func TestRecordsTakeTheShortWay(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")),
		put(theRecord(5001, "10.1.1.11", "192.168.1.11")), put(theRecord(6001, "10.1.1.11", "192.168.1.11")))
	c := startWith(t, m, e, func(o *Options) { o.DriftInterval = time.Hour })
	eventually(t, "both ready", func() bool { return ready(c, "contoso")() && ready(c, "fabrikam")() })
	rdid := func(n string) hnv.RDID { x, _ := m.f.Tenant(must(hnv.ParseName(n))); return x.RDID }
	a, b := rdid("contoso"), rdid("fabrikam")

	m.change(put(theRecord(5001, "10.1.1.11", "192.168.1.99")))
	eventually(t, "contoso's record moved", func() bool { return e.pa(a, 5001, "10.1.1.11") == "192.168.1.99" })
	if got := e.pa(b, 6001, "10.1.1.11"); got != "192.168.1.11" {
		t.Errorf("fabrikam's record moved too, to %s", got)
	}
	m.change(hnv.Change{Delete: theRecord(5001, "10.1.1.11", "192.168.1.99")})
	eventually(t, "contoso's record gone", func() bool { return e.pa(a, 5001, "10.1.1.11") == "" })
	if !slices.Contains(e.of("contoso"), "records") {
		t.Errorf("calls %v", e.of("contoso"))
	}
}

func TestDeleteAndComeBack(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	eventually(t, "ready", ready(c, "contoso"))
	old, _ := m.f.Tenant(must(hnv.ParseName("contoso")))

	e.set("delete compartment contoso", errBroken)
	m.change(hnv.Change{Delete: old})
	eventually(t, "deletion tried again and again", func() bool {
		n := 0
		for _, c := range e.of("contoso") {
			if c == "delete compartment" {
				n++
			}
		}
		return n > 3
	})
	if e.has("compartment/contoso") || e.domains() != 0 {
		t.Error("a tenant whose compartment cannot be deleted still has its port or tables")
	}
	e.set("delete compartment contoso", nil)
	eventually(t, "forgotten", func() bool { return c.find(old.Name) == nil })

	again := theTenant("contoso", 5001, "203.0.113.10")
	again.RDID = hnv.NewRDID()
	m.change(put(again))
	eventually(t, "ready again", ready(c, "contoso"))
	if e.loaded(old) {
		t.Error("the old routing domain is still in the dataplane")
	}
}

func TestDriftIsReported(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	eventually(t, "ready", ready(c, "contoso"))
	status := func() v1.TenantStatus {
		s, _ := c.TenantStatus(context.Background(), must(hnv.ParseName("contoso")))
		return s
	}
	if status().Repairs != 0 {
		t.Error("building counts as drift")
	}
	e.mu.Lock()
	e.drift["contoso"] = []string{"address 10.254.254.2/29 was missing"}
	e.mu.Unlock()
	eventually(t, "repair reported", func() bool {
		s := status()
		return s.Repairs == 1 && s.LastRepair.What[0] == "address 10.254.254.2/29 was missing"
	})
	eventually(t, "ready again", ready(c, "contoso"))
}

// What the operator adds is no drift; what somebody took away is.
func TestProviderDriftIsReported(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress))
	c := start(t, m, e)
	allReady := func() bool { return c.Status(nil).Phase == v1.PhaseReady }
	eventually(t, "ready", allReady)
	m.change(put(hnv.ProviderRoute{Prefix: netip.MustParsePrefix("192.168.0.0/16"), NextHop: netip.MustParseAddr("192.168.1.254")}))
	eventually(t, "ready again", allReady)
	routed := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.routes) == 1
	}
	if !routed() || e.logged("repaired drift") {
		t.Error("a new route is missing, or called drift")
	}
	e.mu.Lock()
	e.routes = nil
	e.mu.Unlock()
	eventually(t, "the route is back", routed)
	eventually(t, "and told", func() bool { return e.logged("repaired drift of the provider side") })
}

func TestWithoutProviderAddress(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	pending := func() bool {
		s, _ := c.TenantStatus(context.Background(), must(hnv.ParseName("contoso")))
		return s.Phase == v1.PhasePending && len(s.Conditions) > 1 && strings.Contains(fmt.Sprint(s.Conditions), "provider-address add")
	}
	eventually(t, "pending, with what to do", pending)
	m.change(put(theAddress))
	eventually(t, "ready", ready(c, "contoso"))
}

func TestPorts(t *testing.T) {
	m, e := newMemory(t), newEngines()
	hosted := theTenant("contoso", 5001, "203.0.113.10")
	hosted.Gateway = nil
	e.fail["port tap1"] = errBroken
	m.change(put(theAddress), put(hosted), put(hnv.Port{Interface: "tap1", VSID: vsid(5001), MAC: must(hnv.ParseMAC("00:15:5d:00:00:01"))}))
	c := start(t, m, e)
	eventually(t, "pending with the reason", func() bool {
		l := c.ports.list()
		return len(l) == 1 && l[0].Phase == v1.PhasePending && strings.Contains(l[0].Message, "broken")
	})
	e.set("port tap1", nil)
	eventually(t, "plugged in", func() bool { return e.has("vm/tap1") })
	m.change(hnv.Change{Delete: hnv.Port{Interface: "tap1"}})
	eventually(t, "unplugged", func() bool { return !e.has("vm/tap1") })
	if slices.Contains(e.of("contoso"), "compartment") {
		t.Error("a tenant that is only hosted got a compartment")
	}
}

// The gateway is ready only when what was written last has taken effect.
func TestStatusWaitsForWhatWasWritten(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	eventually(t, "all ready", func() bool { return c.Status(nil).Phase == v1.PhaseReady })
	if d := c.Status(nil).GatewayDrops; !slices.Equal(d, []v1.Drop{{Reason: "spoofed", Packets: 3}}) {
		t.Errorf("the gateway's drops are %v, want the spoofed ones only", d)
	}
	gate := make(chan struct{})
	e.mu.Lock()
	e.block["nat contoso"] = gate
	e.mu.Unlock()
	m.change(put(hnv.NATMapping{Tenant: must(hnv.ParseName("contoso")), Proto: hnv.TCP, External: netip.MustParseAddrPort("203.0.113.10:443"), Internal: netip.MustParseAddrPort("10.1.1.11:443")}))
	if p := c.Status(nil).Phase; p != v1.PhasePending {
		t.Errorf("phase %s right after a change, want Pending", p)
	}
	close(gate)
	eventually(t, "ready again", func() bool { return c.Status(nil).Phase == v1.PhaseReady })
}

// What was written is not missed where it is passed on while the status is put together.
func TestStatusSeesWhatIsPassedOnMeanwhile(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	eventually(t, "all ready", func() bool { return c.Status(nil).Phase == v1.PhaseReady })
	m.hold.Lock()
	gate := make(chan struct{})
	e.mu.Lock()
	e.block["nat contoso"] = gate
	e.asked = sync.OnceFunc(func() { // the tenant's phase has been read
		m.hold.Unlock()
		eventually(t, "passed on", func() bool { return c.handled.Load() == m.Revision() })
	})
	e.mu.Unlock()
	m.change(put(hnv.NATMapping{Tenant: must(hnv.ParseName("contoso")), Proto: hnv.TCP, External: netip.MustParseAddrPort("203.0.113.10:443"), Internal: netip.MustParseAddrPort("10.1.1.11:443")}))
	if p := c.Status(nil).Phase; p != v1.PhasePending {
		t.Errorf("phase %s of what was written before, want Pending", p)
	}
	close(gate)
}

// A compartment is listed from the moment that it is wanted.
func TestCompartmentsAreListedBeforeTheyAreBuilt(t *testing.T) {
	m, e := newMemory(t), newEngines()
	gate := make(chan struct{})
	e.block["compartment contoso"] = gate
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")))
	c := start(t, m, e)
	if l := c.Compartments(); len(l) != 1 || l[0].Phase != v1.PhasePending || l[0].Interface != "wnv5000" || l[0].MTU != 1458 {
		t.Errorf("compartments %+v, want contoso's pending", l)
	}
	close(gate)
	eventually(t, "ready", func() bool {
		l := c.Compartments()
		return len(l) == 1 && l[0].Phase == v1.PhaseReady && l[0].Namespace == "hnv-contoso" && l[0].CAs[0] == "10.254.254.2/29"
	})
	e.set("nat contoso", errBroken)
	eventually(t, "in error, with the reason", func() bool {
		l := c.Compartments()
		return l[0].Phase == v1.PhaseError && strings.Contains(l[0].Message, "broken on purpose")
	})
}

// What a NAT counts is read for the one tenant that is asked about, from its own
// compartment.
func TestNATIsReadForOneTenant(t *testing.T) {
	m, e := newMemory(t), newEngines()
	plain := theTenant("plain", 7001, "203.0.113.30")
	plain.Gateway.NAT = nil
	m.change(put(theAddress), put(theTenant("contoso", 5001, "203.0.113.10")), put(theTenant("fabrikam", 6001, "203.0.113.20")), put(plain))
	c := start(t, m, e)
	eventually(t, "all ready", func() bool { return c.Status(nil).Phase == v1.PhaseReady })
	of := func(name string) *v1.NATStatus {
		t.Helper()
		s, err := c.TenantStatus(t.Context(), must(hnv.ParseName(name)))
		if err != nil {
			t.Fatal(err)
		}
		return s.NAT
	}
	for _, s := range c.Status(nil).Tenants {
		if s.NAT != nil {
			t.Errorf("the status of all has the NAT of %s", s.Name)
		}
	}
	for _, name := range []string{"contoso", "fabrikam"} {
		ns := "/run/netns/hnv-" + name
		if slices.Contains(e.of(ns), "snapshot") {
			t.Errorf("the NAT of %s was read for the status of all", name)
		}
		want := &v1.NATStatus{Connections: 3, Drops: []v1.Drop{{Reason: "invalid", Packets: 1}, {Reason: "not-syn", Packets: uint64(len(ns))}},
			Offload: "kernel", OffloadReason: "there is no fast path at the uplinks"}
		if got := of(name); !reflect.DeepEqual(got, want) {
			t.Errorf("NAT of %s: %+v, want %+v", name, got, want)
		}
	}
	if got := of("plain"); got != nil {
		t.Errorf("a tenant without NAT has %+v", got)
	}
	e.set("snapshot /run/netns/hnv-contoso", errBroken)
	if got := of("contoso"); got != nil {
		t.Errorf("NAT that cannot be read: %+v", got)
	}
}

// A store that cannot be read is told, since when, and passes.
func TestStoreCondition(t *testing.T) {
	m, e := newMemory(t), newEngines()
	m.change(put(theAddress))
	c := start(t, m, e)
	store := func() v1.Condition {
		for _, x := range c.Status(nil).Conditions {
			if x.Type == condStore {
				return x
			}
		}
		t.Fatal("no condition of the store")
		return v1.Condition{}
	}
	eventually(t, "ready", func() bool { return c.Status(nil).Phase == v1.PhaseReady })
	good := store()
	if !good.Status || good.Since.IsZero() {
		t.Errorf("in health: %+v", good)
	}
	m.fallSick(errBroken)
	bad := store()
	if bad.Status || !strings.Contains(bad.Message, errBroken.Error()) || !bad.Since.After(good.Since) {
		t.Errorf("broken: %+v", bad)
	}
	if p := c.Status(nil).Phase; p != v1.PhaseDegraded {
		t.Errorf("phase %s with traffic flowing, want Degraded", p)
	}
	if again := store(); again != bad {
		t.Errorf("unchanged, but %+v after %+v", again, bad)
	}
	m.fallSick(nil)
	if x := store(); !x.Status || x.Message != "" || !x.Since.After(bad.Since) {
		t.Errorf("back in health: %+v", x)
	}
	// It is noticed when nobody asks, too.
	m.fallSick(errBroken)
	eventually(t, "noticed", func() bool {
		c.health.mu.Lock()
		defer c.health.mu.Unlock()
		return !c.health.cond.Status
	})
}

// Two tenants that swap their VSIDs stand in each other's way in the dataplane,
// here the real one, until one of them lets go.
func TestSwappedSubnets(t *testing.T) {
	m, e := newMemory(t), newEngines()
	a, b := theTenant("contoso", 5001, "203.0.113.10"), theTenant("fabrikam", 6001, "203.0.113.20")
	a.Gateway, b.Gateway = nil, nil
	station := must(hnv.ParseMAC("00:15:5d:00:00:01"))
	m.change(put(theAddress), put(a), put(b), put(hnv.Port{Interface: "tap1", VSID: vsid(5001), MAC: station}), put(hnv.Port{Interface: "tap2", VSID: vsid(6001), MAC: station}))
	sw := dataplane.New(dataplane.Options{})
	c := startWith(t, m, e, func(o *Options) { o.Dataplane = sw })
	eventually(t, "both ready", func() bool { return ready(c, "contoso")() && ready(c, "fabrikam")() })
	a.Subnets, b.Subnets = b.Subnets, a.Subnets
	m.change(put(a), put(b))
	eventually(t, "swapped", func() bool {
		n := 0
		for _, x := range sw.Snapshot().Tenants {
			if x.Name == a.Name && slices.Contains(x.VSIDs, 6001) || x.Name == b.Name && slices.Contains(x.VSIDs, 5001) {
				n++
			}
		}
		return n == 2 && ready(c, "contoso")() && ready(c, "fabrikam")()
	})
}

package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// follower notes what it is told, and how things stood then.
type follower struct {
	sw       *Switch
	tenants  []TenantView
	ports    []PortView
	provider []Provider
	counters []TenantCounters
}

func (f *follower) TenantChanged(rdid hnv.RDID) {
	v, _ := f.sw.View(rdid)
	f.tenants = append(f.tenants, v)
}
func (f *follower) PortChanged(id PortID) {
	v, _ := f.sw.PortView(id)
	f.ports = append(f.ports, v)
}
func (f *follower) ProviderChanged()           { f.provider = append(f.provider, f.sw.ProviderView()) }
func (f *follower) Counters() []TenantCounters { return f.counters }

// A follower is told of every change when it can be seen, and of no other.
func TestFollowerSeesEachChange(t *testing.T) {
	l := newLab(t)
	h := l.addHost(paGate)
	f := &follower{sw: h.sw}
	h.sw.Follow(f)
	c := tenantConfig("contoso", 5000, hnv.NVGRE)
	c.QoS = &hnv.QoS{DSCP: "46"}
	if err := h.sw.Apply(c); err != nil {
		t.Fatal(err)
	}
	gw := h.plug(5000, hnv.CompartmentMAC(mustVSID(5000)), PortCompartment)
	moved := c.Records[2]
	moved.PA = ip(paHost2)
	if err := h.sw.UpdateRecords(c.RDID, []hnv.Record{moved}, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.sw.UpdateRecords(c.RDID, []hnv.Record{{}}, nil); err == nil {
		t.Fatal("an empty record was taken")
	}
	h.sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paGate), ip("fd00::1")}, MTU: 9000})
	if err := h.sw.SetPort(gw.id, hnv.Name{}, 0, 1000); err != nil {
		t.Fatal(err)
	}
	h.sw.Remove(c.RDID)

	if len(f.tenants) != 3 || f.tenants[0].DSCP != 46 || f.tenants[0].CopyDSCP || f.tenants[0].Domain.Records() != len(c.Records) ||
		f.tenants[1].Domain.Record(5001, moved.CA).PA != lookup.AddrFrom(moved.PA) || f.tenants[2].Domain != nil {
		t.Errorf("told of tenants %+v", f.tenants)
	}
	if len(f.provider) != 1 || f.provider[0].MTU != 9000 {
		t.Errorf("told of %+v", f.provider)
	}
	if len(f.ports) != 1 || f.ports[0].Rates.Out.Rate() != 1e6 || f.ports[0].Rates.In != nil || f.ports[0].Spec.MAC != gw.mac {
		t.Errorf("told of ports %+v", f.ports)
	}
	if h.sw.SourcePA(false) != lookup.AddrFrom(ip(paGate)) || h.sw.SourcePA(true) != lookup.AddrFrom(ip("fd00::1")) {
		t.Errorf("sources %s and %s", h.sw.SourcePA(false), h.sw.SourcePA(true))
	}
	if _, ok := h.sw.PortView(99); ok {
		t.Error("there is a port that was never added")
	}
}

func TestFollowerLearnsOfLayers(t *testing.T) {
	l := newLab(t)
	h := l.addHost(paGate)
	c := tenantConfig("contoso", 5000, hnv.NVGRE)
	c.ACLs = []hnv.ACL{{Tenant: c.Name, Name: mustName("web"), Rules: []hnv.ACLRule{{Priority: 1, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "any"}}}}
	if err := h.sw.Apply(c); err != nil {
		t.Fatal(err)
	}
	gw := h.plug(5000, hnv.CompartmentMAC(mustVSID(5000)), PortCompartment)
	view := func() string {
		v, ok := h.sw.PortView(gw.id)
		if !ok {
			t.Fatal("the port is not there")
		}
		return fmt.Sprint(v.Outbound, v.Inbound, v.Lists, v.Rates.Out.Rate(), v.Rates.In.Rate(), v.Rates.TenantOut.Rate(), v.Rates.TenantIn.Rate())
	}
	if got := view(); got != "false false false 0 0 0 0" {
		t.Errorf("a port without rules is said to have layers: %s", got)
	}
	for _, set := range []struct {
		acl                 string
		inKbps, outKbps     uint64
		tenantIn, tenantOut uint64
		layers              []vfp.Layer
		want                string
	}{
		{acl: "web", want: "false false true 0 0 0 0"},
		{inKbps: 1000, want: "false false false 0 1000000 0 0"},
		{outKbps: 1000, acl: "web", want: "false false true 1000000 0 0 0"},
		{tenantIn: 1, tenantOut: 2, want: "false false false 0 0 2000 1000"},
		{inKbps: 3, tenantIn: 4, layers: []vfp.Layer{{Name: "mine", Priority: 500}}, acl: "web", want: "true true false 0 3000 0 4000"},
		{want: "false false false 0 0 0 0"},
	} {
		c.QoS = &hnv.QoS{InKbps: set.tenantIn, OutKbps: set.tenantOut}
		if err := h.sw.Apply(c); err != nil {
			t.Fatal(err)
		}
		if err := h.sw.SetLayers(gw.id, set.layers); err != nil {
			t.Fatal(err)
		}
		var acl hnv.Name
		if set.acl != "" {
			acl = mustName(set.acl)
		}
		if err := h.sw.SetPort(gw.id, acl, set.inKbps, set.outKbps); err != nil {
			t.Fatal(err)
		}
		if got := view(); got != set.want {
			t.Errorf("%+v: %s", set, got)
		}
	}
}

func TestCountersOfAFollowerAreAdded(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h := l.hosts[0]
	h.inject(nvgre(5555, goodInner(5000)))
	h.inject(goodNVGRE())
	h.sw.Follow(&follower{sw: h.sw, counters: []TenantCounters{
		{DropsByReason: map[drop.Reason]uint64{drop.VSIDUnknown: 2}, LeftToStack: 1},
		{RDID: contoso.RDID, FromFabric: Traffic{10, 1000}, ToPorts: Traffic{9, 900}, DropsByReason: map[drop.Reason]uint64{drop.SourcePAMismatch: 1}},
	}})
	all := h.sw.Counters()
	if n := all[0].DropsByReason[drop.VSIDUnknown]; n != 3 || all[0].LeftToStack != 1 {
		t.Errorf("%d packets of no VSID, want 3; %d of them the stack's, want 1", n, all[0].LeftToStack)
	}
	i := slices.IndexFunc(all, func(c TenantCounters) bool { return c.RDID == contoso.RDID })
	if c := all[i]; c.FromFabric.Packets != 11 || c.FromFabric.Bytes != 1000+uint64(len(goodNVGRE())) || c.ToPorts.Packets != 10 || c.DropsByReason[drop.SourcePAMismatch] != 1 {
		t.Errorf("counters %+v", c)
	}
	h.sw.Follow(nil)
	if n := h.sw.Counters()[0].DropsByReason[drop.VSIDUnknown]; n != 1 {
		t.Errorf("%d packets of no VSID without the follower, want 1", n)
	}
}

// While a tenant is captured, and only then, workers must get all of its packets.
func TestFollowerLearnsOfCaptures(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h := l.hosts[0]
	f := &follower{sw: h.sw}
	h.sw.Follow(f)
	slow := func() (out []string) {
		for _, s := range []*site{contoso, fabrikam} {
			if v, _ := h.sw.View(s.RDID); v.Slow {
				out = append(out, s.Name.String())
			}
		}
		return out
	}
	for _, c := range []struct {
		filter capture.Filter
		want   []string
	}{
		{capture.Filter{Tenant: fabrikam.RDID}, []string{"fabrikam"}},
		{capture.Filter{VSID: mustVSID(5001)}, []string{"contoso"}},
		{capture.Filter{Tenant: fabrikam.RDID, VSID: mustVSID(5001)}, nil},
		{capture.Filter{CA: netip.MustParsePrefix("10.9.9.9/32")}, []string{"contoso", "fabrikam"}},
	} {
		f.tenants = nil
		h.captured(c.filter, func() {
			if got := slow(); !slices.Equal(got, c.want) {
				t.Errorf("%s: slow are %v, want %v", c.filter, got, c.want)
			}
		})
		if got := slow(); got != nil {
			t.Errorf("%s: slow afterwards: %v", c.filter, got)
		}
		if len(f.tenants) != 2*len(c.want) {
			t.Errorf("%s: told of %d changes, want each tenant's begin and end", c.filter, len(f.tenants))
		}
		for i, v := range f.tenants {
			if v.Slow != (i < len(c.want)) {
				t.Errorf("%s: change %d says slow: %v", c.filter, i, v.Slow)
			}
		}
	}
}

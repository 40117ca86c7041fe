package control

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/hnv"
)

// The provider side has what the tenants here need of it: of two with the same
// addresses, each's own.
func TestProviderSpec(t *testing.T) {
	m := newMemory(t)
	group := func(sub *hnv.Subnet, g string) { sub.MulticastGroup = netip.MustParseAddr(g) }
	contoso, fabrikam := theTenant("contoso", 5001, "203.0.113.10"), theTenant("fabrikam", 6001, "203.0.113.20")
	fabrikam.Gateway = nil
	group(&contoso.Subnets[0], "239.1.0.1") // no port there
	group(&contoso.Subnets[2], "239.1.0.0") // the compartment's
	group(&fabrikam.Subnets[0], "239.1.0.3")
	group(&fabrikam.Subnets[1], "239.1.0.4")
	mac := func(s string) hnv.MAC { return must(hnv.ParseMAC(s)) }
	rewrite := func(v uint32, ca, with, pa string) hnv.Record {
		r := theRecord(v, ca, pa)
		r.MAC, r.Rule = mac(with), hnv.RuleRewrite
		return r
	}
	m.change(put(theAddress), put(contoso), put(fabrikam),
		put(hnv.Port{Interface: "tap1", VSID: vsid(6001), MAC: mac("00:15:5d:00:00:01")}),
		put(hnv.Port{Interface: "tap2", VSID: vsid(6002), MAC: mac("00:15:5d:00:00:02")}),
		put(rewrite(6001, "10.1.1.11", "00:15:5d:00:00:01", "192.168.1.71")),
		put(rewrite(6001, "10.1.1.12", "00:15:5d:00:00:01", "192.168.1.70")), // a second CA of the VM
		put(rewrite(6001, "10.1.1.13", "00:15:5d:00:00:03", "192.168.1.72")), // elsewhere
		put(rewrite(5001, "10.1.1.11", "00:15:5d:00:00:01", "192.168.1.73")), // another tenant's of the same MAC
		put(theRecord(6002, "10.1.2.11", "192.168.1.1")))
	s := providerSpec(m.f)
	want := compartments.ProviderSpec{
		Addresses: []hnv.ProviderAddress{theAddress},
		VSIDs:     []hnv.VSID{vsid(5001), vsid(5002), vsid(5000), vsid(6001), vsid(6002), vsid(6000)},
		Rewrite: []compartments.RewriteAddress{
			{Addr: netip.MustParseAddr("192.168.1.70"), Port: "tap1"}, {Addr: netip.MustParseAddr("192.168.1.71"), Port: "tap1"}},
		Groups: []netip.Addr{netip.MustParseAddr("239.1.0.0"), netip.MustParseAddr("239.1.0.3"), netip.MustParseAddr("239.1.0.4")},
	}
	byNumber := func(a, b hnv.VSID) int { return int(a.Uint32()) - int(b.Uint32()) }
	slices.SortFunc(s.VSIDs, byNumber)
	slices.SortFunc(want.VSIDs, byNumber)
	if !equalSpecs(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

// A VM's own provider address follows its port and its record.
func TestRewriteAddressesFollow(t *testing.T) {
	m, e := newMemory(t), newEngines()
	hosted := theTenant("contoso", 5001, "203.0.113.10")
	hosted.Gateway = nil
	r := theRecord(5001, "10.1.1.11", "192.168.1.77")
	r.Rule = hnv.RuleRewrite
	p := hnv.Port{Interface: "tap1", VSID: vsid(5001), MAC: r.MAC}
	m.change(put(theAddress), put(hosted))
	start(t, m, e)
	served := func(addrs ...string) func() bool {
		return func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			var got []string
			for _, a := range e.fabric.Rewrite {
				got = append(got, a.Addr.String())
			}
			return len(e.fabric.Tunnel) == 1 && slices.Equal(got, addrs)
		}
	}
	m.change(put(r))
	eventually(t, "nothing without the VM", served())
	m.change(put(p))
	eventually(t, "the address of the VM", served("192.168.1.77"))
	moved := r
	moved.PA = netip.MustParseAddr("192.168.1.78")
	m.change(put(moved))
	eventually(t, "another address of the VM", served("192.168.1.78"))
	m.change(hnv.Change{Delete: p})
	eventually(t, "nothing after the VM", served())
}

// What becomes of an interface reaches the dataplane and the status at once, and
// not when everything is looked at again.
func TestLinksThatFail(t *testing.T) {
	m, e := newMemory(t), newEngines()
	second := hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.2/24"), Interface: "pa1"}
	m.f = hnv.NewFabric(hnv.Site{PAInterfaces: []string{"pa0", "pa1"}})
	m.change(put(theAddress), put(second))
	c := startWith(t, m, e, func(o *Options) { o.DriftInterval = time.Hour })
	status := func(phase v1.Phase, ifname, message string, down ...string) func() bool {
		return func() bool {
			l := c.provider.addresses()
			e.mu.Lock()
			defer e.mu.Unlock()
			var unusable []string
			for _, s := range e.fabric.Tunnel {
				if s.Down {
					unusable = append(unusable, s.Addr.String())
				}
			}
			return len(l) == 2 && l[0].Phase == phase && l[0].Interface == ifname && strings.Contains(l[0].Message, message) &&
				l[1].Phase == v1.PhaseReady && len(e.fabric.Tunnel) == 2 && slices.Equal(unusable, down)
		}
	}
	fails := func(to string) {
		e.mu.Lock()
		e.refuge["pa0"] = to
		e.mu.Unlock()
		e.links <- struct{}{}
	}
	eventually(t, "well", status(v1.PhaseReady, "pa0", ""))
	fails("pa1")
	eventually(t, "taken over", status(v1.PhaseDegraded, "pa1", "pa0 has no carrier"))
	fails("")
	eventually(t, "unusable", status(v1.PhaseError, "pa0", "pa0 has no carrier", "192.168.1.1"))
	e.set("failover", errBroken)
	e.mu.Lock()
	delete(e.refuge, "pa0")
	tries := len(e.calls[""])
	e.mu.Unlock()
	e.links <- struct{}{}
	eventually(t, "well again", status(v1.PhaseReady, "pa0", ""))
	if len(e.of("")) == tries {
		t.Error("what cannot be done quickly was not done at all")
	}
}

func TestFabricSide(t *testing.T) {
	a := func(addr, home, link string, down bool) compartments.PAState {
		s := compartments.PAState{Addr: netip.MustParseAddr(addr), Home: home, Link: link, Down: down}
		if home != link || down {
			s.Fault = compartments.FaultNoCarrier
		}
		return s
	}
	gone := a("192.168.1.3", "pa2", "pa1", false)
	gone.Fault = compartments.FaultMissing
	f := FabricSide{
		Tunnel:  []compartments.PAState{a("192.168.1.1", "pa0", "pa0", true), a("192.168.1.2", "pa0", "pa1", false), gone, a("fd00::1", "pa3", "pa3", true)},
		Rewrite: []compartments.PAState{a("192.168.1.77", "pa4", "pa4", false), {Addr: netip.MustParseAddr("fd00::77"), Down: true}},
		Groups:  []netip.Addr{netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("ff15::1")},
	}
	if got := f.links(); !slices.Equal(got, []string{"pa0", "pa1", "pa3", "pa4"}) {
		t.Errorf("listens on %q", got)
	}
	got := f.addresses()
	if len(got.Groups) != 1 || got.Groups[0] != (port.Group{Addr: f.Groups[0], Interface: "pa1"}) {
		t.Errorf("joins %v", got.Groups)
	}
	if len(got.Tunnel) != 4 || got.Tunnel[1] != (port.PA{Addr: f.Tunnel[1].Addr, Interface: "pa1"}) || len(got.Rewrite) != 2 {
		t.Errorf("%+v", got)
	}
}

package control

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/compartments"
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

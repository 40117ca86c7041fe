//go:build privileged && linux

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/api/client"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// The gateway subnets by IPv6, beside what they have.
const gatewayNet6, gatewayCA6 = "fd00:254::/64", "fd00:254::2"

// dualStack gives the tenants' gateway subnets IPv6, and the hosts that run gatewayd a
// default route to it, until the test is over.
func dualStack(t *testing.T) {
	t.Helper()
	all, err := world.Export(t.Context(), "gw")
	if err != nil {
		t.Fatal(err)
	}
	change := func(machine string, tenants []v1.Tenant) {
		t.Helper()
		before := v1.Document{APIVersion: v1.APIVersion, Tenants: tenants}
		after := v1.Document{APIVersion: v1.APIVersion}
		for _, x := range tenants {
			top := tenant(t, x.Name)
			x.Subnets = slices.Clone(x.Subnets)
			for i, n := range x.Subnets {
				if n.VSID == top.GatewayVSID.Uint32() {
					x.Subnets[i].Prefixes = append(slices.Clone(n.Prefixes), gatewayNet6)
				}
			}
			if x.Gateway != nil {
				g := *x.Gateway
				g.CAs = []string{top.GatewayCA.String(), gatewayCA6}
				x.Gateway = &g
			} else {
				r := v1.LookupRecord{VSID: top.GatewayVSID.Uint32(), CA: gatewayCA6, MAC: hnv.CompartmentMAC(top.GatewayVSID).String(), PA: world.Topology().Gateway.PA.Addr().String()}
				after.LookupRecords = append(after.LookupRecords, r)
				after.CustomerRoutes = append(after.CustomerRoutes, v1.CustomerRoute{VSID: r.VSID, Prefix: "::/0", NextHop: gatewayCA6})
			}
			after.Tenants = append(after.Tenants, x)
		}
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			c := client.New(world.Socket(machine))
			defer c.Close()
			for _, r := range after.CustomerRoutes {
				if err := c.DeleteCustomerRoute(ctx, r); err != nil {
					t.Error(err)
				}
			}
			for _, r := range after.LookupRecords {
				if err := c.DeleteRecord(ctx, r.VSID, r.CA); err != nil {
					t.Error(err)
				}
			}
			if err := world.Apply(ctx, machine, "single.yaml", before); err != nil {
				t.Error(err)
			}
			if err := world.Ready(ctx, machine); err != nil {
				t.Error(err)
			}
		})
		if err := world.Apply(t.Context(), machine, "dual.yaml", after); err != nil {
			t.Fatal(err)
		}
	}
	change("gw", all.Tenants)
	for _, h := range []string{"h1", "h2"} {
		doc, err := world.HostDocument(h)
		if err != nil {
			t.Fatal(err)
		}
		change(h, doc.Tenants)
	}
	settled(t, gatewayds...)
}

// sitesIPv6 has VMs and machines at the sites reach each other by IPv6, through
// tunnels and by an attachment, where BGP says the way and where an operator does.
func sitesIPv6(t *testing.T) {
	dualStack(t)
	const dc, dcGateway, dcRouter = "fd00:40::/64", "fd00:40::10", "fd00:40::1"
	on(t, "cdc", []string{"ip addr add " + dcRouter + "/64 dev gw0 nodad", "ip route add fd00:1::/32 via " + dcGateway},
		[]string{"ip route del fd00:1::/32 via " + dcGateway, "ip addr del " + dcRouter + "/64 dev gw0"})
	cdc := siteOf(t, "cdc")
	t.Cleanup(func() {
		if _, err := world.Ctl(later(t), "gw", "forward", "set", "contoso", "dc", "--address", "10.40.0.10/24", "--no-routes"); err != nil {
			t.Error(err)
		}
	})
	ctl(t, "gw", "forward", "set", "contoso", "dc", "--address", "10.40.0.10/24", "--address", dcGateway+"/64", "--route", cdc.LAN6.Masked().String()+"="+dcRouter)
	settled(t, "gw")

	hears(t, "chq", "show bgp ipv6 unicast fd00:1:1::/64 json", `"string":"65000"`, `"ip":"fd00:fe:1::1"`, `"ip":"fd00:fe:2::1"`, `"valid":true`)
	hears(t, "fhq", "show route all fd00:1:2::/64", "BGP.as_path: 65000", "BGP.next_hop: fd00:fe:1::1", "BGP.next_hop: fd00:fe:2::1")
	hears(t, "fbr", "global rib -a ipv6 fd00:1:1::/64", "65000", "fd00:fe:3::1")
	for _, s := range world.Topology().Sites {
		if s.Link != nil && s.Name != cdc.Name {
			continue
		}
		for _, n := range []int{11, 13} { // on hosts that know of the gateway's address
			v := vmOf(t, s, n)
			for _, x := range []struct {
				from, to   string
				addr, seen netip.Addr
			}{{v.Name, s.Host(), s.HostAddr6(), v.CA6}, {s.Host(), v.Name, v.CA6, s.HostAddr6()}} {
				id, err := world.Get(t.Context(), x.from, service80(x.addr), 0, patience)
				if err != nil || id.Name != x.to || peerAddr(id) != x.seen.String() {
					t.Errorf("from %s to %s: %q answers and sees %q, want %s and %s (%v)", x.from, x.addr, id.Name, id.Peer, x.to, x.seen, err)
				}
			}
			if id, err := world.Echo(t.Context(), v.Name, serviceEcho(s.HostAddr6()), 0, 4000, patience); err != nil || id.Name != s.Host() {
				t.Errorf("4000 bytes from %s to %s: %q, %v", v.Name, s.Host(), id.Name, err)
			}
		}
		st, err := world.StartStream(vmOf(t, s, 11).Name, s.HostAddr6(), service.StreamRequest{Direction: service.Up, Bytes: 2 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(st.Stop)
		whole(t, map[string]*lab.Stream{fmt.Sprintf("%s by IPv6", s.Name): st})
	}
	for dst, want := range map[string]string{siteOf(t, "chq").HostAddr6().String(): "s2s", cdc.HostAddr6().String(): "forward", "fd00:1:1::12": "overlay"} {
		if got, err := api(t).Path(t.Context(), "contoso", v1.PathQuery{Dst: dst}); err != nil || got.Via != want {
			t.Errorf("contoso to %s: %v, %+v, want %s", dst, err, got, want)
		}
	}
}

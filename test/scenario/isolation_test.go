//go:build privileged && linux

package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestSameAddressesAtOnce lets the VMs of both tenants that have the same
// customer and MAC address do the same things at the same time, down to the
// local port.
func TestSameAddressesAtOnce(t *testing.T) {
	topo := world.Topology()
	streams := map[string]*lab.Stream{}
	for _, v := range topo.VMs {
		s, err := world.StartStream(v.Name, internet(), service.StreamRequest{Direction: service.Down, Bytes: 4 << 20, Rate: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Stop()
		streams[v.Name] = s
	}
	var wg sync.WaitGroup
	for _, v := range topo.VMs {
		external := tenant(t, v.Tenant).External.String()
		wg.Go(func() {
			id, err := world.Get(t.Context(), v.Name, service80(internet()), 40000, patience)
			if err != nil || peerAddr(id) != external {
				t.Errorf("%s by TCP from port 40000: seen as %q, want %s (%v)", v.Name, id.Peer, external, err)
			}
			id, err = world.Echo(t.Context(), v.Name, serviceEcho(internet()), 40000, 700, patience)
			if err != nil || peerAddr(id) != external {
				t.Errorf("%s by UDP from port 40000: seen as %q, want %s (%v)", v.Name, id.Peer, external, err)
			}
		})
	}
	wg.Wait()
	for name, s := range streams {
		r, err := s.Wait(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := tenant(t, vm(t, name).Tenant).External.String(); peerAddr(r.Identity) != want {
			t.Errorf("%s: the stream's server saw %s, want %s", name, r.Peer, want)
		}
	}
}

// TestTenantsDoNotSeeEachOther marks what the first VM of each tenant sends to
// all the others, and looks for the marks at every VM.
func TestTenantsDoNotSeeEachOther(t *testing.T) {
	topo := world.Topology()
	marks := map[string]string{"contoso": "c0c1c2c3c4c5c6c7", "fabrikam": "f0f1f2f3f4f5f6f7"}
	captures := map[string]*lab.Capture{}
	for _, v := range topo.VMs {
		c, err := world.Capture(t.Context(), v.Name, "eth0", "")
		if err != nil {
			t.Fatal(err)
		}
		captures[v.Name] = c
	}
	for _, from := range topo.VMs {
		for _, to := range topo.VMs {
			if from.Tenant != to.Tenant || from.Name == to.Name || !strings.HasSuffix(from.Name, "11") {
				continue
			}
			_, err := world.Exec(t.Context(), from.Name, "ping", "-n", "-c", "4", "-i", "0.2", "-W", "10", "-p", marks[from.Tenant], to.CA.String())
			if err != nil {
				t.Error(err)
			}
		}
	}
	for _, v := range topo.VMs {
		file, err := captures[v.Name].Stop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for owner, mark := range marks {
			rows := dissect(t, file, "frame contains "+colons(mark), "ip.src", "ip.dst")
			if owner == v.Tenant && len(rows) == 0 {
				t.Errorf("%s sees nothing of its own tenant", v.Name)
			}
			if owner != v.Tenant && len(rows) > 0 {
				t.Errorf("%s sees %d packets of %s: %v", v.Name, len(rows), owner, rows[0])
			}
		}
		// Nothing but the VM's own tenant's addresses is ever on its link.
		if rows := dissect(t, file, "ip && !(ip.addr==10.0.0.0/8) && !(ip.addr==198.51.100.10)", "ip.src", "ip.dst"); len(rows) > 0 {
			t.Errorf("%s sees packets between strangers: %v", v.Name, rows[0])
		}
	}
}

func colons(s string) string {
	var parts []string
	for i := 0; i < len(s); i += 2 {
		parts = append(parts, s[i:i+2])
	}
	return strings.Join(parts, ":")
}

// guarded captures on the fabric and the management network whatever is there
// in plain, outside the tunnels, while f runs, and wants none of it to be from
// or for the addresses of tenants or the outside.
func guarded(t *testing.T, f func()) {
	t.Helper()
	var fabric string
	management := capturing(t, "mgmt", "eth0", "ip", func() {
		fabric = capturing(t, "fab", "any", "ip and (net 10.0.0.0/8 or net 203.0.113.0/24 or net 198.51.100.0/24)", f)
	})
	others := fmt.Sprintf("!(ip.src == %s)", world.Topology().Rogue.PA.Addr())
	for where, file := range map[string]string{"fabric": fabric, "management network": management} {
		if rows := dissect(t, file, others, "ip.src", "ip.dst", "frame.protocols"); len(rows) > 0 {
			t.Errorf("%d packets on the %s, the first %v", len(rows), where, rows[0])
		}
	}
}

// TestTenantsReachNeitherProviderNorManagement tries the fabric's router, the
// hosts, the gateway's own addresses and the management network from VMs on
// hosts of every kind.
func TestTenantsReachNeitherProviderNorManagement(t *testing.T) {
	topo := world.Topology()
	gw := topo.Gateway
	targets := []netip.Addr{gw.PA.Addr(), gw.External.Addr(), gw.Management.Addr(), gw.Manager}
	for _, s := range topo.Fabric {
		targets = append(targets, s.Router.Addr())
	}
	for _, h := range topo.Hosts {
		targets = append(targets, h.PA.Addr())
	}
	// The services are there for those who may reach them.
	for machine, to := range map[string]netip.Addr{"gw": gw.Manager, "h4": topo.Fabric[0].Router.Addr(), "mgmt": gw.Management.Addr()} {
		if _, err := world.Get(t.Context(), machine, service80(to), 0, patience); err != nil {
			t.Fatalf("%s cannot reach %s: %v", machine, to, err)
		}
	}
	guarded(t, func() {
		var wg sync.WaitGroup
		for _, name := range []string{"c11", "c12", "f11", "f12"} {
			for _, to := range targets {
				wg.Go(func() { unreached(t, name, to) })
			}
		}
		wg.Wait()
	})
}

// TestOutsideReachesNothingInside points routes at the gateway, from the
// Internet and from the fabric, to places that are none of theirs.
func TestOutsideReachesNothingInside(t *testing.T) {
	gw := world.Topology().Gateway
	for _, c := range []struct {
		from    string
		via     netip.Addr
		targets []string
	}{
		{"inet", gw.External.Addr(), []string{"10.1.1.11", "10.254.254.2", "10.99.0.2", "192.168.1.1", "192.168.1.254", "192.168.2.14"}},
		{"rogue", gw.PA.Addr(), []string{"10.1.1.11", "10.254.254.2", "10.99.0.2", "10.99.0.1", "198.51.100.10"}},
	} {
		t.Run("from "+c.from, func(t *testing.T) {
			for _, to := range c.targets {
				route := []string{"ip", "route", "add", to + "/32", "via", c.via.String()}
				if to == "192.168.1.1" || c.from == "inet" {
					route = append(route, "onlink", "dev", "gw0")
				}
				if _, err := world.Exec(t.Context(), c.from, route...); err != nil {
					t.Fatal(err)
				}
				defer func() { _, _ = world.Exec(t.Context(), c.from, "ip", "route", "del", to+"/32") }()
			}
			internetFile := capturing(t, "inet", "gw0", "net 192.168.0.0/16 or net 10.0.0.0/8", func() {
				guarded(t, func() {
					var wg sync.WaitGroup
					for _, to := range c.targets {
						wg.Go(func() { unreached(t, c.from, netip.MustParseAddr(to)) })
					}
					wg.Wait()
				})
			})
			// Its own attempts are what the Internet may see, nothing else.
			own := fmt.Sprintf("ip && !(ip.src==%s)", gw.Internet)
			if rows := dissect(t, internetFile, own, "ip.src", "ip.dst"); len(rows) > 0 {
				t.Errorf("the Internet sees %v", rows[0])
			}
		})
	}
}

//go:build privileged && linux

package scenario

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestVMToVM goes from every VM to every other one of its tenant: in one
// virtual subnet and between two, on one host and between hosts of every kind,
// so that gatewayd's dataplane faces itself, Open vSwitch and the kernel.
func TestVMToVM(t *testing.T) {
	for _, from := range world.Topology().VMs {
		for _, to := range world.Topology().VMs {
			if from.Tenant != to.Tenant || from.Name == to.Name {
				continue
			}
			t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
				if err := world.Ping(t.Context(), from.Name, to.CA, patience); err != nil {
					t.Fatal(err)
				}
				// One hop for the distributed router, wherever the VMs are; none
				// within a virtual subnet.
				out, err := world.Exec(t.Context(), from.Name, "ping", "-n", "-c", "1", "-W", "10", to.CA.String())
				want := "ttl=64"
				if from.VSID != to.VSID {
					want = "ttl=63"
				}
				if err != nil || !strings.Contains(out, want) {
					t.Errorf("want an answer with %s: %v\n%s", want, err, out)
				}
				id, err := world.Get(t.Context(), from.Name, service80(to.CA), 0, patience)
				if err != nil || id.Name != to.Name || peerAddr(id) != from.CA.String() {
					t.Errorf("TCP: %q sees %q, want %s and %s (%v)", id.Name, id.Peer, to.Name, from.CA, err)
				}
				id, err = world.Echo(t.Context(), from.Name, serviceEcho(to.CA), 0, 4000, patience)
				if err != nil || id.Name != to.Name || peerAddr(id) != from.CA.String() {
					t.Errorf("UDP in fragments: %q sees %q, want %s and %s (%v)", id.Name, id.Peer, to.Name, from.CA, err)
				}
				s, err := world.StartStream(from.Name, to.CA, service.StreamRequest{Direction: service.Up, Bytes: 2 << 20})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				if _, err := s.Wait(t.Context()); err != nil {
					t.Errorf("TCP bulk: %v", err)
				}
			})
		}
	}
}

// TestIPv6BetweenVMs does the same by IPv6, between the hosts that carry it:
// all but Open vSwitch.
func TestIPv6BetweenVMs(t *testing.T) {
	carries := func(v lab.VM) bool {
		h, err := world.Topology().Host(v.Host)
		return err == nil && h.Implementation != lab.OpenVSwitch
	}
	for _, from := range world.Topology().VMs {
		for _, to := range world.Topology().VMs {
			if from.Tenant != to.Tenant || from.Name == to.Name || !carries(from) || !carries(to) {
				continue
			}
			t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
				if err := world.Ping(t.Context(), from.Name, to.CA6, patience); err != nil {
					t.Fatal(err)
				}
				out, err := world.Exec(t.Context(), from.Name, "ping", "-n", "-c", "1", "-W", "10", to.CA6.String())
				want := "ttl=64"
				if from.VSID != to.VSID {
					want = "ttl=63"
				}
				if err != nil || !strings.Contains(out, want) {
					t.Errorf("want an answer with %s: %v\n%s", want, err, out)
				}
				id, err := world.Echo(t.Context(), from.Name, serviceEcho(to.CA6), 0, 4000, patience)
				if err != nil || id.Name != to.Name || peerAddr(id) != from.CA6.String() {
					t.Errorf("UDP in fragments: %q sees %q, want %s and %s (%v)", id.Name, id.Peer, to.Name, from.CA6, err)
				}
				s, err := world.StartStream(from.Name, to.CA6, service.StreamRequest{Direction: service.Up, Bytes: 2 << 20})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				if _, err := s.Wait(t.Context()); err != nil {
					t.Errorf("TCP bulk: %v", err)
				}
			})
		}
		out, err := world.Exec(t.Context(), from.Name, "ip", "-6", "addr", "show", "dadfailed")
		if err != nil || out != "" {
			t.Errorf("%s found its address taken: %s %v", from.Name, out, err)
		}
	}
}

// TestRouterAndCompartmentAnswer pings what is not a VM but has a customer
// address: the distributed router in the VM's own subnet, and the compartment.
func TestRouterAndCompartmentAnswer(t *testing.T) {
	for _, v := range world.Topology().VMs {
		x := tenant(t, v.Tenant)
		s, _ := x.Subnet(v.VSID)
		if err := world.Ping(t.Context(), v.Name, s.Router(), patience); err != nil {
			t.Errorf("%s: the distributed router: %v", v.Name, err)
		}
		if err := world.Ping(t.Context(), v.Name, x.GatewayCA, patience); err != nil {
			t.Errorf("%s: the compartment: %v", v.Name, err)
		}
		out, err := world.Exec(t.Context(), v.Name, "ip", "neigh", "show", s.Router().String())
		if err != nil || !strings.Contains(out, "02:68:6e:00:00:01") {
			t.Errorf("%s has its router as %q (%v)", v.Name, out, err)
		}
	}
}

// TestTimeExceeded sends packets of VMs that have one or two hops to live: the
// distributed router says so, in the name of the address that the VM has of it, and
// to every VM the compartment behind it.
func TestTimeExceeded(t *testing.T) {
	var wg sync.WaitGroup
	for _, v := range world.Topology().VMs {
		x := tenant(t, v.Tenant)
		s, _ := x.Subnet(v.VSID)
		h, err := world.Topology().Host(v.Host)
		if err != nil {
			t.Fatal(err)
		}
		expires := func(hops string, to, at netip.Addr) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience) // a kernel may be about to check its address
				defer cancel()
				said := false
				var last string
				for !said && ctx.Err() == nil {
					last, _ = world.Exec(ctx, v.Name, "ping", "-n", "-c", "1", "-W", "1", "-t", hops, to.String())
					said = strings.Contains(last, "From "+at.String()+" ") && strings.Contains(strings.ToLower(last), "exceeded")
				}
				if !said {
					t.Errorf("%s to %s in %s hops: want %s to say that time is exceeded\n%s", v.Name, to, hops, at, last)
				}
			})
		}
		expires("2", internet(), x.GatewayCA)
		if h.Implementation != lab.Gatewayd {
			continue // the router is not ours
		}
		expires("1", internet(), s.Router())
		for _, other := range world.VMs(v.Tenant) {
			if other.VSID != v.VSID {
				expires("1", other.CA, s.Router())
				expires("1", other.CA6, s.Router6())
			}
		}
	}
	wg.Wait()
}

// TestUnknownAddressStaysSilent asks for an address of the VM's subnet that
// nobody has.
func TestUnknownAddressStaysSilent(t *testing.T) {
	var wg sync.WaitGroup
	for _, v := range world.Topology().VMs {
		ca := nobodyBeside(t, v)
		wg.Go(func() {
			if err := world.Ping(t.Context(), v.Name, ca, silence); err == nil {
				t.Errorf("%s: %s answers", v.Name, ca)
			}
			out, err := world.Exec(t.Context(), v.Name, "ip", "neigh", "show", ca.String())
			if err != nil || strings.Contains(out, "lladdr") {
				t.Errorf("%s got an ARP answer for %s: %q (%v)", v.Name, ca, out, err)
			}
		})
	}
	wg.Wait()
}

// nobodyBeside is an address of the VM's virtual subnet that nobody has.
func nobodyBeside(t *testing.T, v lab.VM) netip.Addr {
	t.Helper()
	s, _ := tenant(t, v.Tenant).Subnet(v.VSID)
	b := s.Prefix.Addr().As4()
	b[3] = 99
	return addr4(b)
}

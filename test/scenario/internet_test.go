//go:build privileged && linux

package scenario

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestVMToInternet takes every VM of both tenants, on hosts of every kind, to
// the Internet by ICMP, TCP and UDP. The Internet must see the tenant's
// external address and nothing else.
func TestVMToInternet(t *testing.T) {
	file := capturing(t, "inet", "gw0", "ip", func() {
		for _, v := range world.Topology().VMs {
			t.Run(v.Name, func(t *testing.T) {
				external := tenant(t, v.Tenant).External.String()
				if err := world.Ping(t.Context(), v.Name, internet(), patience); err != nil {
					t.Error(err)
				}
				id, err := world.Get(t.Context(), v.Name, service80(internet()), 0, patience)
				if err != nil || id.Name != "inet" || peerAddr(id) != external {
					t.Errorf("TCP: the server is %q and sees %q, want inet and %s (%v)", id.Name, id.Peer, external, err)
				}
				// In one packet; with an answer too big for the overlay's MTU, so that
				// the Internet learns the path MTU; in fragments.
				for _, size := range []int{32, 1410, 4000} {
					id, err := world.Echo(t.Context(), v.Name, serviceEcho(internet()), 0, size, patience)
					if err != nil || id.Name != "inet" || peerAddr(id) != external {
						t.Errorf("UDP, %d bytes: the server is %q and sees %q, want inet and %s (%v)", size, id.Name, id.Peer, external, err)
					}
				}
			})
		}
	})
	allowed := []string{internet().String(), world.Topology().Gateway.Internet.String()}
	for _, x := range world.Topology().Tenants {
		allowed = append(allowed, x.External.String())
	}
	rows := dissect(t, file, "", "ip.src", "ip.dst")
	if len(rows) == 0 {
		t.Fatal("the capture at the Internet is empty")
	}
	for _, r := range rows {
		// An ICMP error holds the addresses of the packet it is about as well.
		for _, a := range append(strings.Split(r[0], ","), strings.Split(r[1], ",")...) {
			// 203.0.113.2, the gateway itself, may only report errors.
			if !slices.Contains(allowed, a) && a != world.Topology().Gateway.External.Addr().String() {
				t.Fatalf("the Internet sees address %s in %v", a, r)
			}
		}
	}
}

// TestBulkThroughNAT moves enough both ways for large windows, segmentation
// offload and a clamped MSS to matter, and checks every byte.
func TestBulkThroughNAT(t *testing.T) {
	for _, v := range world.Topology().VMs {
		for _, d := range []service.Direction{service.Down, service.Up} {
			t.Run(v.Name+" "+string(d), func(t *testing.T) {
				s, err := world.StartStream(v.Name, internet(), service.StreamRequest{Direction: d, Bytes: 8 << 20})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Stop()
				r, err := s.Wait(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if want := tenant(t, v.Tenant).External.String(); peerAddr(r.Identity) != want {
					t.Errorf("the server saw %s, want %s", r.Peer, want)
				}
			})
		}
	}
}

// TestStaticMapping lets the Internet reach a VM at a mapped port, and at no
// other.
func TestStaticMapping(t *testing.T) {
	for _, m := range world.Mappings() {
		id, err := world.Get(t.Context(), "inet", m.External, 0, patience)
		if err != nil || id.Name != m.VM {
			t.Errorf("%s leads to %q, want %s (%v)", m.External, id.Name, m.VM, err)
		}
		if g := world.Topology().Gateway; peerAddr(id) != g.Internet.String() {
			t.Errorf("%s sees its client as %s, want the client's own address %s", m.VM, id.Peer, g.Internet)
		}
	}
	for _, x := range world.Topology().Tenants {
		file := capturing(t, "gw-"+x.Name, "any", "host "+world.Topology().Gateway.Internet.String(), func() {
			var wg sync.WaitGroup
			for _, port := range []uint16{80, 7, 9000, 8079} {
				wg.Go(func() {
					if id, err := world.Get(t.Context(), "inet", netip.AddrPortFrom(x.External, port), 0, silence); err == nil {
						t.Errorf("%s:%d is not mapped and leads to %s", x.External, port, id.Name)
					}
				})
			}
			wg.Wait()
		})
		if rows := dissect(t, file, "ip.dst==10.0.0.0/8", "ip.dst"); len(rows) > 0 {
			t.Errorf("packets to unmapped ports of %s went on to %v", x.External, rows)
		}
	}
}

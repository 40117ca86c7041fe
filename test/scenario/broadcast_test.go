//go:build privileged && linux

package scenario

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab"
)

// TestBroadcastAndMulticast sends from each VM to its whole virtual subnet, one
// tenant after the other: every other VM there has one copy, on hosts of every
// kind, and nobody else has any; one packet goes to each other host, however many
// VMs it has.
func TestBroadcastAndMulticast(t *testing.T) {
	const times = 3
	multicast := netip.MustParseAddr("224.0.0.251")
	for _, x := range world.Topology().Tenants {
		t.Run(x.Name, func(t *testing.T) {
			var senders []lab.VM
			for _, v := range world.VMs(x.Name) {
				senders = append(senders, v)
				if _, err := world.Exec(t.Context(), v.Name, "ip", "route", "replace", "224.0.0.0/4", "dev", "eth0"); err != nil {
					t.Fatal(err)
				}
			}
			send := func(count int) {
				var g errgroup.Group
				for _, v := range senders {
					for _, dst := range []netip.Addr{subnetBroadcast(t, v), multicast} {
						g.Go(func() error { // nobody answers: that is not asked for
							_, _ = world.Exec(t.Context(), v.Name, "ping", "-b", "-n", "-c", fmt.Sprint(count), "-i", "0.2", "-W", "1", dst.String())
							return nil
						})
					}
				}
				_ = g.Wait()
			}
			send(1) // Open vSwitch loses its first packet to a host whose MAC it does not know

			ears := map[string]string{"fab": "any"}
			for _, v := range world.Topology().VMs {
				ears[v.Name] = "eth0"
			}
			heard := listening(t, ears, "proto gre or udp port 4789 or icmp[icmptype] == icmp-echo", func() { send(times) })

			for _, to := range world.Topology().VMs {
				copies := map[[2]string]int{}
				for _, row := range dissect(t, heard[to.Name], "icmp.type == 8", "ip.src", "ip.dst") {
					copies[[2]string{row[0], row[1]}]++
				}
				for _, from := range senders {
					if from.Name == to.Name {
						continue
					}
					want := 0
					if to.Tenant == from.Tenant && to.VSID == from.VSID {
						want = times
					}
					for _, dst := range []netip.Addr{subnetBroadcast(t, from), multicast} {
						if n := copies[[2]string{from.CA.String(), dst.String()}]; n != want {
							t.Errorf("%s got %d copies of what %s sent to %s, want %d", to.Name, n, from.Name, dst, want)
						}
					}
				}
			}
			targets := map[[3]string]map[string]bool{} // by outer source, inner source and destination
			for _, row := range dissect(t, heard["fab"], "icmp.type == 8", "ip.src", "ip.dst") {
				src, dst := strings.Split(row[0], ","), strings.Split(row[1], ",")
				if len(src) != 2 || len(dst) != 2 {
					t.Fatalf("a packet on the fabric is from %s to %s", row[0], row[1])
				}
				k := [3]string{src[0], src[1], dst[1]}
				if targets[k] == nil {
					targets[k] = map[string]bool{}
				}
				targets[k][dst[0]] = true
			}
			for _, from := range senders {
				want := map[string]bool{}
				for _, v := range senders {
					if v.VSID == from.VSID && v.Host != from.Host {
						want[provider(t, v.Host)] = true
					}
				}
				for _, dst := range []netip.Addr{subnetBroadcast(t, from), multicast} {
					if got := targets[[3]string{provider(t, from.Host), from.CA.String(), dst.String()}]; !maps.Equal(got, want) {
						t.Errorf("what %s sent to %s went to the hosts %v, want %v", from.Name, dst, got, want)
					}
				}
			}
		})
	}
}

func provider(t *testing.T, host string) string {
	t.Helper()
	h, err := world.Topology().Host(host)
	if err != nil {
		t.Fatal(err)
	}
	return h.PA.Addr().String()
}

func subnetBroadcast(t *testing.T, v lab.VM) netip.Addr {
	t.Helper()
	s, _ := tenant(t, v.Tenant).Subnet(v.VSID)
	b := s.Prefix.Addr().As4()
	b[3] = 255
	return addr4(b)
}

// listening records what passes interfaces of several machines while f runs, and
// gives the files.
func listening(t *testing.T, at map[string]string, filter string, f func()) map[string]string {
	t.Helper()
	var mu sync.Mutex
	captures, out := map[string]*lab.Capture{}, map[string]string{}
	var begin, end errgroup.Group
	for machine, iface := range at {
		begin.Go(func() error {
			c, err := world.Capture(t.Context(), machine, iface, filter)
			mu.Lock()
			defer mu.Unlock()
			captures[machine] = c
			return err
		})
	}
	if err := begin.Wait(); err != nil {
		t.Fatal(err)
	}
	f()
	for machine, c := range captures {
		end.Go(func() error {
			file, err := c.Stop(t.Context())
			mu.Lock()
			defer mu.Unlock()
			out[machine] = file
			return err
		})
	}
	if err := end.Wait(); err != nil {
		t.Fatal(err)
	}
	return out
}

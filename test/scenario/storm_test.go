//go:build privileged && linux

package scenario

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab"
)

// TestStormLimit floods a virtual subnet of each tenant with broadcasts, between
// the same addresses. The first tenant is limited on the sender's host, and only
// so many leave it; the second on a receiver's, and only so many of those that
// come reach the VM there. Neither limit is the other tenant's.
func TestStormLimit(t *testing.T) {
	const sent, limit = 300, 20 // the latter a second, and as many at once
	machines := map[string]string{"contoso": "h1", "fabrikam": "h2"}
	for name, m := range machines {
		ctl(t, m, "tenant", "set", name, "--storm-pps", fmt.Sprint(limit))
		undo(t, m, "tenant", "set", name, "--storm-pps", "0")
	}
	settled(t, gatewaydHosts...)
	before := stormDrops(t)
	send := func(count int) {
		var g errgroup.Group
		for _, name := range []string{"c11", "f11"} {
			v := vm(t, name)
			g.Go(func() error { // nobody answers: that is not asked for
				_, _ = world.Exec(t.Context(), name, "ping", "-b", "-n", "-q", "-c", fmt.Sprint(count), "-i", "0.002", "-W", "1", subnetBroadcast(t, v).String())
				return nil
			})
		}
		_ = g.Wait()
	}
	send(1) // Open vSwitch loses its first packet to a host whose MAC it does not know
	begin := time.Now()
	heard := listening(t, map[string]string{"c12": "eth0", "c13": "eth0", "f12": "eth0", "f13": "eth0"}, "icmp[icmptype] == icmp-echo", func() { send(sent) })
	most := limit + int(limit*time.Since(begin)/time.Second) + 1

	for name, limited := range map[string]bool{"c12": true, "c13": true, "f12": false, "f13": true} {
		n := len(dissect(t, heard[name], "ip.src == 10.1.1.11", "frame.number"))
		if limited && (n < limit/2 || n > most) || !limited && n != sent {
			t.Errorf("%s has %d of %d broadcasts; limited is %v, to %d", name, n, sent, limited, most)
		}
	}
	after := stormDrops(t)
	for name, m := range machines {
		for _, host := range gatewaydHosts {
			n := after[host+" "+name] - before[host+" "+name]
			if host == m && n+uint64(most) < sent || host != m && n != 0 { // it lets through what is due in the time
				t.Errorf("%s counts %d broadcasts of %s as over the limit, which is on %s", host, n, name, m)
			}
		}
	}
}

// stormDrops is what each host dropped of each tenant's broadcasts.
func stormDrops(t *testing.T) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, m := range gatewaydHosts {
		s, err := world.Status(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range world.Topology().Tenants {
			out[m+" "+x.Name] = lab.Dropped(s, x.Name, "storm-limited")
		}
	}
	return out
}

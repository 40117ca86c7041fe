//go:build privileged && linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// teamed tells all gatewayds that the hosts of the VMs have a team, until the test
// is over.
func teamed(t *testing.T, vms ...string) {
	t.Helper()
	t.Cleanup(func() { unasked(t) }) // after the commands below
	teams := map[string][]string{}   // by VSID and CA
	for _, name := range vms {
		v := vm(t, name)
		h, err := world.Topology().Host(v.Host)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range world.RecordsOf(v) {
			teams[fmt.Sprintf("%s %s", r.VSID, r.CA)] = []string{h.Team[0].Addr().String()}
		}
	}
	changeRecords(t, func(r *v1.LookupRecord) (ok bool) {
		r.TeamPAs, ok = teams[fmt.Sprintf("%d %s", r.VSID, r.CA)]
		return ok
	})
	settled(t, gatewayds...)
}

// unasked waits until no machine asks others whether the addresses of their teams
// work.
func unasked(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(later(t), patience)
	defer cancel()
	// An address is asked every second, or two if it does not answer.
	quiet := []string{"timeout", "2.5", "tcpdump", "-n", "-q", "-c", "1", "-i", "any", "icmp[icmptype] == icmp-echo"}
	for {
		_, err := world.Exec(ctx, "fab", quiet...)
		var exit *lab.ExitError
		switch {
		case errors.As(err, &exit) && exit.Code == 124:
			return
		case err != nil:
			t.Error(err)
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// ends of a tunnel.
type tunnel struct{ src, dst string }

// tunnels counts the tunnel packets of a capture by their ends.
func tunnels(t *testing.T, file string) map[tunnel]int {
	t.Helper()
	out := map[tunnel]int{}
	for _, r := range dissect(t, file, "gre || udp.dstport == 4789", "ip.src", "ip.dst") {
		src, _, _ := strings.Cut(r[0], ",")
		dst, _, _ := strings.Cut(r[1], ",")
		out[tunnel{src, dst}]++
	}
	return out
}

// TestTeam has hosts with two interfaces on the fabric, an address for each: the
// flows between their VMs spread over both, at both ends. When one of them fails,
// what it carried goes on by the other one, and returns when it works again.
func TestTeam(t *testing.T) {
	teamed(t, "c11", "f11", "c13", "f13")
	const flows = 24
	talk := func() {
		var wg sync.WaitGroup
		for _, p := range []string{"c", "f"} {
			wg.Go(func() {
				for i := range flows {
					if _, err := world.Echo(t.Context(), p+"11", serviceEcho(vm(t, p+"13").CA), uint16(20000+i), 32, patience); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	first := map[string]string{"p-h1": "192.168.1.11", "p-h1-1": "192.168.1.21"}
	// spread wants the flows to go by both interfaces of h1, each with its own
	// address, and to and from both addresses of h2.
	spread := func() {
		t.Helper()
		h2 := map[string]int{}
		const filter = "(proto gre or udp port 4789) and (host 192.168.2.12 or host 192.168.2.22)"
		files := map[string]string{}
		files["p-h1"] = capturing(t, "fab", "p-h1", filter, func() {
			files["p-h1-1"] = capturing(t, "fab", "p-h1-1", filter, talk)
		})
		for port, file := range files {
			var sent, got int
			for k, n := range tunnels(t, file) {
				there := k.dst
				switch first[port] {
				case k.src:
					sent += n
				case k.dst:
					there = k.src
					got += n
				default:
					t.Errorf("%s: %d packets of another interface, from %s to %s", port, n, k.src, k.dst)
				}
				h2[there] += n
			}
			// Of 48 flows, that fewer than 8 take one of two ways is no chance.
			if sent < 8 || got < 8 {
				t.Errorf("%s: %d packets sent and %d received of %d flows each way", port, sent, got, 2*flows)
			}
		}
		if len(h2) != 2 || h2["192.168.2.12"] < 8 || h2["192.168.2.22"] < 8 {
			t.Errorf("packets at the addresses of the other host: %v", h2)
		}
	}
	spread()

	streams := map[string]*lab.Stream{}
	for _, p := range []string{"c", "f"} {
		for i := range 3 {
			for _, d := range []service.Direction{service.Up, service.Down} {
				streams[fmt.Sprintf("%s11 to %s13 %s, %d", p, p, d, i)] = endless(t, p+"11", vm(t, p+"13"), d)
			}
		}
		streams[p+"11 from a host without a team"] = endless(t, p+"11", vm(t, p+"12"), service.Down)
		streams[p+"11 from the Internet"] = endless(t, p+"11", lab.VM{}, service.Down)
	}
	flowing(t, streams)
	for _, port := range []string{"p-h1-1", "p-h1"} {
		before := longest(t, streams)
		in(t, "fab", "ip", "link", "set", port, "down")
		up := func() {
			if _, err := world.Exec(later(t), "fab", "ip", "link", "set", port, "up"); err != nil {
				t.Error(err)
			}
		}
		t.Cleanup(up)
		flowing(t, streams)
		flowing(t, streams)
		t.Logf("%s fails: the longest pause is %v, and was %v before", port, longest(t, streams), before)
		up()
		carries(t, port, "src host "+first[port], true)
	}

	// The fabric loses the way to an address whose interface works: those who send
	// there find out.
	const to = "dst host 192.168.2.22"
	carries(t, "any", to, true)
	lost := func(what string) []string { return []string{"ip", "route", what, "blackhole", "192.168.2.22/32"} }
	in(t, "fab", lost("add")...)
	found := sync.OnceFunc(func() {
		if _, err := world.Exec(later(t), "fab", lost("del")...); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(found)
	carries(t, "any", to, false)
	flowing(t, streams)
	found()
	carries(t, "any", to, true)

	for _, s := range streams {
		s.Stop()
	}
	spread()
}

// carries waits until tunnel packets of the kind pass a port of the fabric, or until
// none does.
func carries(t *testing.T, port, kind string, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s carries what has %s: %v", port, kind, want), func() error {
		file := capturing(t, "fab", port, "ip "+kind+" and (proto gre or udp port 4789)", func() { time.Sleep(300 * time.Millisecond) })
		if n := len(dissect(t, file, "gre || udp.dstport == 4789", "frame.number")); (n > 0) != want {
			return fmt.Errorf("%d packets", n)
		}
		return nil
	})
}

// longest is the longest time that any of the streams was without a byte.
func longest(t *testing.T, streams map[string]*lab.Stream) time.Duration {
	t.Helper()
	var out []time.Duration
	for _, s := range streams {
		r, err := s.Progress()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Longest)
	}
	return slices.Max(out).Round(time.Millisecond)
}

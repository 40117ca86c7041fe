//go:build privileged && linux

package s2s

import (
	"fmt"
	"testing"
	"time"
)

// awaitActive waits until the compartment sends to the site by these tunnels.
func (r *redundant) awaitActive(t *testing.T, hq1, hq2 bool) {
	t.Helper()
	await(t, fmt.Sprintf("active: hq1 %v, hq2 %v", hq1, hq2), func() error {
		for _, e := range []struct {
			engine *Engine
			peer   string
		}{{r.a, "hq"}, {r.b, "gw"}} {
			// The peer's own /32 goes through its tunnel alone: ask the routes.
			have, err := e.engine.nl.Routes(RouteProtocol, 0)
			if err != nil {
				return err
			}
			got := map[int]bool{}
			for _, h := range have {
				if h.Dst.Bits() != 24 || h.Unreachable {
					continue
				}
				got[h.Link] = true
				for _, n := range h.NextHops {
					got[n.Link] = true
				}
			}
			e.engine.mu.Lock()
			one, two := got[e.engine.tunnels["s2s1"].index], got[e.engine.tunnels["s2s2"].index]
			e.engine.mu.Unlock()
			if one != hq1 || two != hq2 {
				return fmt.Errorf("it is hq1 %v, hq2 %v", one, two)
			}
		}
		return nil
	})
}

// The active tunnel is cut without a sign, and mended: a connection that was
// there before goes on each time, by way of the tunnel that works.
func TestFailoverKeepsConnections(t *testing.T) {
	t.Parallel()
	r := newRedundant(t, [2]uint32{10, 20}, Probe{Rise: 3})
	r.awaitActive(t, true, false)
	r.site.echo("192.168.50.1:7")
	c := r.comp.dial("10.1.1.1", "192.168.50.1:7")
	must(t, say(c, "before"))
	mend := r.site.cut(51820)
	start := time.Now()
	if err := say(c, "during the cut"); err != nil {
		t.Fatal(err)
	}
	t.Logf("an echo over the cut took %v", time.Since(start))
	r.awaitActive(t, false, true)
	awaitLiveness(t, r.a, "hq1", "hq", Down)
	mend()
	r.awaitActive(t, true, false)
	must(t, say(c, "after"))

	// Both are cut: the packets still go nowhere else, and all comes back.
	mend1, mend2 := r.site.cut(51820), r.site.cut(51821)
	awaitLiveness(t, r.a, "hq1", "hq", Down)
	awaitLiveness(t, r.a, "hq2", "hq", Down)
	r.awaitActive(t, true, false)
	mend1()
	mend2()
	must(t, say(c, "again"))
}

// Tunnels of one priority share the flows, and each flow keeps to one tunnel.
func TestECMP(t *testing.T) {
	t.Parallel()
	r := newRedundant(t, [2]uint32{10, 10}, Probe{IntervalMS: 50, Fall: 20, Rise: 3})
	r.awaitActive(t, true, true)
	r.site.echo("192.168.50.1:7")
	sent := func() (out [2]uint64) {
		for i, name := range []string{"hq1", "hq2"} {
			p, err := peerState(r.a, name, "hq")
			must(t, err)
			out[i] = p.TxBytes
		}
		return out
	}
	const flows, size = 32, 20000
	word := string(make([]byte, size))
	carried := [2]int{}
	for range flows {
		c := r.comp.dial("10.1.1.1", "192.168.50.1:7")
		before := sent()
		must(t, say(c, word))
		var after [2]uint64
		await(t, "the flow is counted", func() error { // after it is sent, so maybe after the echo came
			if after = sent(); after[0]-before[0]+after[1]-before[1] <= size {
				return fmt.Errorf("%v, then %v", before, after)
			}
			return nil
		})
		one, two := after[0]-before[0] > size, after[1]-before[1] > size
		if one == two {
			t.Fatalf("a flow went by both tunnels, or by none: %v, %v", before, after)
		}
		carried[map[bool]int{true: 0, false: 1}[one]]++
	}
	if carried[0] < flows/8 || carried[1] < flows/8 {
		t.Errorf("of %d flows the tunnels carried %v", flows, carried)
	}
	c := r.comp.dial("10.1.1.1", "192.168.50.1:7")
	must(t, say(c, "before"))
	for port := range uint16(2) {
		mend := r.site.cut(51820 + port)
		r.awaitActive(t, port == 1, port == 0)
		must(t, say(c, "during the cut"))
		mend()
		r.awaitActive(t, true, true)
		must(t, say(c, "after"))
	}
}

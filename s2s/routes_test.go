package s2s

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/internal/nl"
)

func (r route) String() string {
	s := r.dst.String()
	for _, l := range r.links {
		s += fmt.Sprintf(" %s/%d", l.link, l.weight)
	}
	return s
}

func TestChoose(t *testing.T) {
	site := func(name string, priority uint32, weight int, list string) Tunnel {
		return Tunnel{Name: name, Interface: "if-" + name, Peers: []Peer{{Name: "p", Prefixes: prefixList(list), Priority: priority, Weight: weight}}}
	}
	s := Spec{Tunnels: []Tunnel{
		site("a", 10, 0, "10.0.0.0/8 10.5.0.0/16"), site("b", 10, 3, "10.0.0.0/8"), site("c", 20, 0, "10.0.0.0/8 fd00::/48"),
	}}
	for dead, want := range map[string]string{
		"":      "10.0.0.0/8 if-a/1 if-b/3; 10.5.0.0/16 if-a/1; fd00::/48 if-c/1; a b c",
		"a":     "10.0.0.0/8 if-b/3; 10.5.0.0/16 if-a/1; fd00::/48 if-c/1; a b c",
		"c":     "10.0.0.0/8 if-a/1 if-b/3; 10.5.0.0/16 if-a/1; fd00::/48 if-c/1; a b c",
		"a b":   "10.0.0.0/8 if-c/1; 10.5.0.0/16 if-a/1; fd00::/48 if-c/1; a c",
		"a b c": "10.0.0.0/8 if-a/1 if-b/3; 10.5.0.0/16 if-a/1; fd00::/48 if-c/1; a b c",
	} {
		c := choose(s.ways(), func(w way) bool { return !slices.Contains(strings.Fields(dead), w.tunnel) })
		var lines, active []string
		for _, r := range c.routes {
			lines = append(lines, r.String())
		}
		for _, n := range []string{"a", "b", "c"} {
			if c.active[n+"/p"] {
				active = append(active, n)
			}
		}
		if d := cmp.Diff(want, strings.Join(append(lines, strings.Join(active, " ")), "; ")); d != "" {
			t.Errorf("dead: %q: %s", dead, d)
		}
	}
}

func TestPlanRoutes(t *testing.T) {
	index := map[string]int{"if-a": 5, "if-b": 6}
	routes := []route{
		{netip.MustParsePrefix("10.0.0.0/8"), []share{{"if-a", 1}, {"if-b", 3}}},
		{netip.MustParsePrefix("10.5.0.0/16"), []share{{"if-gone", 1}}},
		{netip.MustParsePrefix("fd00::/48"), []share{{"if-a", 1}}},
	}
	want := kernelRoutes(routes, index)
	replace, remove := planRoutes(want, nil)
	if len(replace) != 5 || len(remove) != 0 { // three that refuse, and no way by a link that is not there
		t.Errorf("to make: %v, to remove: %v", replace, remove)
	}
	// As the kernel shows them.
	have := slices.Clone(want)
	for i := range have {
		if len(have[i].NextHops) > 0 {
			have[i].Multipath, have[i].Link = true, have[i].NextHops[0].Link
		}
		if have[i].Unreachable && have[i].Dst.Addr().Is6() {
			have[i].Link = 1
		}
	}
	if replace, remove := planRoutes(want, have); len(replace)+len(remove) > 0 {
		t.Errorf("nothing to do, but: %v %v", replace, remove)
	}
	foreign := nl.Route{Dst: netip.MustParsePrefix("10.99.0.0/16"), Link: 5, Metric: routeMetric}
	have[0].NextHops = have[0].NextHops[:1]
	replace, remove = planRoutes(want, append(have, foreign))
	if len(replace) != 1 || replace[0].Dst != routes[0].dst || len(remove) != 1 || remove[0].Dst != foreign.Dst {
		t.Errorf("to make: %v, to remove: %v", replace, remove)
	}
}

func TestSeen(t *testing.T) {
	tun := Tunnel{RemoteMaps: []Map{{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("100.65.0.0/16")}}}
	for in, want := range map[string]string{
		"10.1.7.0/24":             "100.65.7.0/24",
		"10.0.0.0/8":              "100.65.0.0/16 10.0.0.0/8",
		"10.2.0.0/16 10.1.0.0/16": "10.2.0.0/16 100.65.0.0/16",
	} {
		var got []string
		for _, p := range tun.Seen(prefixList(in)) {
			got = append(got, p.String())
		}
		if d := cmp.Diff(want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", in, d)
		}
	}
}

// What lies within the link's own prefix has a route already.
func TestChooseConnected(t *testing.T) {
	s := Spec{Tunnels: []Tunnel{{Name: "a", Interface: "if-a", Addresses: prefixList("169.254.1.1/30 fd10::1/126"), Peers: []Peer{{
		Name: "p", FromBGP: true, Prefixes: prefixList("169.254.1.2/32 fd10::2/128 169.254.0.0/16")}}}}}
	c := choose(s.ways(), func(way) bool { return true })
	if len(c.routes) != 1 || c.routes[0].dst != netip.MustParsePrefix("169.254.0.0/16") || !c.active["a/p"] {
		t.Errorf("routes %v, active %v", c.routes, c.active)
	}
}

// Where there is nothing to fail over to, probes are rare, unless said otherwise.
func TestProbeOfPeer(t *testing.T) {
	peer := Peer{Name: "p", Prefixes: prefixList("10.0.0.0/8")}
	s := Spec{Tunnels: []Tunnel{{Name: "a", Peers: []Peer{peer}}, {Name: "b", Peers: []Peer{peer}}, {Name: "c", Peers: []Peer{{Name: "p", Prefixes: prefixList("10.0.0.0/9")}}}}}
	r := s.redundant()
	if !r["a/p"] || !r["b/p"] || r["c/p"] {
		t.Errorf("redundant are %v", r)
	}
	for i := range s.Tunnels {
		s.Tunnels[i].Peers = []Peer{{Name: "p", FromBGP: i != 1}}
	}
	if r = s.redundant(); !r["a/p"] || r["b/p"] || !r["c/p"] {
		t.Errorf("redundant by BGP are %v", r)
	}
	s.Tunnels = s.Tunnels[:2]
	if r = s.redundant(); len(r) != 0 {
		t.Errorf("with one that has BGP, redundant are %v", r)
	}
	if got := peer.probe(true).interval().Milliseconds(); got != DefaultIntervalMS {
		t.Errorf("redundant: every %d ms", got)
	}
	if got := peer.probe(false).interval().Milliseconds(); got != AloneIntervalMS {
		t.Errorf("alone: every %d ms", got)
	}
	peer.Probe.IntervalMS = 50
	if got := peer.probe(false); got != peer.Probe {
		t.Errorf("with an interval of its own: %+v", got)
	}
}

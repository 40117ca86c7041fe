//go:build privileged && linux

package speaker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
)

// conforming is what TestConformance's neighbours are told.
var conforming = map[string]map[string]attributes{
	"efrr": {
		// Own: MED and communities go, local preference does not.
		"10.1.1.0/24": {path: "65550", origin: "igp", nextHop: "10.0.1.1", med: "5", communities: "65000:7 65000:8", large: "65550:8:9"},
		"10.1.2.0/24": {path: "65550", origin: "igp", nextHop: "10.0.1.1"},
		"fd01:1::/64": {path: "65550", origin: "igp", nextHop: "fd00:1::1", med: "6"},
		"0.0.0.0/0":   {path: "65550", origin: "igp", nextHop: "10.0.1.1"},
		"10.2.0.0/16": {path: "65550", origin: "igp", nextHop: "10.0.1.1", aggregator: "65550 10.9.9.9", atomic: true},
		// Learned: MED ends here (RFC 4271, 5.1.4), the rest is passed on.
		"172.20.1.0/24": {path: "65550 65551", origin: "igp", nextHop: "10.0.1.1", communities: "65100:1 65100:2", large: "65551:1:2"},
		"172.20.2.0/24": {path: "65550 65551", origin: "egp", nextHop: "10.0.1.1"},
		"172.20.3.0/24": {path: "65550 65551 65551 65550", origin: "incomplete", nextHop: "10.0.1.1"}, // 64512 replaced
		"172.20.6.0/24": {path: "65550 65551", origin: "igp", nextHop: "10.0.1.1", rt: "RT:65100:5"},
		"172.22.1.0/24": {path: "65550 65550", origin: "igp", nextHop: "10.0.1.1"},
		"fd02:20::/48":  {path: "65550 65551", origin: "igp", nextHop: "fd00:1::1", communities: "65100:1 65100:2", large: "65551:1:2"},
	},
	"ebird": {
		"10.1.1.0/24":    {path: "65550", origin: "igp", nextHop: "10.0.2.1", med: "5", communities: "65000:7 65000:8", large: "65550:8:9"},
		"10.1.2.0/24":    {path: "65550 65550 65550", origin: "igp", nextHop: "10.0.2.1"},
		"fd01:1::/64":    {path: "65550", origin: "igp", nextHop: "fd00:2::1", med: "6"},
		"0.0.0.0/0":      {path: "65550", origin: "igp", nextHop: "10.0.2.1"},
		"::/0":           {path: "65550", origin: "igp", nextHop: "fd00:2::1"},
		"10.2.0.0/16":    {path: "65550", origin: "igp", nextHop: "10.0.2.1", aggregator: "65550 10.9.9.9", atomic: true},
		"172.21.1.0/24":  {path: "65550 65001 65001 64999", origin: "egp", nextHop: "10.0.2.1", communities: "65001:100 65001:200", large: "65001:1:2"},
		"172.21.16.0/20": {path: "65550 65001", origin: "igp", nextHop: "10.0.2.1", aggregator: "65001 10.0.1.2", atomic: true},
		"fd02:21::/48":   {path: "65550 65001 65001 64999", origin: "egp", nextHop: "fd00:2::1", communities: "65001:100 65001:200", large: "65001:1:2"},
	},
	"ifrr": {
		// Inside: the path is as it was, and so is the next hop of what came from outside.
		"10.1.1.0/24":   {path: "", origin: "igp", nextHop: "10.0.3.1", med: "5", pref: "150", communities: "65000:7 65000:8", large: "65550:8:9"},
		"fd01:1::/64":   {path: "", origin: "igp", nextHop: "fd00:3::1", med: "6", pref: "100"},
		"172.20.1.0/24": {path: "65551", origin: "igp", nextHop: "10.0.2.2", med: "7", pref: "100", communities: "65100:1 65100:2", large: "65551:1:2"},
		"172.20.4.0/24": {path: "65551", origin: "igp", nextHop: "10.0.2.2", pref: "100", communities: "no-export"},
		"172.21.1.0/24": {path: "65001 65001 64999", origin: "egp", nextHop: "10.0.1.2", med: "77", pref: "100", communities: "65001:100 65001:200", large: "65001:1:2"},
		"fd02:20::/48":  {path: "65551", origin: "igp", nextHop: "fd00:2::2", med: "7", pref: "100", communities: "65100:1 65100:2", large: "65551:1:2"},
	},
	"ibird": {
		"10.1.1.0/24":   {path: "", origin: "igp", nextHop: "10.0.4.1", med: "5", pref: "150", communities: "65000:7 65000:8", large: "65550:8:9"},
		"10.1.2.0/24":   {path: "", origin: "igp", nextHop: "10.0.4.9", pref: "250"},
		"172.20.1.0/24": {path: "65551", origin: "igp", nextHop: "10.0.4.1", med: "7", pref: "100", communities: "65100:1 65100:2", large: "65551:1:2"},
		"172.20.4.0/24": {path: "65551", origin: "igp", nextHop: "10.0.4.1", pref: "100", communities: "no-export"},
		"fd02:21::/48":  {path: "65001 65001 64999", origin: "egp", nextHop: "fd00:4::1", med: "77", pref: "100", communities: "65001:100 65001:200", large: "65001:1:2"},
	},
	"old": {
		// AS_TRANS stands for what does not fit (RFC 6793, 4.2.2).
		"10.1.1.0/24":   {path: "23456", origin: "igp", nextHop: "10.0.5.1", med: "5", communities: "65000:7 65000:8", large: "65550:8:9"},
		"172.20.1.0/24": {path: "23456 23456", origin: "igp", nextHop: "10.0.5.1", communities: "65100:1 65100:2", large: "65551:1:2"},
		"172.21.1.0/24": {path: "23456 65001 65001 64999", origin: "egp", nextHop: "10.0.5.1", communities: "65001:100 65001:200", large: "65001:1:2"},
	},
}

// untold is what they are not told: what summaries and aggregates stand for, what is
// not for everybody (RFC 1997), and what came from another neighbour inside.
var untold = map[string][]string{
	"efrr":  {"10.2.1.0/24", "172.20.4.0/24", "172.20.5.0/24", "::/0"},
	"ebird": {"10.2.1.0/24", "172.21.17.0/24"},
	"ifrr":  {"10.2.1.0/24", "172.20.5.0/24", "172.22.1.0/24", "0.0.0.0/0"},
	"ibird": {"172.20.5.0/24", "0.0.0.0/0"},
	"old":   {"172.20.4.0/24", "172.20.5.0/24", "0.0.0.0/0"},
}

// conformsReceived looks at what the speaker took from its neighbours.
func conformsReceived(t *testing.T, s *process) {
	t.Helper()
	tagged := bgp.Path{ASPath: "65001 65001 64999", Origin: "egp", MED: ptr(uint32(77)), NextHop: addr("10.0.1.2"),
		Communities: []bgp.Community{65001<<16 | 100, 65001<<16 | 200}, LargeCommunities: []bgp.LargeCommunity{{Global: 65001, Local1: 1, Local2: 2}}}
	tagged6 := tagged
	tagged6.NextHop = addr("fd00:1::2")
	for _, x := range []struct {
		peer, prefix string
		want         bgp.Path
	}{
		{"efrr", "172.21.1.0/24", tagged},
		{"efrr6", "fd02:21::/48", tagged6},
		{"efrr", "172.21.16.0/20", bgp.Path{ASPath: "65001", Origin: "igp", MED: ptr(uint32(0)), NextHop: addr("10.0.1.2"), Aggregator: "65001 10.0.1.2", AtomicAggregate: true}},
		{"ebird", "172.20.1.0/24", bgp.Path{ASPath: "65551", Origin: "igp", MED: ptr(uint32(7)), NextHop: addr("10.0.2.2"),
			Communities: []bgp.Community{65100<<16 | 1, 65100<<16 | 2}, LargeCommunities: []bgp.LargeCommunity{{Global: birdAS, Local1: 1, Local2: 2}}}},
		{"ebird", "172.20.3.0/24", bgp.Path{ASPath: "65551 65551 64512", Origin: "incomplete", NextHop: addr("10.0.2.2")}},
		{"ibird", "172.22.1.0/24", bgp.Path{ASPath: "65009", Origin: "igp", MED: ptr(uint32(44)), LocalPref: ptr(uint32(333)), NextHop: addr("10.0.4.2")}},
		{"old", "172.23.1.0/24", bgp.Path{ASPath: "65005 65552", Origin: "igp", MED: ptr(uint32(0)), NextHop: addr("10.0.5.2")}},
	} {
		x.want.Prefix = prefix(x.prefix)
		wait(t, x.prefix+" from "+x.peer, func() (bool, string) {
			paths := s.do(ask{Op: "received", Peer: x.peer, Filter: Filter{Within: x.want.Prefix}}).Paths
			if len(paths) == 0 {
				return false, "nothing"
			}
			got := paths[0]
			x.want.Peer, x.want.Since, x.want.Best = got.Peer, got.Since, got.Best
			return say(got) == say(x.want), say(paths)
		})
	}
}

// conformsChanges withdraws routes, changes them, and asks for them again.
func conformsChanges(t *testing.T, s *process, spec bgp.Spec, observers map[string]observer) {
	t.Helper()
	gone := func(prefix string, who ...string) {
		t.Helper()
		for _, w := range who {
			wait(t, w+" without "+prefix, func() (bool, string) { _, found, said := observers[w].told(prefix); return !found, said })
		}
	}
	spec.Networks = slices.Clone(spec.Networks)
	spec.Networks[0].MED = ptr(uint32(6)) // another path in the place of the first
	spec.Networks[0].Communities = nil
	spec.Networks = slices.DeleteFunc(spec.Networks, func(n bgp.Network) bool {
		return n.Prefix == prefix("10.1.99.0/24") || n.Prefix == prefix("10.2.1.0/24")
	})
	s.apply(spec)
	gone("10.1.99.0/24", "efrr", "ebird", "ifrr", "ibird", "old")
	gone("10.2.0.0/16", "efrr", "ebird") // nothing that it stands for
	for who, hop := range map[string]string{"efrr": "10.0.1.1", "ebird": "10.0.2.1"} {
		want := attributes{path: "65550", origin: "igp", nextHop: hop, med: "6", large: "65550:8:9"}
		wait(t, who+" on the change", func() (bool, string) {
			got, found, said := observers[who].told("10.1.1.0/24")
			return found && got == want, fmt.Sprintf("%+v, want\n%+v, in\n%s", got, want, said)
		})
	}
	bird, frr := observers["ebird"].(birdObserver), observers["efrr"].(frrObserver)
	bird.reconfigure(t, "route 172.20.2.0/24 blackhole;", "")
	frr.show("configure terminal", "router bgp 65001", "address-family ipv4 unicast", "no network 172.21.2.0/24")
	gone("172.20.2.0/24", "efrr", "ifrr", "ibird", "old")
	gone("172.21.2.0/24", "ebird", "ifrr", "ibird", "old")

	// Route refresh (RFC 2918): both ask, and are told all again.
	asked := func(name string, f func()) {
		t.Helper()
		before := s.peer(name)
		f()
		wait(t, name+" asks again", func() (bool, string) {
			st := s.peer(name)
			return st.Received.Refreshes > before.Received.Refreshes && st.Sent.Updates > before.Sent.Updates && st.Since == before.Since, say(st)
		})
	}
	asked("efrr", func() { frr.show("clear bgp ipv4 unicast 10.0.1.1 soft in") })
	asked("ebird", func() {
		if out, err := bird.client("reload", "in", "four"); err != nil {
			t.Fatal(out)
		}
	})
	// And what they are sent anew, they count.
	counted := map[string]func() string{
		"efrr": func() string {
			_, after, _ := strings.Cut(frr.show("show bgp neighbors 10.0.1.1 json"), `"updatesRecv":`)
			n, _, _ := strings.Cut(after, ",")
			return n
		},
		"ebird": func() string {
			out, _ := bird.client("show", "protocols", "all", "four")
			_, after, _ := strings.Cut(out, "Import updates:")
			return strings.Fields(after)[0]
		},
	}
	for name, count := range counted {
		before := count()
		s.do(ask{Op: "reset", Peer: name, Out: true})
		wait(t, name+" is told again", func() (bool, string) { now := count(); return now != before, before + " " + now })
	}
}

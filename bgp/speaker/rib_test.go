package speaker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

func TestRouteOfPaths(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	dst, agg := netip.MustParsePrefix("172.16.0.0/16"), netip.MustParsePrefix("10.1.0.0/16")
	p := plan{ecmp: 2, direct: map[netip.Addr]bool{a: true}, dynamic: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/31")}, aggregates: map[netip.Prefix]bool{agg: true}}
	hops := func(peers ...netip.Addr) (out []bgp.NextHop) {
		for _, x := range peers {
			out = append(out, bgp.NextHop{Address: x, Peer: x, Direct: true})
		}
		return out
	}
	for _, tc := range []struct {
		what   string
		prefix netip.Prefix
		paths  []hop
		want   bgp.Route
	}{
		{"none", dst, nil, bgp.Route{Prefix: dst}},
		{"one", dst, []hop{{peer: a, via: a}}, bgp.Route{Prefix: dst, NextHops: hops(a)}},
		{"several, in order, no more than ecmp", dst, []hop{{peer: c, via: c}, {peer: b, via: b}, {peer: a, via: a}}, bgp.Route{Prefix: dst, NextHops: hops(a, b)}},
		{"one way told twice", dst, []hop{{peer: a, via: a}, {peer: b, via: a}}, bgp.Route{Prefix: dst, NextHops: hops(a)}},
		{"own before learned", dst, []hop{{peer: a, via: a}, {}}, bgp.Route{Prefix: dst}},
		{"own aggregate", agg, []hop{{}}, bgp.Route{Prefix: agg, Unreachable: true}},
		{"last resort with others", dst, []hop{{peer: a, via: a, lastStand: true}, {peer: b, via: b}}, bgp.Route{Prefix: dst, NextHops: hops(b)}},
		{"last resort alone", dst, []hop{{peer: a, via: a, lastStand: true}}, bgp.Route{Prefix: dst, NextHops: hops(a)}},
		{"iBGP", dst, []hop{{peer: a, via: c, internal: true}}, bgp.Route{Prefix: dst, Internal: true, NextHops: []bgp.NextHop{{Address: c, Peer: a}}}},
	} {
		if got := p.route(tc.prefix, tc.paths); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, want %+v", tc.what, got, tc.want)
		}
	}
}

func TestMartians(t *testing.T) {
	for _, p := range []string{"127.0.0.0/8", "127.0.0.1/32", "224.0.0.0/4", "239.1.1.1/32", "255.255.255.255/32", "240.0.0.0/8", "0.0.0.0/8", "0.1.0.0/16",
		"ff02::/16", "ff00::/8", "fe80::/10", "fe80::1/128", "::1/128", "::/128", "::/96", "::ffff:10.0.0.0/104"} {
		if r := (plan{}).route(netip.MustParsePrefix(p), []hop{{peer: netip.MustParseAddr("10.0.0.1"), via: netip.MustParseAddr("10.0.0.1")}}); len(r.NextHops) > 0 {
			t.Errorf("%s has a route", p)
		}
	}
	for _, p := range []string{"0.0.0.0/0", "10.0.0.0/8", "128.0.0.0/1", "192.0.0.0/2", "1.0.0.0/8", "::/0", "fd00::/8", "2000::/3", "fe00::/9", "64:ff9b::/96"} {
		if martian(netip.MustParsePrefix(p)) {
			t.Errorf("%s is taken for a martian", p)
		}
	}
}

// After any news in any order, the mirror holds what was said last, aggregates
// count what they cover, and each changed prefix is handed on.
func TestRIBMirrors(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	mirror := newRIB()
	aggs := []bgp.Aggregate{{Prefix: netip.MustParsePrefix("10.0.0.0/30")}, {Prefix: netip.MustParsePrefix("10.0.0.0/29")}}
	mirror.setAggregates(aggs[:1])
	naive := map[string]gobgp.BestPath{} // by prefix, peer, path ID
	handed := map[netip.Prefix]bgp.Route{}
	plan := plan{ecmp: 8}
	for step := range 5000 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(8))}), 30+r.IntN(3)).Masked()
		p := gobgp.BestPath{
			Prefix: prefix, Peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))}), ID: uint32(r.IntN(2)),
			NextHop: netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(3))}), Withdrawn: r.IntN(2) == 0,
		}
		k := fmt.Sprint(p.Prefix, p.Peer, p.ID)
		if p.Withdrawn {
			delete(naive, k)
		} else {
			naive[k] = p
		}
		mirror.update([]gobgp.BestPath{p})
		if step == 1000 {
			mirror.setAggregates(aggs)
		}
		if r.IntN(20) == 0 {
			for more := true; more; {
				var routes []bgp.Route
				for routes, more = mirror.take(2, plan); len(routes) > 0; routes = nil {
					for _, rt := range routes {
						handed[rt.Prefix] = rt
					}
				}
			}
			compareRIB(t, naive, handed, mirror, plan)
		}
	}
	mirror.clear()
	routes, _ := mirror.take(1000, plan)
	for _, rt := range routes {
		handed[rt.Prefix] = rt
	}
	compareRIB(t, nil, handed, mirror, plan)
}

func compareRIB(t *testing.T, naive map[string]gobgp.BestPath, handed map[netip.Prefix]bgp.Route, mirror *rib, p plan) {
	t.Helper()
	want := map[netip.Prefix][]hop{}
	for _, b := range naive {
		want[b.Prefix] = append(want[b.Prefix], hop{peer: b.Peer, via: b.NextHop, id: b.ID})
	}
	for prefix, rt := range handed {
		if w := p.route(prefix, want[prefix]); !slices.EqualFunc(rt.NextHops, w.NextHops, func(a, b bgp.NextHop) bool { return a.Address == b.Address }) {
			t.Fatalf("%s: handed on %v, want %v", prefix, rt, w)
		}
	}
	for prefix := range want {
		if _, ok := handed[prefix]; !ok {
			t.Fatalf("%s was not handed on", prefix)
		}
	}
	for a, n := range mirror.aggregates {
		covered := 0
		for prefix := range want {
			if covers(a, prefix) {
				covered++
			}
		}
		if n != covered {
			t.Fatalf("aggregate %s stands for %d, counts %d", a, covered, n)
		}
	}
}

package s2s

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// RouteProtocol marks the routes of this package in the kernel.
const RouteProtocol = 202

const (
	// routeMetric leaves a prefix that the compartment itself routes (metric 0,
	// for IPv6 1024) to the compartment.
	routeMetric = 2000
	// refuseMetric is behind everything: while a tunnel is gone its traffic must
	// not leave in the clear by the default route.
	refuseMetric = 4000000000
)

// hop6 is the next hop of every IPv6 route into a tunnel: the kernel shares
// flows between next hops only where they have addresses. Nobody is asked for
// it, as a tunnel has no neighbours.
var hop6 = netip.MustParseAddr("fe80::1")

// way is one peer's offer to carry packets to a prefix, as the tenant sees it.
type way struct {
	dst          netip.Prefix
	tunnel, peer string
	link         string
	priority     uint32
	weight       int
	// connected: the prefix is that of the link, whose own route leads there.
	// Another would be in the way of next hops in it.
	connected bool
}

// ways lists what the Spec's peers offer.
func (s Spec) ways() []way {
	var out []way
	for _, t := range s.Tunnels {
		for _, p := range t.Peers {
			for _, dst := range t.Seen(p.Prefixes) {
				out = append(out, way{dst: dst, tunnel: t.Name, peer: p.Name, link: t.Interface,
					priority: p.Priority, weight: p.weight(), connected: t.connected(dst)})
			}
		}
	}
	return out
}

// connected tells whether the prefix lies within that of an address of the link.
func (t Tunnel) connected(p netip.Prefix) bool {
	return slices.ContainsFunc(t.Addresses, func(a netip.Prefix) bool { return a.Bits() <= p.Bits() && a.Overlaps(p) })
}

// Seen gives the prefixes as the tenant sees them.
func (t Tunnel) Seen(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	add := func(p netip.Prefix) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for _, p := range prefixes {
		within := false
		for _, m := range t.RemoteMaps {
			if !p.Overlaps(m.Real) {
				continue
			}
			if p.Bits() >= m.Real.Bits() {
				within = true
				add(netip.PrefixFrom(translate(p.Addr(), m.Mapped), p.Bits()))
			} else {
				add(m.Mapped)
			}
		}
		if !within {
			add(p)
		}
	}
	return out
}

// route is a route that should be.
type route struct {
	dst   netip.Prefix
	links []share // sorted by name, each once
}

type share struct {
	link   string
	weight int
}

// chosen is what becomes of the ways.
type chosen struct {
	routes []route // sorted by prefix
	// active tells, by "tunnel/peer", whether packets go that way.
	active map[string]bool
}

// choose picks for each prefix the ways of the lowest priority that are alive.
// Where none is, the ways of the lowest priority keep their packets: a probe may
// be wrong, and elsewhere they must not go.
func choose(ways []way, alive func(way) bool) chosen {
	c := chosen{active: map[string]bool{}}
	by := map[netip.Prefix][]way{}
	for _, w := range ways {
		if w.connected {
			c.active[w.tunnel+"/"+w.peer] = true
			continue
		}
		by[w.dst] = append(by[w.dst], w)
	}
	for dst, ws := range by {
		best := ws
		if live := slices.DeleteFunc(slices.Clone(ws), func(w way) bool { return !alive(w) }); len(live) > 0 {
			best = live
		}
		lowest := slices.MinFunc(best, func(a, b way) int { return cmp.Compare(a.priority, b.priority) }).priority
		r := route{dst: dst}
		for _, w := range best {
			if w.priority != lowest || slices.ContainsFunc(r.links, func(s share) bool { return s.link == w.link }) {
				continue
			}
			r.links = append(r.links, share{w.link, w.weight})
			c.active[w.tunnel+"/"+w.peer] = true
		}
		slices.SortFunc(r.links, func(a, b share) int { return cmp.Compare(a.link, b.link) })
		c.routes = append(c.routes, r)
	}
	slices.SortFunc(c.routes, func(a, b route) int { return comparePrefix(a.dst, b.dst) })
	return c
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// kernelRoutes gives the routes in the kernel's terms; index has the links that
// are there.
func kernelRoutes(rs []route, index map[string]int) []nl.Route {
	var out []nl.Route
	for _, r := range rs {
		k := nl.Route{Dst: r.dst, Metric: routeMetric, Protocol: RouteProtocol}
		via := netip.Addr{}
		if r.dst.Addr().Is6() {
			via = hop6
		}
		var hops []nl.NextHop
		for _, s := range r.links {
			if i, there := index[s.link]; there {
				hops = append(hops, nl.NextHop{Via: via, Link: i, Weight: s.weight})
			}
		}
		switch len(hops) {
		case 0:
		case 1:
			k.Via, k.Link = via, hops[0].Link
			out = append(out, k)
		default:
			k.NextHops = hops
			out = append(out, k)
		}
		out = append(out, nl.Route{Dst: r.dst, Metric: refuseMetric, Protocol: RouteProtocol, Unreachable: true})
	}
	return out
}

// planRoutes tells what to replace and what to remove.
func planRoutes(want, have []nl.Route) (replace, remove []nl.Route) {
	type key struct {
		dst    netip.Prefix
		metric uint32
	}
	there := map[key]nl.Route{}
	for _, h := range have {
		there[key{h.Dst, h.Metric}] = h
	}
	for _, w := range want {
		k := key{w.Dst, w.Metric}
		if h, ok := there[k]; !ok || !sameRoute(w, h) {
			replace = append(replace, w)
		}
		delete(there, k)
	}
	for _, h := range have {
		if _, left := there[key{h.Dst, h.Metric}]; left {
			remove = append(remove, h)
		}
	}
	return replace, remove
}

func sameRoute(want, have nl.Route) bool {
	if want.Unreachable || have.Unreachable {
		return want.Unreachable == have.Unreachable
	}
	if len(want.NextHops) != len(have.NextHops) {
		return false
	}
	if len(want.NextHops) == 0 {
		return want.Link == have.Link && want.Via == have.Via
	}
	return !slices.ContainsFunc(want.NextHops, func(n nl.NextHop) bool { return !slices.Contains(have.NextHops, n) })
}

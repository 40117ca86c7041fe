package speaker

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

// hop is one of the best paths to a prefix.
type hop struct {
	peer      netip.Addr // unset: own route
	via       netip.Addr
	id        uint32
	internal  bool
	lastStand bool
}

// rib mirrors gobgp's best paths, and tells which prefixes changed.
type rib struct {
	mu    sync.Mutex
	best  map[netip.Prefix][]hop
	dirty map[netip.Prefix]struct{}
	wake  chan struct{} // of the worker; has room for one
	// aggregates: how many known prefixes each stands for.
	aggregates map[netip.Prefix]int
}

func newRIB() *rib {
	return &rib{
		best: map[netip.Prefix][]hop{}, dirty: map[netip.Prefix]struct{}{}, wake: make(chan struct{}, 1), aggregates: map[netip.Prefix]int{},
	}
}

// update takes gobgp's news.
func (r *rib) update(paths []gobgp.BestPath) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range paths {
		p := &paths[i]
		hops, had := r.best[p.Prefix]
		at := slices.IndexFunc(hops, func(h hop) bool { return h.peer == p.Peer && h.id == p.ID })
		news := hop{peer: p.Peer, via: p.NextHop, id: p.ID, internal: p.Internal, lastStand: p.LastStand}
		switch {
		case p.Withdrawn && at < 0:
			continue
		case p.Withdrawn:
			hops = slices.Delete(hops, at, at+1)
		case at < 0:
			hops = append(hops, news)
		case hops[at] == news:
			continue
		default:
			hops[at] = news
		}
		if len(hops) == 0 {
			delete(r.best, p.Prefix)
		} else {
			r.best[p.Prefix] = hops
		}
		if had != (len(hops) > 0) {
			r.count(p.Prefix, had)
		}
		r.dirty[p.Prefix] = struct{}{}
	}
	if len(r.dirty) > 0 {
		r.poke()
	}
}

func (r *rib) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.best)
}

func (r *rib) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// count keeps the aggregates' numbers when a prefix came or went.
func (r *rib) count(p netip.Prefix, went bool) {
	for a := range r.aggregates {
		if covers(a, p) {
			if went {
				r.aggregates[a]--
			} else {
				r.aggregates[a]++
			}
		}
	}
}

// covers tells whether p is a more specific prefix of a.
func covers(a, p netip.Prefix) bool { return a.Bits() < p.Bits() && a.Contains(p.Addr()) }

// setAggregates says which aggregates there are.
func (r *rib) setAggregates(list []bgp.Aggregate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.aggregates
	r.aggregates = map[netip.Prefix]int{}
	for _, a := range list {
		n, known := old[a.Prefix]
		if !known {
			for p := range r.best {
				if covers(a.Prefix, p) {
					n++
				}
			}
		}
		r.aggregates[a.Prefix] = n
	}
	for p := range old {
		if _, still := r.aggregates[p]; !still {
			r.dirty[p] = struct{}{}
		}
	}
	r.poke()
}

// known are the aggregates that stand for something.
func (r *rib) known() map[netip.Prefix]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[netip.Prefix]bool{}
	for a, n := range r.aggregates {
		if n > 0 {
			out[a] = true
		}
	}
	return out
}

// touch makes all prefixes count as changed.
func (r *rib) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.best {
		r.dirty[p] = struct{}{}
	}
	r.poke()
}

// clear forgets all, as the tables behind it are gone.
func (r *rib) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.best {
		r.dirty[p] = struct{}{}
	}
	r.best = map[netip.Prefix][]hop{}
	for a := range r.aggregates {
		r.aggregates[a] = 0
	}
	r.poke()
}

// take gives up to n changed prefixes as routes, and whether there are more.
func (r *rib) take(n int, p plan) (routes []bgp.Route, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	routes = make([]bgp.Route, 0, min(n, len(r.dirty)))
	for prefix := range r.dirty {
		if len(routes) == n {
			return routes, true
		}
		delete(r.dirty, prefix)
		routes = append(routes, p.route(prefix, r.best[prefix]))
	}
	return routes, false
}

// plan is how best paths become a route; all of it comes from the Spec.
type plan struct {
	ecmp   int
	direct map[netip.Addr]bool // eBGP neighbours one hop away
	// dynamic neighbours are direct where their prefix is here.
	dynamic    []netip.Prefix
	aggregates map[netip.Prefix]bool
}

// route is pure: the same paths always make the same route.
func (p plan) route(prefix netip.Prefix, hops []hop) bgp.Route {
	out := bgp.Route{Prefix: prefix}
	if martian(prefix) {
		return out
	}
	learned := make([]hop, 0, len(hops))
	for _, h := range hops {
		if !h.peer.IsValid() {
			// Own routes need no way, and go before learned ones. Of them only an aggregate
			// has a route: to nowhere, behind all it stands for.
			out.Unreachable = p.aggregates[prefix]
			return out
		}
		learned = append(learned, h)
	}
	if slices.ContainsFunc(learned, func(h hop) bool { return !h.lastStand }) {
		learned = slices.DeleteFunc(learned, func(h hop) bool { return h.lastStand })
	}
	slices.SortFunc(learned, func(a, b hop) int {
		return cmp.Or(a.via.Compare(b.via), a.peer.Compare(b.peer), cmp.Compare(a.id, b.id))
	})
	learned = slices.CompactFunc(learned, func(a, b hop) bool { return a.via == b.via })
	if most := max(p.ecmp, 1); len(learned) > most {
		learned = learned[:most]
	}
	for _, h := range learned {
		out.Internal = out.Internal || h.internal
		out.NextHops = append(out.NextHops, bgp.NextHop{Address: h.via, Peer: h.peer, Direct: !h.internal && p.isDirect(h.peer)})
	}
	return out
}

// martian tells of destinations that no neighbour can have: this network, loopback,
// multicast, reserved, and of one link (RFC 6890, RFC 4291).
func martian(p netip.Prefix) bool {
	a := p.Addr()
	if a.Is4() {
		first := a.As4()[0]
		return p.Bits() >= 8 && (first == 0 || first == 127) || p.Bits() >= 4 && first >= 224
	}
	return p.Bits() >= 8 && a.IsMulticast() || p.Bits() >= 10 && a.IsLinkLocalUnicast() ||
		p.Bits() >= 96 && (a.Is4In6() || netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(a))
}

func (p plan) isDirect(peer netip.Addr) bool {
	return p.direct[peer] || slices.ContainsFunc(p.dynamic, func(d netip.Prefix) bool { return d.Contains(peer) })
}

// planOf reads a plan from a Spec.
func planOf(spec *bgp.Spec) plan {
	p := plan{ecmp: spec.ECMP, direct: map[netip.Addr]bool{}, aggregates: map[netip.Prefix]bool{}}
	for _, peer := range spec.Peers {
		if peer.ASN == spec.ASN || peer.MultihopTTL > 1 || peer.TTLSecurity > 1 {
			continue
		}
		if peer.Prefix.IsValid() {
			p.dynamic = append(p.dynamic, peer.Prefix)
		} else {
			p.direct[peer.Address] = true
		}
	}
	for _, a := range spec.Aggregates {
		p.aggregates[a.Prefix] = true
	}
	return p
}

package compartments

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// seenOutside is what the gateway's namespace holds for one compartment.
type seenOutside struct {
	peer   nl.Link
	routes []nl.Route     // ours over the peer
	hops   []nl.Neighbour // of the wanted ones those that are there
	// proxied tells by uplink interface which of the addresses that matter are
	// answered for, and whether we made it so.
	proxied map[string]map[netip.Addr]bool
	// steered are the shared addresses that have their route to the steering,
	// with its preferred source.
	steered map[netip.Addr]netip.Addr
	entries []entry // its own, and all of the addresses that matter
}

// mine tells whether an entry belongs to the compartment.
func (s *seenOutside) mine(e entry, peer string) bool {
	if e.steers() {
		return e.index == s.peer.Index
	}
	return e.link == peer && e.owned()
}

// owned tells whether the entry is of one compartment, by the peer of its ext.
func (e entry) owned() bool {
	return e.external() || e.set == setExits || e.set == setForward4 || e.set == setForward6
}

// external tells whether the entry gives a compartment an address.
func (e entry) external() bool {
	switch e.set {
	case setWhole4, setWhole6, setPartial4, setPartial6, setShared4, setShared6:
		return true
	}
	return false
}

// heldByOthers tells whether another compartment has the address or a part.
func (s *seenOutside) heldByOthers(a netip.Addr, peer string) bool {
	return slices.ContainsFunc(s.entries, func(e entry) bool { return e.external() && e.addr == a && e.link != peer })
}

// withdrawn are addresses that the compartment has traces of and should not.
func (o *outside) withdrawn(s *seenOutside) []netip.Addr {
	var out []netip.Addr
	add := func(a netip.Addr) {
		if !slices.Contains(o.proxied, a) && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, r := range s.routes {
		if r.Dst.IsSingleIP() {
			add(r.Dst.Addr())
		}
	}
	for _, e := range s.entries {
		if e.external() && e.link == o.peer {
			add(e.addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// planOutside gives the steps in the gateway's namespace. First of all the rules
// know what is allowed; an address is announced when everything else is there.
func planOutside(n names, o outside, s seenOutside) []step {
	var out []step
	if c := planEntries(o, s); len(c.put)+len(c.del) > 0 {
		out = append(out, c)
	}
	for _, a := range o.withdrawn(&s) {
		if s.heldByOthers(a, o.peer) {
			continue
		}
		for _, up := range sortedKeys(s.proxied) {
			if ours, ok := s.proxied[up][a]; ok && ours {
				out = append(out, delProxy{up, a})
			}
		}
		if src, ok := s.steered[a]; ok {
			out = append(out, delRoute{outward, steerRoute(n, a, src)})
		}
	}
	for _, a := range o.proxied { // shared until now, from now on all its own; or not as it should be
		src, ok := s.steered[a]
		if ok && (!slices.Contains(o.shared, a) || src != o.source.to(a)) {
			out = append(out, delRoute{outward, steerRoute(n, a, src)})
		}
	}
	for _, h := range o.hops {
		if !slices.ContainsFunc(s.hops, func(x nl.Neighbour) bool { return x.Addr == h.addr && x.MAC == h.mac }) {
			out = append(out, setHop{outward, h})
		}
	}
	var have []route
	for _, r := range s.routes {
		have = append(have, routeOf(r, o.peer))
	}
	out = append(out, diffRoutes(outward, o.routes, have)...)
	for _, a := range o.shared {
		if src, ok := s.steered[a]; !ok || src != o.source.to(a) {
			out = append(out, addRoute{outward, steerRoute(n, a, o.source.to(a))})
		}
	}
	return append(out, planProxies(o, s)...)
}

func planProxies(o outside, s seenOutside) []step {
	var out []step
	var fresh []netip.Addr
	for _, a := range o.proxied {
		for _, up := range sortedKeys(s.proxied) {
			ours, is := s.proxied[up][a]
			switch {
			case up == o.uplink && !is:
				out = append(out, addProxy{up, a})
				fresh = append(fresh, a)
			case up != o.uplink && is && ours:
				out = append(out, delProxy{up, a})
			}
		}
	}
	if len(fresh) > 0 {
		out = append(out, announce{o.uplink, fresh})
	}
	return out
}

// planEntries also removes what stands in the way: the remains of a link that
// is gone.
func planEntries(o outside, s seenOutside) changeEntries {
	want := slices.Clone(o.entries)
	for i := range want {
		if want[i].steers() {
			want[i].index = s.peer.Index
		}
	}
	var c changeEntries
	for _, e := range want {
		if !slices.Contains(s.entries, e) {
			c.put = append(c.put, e)
		}
	}
	for _, e := range s.entries {
		inTheWay := e.steers() && slices.ContainsFunc(c.put, e.overlaps)
		if (s.mine(e, o.peer) || inTheWay) && !slices.Contains(want, e) {
			c.del = append(c.del, e)
		}
	}
	slices.SortFunc(c.del, entry.compare)
	return c
}

// steerRoute leads a shared address to the link on which steering takes place.
func steerRoute(n names, a, src netip.Addr) route {
	return route{link: n.steerIn(), dst: netip.PrefixFrom(a, a.BitLen()), metric: metric(a), src: src}
}

//go:build linux

package speaker

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// resolve gives the ways that next hops come to; those that are not reachable are
// left out.
func (k *Kernel) resolve(hops []bgp.NextHop) []nl.NextHop {
	var out []nl.NextHop
	for _, h := range hops {
		if way, ok := k.way(h); ok && !slices.ContainsFunc(out, func(o nl.NextHop) bool { return o.Via == way.Via && o.Link == way.Link }) {
			out = append(out, way)
		}
	}
	return out
}

// way looks a next hop up. A direct one must be on a link. Any other may be behind
// a router, but not by a route that BGP made, which could lead back here, nor by
// the default route, which says nothing about it (RFC 4271, 9.1.2.1).
func (k *Kernel) way(h bgp.NextHop) (nl.NextHop, bool) {
	out := nl.NextHop{Via: h.Address.WithZone(""), Weight: max(int(h.Weight), 1)}
	if zone := h.Address.Zone(); zone != "" {
		l, err := k.h.Link(zone)
		out.Link = l.Index
		return out, err == nil && l.Carrier
	}
	r, err := k.h.RouteTo(h.Address)
	if err != nil || r.Protocol == nl.ProtocolBGP || r.Dst.Bits() == 0 {
		return out, false
	}
	// The kernel keeps IPv4 routes over a link that lost its carrier.
	if l, err := k.h.LinkByIndex(r.Link); err != nil || !l.Carrier {
		return out, false
	}
	out.Link = r.Link
	if !r.Via.IsValid() && !r.Multipath {
		return out, r.Link != 0
	}
	if h.Direct {
		return out, false
	}
	if r.Multipath {
		out.Via = r.NextHops[0].Via
	} else {
		out.Via = r.Via
	}
	return out, out.Via.IsValid() && out.Link != 0
}

// Retry looks next hops up anew that were not reachable, and tries for places that
// somebody else's routes had.
func (k *Kernel) Retry() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	seen := map[*hopSet]bool{}
	b := &changes{k: k, quiet: true}
	for p, r := range k.routes {
		if r.state != unresolved && r.state != conflict {
			continue
		}
		if r.set != nil && !seen[r.set] {
			seen[r.set] = true
			if len(r.set.resolved) == 0 {
				r.set.resolved = k.resolve(r.set.hops)
			}
		}
		if r.set == nil || len(r.set.resolved) > 0 {
			b.add(nl.RouteAdd, message(p, r), r)
			k.mark(r, installed)
		}
	}
	return b.carryOut()
}

// Repair looks next hops up anew, compares the table with what should be in it, and
// mends what differs.
func (k *Kernel) Repair() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	list, err := k.h.Routes(nl.ProtocolBGP, 0)
	if err != nil {
		return err
	}
	there := make(map[netip.Prefix]nl.Route, len(list))
	b := &changes{k: k}
	for _, r := range list {
		if ours := k.routes[r.Dst]; ours == nil || ours.metric != r.Metric {
			b.add(nl.RouteDelete, r, nil)
			continue
		}
		there[r.Dst] = r
	}
	for _, s := range k.sets {
		s.resolved = k.resolve(s.hops)
	}
	k.last = nil
	for p, r := range k.routes {
		if r.state != stale {
			real, found := there[p]
			k.mend(p, r, real, found, b)
		}
	}
	return b.carryOut()
}

// mend brings one route to what it should be now.
func (k *Kernel) mend(p netip.Prefix, r *route, real nl.Route, found bool, b *changes) {
	usable := r.set == nil || len(r.set.resolved) > 0
	want := message(p, r)
	switch {
	case !usable:
		if found {
			b.add(nl.RouteDelete, real, nil)
		}
		k.mark(r, unresolved)
	case found && alike(real, want):
		k.mark(r, installed)
	case found:
		b.add(nl.RouteReplace, want, r)
		k.fixed++
		k.mark(r, installed)
	default:
		if r.state == installed {
			k.fixed++
		}
		b.add(nl.RouteAdd, want, r)
		k.mark(r, installed)
	}
}

// alike tells whether the kernel's route is the one meant.
func alike(real, want nl.Route) bool {
	return real.Unreachable == want.Unreachable && slices.Equal(ways(real), ways(want))
}

func ways(r nl.Route) []nl.NextHop {
	if len(r.NextHops) > 0 {
		return r.NextHops
	}
	via := r.Via
	if !via.IsValid() && len(r.Hops) == 1 {
		via = r.Hops[0]
	}
	return []nl.NextHop{{Via: via, Link: r.Link, Weight: 1}}
}

//go:build linux

package compartments

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// free refuses external addresses that are somebody's already: an address of
// the gateway on any interface, or a router that it has a route over.
func (g *gateway) free(uplink nl.Link, own []nl.Addr, addrs []netip.Addr) error {
	links := []int{uplink.Index}
	for _, o := range own {
		if slices.Contains(addrs, o.Prefix.Addr()) {
			return fmt.Errorf("external address %s is the gateway's own on %s: give the tenant another, or take it off the interface", o.Prefix.Addr(), g.linkName(o.Link))
		}
		if !slices.Contains(links, o.Link) && !o.Prefix.Addr().IsLoopback() {
			links = append(links, o.Link)
		}
	}
	if addrs = g.fresh(addrs); len(addrs) == 0 {
		return nil
	}
	// Routers are on links on which the gateway has an address; those to the
	// compartments, of which there may be many, have none.
	for _, l := range links {
		routes, err := g.out.Routes(0, l)
		if err != nil {
			return err
		}
		for _, r := range routes {
			for _, hop := range append(r.Hops, r.Via) {
				if slices.Contains(addrs, hop) {
					return fmt.Errorf("external address %s is the router on %s over which the gateway reaches %s: give the tenant another", hop, g.linkName(l), r.Dst)
				}
			}
		}
	}
	return nil
}

// fresh leaves those of the addresses that no compartment has yet: a list of
// all routes is too long to be read for each look at what is right.
func (g *gateway) fresh(addrs []netip.Addr) []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(addrs), g.nearby.held)
}

// clear refuses to forward prefixes where something else is: networks of the gateway
// and of the fabric, and what others are reached by already. Within what the gateway
// reaches by a wider route they may be.
func (g *gateway) clear(own []nl.Addr, peer string, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		for _, o := range own {
			if o.Prefix.Overlaps(p) {
				return fmt.Errorf("forwarded prefix %s overlaps the gateway's own network %s on %s: they cannot both be reached here", p, o.Prefix.Masked(), g.linkName(o.Link))
			}
		}
		if f, ok := g.onFabric(p); ok {
			return fmt.Errorf("forwarded prefix %s overlaps %s, which is on the provider side: they cannot both be reached here", p, f)
		}
	}
	prefixes = g.freshPrefixes(peer, prefixes)
	if len(prefixes) == 0 {
		return nil
	}
	routes, err := g.out.Routes(0, 0)
	if err != nil {
		return err
	}
	mine, err := g.out.Link(peer)
	if err != nil && !errors.Is(err, nl.ErrNotFound) {
		return err
	}
	for _, r := range routes {
		for _, p := range prefixes {
			if r.Table == 0 && r.Dst.Bits() >= p.Bits() && p.Contains(r.Dst.Addr()) && (mine.Index == 0 || r.Link != mine.Index) {
				return fmt.Errorf("forwarded prefix %s: the gateway has a route to %s over %s already, which leads elsewhere", p, r.Dst, g.linkName(r.Link))
			}
		}
	}
	return nil
}

// onFabric finds what of the provider side a prefix overlaps.
func (g *gateway) onFabric(p netip.Prefix) (netip.Prefix, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wanted == nil {
		return netip.Prefix{}, false
	}
	for _, a := range g.wanted.Addresses {
		if a.Addr.Overlaps(p) {
			return a.Addr.Masked(), true
		}
	}
	for _, r := range g.wanted.Routes {
		if r.Prefix.Bits() > 0 && r.Prefix.Overlaps(p) {
			return r.Prefix, true
		}
	}
	for _, r := range g.wanted.Rewrite {
		if p.Contains(r.Addr) {
			return netip.PrefixFrom(r.Addr, r.Addr.BitLen()), true
		}
	}
	return netip.Prefix{}, false
}

// freshPrefixes leaves those that the compartment does not have yet.
func (g *gateway) freshPrefixes(peer string, prefixes []netip.Prefix) []netip.Prefix {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return g.entries[forwardEntry(peer, p)] })
}

// linkName is for people.
func (g *gateway) linkName(index int) string {
	l, err := g.out.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("link %d", index)
	}
	return l.Name
}

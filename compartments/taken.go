//go:build linux

package compartments

import (
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

// linkName is for people.
func (g *gateway) linkName(index int) string {
	l, err := g.out.LinkByIndex(index)
	if err != nil {
		return fmt.Sprintf("link %d", index)
	}
	return l.Name
}

package server

import (
	"errors"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// sift sorts refusals as the request has the objects, and leaves out those
// that only follow from others: that the VSID of a refused tenant belongs to no
// tenant, or that a PA is not on the fabric where a provider address or route was
// refused.
func (w *writing) sift(bad []refusal) []refusal {
	c := newCauses(w.items, bad)
	bad = slices.DeleteFunc(bad, c.follows)
	order := make(map[string]int, len(w.items))
	for i, it := range w.items {
		order[it.at] = i - len(w.items) // what has no place comes last
	}
	slices.SortStableFunc(bad, func(a, b refusal) int { return order[a.item] - order[b.item] })
	return bad
}

// causes are the refused objects that others depend on.
type causes struct {
	items             map[string]*item // all, by place
	addresses, routes bool             // the provider's
	tenants           map[string]bool
	vsids             map[uint32]bool
	acls              map[string]bool // TENANT/NAME, and NAME
	routers           map[string]bool // BGP's, by tenant
}

func newCauses(all []item, bad []refusal) *causes {
	refused := map[string]bool{}
	for _, r := range bad {
		refused[r.item] = true
	}
	c := &causes{items: make(map[string]*item, len(all)), tenants: map[string]bool{}, vsids: map[uint32]bool{}, acls: map[string]bool{}, routers: map[string]bool{}}
	for i := range all {
		it := &all[i]
		c.items[it.at] = it
		if !refused[it.at] {
			continue
		}
		switch it.kind {
		case hnv.KindTenant:
			c.tenants[it.tenant] = true
			for _, v := range it.vsids {
				c.vsids[v] = true
			}
		case hnv.KindACL:
			// Only one that could not be read is missing to a tenant: one that is
			// refused for want of its tenant follows from that.
			if it.object == nil {
				for _, a := range it.acls {
					c.acls[it.tenant+"/"+a], c.acls[a] = true, true
				}
			}
		case hnv.KindBGPRouter:
			c.routers[it.tenant] = true
		case hnv.KindProviderAddress:
			c.addresses = true
		case hnv.KindProviderRoute:
			c.routes = true
		}
	}
	return c
}

// follows tells whether a refusal only follows from another object's. Each kind
// follows only from kinds it depends on, never from its own: something that is
// wrong in itself is left.
func (c *causes) follows(r refusal) bool {
	it := c.items[r.item]
	if it == nil || !errors.Is(r.err, hnv.ErrNotFound) {
		return false
	}
	switch it.kind {
	case hnv.KindRecord:
		return c.addresses || c.routes || c.vsids[it.vsids[0]]
	case hnv.KindCustomerRoute:
		return c.vsids[it.vsids[0]]
	case hnv.KindPort:
		return c.vsids[it.vsids[0]] || slices.ContainsFunc(it.acls, func(a string) bool { return c.acls[a] })
	case hnv.KindTenant:
		return slices.ContainsFunc(it.acls, func(a string) bool { return c.acls[it.tenant+"/"+a] })
	case hnv.KindNATMapping, hnv.KindACL, hnv.KindAttachment, hnv.KindS2SConnection, hnv.KindBGPRouter:
		return c.tenants[it.tenant]
	case hnv.KindBGPPeer:
		return c.tenants[it.tenant] || c.routers[it.tenant]
	case hnv.KindProviderRoute:
		return c.addresses
	}
	return false
}

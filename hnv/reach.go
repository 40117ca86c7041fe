package hnv

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// ofGateway tells why an object cannot be the tenant's.
func (f *Fabric) ofGateway(what string, n Name) error {
	t, ok := f.tenants[n]
	if !ok {
		return notFoundf("%s: tenant %s does not exist", what, n)
	}
	if t.Gateway == nil {
		return conflictf("%s: this machine is not the gateway of tenant %s: give the tenant a gateway first", what, n)
	}
	return nil
}

// reaching looks at how tenants reach the outside after changes that may matter
// to it: those of theirs that changed, and whether they get on with the others'.
func (f *Fabric) reaching(done []Change) []error {
	first := map[Name]Object{} // whom to tell of what is wrong with a tenant
	own := map[id]bool{}
	moved := map[Name]bool{} // tenants of which more than BGP changes
	for _, c := range done {
		o := c.object()
		var n Name
		switch o := o.(type) {
		case Tenant:
			n = o.Name
		case Attachment:
			n = o.Tenant
		case S2SConnection:
			n = o.Tenant
		case BGPRouter:
			n = o.Tenant
		case BGPPeer:
			n = o.Tenant
		case NATMapping:
			if len(f.connections) == 0 {
				continue
			}
			n = o.Tenant
		default:
			continue
		}
		if first[n] == nil {
			first[n] = o
		}
		if k := o.Kind(); k != KindBGPRouter && k != KindBGPPeer {
			moved[n] = true
		}
		if c.Put != nil {
			own[idOf(o)] = true
		}
	}
	if len(first) == 0 {
		return nil // as of the many changes to records
	}
	var errs []error
	var taken *occupancy
	if len(moved) > 0 {
		taken = f.occupancy()
	}
	for _, n := range slices.SortedFunc(maps.Keys(first), func(a, b Name) int { return cmp.Compare(a.s, b.s) }) {
		if t, ok := f.tenants[n]; !ok || t.Gateway == nil && !f.reachesOut(n) {
			continue
		}
		r := reach{f: f, tenant: f.tenants[n], cause: first[n], own: own, taken: taken}
		r.check(moved[n])
		if len(r.errs) == 0 && f.reachesOut(n) {
			for _, check := range f.site.Checks {
				if err := check(f, n); err != nil {
					r.errs = append(r.errs, about(r.cause, invalidf("tenant %s: %v", n, err)))
				}
			}
		}
		errs = append(errs, r.errs...)
	}
	return errs
}

type id struct {
	kind Kind
	key  string
}

func idOf(o Object) id { return id{o.Kind(), o.Key()} }

// reachesOut tells whether the tenant has anything but NAT.
func (f *Fabric) reachesOut(n Name) bool {
	_, router := f.routers[n]
	return router || len(f.attachments[n])+len(f.connections[n])+len(f.neighbours[n]) > 0 || len(f.Aside(n)) > 0
}

// reach checks one tenant's ways outside.
type reach struct {
	f      *Fabric
	tenant Tenant
	cause  Object
	own    map[id]bool
	taken  *occupancy
	errs   []error
}

// occupancy says who has what outside, for all tenants at once.
type occupancy struct {
	ports map[netip.AddrPort][]S2SConnection // that listen there
	addrs map[netip.Addr]map[Name]bool       // on routed uplinks; true: an attachment's
	// prefixes that are forwarded over routed uplinks, by tenant
	prefixes map[Name][]netip.Prefix
}

// occupancy is nil where no tenant has anything but NAT.
func (f *Fabric) occupancy() *occupancy {
	if len(f.connections)+len(f.attachments) == 0 {
		return nil
	}
	x := &occupancy{map[netip.AddrPort][]S2SConnection{}, map[netip.Addr]map[Name]bool{}, map[Name][]netip.Prefix{}}
	for _, of := range f.connections {
		for _, c := range of {
			if r, ok := f.ListenAt(c); ok {
				at := netip.AddrPortFrom(r.Addr, c.ListenPort)
				x.ports[at] = append(x.ports[at], c)
			}
		}
	}
	if len(f.attachments) == 0 {
		return x
	}
	for n := range f.tenants {
		for a, own := range f.routedAddrs(n) {
			if x.addrs[a] == nil {
				x.addrs[a] = map[Name]bool{}
			}
			x.addrs[a][n] = own
		}
		if ps := f.forwarded(n); len(ps) > 0 {
			x.prefixes[n] = ps
		}
	}
	return x
}

// bad blames the object, or the change that made it wrong.
func (r *reach) bad(o Object, err error) {
	if !r.own[idOf(o)] {
		err = inUsef("%s: %v", r.cause.Key(), err)
		o = r.cause
	}
	r.errs = append(r.errs, about(o, err))
}

// check looks at all of the tenant's, or where nothing has moved only at BGP.
func (r *reach) check(moved bool) {
	f, n := r.f, r.tenant.Name
	if r.tenant.Gateway == nil {
		r.bad(r.cause, inUsef("tenant %s still has attachments, connections or BGP on this gateway: delete them first", n))
		return
	}
	r.checkBGP()
	if !moved {
		return
	}
	links := map[string]Object{}
	link := func(o Object, name string) {
		if other := links[name]; other != nil {
			r.bad(o, conflictf("%s %s: its link would have the name of that of %s: choose another name", o.Kind().noun(), o.Key(), other.Key()))
		}
		links[name] = o
	}
	for _, a := range f.Attachments(n) {
		link(a, a.Link())
		if err := f.checkAttachment(r.tenant, a); err != nil {
			r.bad(a, err)
		}
	}
	for _, c := range f.Connections(n) {
		link(c, c.Link())
		if err := r.checkConnection(c); err != nil {
			r.bad(c, err)
		}
	}
	r.externalsApart()
}

package control

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// HostObjects gives everything that a host with the PAs is to be told by this
// gateway, in an order in which it can be put into the host's store: the tenants
// that have a record at one of the PAs, without their gateway, with their ACLs,
// lookup records and customer routes. Among the latter are those that this
// gateway implies: the record of each compartment, the default route of each
// address family that leads to it, and those to what is known to be behind it.
func HostObjects(f *hnv.Fabric, pas []netip.Addr) []hnv.Object {
	return hostObjects(f, pas, func(hnv.Name) *learned { return nil })
}

// hostObjects is HostObjects with what the tenants' compartments have learned.
func hostObjects(f *hnv.Fabric, pas []netip.Addr, taught func(hnv.Name) *learned) []hnv.Object {
	out := f.ForHost(pas)
	pa, ok := gatewayPAFor(f, pas)
	if !ok {
		return out
	}
	for _, o := range slices.Clone(out) {
		t, ok := o.(hnv.Tenant)
		if !ok {
			continue
		}
		if t, _ = f.Tenant(t.Name); t.Gateway == nil {
			continue
		}
		for _, r := range derivedRecords(t, pa) {
			out = append(out, r)
		}
		for _, r := range derivedRoutes(f, t, taught(t.Name)) {
			out = append(out, r)
		}
	}
	order := hnv.Kinds()
	slices.SortStableFunc(out, func(a, b hnv.Object) int {
		return cmp.Compare(slices.Index(order, a.Kind()), slices.Index(order, b.Kind()))
	})
	return out
}

// gatewayPAFor gives the lowest of this machine's provider addresses that is of a
// family that one of the host's is; where there is none, the lowest of all.
func gatewayPAFor(f *hnv.Fabric, pas []netip.Addr) (pa netip.Addr, ok bool) {
	for _, own := range f.ProviderAddresses() {
		a := own.Addr.Addr()
		shared := slices.ContainsFunc(pas, func(p netip.Addr) bool { return p.Is4() == a.Is4() })
		if shared && (!ok || a.Less(pa)) {
			pa, ok = a, true
		}
	}
	if !ok {
		return f.GatewayPA()
	}
	return pa, ok
}

// ForHost is HostObjects of the present state.
func (c *Controller) ForHost(pas []netip.Addr) (out []hnv.Object) {
	taught := func(n hnv.Name) *learned {
		if t := c.find(n); t != nil {
			return t.learned.Load()
		}
		return nil
	}
	c.o.Store.View(func(f *hnv.Fabric) { out = hostObjects(f, pas, taught) })
	return out
}

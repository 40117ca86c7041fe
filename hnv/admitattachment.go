package hnv

import (
	"net/netip"
	"slices"
)

// forwarded are the prefixes of a tenant's that are reached over a routed uplink as
// they are: all of the families that it has an address of there, once it has an
// attachment there.
func (f *Fabric) forwarded(n Name) []netip.Prefix {
	var four, six, attached bool
	for a, own := range f.routedAddrs(n) {
		four, six, attached = four || a.Is4(), six || a.Is6(), attached || own
	}
	if !attached {
		return nil
	}
	var out []netip.Prefix
	for _, s := range f.tenants[n].Subnets {
		for _, p := range s.Prefixes {
			if p.Prefix.Addr().Is4() && four || p.Prefix.Addr().Is6() && six {
				out = append(out, p.Prefix)
			}
		}
	}
	return out
}

func (f *Fabric) checkAttachment(t Tenant, a Attachment) error {
	bad := func(format string, args ...any) error {
		return conflictf("attachment "+a.Key()+": "+format, args...)
	}
	if !slices.Contains(f.site.Uplinks, a.Uplink) {
		return notFoundf("attachment %s: uplink %q is not one of this gateway's: %s", a.Key(), a.Uplink, listOr(f.site.Uplinks, "the configuration file names none"))
	}
	kind := f.UplinkKind(a.Uplink)
	if (kind == UplinkVLAN) != (a.VLAN != 0) {
		if kind == UplinkVLAN {
			return bad("uplink %s is of kind vlan: give the VLAN, 1 to 4094", a.Uplink)
		}
		return bad("uplink %s is of kind %s, which has no VLANs", a.Uplink, kind)
	}
	for _, p := range a.Addresses {
		if kind == UplinkRouted && !p.IsSingleIP() {
			return bad("uplink %s is routed: write %s as a single address, %s/%d", a.Uplink, p, p.Addr(), p.Addr().BitLen())
		}
		for _, s := range t.Subnets {
			for _, q := range s.Prefixes {
				if q.Prefix.Overlaps(p.Masked()) {
					return bad("address %s overlaps prefix %s of the tenant's VSID %s", p, q.Prefix, s.VSID)
				}
			}
		}
		for _, pa := range f.paddrs {
			if kind == UplinkRouted && pa.Addr.Contains(p.Addr()) {
				return bad("address %s lies in the fabric's prefix %s", p.Addr(), pa.Addr.Masked())
			}
		}
		for _, o := range f.Attachments(t.Name) {
			for _, q := range o.Addresses {
				if o.Name != a.Name && q.Masked().Overlaps(p.Masked()) && (!p.IsSingleIP() || !q.IsSingleIP() || p == q) {
					return bad("address %s overlaps %s of attachment %s", p, q, o.Key())
				}
			}
		}
	}
	for _, rt := range a.Routes {
		if (kind == UplinkRouted) == rt.NextHop.IsValid() {
			if kind == UplinkRouted {
				return bad("route %s: uplink %s is routed, and the gateway's own routes lead on: leave the next hop out", rt.Prefix, a.Uplink)
			}
			return bad("route %s has no next hop", rt.Prefix)
		}
		for _, s := range t.Subnets {
			for _, q := range s.Prefixes {
				if q.Prefix.Contains(rt.Prefix.Addr()) && q.Prefix.Bits() <= rt.Prefix.Bits() {
					return bad("route %s lies in prefix %s of the tenant's own VSID %s", rt.Prefix, q.Prefix, s.VSID)
				}
			}
		}
	}
	if kind != UplinkRouted {
		return f.sameWire(a)
	}
	return f.forwardedApart(t, a)
}

// sameWire refuses a VLAN that another attachment has, as Linux has one link for
// it, and an address that another compartment has on the same wire.
func (f *Fabric) sameWire(a Attachment) error {
	for _, of := range f.attachments {
		for _, o := range of {
			if o.Key() == a.Key() || o.Uplink != a.Uplink || o.VLAN != a.VLAN {
				continue
			}
			if a.VLAN != 0 {
				return conflictf("attachment %s: VLAN %d of uplink %s is that of attachment %s: one attachment has a VLAN; several need its link as an uplink of kind macvlan", a.Key(), a.VLAN, a.Uplink, o.Key())
			}
			if o.Tenant == a.Tenant {
				continue
			}
			for _, p := range a.Addresses {
				for _, q := range o.Addresses {
					if p.Addr() == q.Addr() {
						return conflictf("attachment %s: address %s is that of tenant %s on the same network already", a.Key(), p.Addr(), o.Tenant)
					}
				}
			}
		}
	}
	return nil
}

// forwardedApart refuses prefixes that another tenant is reached at over a routed
// uplink, this one or another: outside, an address is one tenant's, and the gateway has
// one route to it.
func (f *Fabric) forwardedApart(t Tenant, a Attachment) error {
	own := f.forwarded(t.Name)
	for name, of := range f.attachments {
		if name == t.Name {
			continue
		}
		for _, o := range of {
			if f.UplinkKind(o.Uplink) != UplinkRouted {
				continue
			}
			for _, q := range f.forwarded(name) {
				for _, p := range own {
					if p.Overlaps(q) {
						s, _ := t.SubnetOf(p.Addr())
						return conflictf("attachment %s: prefix %s of VSID %s overlaps %s of tenant %s, which is forwarded over the routed uplink %s too: outside, an address is one tenant's: use an uplink of another kind, NAT, or a tunnel with mapped prefixes",
							a.Key(), p, s.VSID, q, name, o.Uplink)
					}
				}
			}
			break // all of a tenant's attachments forward the same
		}
	}
	return nil
}

// externalsApart refuses addresses on routed uplinks that belong to another tenant
// too.
func (r *reach) externalsApart() {
	if r.taken == nil {
		return
	}
	f, t := r.f, r.tenant
	for _, a := range f.Attachments(t.Name) {
		if f.UplinkKind(a.Uplink) != UplinkRouted {
			continue
		}
		for _, p := range a.Addresses {
			if g := t.Gateway; g.NAT != nil && slices.ContainsFunc(g.NAT.Pool, func(r ExternalRange) bool { return r.Addr == p.Addr() }) {
				r.bad(a, conflictf("attachment %s: address %s is in the tenant's NAT pool: an attachment needs one of its own", a.Key(), p.Addr()))
			}
		}
	}
	for _, p := range r.taken.prefixes[t.Name] {
		for _, pa := range f.paddrs {
			if pa.Addr.Overlaps(p) {
				r.bad(r.cause, conflictf("tenant %s: prefix %s, which an attachment has forwarded over a routed uplink, overlaps the fabric's prefix %s", t.Name, p, pa.Addr.Masked()))
				return
			}
		}
		for a, who := range r.taken.addrs {
			for other := range who {
				if other != t.Name && p.Contains(a) {
					r.bad(r.cause, conflictf("tenant %s: prefix %s, which an attachment has forwarded over a routed uplink, holds external address %s of tenant %s: outside, an address is one tenant's", t.Name, p, a, other))
					return
				}
			}
		}
	}
	for a, attached := range f.routedAddrs(t.Name) {
		for other, theirs := range r.taken.prefixes {
			for _, p := range theirs {
				if other != t.Name && p.Contains(a) {
					r.bad(r.cause, conflictf("tenant %s: external address %s lies in prefix %s of tenant %s, which an attachment has forwarded over a routed uplink: outside, an address is one tenant's", t.Name, a, p, other))
					return
				}
			}
		}
		for other, theirs := range r.taken.addrs[a] {
			if other != t.Name && (attached || theirs) {
				r.bad(r.cause, conflictf("tenant %s: external address %s belongs to tenant %s too", t.Name, a, other))
				return
			}
		}
	}
}

// routedAddrs are a tenant's addresses on routed uplinks; true: an attachment's.
func (f *Fabric) routedAddrs(n Name) map[netip.Addr]bool {
	g := f.tenants[n].Gateway
	if g == nil {
		return nil
	}
	out := map[netip.Addr]bool{}
	if g.NAT != nil {
		for _, r := range g.NAT.Pool {
			out[r.Addr] = false
		}
	}
	for _, a := range f.attachments[n] {
		if f.UplinkKind(a.Uplink) == UplinkRouted {
			for _, p := range a.Addresses {
				out[p.Addr()] = true
			}
		}
	}
	return out
}

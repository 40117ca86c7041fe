package hnv

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// splitNames takes TENANT/NAME apart.
func splitNames(key string) (Name, string) {
	t, n, _ := strings.Cut(key, "/")
	return Name{t}, n
}

func compareKeys[T Object](a, b T) int { return cmp.Compare(a.Key(), b.Key()) }

func perTenant[K comparable, T any](m map[Name]map[K]T, by func(a, b T) int) []T {
	var out []T
	for _, of := range m {
		out = slices.AppendSeq(out, maps.Values(of))
	}
	slices.SortFunc(out, by)
	return out
}

// Attachments gives a tenant's by name.
func (f *Fabric) Attachments(n Name) []Attachment {
	return slices.SortedFunc(maps.Values(f.attachments[n]), compareKeys)
}

// Connections gives a tenant's site-to-site connections by name.
func (f *Fabric) Connections(n Name) []S2SConnection {
	return slices.SortedFunc(maps.Values(f.connections[n]), compareKeys)
}

// Connection finds a tenant's site-to-site connection by name.
func (f *Fabric) Connection(tenant, name Name) (S2SConnection, bool) {
	c, ok := f.connections[tenant][name]
	return c, ok
}

// BGPRouter finds a tenant's.
func (f *Fabric) BGPRouter(n Name) (BGPRouter, bool) { r, ok := f.routers[n]; return r, ok }

// BGPPeers gives a tenant's by name.
func (f *Fabric) BGPPeers(n Name) []BGPPeer {
	return slices.SortedFunc(maps.Values(f.neighbours[n]), compareKeys)
}

// BGPPeer finds a tenant's by name.
func (f *Fabric) BGPPeer(tenant Name, name string) (BGPPeer, bool) {
	p, ok := f.neighbours[tenant][name]
	return p, ok
}

// UplinkKind is the kind of one of this machine's uplinks.
func (f *Fabric) UplinkKind(name string) string {
	return cmp.Or(f.site.UplinkKinds[name], UplinkRouted)
}

// Externals gives what a tenant's compartment has outside: its NAT pool, then the
// addresses of its attachments by name.
func (f *Fabric) Externals(n Name) []ExternalRange {
	var out []ExternalRange
	if g := f.tenants[n].Gateway; g != nil && g.NAT != nil {
		out = append(out, g.NAT.Pool...)
	}
	for _, a := range f.Attachments(n) {
		for _, p := range a.Addresses {
			out = append(out, ExternalRange{Addr: p.Addr()})
		}
	}
	return out
}

// ListenAt is the external address that a connection listens at: its own, or the
// first of its tenant.
func (f *Fabric) ListenAt(c S2SConnection) (r ExternalRange, ok bool) {
	fits := func(e ExternalRange) bool {
		return !c.LocalAddress.IsValid() || e.Addr == c.LocalAddress && (c.ListenPort == 0 || e.holds(c.ListenPort))
	}
	// Not all of Externals: for each change, all connections' are looked for.
	if g := f.tenants[c.Tenant].Gateway; g != nil && g.NAT != nil {
		for _, e := range g.NAT.Pool {
			if fits(e) {
				return e, true
			}
		}
	}
	if len(f.attachments[c.Tenant]) == 0 {
		return ExternalRange{}, false
	}
	for _, e := range f.Externals(c.Tenant) {
		if fits(e) {
			return e, true
		}
	}
	return ExternalRange{}, false
}

// Complete gives the connection with what a replacement keeps, and a listen port.
func (f *Fabric) Complete(c S2SConnection) S2SConnection {
	c = c.Defaulted()
	if old, ok := f.connections[c.Tenant][c.Name]; ok {
		c = c.Kept(old)
	}
	if c.ListenPort == 0 {
		if at, ok := f.ListenAt(c); ok {
			c.ListenPort = f.freePort(c, at)
		}
	}
	return c
}

// freePort finds a UDP port that nobody has at the address; 0 if there is none. On
// an address shared by ranges it looks from the end, as far as can be from where
// static mappings are usually made.
func (f *Fabric) freePort(c S2SConnection, at ExternalRange) uint16 {
	taken := map[uint16]bool{}
	for _, of := range f.connections {
		for _, o := range of {
			if o.Key() == c.Key() {
				continue
			}
			if r, ok := f.ListenAt(o); ok && r.Addr == at.Addr {
				taken[o.ListenPort] = true
			}
		}
	}
	for _, m := range f.mappings {
		if m.Proto == UDP && m.External.Addr() == at.Addr {
			taken[m.External.Port()] = true
		}
	}
	if at.Whole() {
		for p := FirstListenPort; p <= 65535; p++ {
			if !taken[uint16(p)] {
				return uint16(p)
			}
		}
		return 0
	}
	for p := int(at.Hi); p >= int(at.Lo); p-- {
		if !taken[uint16(p)] {
			return uint16(p)
		}
	}
	return 0
}

func (r ExternalRange) holds(port uint16) bool { return r.Whole() || r.Lo <= port && port <= r.Hi }

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
	return router || len(f.attachments[n])+len(f.connections[n])+len(f.neighbours[n]) > 0
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

func (r *reach) checkConnection(c S2SConnection) error {
	f, t := r.f, r.tenant
	bad := func(format string, args ...any) error {
		return conflictf("site-to-site connection "+c.Key()+": "+format, args...)
	}
	at, ok := f.ListenAt(c)
	switch {
	case !ok && c.LocalAddress.IsValid():
		return bad("local address %s with port %d is not the tenant's: it has %s", c.LocalAddress, c.ListenPort, rangeList(f.Externals(t.Name)))
	case !ok:
		return bad("the tenant has no external address to be reached at: give it NAT, or an attachment")
	case c.ListenPort == 0:
		return bad("no UDP port is free at %s", at)
	case !at.holds(c.ListenPort):
		return bad("listen port %d is outside the tenant's part of the address, %s", c.ListenPort, at)
	}
	for _, o := range r.taken.ports[netip.AddrPortFrom(at.Addr, c.ListenPort)] {
		if o.Key() != c.Key() {
			return bad("UDP port %d at %s is that of connection %s already: choose another, or leave it out", c.ListenPort, at.Addr, o.Key())
		}
	}
	if m, taken := f.mappings[NATMapping{Proto: UDP, External: netip.AddrPortFrom(at.Addr, c.ListenPort)}.Key()]; taken {
		return bad("UDP port %d at %s is mapped to %s: choose another, or leave it out", c.ListenPort, at.Addr, m.Internal)
	}
	for _, p := range c.Addresses {
		for _, s := range t.Subnets {
			for _, q := range s.Prefixes {
				if q.Prefix.Contains(p.Addr()) {
					return bad("tunnel address %s lies in prefix %s of the tenant's VSID %s", p, q.Prefix, s.VSID)
				}
			}
		}
	}
	return f.checkPeerPrefixes(t, c, bad)
}

func (f *Fabric) checkPeerPrefixes(t Tenant, c S2SConnection, bad func(string, ...any) error) error {
	seen := func(p netip.Prefix) netip.Prefix { // as the tenant sees it
		for _, m := range c.RemoteMaps {
			if m.Real.IsValid() && m.Real.Contains(p.Addr()) && m.Real.Bits() <= p.Bits() {
				return m.Translate(p)
			}
		}
		return p
	}
	for _, peer := range c.Peers {
		for _, e := range f.Externals(t.Name) {
			if peer.Endpoint.IsValid() && e.Addr == peer.Endpoint.Addr() && e.holds(peer.Endpoint.Port()) {
				return bad("peer %s: endpoint %s is the tenant's own", peer.Name, peer.Endpoint)
			}
		}
		for _, p := range peer.Prefixes {
			for _, s := range t.Subnets {
				for _, q := range s.Prefixes {
					if v := seen(p); q.Prefix.Contains(v.Addr()) && q.Prefix.Bits() <= v.Bits() {
						return bad("peer %s: prefix %s lies in %s of the tenant's own VSID %s: map the site's prefix to another with remoteMaps", peer.Name, p, q.Prefix, s.VSID)
					}
				}
			}
		}
	}
	return nil
}

func (r *reach) checkBGP() {
	f, n := r.f, r.tenant.Name
	router, ok := f.routers[n]
	peers := f.BGPPeers(n)
	if !ok {
		for _, p := range peers {
			r.bad(p, notFoundf("BGP peer %s: tenant %s has no BGP router: set one first, with its AS number", p.Key(), n))
		}
		return
	}
	own := f.OwnAddresses(n)
	spec := peering.Spec{ASN: router.ASN, RouterID: netip.AddrFrom4([4]byte{192, 0, 2, 1})}
	at := map[netip.Addr]BGPPeer{}
	for _, p := range peers {
		if err := p.checkAs(spec); err != nil {
			r.bad(p, err)
		}
		if slices.Contains(own, p.Address) {
			r.bad(p, conflictf("BGP peer %s: %s is the compartment's own address", p.Key(), p.Address))
		}
		if p.Local.IsValid() && !slices.Contains(own, p.Local) {
			r.bad(p, conflictf("BGP peer %s: local address %s is not one of the compartment's", p.Key(), p.Local))
		}
		if o, taken := at[p.Address]; taken && p.Address.IsValid() {
			r.bad(p, conflictf("BGP peer %s: %s is peer %s already", p.Key(), p.Address, o.Peer.Name))
		}
		at[p.Address] = p
	}
}

// OwnAddresses are all that a tenant's compartment has: of tunnels, attachments,
// inside, external.
func (f *Fabric) OwnAddresses(n Name) []netip.Addr {
	var out []netip.Addr
	for _, c := range f.Connections(n) {
		for _, p := range c.Addresses {
			out = append(out, p.Addr())
		}
	}
	for _, e := range f.Externals(n) {
		out = append(out, e.Addr)
	}
	if g := f.tenants[n].Gateway; g != nil {
		out = append(out, g.CAs...)
	}
	return out
}

func rangeList(rs []ExternalRange) string {
	if len(rs) == 0 {
		return "none"
	}
	var out []string
	for _, r := range rs {
		out = append(out, r.String())
	}
	return strings.Join(out, ", ")
}

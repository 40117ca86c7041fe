package hnv

import (
	"net/netip"
	"slices"
	"strings"
)

// admit tells whether o may stand beside what is there; before is what it
// replaces, or nil.
func (f *Fabric) admit(o, before Object) error {
	switch o := o.(type) {
	case Tenant:
		return f.admitTenant(o)
	case ACL:
		return f.admitACL(o)
	case Record:
		return f.admitRecord(o, before)
	case CustomerRoute:
		return f.admitRoute(o)
	case ProviderAddress:
		return f.admitProviderAddress(o)
	case ProviderRoute:
		return f.admitProviderRoute(o)
	case Port:
		return f.admitPort(o)
	case NATMapping:
		return f.admitMapping(o, before)
	case Attachment:
		return f.ofGateway("attachment "+o.Key(), o.Tenant)
	case S2SConnection:
		return f.ofGateway("site-to-site connection "+o.Key(), o.Tenant)
	case BGPRouter:
		return f.ofGateway("BGP router", o.Tenant)
	case BGPPeer:
		return f.ofGateway("BGP peer "+o.Key(), o.Tenant)
	}
	return invalidf("unknown kind of object %q", o.Kind())
}

func (f *Fabric) admitTenant(t Tenant) error {
	if other, ok := f.rdids[t.RDID]; ok && other != t.Name {
		return conflictf("tenant %s: RDID %s belongs to tenant %s already", t.Name, t.RDID, other)
	}
	for _, s := range t.Subnets {
		if other, ok := f.owners[s.VSID]; ok && other != t.Name {
			return conflictf("tenant %s: VSID %s belongs to tenant %s (RDID %s) already: a VSID is in one routing domain only",
				t.Name, s.VSID, other, f.tenants[other].RDID)
		}
	}
	for _, s := range t.Subnets {
		if other, ok := f.groups[s.MulticastGroup]; ok && other != t.Name {
			return conflictf("tenant %s: multicast group %s of VSID %s carries the broadcasts of tenant %s already: a group is for virtual subnets of one tenant only",
				t.Name, s.MulticastGroup, s.VSID, other)
		}
	}
	g := t.Gateway
	if g == nil {
		return nil
	}
	if !slices.Contains(f.site.Uplinks, g.Uplink) && !f.loading {
		return notFoundf("tenant %s: uplink %q is not one of this gateway's: %s", t.Name, g.Uplink, listOr(f.site.Uplinks, "the configuration file names none"))
	}
	if g.NAT == nil {
		return nil
	}
	for _, other := range f.tenants {
		if other.Name == t.Name || other.Gateway == nil || other.Gateway.NAT == nil {
			continue
		}
		for _, mine := range g.NAT.Pool {
			for _, theirs := range other.Gateway.NAT.Pool {
				if mine.overlaps(theirs) {
					return conflictf("tenant %s: external address %s overlaps %s of tenant %s: give each tenant addresses, or port ranges of an address, of its own",
						t.Name, mine, theirs, other.Name)
				}
				if mine.Addr == theirs.Addr && g.Uplink != other.Gateway.Uplink {
					return conflictf("tenant %s: external address %s is shared with tenant %s, whose uplink is %s: an address is reached over one uplink only",
						t.Name, mine.Addr, other.Name, other.Gateway.Uplink)
				}
			}
		}
	}
	for _, mine := range g.NAT.Pool {
		for _, pa := range f.paddrs {
			if pa.Addr.Contains(mine.Addr) {
				return conflictf("tenant %s: external address %s lies in the fabric's prefix %s", t.Name, mine, pa.Addr.Masked())
			}
		}
	}
	return nil
}

func (f *Fabric) admitACL(a ACL) error {
	if _, ok := f.tenants[a.Tenant]; !ok {
		return notFoundf("ACL %s: tenant %s does not exist", a.Key(), a.Tenant)
	}
	return nil
}

func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return "it has " + strings.Join(names, ", ")
}

func (f *Fabric) admitRecord(r Record, before Object) error {
	t, ok := f.TenantOfVSID(r.VSID)
	if !ok {
		return notFoundf("lookup record %s: VSID %s belongs to no tenant: add it to one first", r.Key(), r.VSID)
	}
	s, _ := t.Subnet(r.VSID)
	if r.CA.IsValid() {
		if err := f.checkRecordCA(r, t, s); err != nil {
			return err
		}
	}
	if b, ok := before.(Record); ok && r.Type == Dynamic && b.Type != Dynamic {
		return conflictf("lookup record %s: a dynamic record (MAC %s at %s) cannot take the place of the %s one (MAC %s at %s): delete that first",
			r.Key(), r.MAC, paText(r), b.Type, b.MAC, paText(b))
	}
	if pa, off := f.offFabric(r); off {
		return notFoundf("lookup record %s: provider address %s is not on the fabric: it is in no provider address's prefix and no provider route leads to it", r.Key(), pa)
	}
	return nil
}

// offFabric gives a PA of the record that cannot be reached.
func (f *Fabric) offFabric(r Record) (netip.Addr, bool) {
	if !f.OnFabric(r.PA) {
		return r.PA, true
	}
	for _, pa := range r.TeamPAs {
		if !f.OnFabric(pa) {
			return pa, true
		}
	}
	return netip.Addr{}, false
}

func (f *Fabric) checkRecordCA(r Record, t Tenant, s *Subnet) error {
	p, ok := s.PrefixOf(r.CA)
	if !ok {
		return invalidf("lookup record %s: customer address %s is outside VSID %s (%s)", r.Key(), r.CA, r.VSID, s.prefixList())
	}
	if err := checkHostAddr(r.CA, p.Prefix); err != nil {
		return invalidf("lookup record %s: %v", r.Key(), err)
	}
	if r.CA == p.Gateway {
		return conflictf("lookup record %s: %s is the distributed router's address in VSID %s: every host answers for it itself", r.Key(), r.CA, r.VSID)
	}
	if g := t.Gateway; g != nil && g.VSID == r.VSID && slices.Contains(g.CAs, r.CA) {
		return conflictf("lookup record %s: %s is the compartment's own address: its record is made by this gateway", r.Key(), r.CA)
	}
	return nil
}

// OnFabric tells whether a PA can be reached: on-link at one of this machine's
// provider addresses, or by a provider route.
func (f *Fabric) OnFabric(pa netip.Addr) bool {
	for _, p := range f.paddrs {
		if p.Addr.Contains(pa) {
			return true
		}
	}
	for _, r := range f.proutes {
		if r.Prefix.Contains(pa) {
			return true
		}
	}
	return false
}

func (f *Fabric) admitRoute(r CustomerRoute) error {
	t, ok := f.TenantOfVSID(r.VSID)
	if !ok {
		return notFoundf("customer route %s: VSID %s belongs to no tenant: add it to one first", r.Key(), r.VSID)
	}
	if r.RDID != t.RDID {
		return conflictf("customer route %s: VSID %s is in RDID %s (tenant %s), not in %s", r.Key(), r.VSID, t.RDID, t.Name, r.RDID)
	}
	s, _ := t.Subnet(r.VSID)
	p, ok := s.PrefixOf(r.NextHop)
	if !ok {
		if o, ok := f.twin(r, t); ok {
			return conflictf("customer route %s: customer route %s leads to the same next hop, in VSID %s, and an address of a routing domain is in one VSID only: delete that first, or use it",
				r.Key(), o.Key(), o.VSID)
		}
		return invalidf("customer route %s: next hop %s is outside VSID %s (%s)", r.Key(), r.NextHop, r.VSID, s.prefixList())
	}
	if r.NextHop == p.Gateway {
		return invalidf("customer route %s: next hop %s is the distributed router itself", r.Key(), r.NextHop)
	}
	for _, s := range t.Subnets {
		for _, p := range s.Prefixes {
			if p.Prefix == r.Prefix {
				return conflictf("customer route %s: %s is VSID %s, which is reached directly", r.Key(), r.Prefix, s.VSID)
			}
		}
	}
	return nil
}

// twin finds the same route of the tenant in another VSID.
func (f *Fabric) twin(r CustomerRoute, t Tenant) (CustomerRoute, bool) {
	for _, s := range t.Subnets {
		o := r
		o.VSID = s.VSID
		if o, ok := f.routes[s.VSID][o.Key()]; ok && s.VSID != r.VSID {
			return o, true
		}
	}
	return CustomerRoute{}, false
}

func (f *Fabric) admitProviderAddress(p ProviderAddress) error {
	if !slices.Contains(f.site.PAInterfaces, p.Interface) {
		return notFoundf("provider address %s: interface %q is not one of this machine's PA interfaces: %s", p.Addr, p.Interface, listOr(f.site.PAInterfaces, "the configuration file names none"))
	}
	for _, of := range f.attachments {
		for _, a := range of {
			for _, q := range a.Addresses {
				if f.UplinkKind(a.Uplink) == UplinkRouted && p.Addr.Contains(q.Addr()) {
					return conflictf("provider address %s: its prefix holds address %s of attachment %s", p.Addr, q.Addr(), a.Key())
				}
			}
		}
	}
	for n := range f.attachments {
		for _, q := range f.forwarded(n) {
			if p.Addr.Overlaps(q) {
				return conflictf("provider address %s: its prefix overlaps %s of tenant %s, which an attachment has forwarded over a routed uplink", p.Addr, q, n)
			}
		}
	}
	for _, t := range f.tenants {
		if t.Gateway == nil || t.Gateway.NAT == nil {
			continue
		}
		for _, r := range t.Gateway.NAT.Pool {
			if p.Addr.Contains(r.Addr) {
				return conflictf("provider address %s: its prefix holds external address %s of tenant %s", p.Addr, r, t.Name)
			}
		}
	}
	return nil
}

func (f *Fabric) admitProviderRoute(r ProviderRoute) error {
	for _, p := range f.paddrs {
		if p.Addr.Contains(r.NextHop) {
			if p.Addr.Addr() == r.NextHop {
				return invalidf("provider route %s: next hop %s is this machine's own provider address", r.Prefix, r.NextHop)
			}
			return nil
		}
	}
	return notFoundf("provider route %s: next hop %s is on-link at no provider address of this machine", r.Prefix, r.NextHop)
}

func (f *Fabric) admitPort(p Port) error {
	owner, ok := f.owners[p.VSID]
	if !ok {
		return notFoundf("port %s: VSID %s belongs to no tenant: add it to one first", p.Interface, p.VSID)
	}
	if _, ok := f.acls[owner][p.ACL]; p.ACL.IsValid() && !ok {
		return notFoundf("port %s: tenant %s, to which VSID %s belongs, has no ACL %s: add it first", p.Interface, owner, p.VSID, p.ACL)
	}
	if slices.Contains(f.site.PAInterfaces, p.Interface) {
		return conflictf("port %s: that is a PA interface of this machine: a VM's port would be on the fabric", p.Interface)
	}
	for _, o := range f.ports {
		if o.Interface != p.Interface && o.VSID == p.VSID && o.MAC == p.MAC {
			return conflictf("port %s: MAC %s is at port %s of VSID %s already", p.Interface, p.MAC, o.Interface, p.VSID)
		}
	}
	return nil
}

func (f *Fabric) admitMapping(m NATMapping, before Object) error {
	t, ok := f.tenants[m.Tenant]
	if !ok {
		return notFoundf("NAT mapping %s: tenant %s does not exist", m.Key(), m.Tenant)
	}
	if b, ok := before.(NATMapping); ok && b.Tenant != m.Tenant {
		return conflictf("NAT mapping %s: that port is in use by a mapping of tenant %s", m.Key(), b.Tenant)
	}
	if t.Gateway == nil || t.Gateway.NAT == nil {
		return conflictf("NAT mapping %s: tenant %s has no NAT on this gateway", m.Key(), m.Tenant)
	}
	if !slices.ContainsFunc(t.Gateway.NAT.Pool, func(r ExternalRange) bool { return r.Contains(m.External) }) {
		return conflictf("NAT mapping %s: %s is not within tenant %s's external addresses", m.Key(), m.External, m.Tenant)
	}
	s, ok := t.SubnetOf(m.Internal.Addr())
	if !ok {
		return invalidf("NAT mapping %s: internal address %s is in none of tenant %s's virtual subnets", m.Key(), m.Internal.Addr(), m.Tenant)
	}
	p, _ := s.PrefixOf(m.Internal.Addr())
	if err := checkHostAddr(m.Internal.Addr(), p.Prefix); err != nil {
		return invalidf("NAT mapping %s: internal address: %v", m.Key(), err)
	}
	if m.Internal.Addr() == p.Gateway || slices.Contains(t.Gateway.CAs, m.Internal.Addr()) {
		return invalidf("NAT mapping %s: internal address %s is a router's, not a VM's", m.Key(), m.Internal.Addr())
	}
	return nil
}

// consistent looks at what changes to tenants and provider state left behind:
// dependents that now point nowhere.
func (f *Fabric) consistent(done []Change, before []Object) []error {
	var errs []error
	providerGone, gatewayMoved := false, false
	for i, c := range done {
		o := c.object()
		bad := func(err error) {
			if err != nil {
				errs = append(errs, about(o, err))
			}
		}
		switch o := o.(type) {
		case Tenant:
			gatewayMoved = true
			bad(f.subnetACLs(o.Name))
			if before[i] != nil {
				for _, err := range f.orphans(o.Name, before[i].(Tenant)) {
					bad(err)
				}
			}
		case ACL:
			if c.Delete != nil {
				bad(f.aclGone(o))
			}
		case Record:
			bad(f.checkPeers(o.RecordKey()))
		case ProviderAddress:
			gatewayMoved = true
			providerGone = providerGone || before[i] != nil
		case ProviderRoute:
			providerGone = providerGone || before[i] != nil
		}
	}
	errs = append(errs, f.reaching(done)...)
	if pa, ok := f.GatewayPA(); ok && gatewayMoved {
		if err := f.rewriteAlone(pa); err != nil {
			errs = append(errs, err)
		}
	}
	if providerGone {
		errs = append(errs, f.unreachable()...)
	}
	return errs
}

// subnetACLs tells which ACL a tenant's virtual subnets name in vain.
func (f *Fabric) subnetACLs(n Name) error {
	for _, s := range f.tenants[n].Subnets {
		if _, ok := f.acls[n][s.ACL]; s.ACL.IsValid() && !ok {
			return notFoundf("tenant %s: VSID %s names ACL %s, which the tenant does not have: add it first", n, s.VSID, s.ACL)
		}
	}
	return nil
}

// aclGone tells who still names an ACL that was deleted.
func (f *Fabric) aclGone(a ACL) error {
	if _, again := f.acls[a.Tenant][a.Name]; again {
		return nil
	}
	for _, s := range f.tenants[a.Tenant].Subnets {
		if s.ACL == a.Name {
			return inUsef("ACL %s is that of VSID %s: give that another one, or none, first", a.Key(), s.VSID)
		}
	}
	for _, p := range f.Ports() {
		if p.ACL == a.Name && f.owners[p.VSID] == a.Tenant {
			return inUsef("ACL %s is that of port %s: give that another one, or none, first", a.Key(), p.Interface)
		}
	}
	return nil
}

// orphans lists a tenant's objects that a change of the tenant would leave
// without what they refer to.
func (f *Fabric) orphans(name Name, old Tenant) []error {
	if _, ok := f.tenants[name]; !ok {
		if n := f.dependents(old); n > 0 {
			return []error{inUsef("tenant %s still has %d ACLs, lookup records, customer routes, ports, NAT mappings, attachments, connections or BGP peers: delete them first, or delete the tenant with cascade", old.Name, n)}
		}
	}
	var errs []error
	bad := func(err error) {
		if err != nil && len(errs) < 10 {
			errs = append(errs, inUsef("tenant %s cannot be changed so: %v", old.Name, err))
		}
	}
	for _, s := range old.Subnets {
		for _, r := range f.records[s.VSID] {
			bad(f.admitRecord(r, nil))
		}
		for _, r := range f.routes[s.VSID] {
			bad(f.admitRoute(r))
		}
	}
	for _, p := range f.ports {
		if _, ok := old.Subnet(p.VSID); ok {
			bad(f.admitPort(p))
		}
	}
	for _, m := range f.mappings {
		if m.Tenant == old.Name {
			bad(f.admitMapping(m, nil))
		}
	}
	return errs
}

// dependents counts what a deleted tenant leaves behind in VSIDs that nobody
// has taken over.
func (f *Fabric) dependents(old Tenant) int {
	n := len(f.TenantMappings(old.Name)) + len(f.acls[old.Name]) +
		len(f.attachments[old.Name]) + len(f.connections[old.Name]) + len(f.neighbours[old.Name])
	if _, ok := f.routers[old.Name]; ok {
		n++
	}
	n += len(f.Aside(old.Name))
	free := func(v VSID) bool {
		_, mine := old.Subnet(v)
		_, taken := f.owners[v]
		return mine && !taken
	}
	for _, p := range f.ports {
		if free(p.VSID) {
			n++
		}
	}
	for _, s := range old.Subnets {
		if free(s.VSID) {
			n += len(f.records[s.VSID]) + len(f.routes[s.VSID])
		}
	}
	return n
}

func (f *Fabric) unreachable() []error {
	var errs []error
	for _, r := range f.proutes {
		if err := f.admitProviderRoute(r); err != nil {
			errs = append(errs, inUsef("%v", err))
		}
	}
	for _, m := range f.records {
		for _, r := range m {
			if pa, off := f.offFabric(r); off {
				errs = append(errs, inUsef("lookup record %s needs its provider address %s to stay reachable", r.Key(), pa))
				if len(errs) >= 10 {
					return errs
				}
			}
		}
	}
	return errs
}

package hnv

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Get finds one object, also one that is set aside.
func (f *Fabric) Get(k Kind, key string) (Object, bool) {
	if o, ok := f.get(k, key); ok || len(f.aside) == 0 {
		return o, ok
	}
	s, ok := f.aside[id{k, key}]
	return s.Object, ok
}

func (f *Fabric) get(k Kind, key string) (Object, bool) {
	switch k {
	case KindTenant:
		t, ok := f.tenants[Name{key}]
		return found(t, ok)
	case KindACL:
		t, n, err := ParseACLKey(key)
		if err != nil {
			return nil, false
		}
		a, ok := f.ACL(t, n)
		return found(a, ok)
	case KindRecord:
		return f.getRecord(key)
	case KindCustomerRoute:
		vs, _, _ := strings.Cut(key, "/")
		v, err := ParseVSID(vs)
		if err != nil {
			return nil, false
		}
		r, ok := f.routes[v][key]
		return found(r, ok)
	case KindProviderAddress:
		a, err := netip.ParseAddr(key)
		if err != nil {
			return nil, false
		}
		p, ok := f.paddrs[a]
		return found(p, ok)
	case KindProviderRoute:
		r, ok := f.proutes[key]
		return found(r, ok)
	case KindPort:
		p, ok := f.ports[key]
		return found(p, ok)
	case KindNATMapping:
		m, ok := f.mappings[key]
		return found(m, ok)
	case KindAttachment:
		t, n := splitNames(key)
		a, ok := f.attachments[t][Name{n}]
		return found(a, ok)
	case KindS2SConnection:
		t, n := splitNames(key)
		c, ok := f.connections[t][Name{n}]
		return found(c, ok)
	case KindBGPRouter:
		r, ok := f.routers[Name{key}]
		return found(r, ok)
	case KindBGPPeer:
		t, n := splitNames(key)
		p, ok := f.neighbours[t][n]
		return found(p, ok)
	}
	return nil, false
}

func found[T Object](o T, ok bool) (Object, bool) {
	if !ok {
		return nil, false
	}
	return o, true
}

func (f *Fabric) getRecord(key string) (Object, bool) {
	k, err := ParseRecordKey(key)
	if err != nil {
		return nil, false
	}
	r, ok := f.records[k.VSID][k]
	return found(r, ok)
}

// List gives all objects of a kind in a stable order, also those that are set aside.
func (f *Fabric) List(k Kind) []Object {
	out := f.list(k)
	if aside := f.asideOf(k); len(aside) > 0 {
		out = append(out, aside...)
		slices.SortFunc(out, compareKeys)
	}
	return out
}

func (f *Fabric) list(k Kind) []Object {
	switch k {
	case KindTenant:
		return objects(f.Tenants())
	case KindACL:
		return objects(f.ACLs())
	case KindRecord:
		var all []Record
		for _, m := range f.records {
			all = slices.AppendSeq(all, maps.Values(m))
		}
		slices.SortFunc(all, compareRecords)
		return objects(all)
	case KindCustomerRoute:
		var all []CustomerRoute
		for _, m := range f.routes {
			all = slices.AppendSeq(all, maps.Values(m))
		}
		slices.SortFunc(all, compareRoutes)
		return objects(all)
	case KindProviderAddress:
		return objects(f.ProviderAddresses())
	case KindProviderRoute:
		return objects(f.ProviderRoutes())
	case KindPort:
		return objects(f.Ports())
	case KindNATMapping:
		return objects(sorted(f.mappings))
	case KindAttachment:
		return objects(perTenant(f.attachments, compareKeys))
	case KindS2SConnection:
		return objects(perTenant(f.connections, compareKeys))
	case KindBGPRouter:
		return objects(slices.SortedFunc(maps.Values(f.routers), compareKeys))
	case KindBGPPeer:
		return objects(perTenant(f.neighbours, compareKeys))
	}
	return nil
}

func objects[T Object](in []T) []Object {
	out := make([]Object, len(in))
	for i, o := range in {
		out[i] = o
	}
	return out
}

func sorted[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func compareRecords(a, b Record) int {
	return cmp.Or(
		cmp.Compare(a.VSID.n, b.VSID.n),
		a.CA.Compare(b.CA),
		slices.Compare(a.MAC.b[:], b.MAC.b[:]),
	)
}

func compareRoutes(a, b CustomerRoute) int {
	return cmp.Or(
		cmp.Compare(a.VSID.n, b.VSID.n),
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		a.NextHop.Compare(b.NextHop),
	)
}

// Tenants gives all tenants by name.
func (f *Fabric) Tenants() []Tenant {
	out := slices.Collect(maps.Values(f.tenants))
	slices.SortFunc(out, func(a, b Tenant) int { return cmp.Compare(a.Name.s, b.Name.s) })
	return out
}

// Tenant finds a tenant by name.
func (f *Fabric) Tenant(n Name) (Tenant, bool) { t, ok := f.tenants[n]; return t, ok }

// TenantOfVSID finds the tenant that a virtual subnet belongs to.
func (f *Fabric) TenantOfVSID(v VSID) (Tenant, bool) {
	n, ok := f.owners[v]
	if !ok {
		return Tenant{}, false
	}
	return f.tenants[n], true
}

// TenantRecords gives the lookup records of a tenant's virtual subnets.
func (f *Fabric) TenantRecords(n Name) []Record {
	t := f.tenants[n]
	var out []Record
	for _, s := range t.Subnets {
		out = slices.AppendSeq(out, maps.Values(f.records[s.VSID]))
	}
	slices.SortFunc(out, compareRecords)
	return out
}

// TenantRoutes gives a tenant's customer routes.
func (f *Fabric) TenantRoutes(n Name) []CustomerRoute {
	t := f.tenants[n]
	var out []CustomerRoute
	for _, s := range t.Subnets {
		out = slices.AppendSeq(out, maps.Values(f.routes[s.VSID]))
	}
	slices.SortFunc(out, compareRoutes)
	return out
}

// TenantMappings gives a tenant's static NAT mappings.
func (f *Fabric) TenantMappings(n Name) []NATMapping {
	var out []NATMapping
	for _, m := range sorted(f.mappings) {
		if m.Tenant == n {
			out = append(out, m)
		}
	}
	return out
}

// ACLs gives all ACLs by tenant and name.
func (f *Fabric) ACLs() []ACL {
	var out []ACL
	for _, m := range f.acls {
		out = slices.AppendSeq(out, maps.Values(m))
	}
	slices.SortFunc(out, compareACLs)
	return out
}

// TenantACLs gives a tenant's ACLs by name.
func (f *Fabric) TenantACLs(n Name) []ACL {
	out := slices.Collect(maps.Values(f.acls[n]))
	slices.SortFunc(out, compareACLs)
	return out
}

// ACL finds a tenant's ACL by name.
func (f *Fabric) ACL(tenant, name Name) (ACL, bool) {
	a, ok := f.acls[tenant][name]
	return a, ok
}

func compareACLs(a, b ACL) int {
	return cmp.Or(cmp.Compare(a.Tenant.s, b.Tenant.s), cmp.Compare(a.Name.s, b.Name.s))
}

// ProviderAddresses gives this machine's PAs, lowest first.
func (f *Fabric) ProviderAddresses() []ProviderAddress {
	out := slices.Collect(maps.Values(f.paddrs))
	slices.SortFunc(out, func(a, b ProviderAddress) int { return a.Addr.Addr().Compare(b.Addr.Addr()) })
	return out
}

// ProviderRoutes gives the provider routes.
func (f *Fabric) ProviderRoutes() []ProviderRoute { return sorted(f.proutes) }

// Ports gives the VM ports of this machine.
func (f *Fabric) Ports() []Port { return sorted(f.ports) }

// Cascade gives the changes that delete a tenant with all that belongs to it.
func (f *Fabric) Cascade(n Name) ([]Change, error) {
	t, ok := f.tenants[n]
	if !ok {
		return nil, notFoundf("tenant %s does not exist", n)
	}
	out := []Change{{Delete: t}}
	for _, r := range f.TenantRecords(n) {
		out = append(out, Change{Delete: r})
	}
	for _, r := range f.TenantRoutes(n) {
		out = append(out, Change{Delete: r})
	}
	for _, m := range f.TenantMappings(n) {
		out = append(out, Change{Delete: m})
	}
	for _, a := range f.TenantACLs(n) {
		out = append(out, Change{Delete: a})
	}
	for _, p := range f.Ports() {
		if f.owners[p.VSID] == n {
			out = append(out, Change{Delete: p})
		}
	}
	for _, a := range f.Attachments(n) {
		out = append(out, Change{Delete: a})
	}
	for _, c := range f.Connections(n) {
		out = append(out, Change{Delete: c})
	}
	for _, p := range f.BGPPeers(n) {
		out = append(out, Change{Delete: p})
	}
	if r, ok := f.routers[n]; ok {
		out = append(out, Change{Delete: r})
	}
	for _, s := range f.Aside(n) {
		out = append(out, Change{Delete: s.Object})
	}
	return out, nil
}

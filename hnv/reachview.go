package hnv

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
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

package control

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/hnv"
)

// speakerSpec is what the tenant's agent is to do about BGP; nil where it has no
// router. heard is from where peers without an endpoint call now.
func speakerSpec(f *hnv.Fabric, t hnv.Tenant, open opener, heard ...netip.Addr) (*bgp.Spec, error) {
	r, ok := f.BGPRouter(t.Name)
	if !ok {
		return nil, nil
	}
	spec := &bgp.Spec{
		ASN: r.ASN, RouterID: routerID(f, t, r), ECMP: r.ECMP, Aggregates: r.Aggregates,
		Networks: advertised(f, t, r),
	}
	guard := guards(f, t, heard)
	for _, p := range f.BGPPeers(t.Name) {
		peer := p.Peer
		if p.Password != "" {
			word, err := open(p.PasswordPlace(), p.Password)
			if err != nil {
				return nil, fmt.Errorf("password of BGP peer %s: %w", peer.Name, err)
			}
			peer.Password = bgp.Secret(word)
		}
		peer.Export.Rules = slices.Concat(exports(f, t, r, peer), peer.Export.Rules)
		peer.Import.Rules = slices.Concat(guard, defaultGuard(f, t, peer), peer.Import.Rules)
		spec.Peers = append(spec.Peers, peer)
	}
	return spec, nil
}

// routerID is the router's, or the first IPv4 address of the compartment's, or, of
// one that has none, made of its VSID, which no other has (RFC 6286).
func routerID(f *hnv.Fabric, t hnv.Tenant, r hnv.BGPRouter) netip.Addr {
	if r.RouterID.IsValid() {
		return r.RouterID
	}
	var all []netip.Addr
	for _, e := range f.Externals(t.Name) {
		all = append(all, e.Addr)
	}
	for _, c := range f.Connections(t.Name) {
		for _, p := range c.Addresses {
			all = append(all, p.Addr())
		}
	}
	for _, a := range append(all, t.Gateway.CAs...) {
		if a.Is4() {
			return a
		}
	}
	v := t.Gateway.VSID.Uint32()
	return netip.AddrFrom4([4]byte{100, byte(v >> 16), byte(v >> 8), byte(v)})
}

// advertised are the router's own networks, then the tenant's prefixes, as every site
// sees them, and the addresses that lead to its VMs.
func advertised(f *hnv.Fabric, t hnv.Tenant, r hnv.BGPRouter) []bgp.Network {
	out := slices.Clone(r.Networks)
	add := func(p netip.Prefix) {
		if !slices.ContainsFunc(out, func(n bgp.Network) bool { return n.Prefix == p }) &&
			!slices.ContainsFunc(r.Aggregates, func(a bgp.Aggregate) bool { return a.Prefix == p }) {
			out = append(out, bgp.Network{Prefix: p})
		}
	}
	if !r.NoTenantPrefixes {
		for _, p := range insidePrefixes(t) {
			add(p)
		}
		for _, c := range f.Connections(t.Name) {
			for _, p := range mappedPrefixes(t, c) {
				add(p)
			}
		}
	}
	if !r.NoMappedAddresses {
		for _, m := range f.TenantMappings(t.Name) {
			add(netip.PrefixFrom(m.External.Addr(), m.External.Addr().BitLen()))
		}
	}
	return out
}

// tenantPrefixes are those of the virtual subnets.
func tenantPrefixes(t hnv.Tenant) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range t.Subnets {
		for _, p := range s.Prefixes {
			out = append(out, p.Prefix.Masked())
		}
	}
	return out
}

// guards are what is taken from no peer, whatever its policy: prefixes inside the
// tenant's own, which would take packets away from its VMs, those that would lead a
// tunnel's encrypted packets into a tunnel, and those that would lead one peer's
// session to another.
func guards(f *hnv.Fabric, t hnv.Tenant, heard []netip.Addr) []bgp.Rule {
	own := bgp.Rule{Name: "hnvgate: the tenant's own prefixes", Action: bgp.Reject}
	for _, p := range tenantPrefixes(t) {
		own.Match.Prefixes = append(own.Match.Prefixes, bgp.PrefixRange{Prefix: p, Min: p.Bits(), Max: p.Addr().BitLen()})
	}
	out := []bgp.Rule{own}
	ways := bgp.Rule{Name: "hnvgate: the ways to tunnels' other ends", Action: bgp.Reject}
	seen := map[netip.Prefix]bool{}
	ends := []netip.Addr{}
	for _, c := range f.Connections(t.Name) {
		ends = append(ends, tunnelEndpoints(c)...)
	}
	for _, a := range append(ends, heard...) {
		// Not the default route: the compartment's own goes before one of BGP, and
		// where there is none defaultGuard stands.
		for bits := a.BitLen(); bits > 0; bits-- {
			p := netip.PrefixFrom(a, bits).Masked()
			if !seen[p] {
				seen[p] = true
				ways.Match.Prefixes = append(ways.Match.Prefixes, bgp.PrefixRange{Prefix: p})
			}
		}
	}
	out = append(out, inParts(ways)...)
	peers := bgp.Rule{Name: "hnvgate: the addresses of peers", Action: bgp.Reject}
	seen = map[netip.Prefix]bool{}
	add := func(p netip.Prefix) {
		if p = p.Masked(); !seen[p] {
			seen[p] = true
			peers.Match.Prefixes = append(peers.Match.Prefixes, bgp.PrefixRange{Prefix: p, Min: p.Bits(), Max: p.Addr().BitLen()})
		}
	}
	for _, c := range f.Connections(t.Name) {
		for _, p := range c.Addresses {
			add(p)
		}
	}
	r, _ := f.BGPRouter(t.Name)
	for _, p := range f.BGPPeers(t.Name) {
		// One further away may be where another peer says that it is.
		near := p.ASN != r.ASN && p.MultihopTTL <= 1 && p.TTLSecurity <= 1
		if a := p.Address.WithZone(""); a.IsValid() && near {
			add(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return append(out, inParts(peers)...)
}

// inParts gives the rule, in as many as a policy wants for so many prefixes; none for
// none.
func inParts(r bgp.Rule) []bgp.Rule {
	var out []bgp.Rule
	for part := range slices.Chunk(r.Match.Prefixes, maxGuards) {
		x := r
		x.Match.Prefixes = part
		if len(out) > 0 {
			x.Name = fmt.Sprintf("%s, part %d", r.Name, len(out)+1)
		}
		out = append(out, x)
	}
	return out
}

// defaultGuard takes no default route from a peer that may be behind a tunnel, where the
// compartment has none of its own that goes before it: the tunnels' packets would go
// into a tunnel. A router in an attachment's network is not behind one.
func defaultGuard(f *hnv.Fabric, t hnv.Tenant, p bgp.Peer) []bgp.Rule {
	if len(f.Connections(t.Name)) == 0 {
		return nil
	}
	attachments := f.Attachments(t.Name)
	for _, a := range attachments {
		for _, q := range a.Addresses {
			if !q.IsSingleIP() && (p.Address.IsValid() && q.Masked().Contains(p.Address.WithZone("")) || p.Prefix.IsValid() && q.Masked() == p.Prefix) {
				return nil
			}
		}
	}
	var own4, own6 bool
	has := func(a netip.Addr) {
		own4, own6 = own4 || a.Is4(), own6 || a.Is6()
	}
	if t.Gateway != nil && t.Gateway.NAT != nil {
		for _, e := range t.Gateway.NAT.Pool {
			has(e.Addr)
		}
	}
	for _, a := range attachments {
		if f.UplinkKind(a.Uplink) == hnv.UplinkRouted {
			for _, q := range a.Addresses {
				has(q.Addr())
			}
		}
		for _, r := range a.Routes {
			if r.Prefix.Bits() == 0 && r.Metric < learnedMetric {
				has(r.Prefix.Addr())
			}
		}
	}
	rule := bgp.Rule{Name: "hnvgate: no default route but into a tunnel", Action: bgp.Reject}
	if !own4 {
		rule.Match.Prefixes = append(rule.Match.Prefixes, bgp.PrefixRange{Prefix: netip.PrefixFrom(netip.IPv4Unspecified(), 0)})
	}
	if !own6 {
		rule.Match.Prefixes = append(rule.Match.Prefixes, bgp.PrefixRange{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0)})
	}
	if len(rule.Match.Prefixes) == 0 {
		return nil
	}
	return []bgp.Rule{rule}
}

// learnedMetric is the lowest metric of learned routes (package speaker).
const learnedMetric = 20

// maxGuards bounds the list, of which a policy may have 4096 elements.
const maxGuards = 4096

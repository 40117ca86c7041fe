package control

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/hnv"
)

// insidePrefixes are the tenant's prefixes that the compartment reaches: it has no way
// into one of a family that its own subnet has not.
func insidePrefixes(t hnv.Tenant) []netip.Prefix {
	return slices.DeleteFunc(tenantPrefixes(t), func(p netip.Prefix) bool {
		return t.Gateway == nil || !slices.ContainsFunc(t.Gateway.CAs, func(a netip.Addr) bool { return a.Is4() == p.Addr().Is4() })
	})
}

// mappedPrefixes are the tenant's prefixes where the connection's site sees them
// elsewhere than they are: those inside the real part of a map, translated, and the
// mapped part of one that is inside such a prefix.
func mappedPrefixes(t hnv.Tenant, c hnv.S2SConnection) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range insidePrefixes(t) {
		for _, m := range c.LocalMaps {
			switch {
			case !m.Real.Overlaps(p):
			case m.Real.Bits() <= p.Bits():
				out = append(out, m.Translate(p))
			default:
				out = append(out, m.Mapped)
			}
		}
	}
	return out
}

// exports are what the peer is not told: where its connection has maps, the real
// prefixes, which mean something else there or nothing, and in any case what other
// connections' sites see instead of them. What the router has of its own is told as it
// stands.
func exports(f *hnv.Fabric, t hnv.Tenant, r hnv.BGPRouter, p bgp.Peer) []bgp.Rule {
	rule := bgp.Rule{Name: "hnvgate: prefixes as others see them", Match: bgp.Match{Origin: bgp.OriginLocal}, Action: bgp.Reject}
	reject := func(q netip.Prefix) {
		named := slices.ContainsFunc(r.Networks, func(n bgp.Network) bool { return n.Prefix == q })
		if !named && len(rule.Match.Prefixes) < maxGuards {
			rule.Match.Prefixes = append(rule.Match.Prefixes, bgp.PrefixRange{Prefix: q})
		}
	}
	inside := insidePrefixes(t)
	own := map[netip.Prefix]bool{} // what the peer sees the tenant's prefixes as
	var others []netip.Prefix
	for _, c := range f.Connections(t.Name) {
		mapped := mappedPrefixes(t, c)
		if !behind(c, p) {
			others = append(others, mapped...)
			continue
		}
		for _, q := range mapped {
			own[q] = true
		}
		for _, q := range inside {
			if slices.ContainsFunc(c.LocalMaps, func(m hnv.PrefixMap) bool { return m.Real.Bits() <= q.Bits() && m.Real.Overlaps(q) }) && !own[q] {
				reject(q)
			}
		}
	}
	for _, q := range others {
		if !own[q] && !slices.Contains(inside, q) {
			reject(q)
		}
	}
	var out []bgp.Rule
	if len(rule.Match.Prefixes) > 0 {
		out = append(out, rule)
	}
	return append(out, tunnelsBegin(f, t, r, p)...)
}

// tunnelsBegin keeps from a peer behind a tunnel what the addresses of this end of
// tunnels are in: by such a route its router would send the tunnels' packets into a
// tunnel. The default route is not meant, which others there go before.
func tunnelsBegin(f *hnv.Fabric, t hnv.Tenant, r hnv.BGPRouter, p bgp.Peer) []bgp.Rule {
	connections := f.Connections(t.Name)
	if !slices.ContainsFunc(connections, func(c hnv.S2SConnection) bool { return behind(c, p) }) {
		return nil
	}
	rule := bgp.Rule{Name: "hnvgate: the ways to this end of tunnels", Action: bgp.Reject}
	seen := map[netip.Prefix]bool{}
	for _, n := range r.Networks {
		seen[n.Prefix] = true // told as it stands
	}
	for _, c := range connections {
		at, ok := f.ListenAt(c)
		if !ok {
			continue
		}
		for bits := at.Addr.BitLen(); bits > 0 && len(rule.Match.Prefixes) < maxGuards; bits-- {
			if q := netip.PrefixFrom(at.Addr, bits).Masked(); !seen[q] {
				seen[q] = true
				rule.Match.Prefixes = append(rule.Match.Prefixes, bgp.PrefixRange{Prefix: q})
			}
		}
	}
	if len(rule.Match.Prefixes) == 0 {
		return nil
	}
	return []bgp.Rule{rule}
}

// behind tells whether the peer is at the other end of the connection's tunnel.
func behind(c hnv.S2SConnection, p bgp.Peer) bool {
	in := func(q netip.Prefix) bool {
		return p.Address.IsValid() && q.Contains(p.Address.WithZone("")) || p.Prefix.IsValid() && q.Overlaps(p.Prefix)
	}
	return slices.ContainsFunc(c.Addresses, func(a netip.Prefix) bool { return in(a.Masked()) }) ||
		slices.ContainsFunc(c.Peers, func(o hnv.S2SPeer) bool { return slices.ContainsFunc(o.Prefixes, in) })
}

package hnv

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

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

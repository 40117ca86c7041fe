package server

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/api/stanza"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func (s *Server) peerConfig(ctx context.Context, in *peerConfigInput) (*answer[v1.S2SPeerConfig], error) {
	t, n, err := ofTenant(in.Tenant, in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	p, err := hnv.ParseName(in.Peer)
	if err != nil {
		return nil, s.refuse(err)
	}
	var c hnv.S2SConnection
	s.store.View(func(f *hnv.Fabric) { c, _ = f.Connection(t, n) })
	switch {
	case !c.Name.IsValid():
		return nil, s.refuse(absent("site-to-site connection", t.String()+"/"+n.String()))
	case !slices.ContainsFunc(c.Peers, func(x hnv.S2SPeer) bool { return x.Name == p }):
		return nil, s.refuse(&kindError{fmt.Sprintf("site-to-site connection %s has no peer %s", c.Key(), p), hnv.ErrNotFound})
	}
	networks, err := parseNetworks(in)
	if err != nil {
		return nil, s.refuse(err)
	}
	out, err := s.backend.PeerConfig(ctx, t, n, p)
	if err != nil {
		return nil, s.refuse(err)
	}
	out.Tenant, out.Name, out.Peer = t.String(), n.String(), p.String()
	out.Addresses, out.AllowedIPs = orEmpty(out.Addresses), orEmpty(out.AllowedIPs)
	if in.BGP == "" {
		return &answer[v1.S2SPeerConfig]{out}, nil
	}
	var site stanza.Site
	s.store.View(func(f *hnv.Fabric) { site, err = siteOf(f, c, p) })
	if err != nil {
		return nil, s.refuse(err)
	}
	site.Tunnel = tunnelOf(out)
	for _, p := range networks {
		if !slices.Contains(site.Networks, p) {
			site.Networks = append(site.Networks, p)
		}
	}
	if out.BGP, err = site.Write(stanza.Router(in.BGP)); err != nil {
		return nil, s.refuse(invalidf("%v", err))
	}
	out.Router = in.BGP
	return &answer[v1.S2SPeerConfig]{out}, nil
}

// parseNetworks reads the prefixes at the site.
func parseNetworks(in *peerConfigInput) ([]netip.Prefix, error) {
	if len(in.Network) > 0 && in.BGP == "" {
		return nil, invalidf("network is for the configuration of a BGP router: name it with bgp")
	}
	var out []netip.Prefix
	for _, s := range in.Network {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		switch {
		case err != nil:
			return nil, invalidf("network %q is not a prefix: write it as ADDRESS/LENGTH", s)
		case p != p.Masked():
			return nil, invalidf("network %s has host bits set: write %s", p, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

// siteOf finds the BGP session through a peer of a connection, as the router at its
// other end has it.
func siteOf(f *hnv.Fabric, c hnv.S2SConnection, name hnv.Name) (stanza.Site, error) {
	r, ok := f.BGPRouter(c.Tenant)
	if !ok {
		return stanza.Site{}, &kindError{fmt.Sprintf("tenant %s has no BGP router: «gatewayctl bgp router set» makes one", c.Tenant), hnv.ErrNotFound}
	}
	peer := c.Peers[slices.IndexFunc(c.Peers, func(p hnv.S2SPeer) bool { return p.Name == name })]
	for _, b := range f.BGPPeers(c.Tenant) {
		remote, local, ok := through(c, peer, b)
		if !ok {
			continue
		}
		s := stanza.SiteOf(r.ASN, &b.Peer, local, remote)
		s.Tenant, s.Connection, s.Peer = c.Tenant.String(), c.Name.String(), name.String()
		s.Password = b.Password != ""
		for _, p := range peer.Prefixes {
			if !p.Contains(remote) {
				s.Networks = append(s.Networks, p)
			}
		}
		return s, nil
	}
	return stanza.Site{}, &kindError{fmt.Sprintf("tenant %s has no BGP peer behind peer %s of connection %s: «gatewayctl bgp peer add» with the other end's address inside the tunnel makes one", c.Tenant, name, c.Name), hnv.ErrNotFound}
}

// through gives the two ends of a BGP session that runs through the peer of a
// connection.
func through(c hnv.S2SConnection, p hnv.S2SPeer, b hnv.BGPPeer) (remote, local netip.Addr, ok bool) {
	for _, own := range c.Addresses {
		for _, there := range farEnds(c, p, own) {
			mine := b.Peer.Address == there || b.Peer.Prefix.IsValid() && b.Peer.Prefix.Contains(there)
			if mine && (!b.Peer.Local.IsValid() || b.Peer.Local == own.Addr()) {
				return there, own.Addr(), true
			}
		}
	}
	if a := b.Peer.Address; b.Peer.Local.IsValid() && slices.ContainsFunc(p.Prefixes, func(q netip.Prefix) bool { return q.Contains(a) }) {
		return a, b.Peer.Local, true
	}
	return remote, local, false
}

// farEnds are the addresses that a peer may have on the link of the connection's
// own address: single ones of its prefixes, and the other one of a link of two.
func farEnds(c hnv.S2SConnection, p hnv.S2SPeer, own netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, q := range p.Prefixes {
		if q.IsSingleIP() && own.Contains(q.Addr()) && q.Addr() != own.Addr() {
			out = append(out, q.Addr())
		}
	}
	if len(out) > 0 || len(c.Peers) > 1 || own.Addr().BitLen()-own.Bits() > 2 {
		return out
	}
	for a := own.Masked().Addr(); own.Contains(a); a = a.Next() {
		if a != own.Addr() {
			out = append(out, a)
		}
	}
	return out
}

// tunnelOf is the link at the site, for routers that make it themselves.
func tunnelOf(c v1.S2SPeerConfig) stanza.Tunnel {
	t := stanza.Tunnel{PublicKey: c.PublicKey, ListenPort: c.ListenPort, Keepalive: c.Keepalive, MTU: c.MTU, PresharedKey: c.PresharedKey}
	t.Endpoint, _ = netip.ParseAddrPort(c.Endpoint) // unset where it has none
	for _, l := range []struct {
		in  []string
		out *[]netip.Prefix
	}{{c.Addresses, &t.Addresses}, {c.AllowedIPs, &t.AllowedIPs}} {
		for _, s := range l.in {
			if p, err := netip.ParsePrefix(s); err == nil {
				*l.out = append(*l.out, p)
			}
		}
	}
	return t
}

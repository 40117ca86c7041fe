package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// Connection is the name of the tenant's connection to the site's I-th tunnel, and of
// the BGP peer at its end: hq-1 and so on.
func (s Site) Connection(i int) string { return fmt.Sprintf("%s-%d", s.Name[1:], i+1) }

// SitesDocument gives what makes the gateway reach the sites named, or all: for each
// tunnel a connection and a peer of BGP in either family, the first preferred; for a
// link an attachment and a peer. Where the site's speaker has BFD, it is asked for.
// The sites must have been started: their keys are in it.
func (l *Lab) SitesDocument(names ...string) (v1.Document, error) {
	doc := v1.Document{APIVersion: v1.APIVersion}
	routers := map[string]bool{}
	for _, s := range l.topo.Sites {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		if !routers[s.Tenant] {
			routers[s.Tenant] = true
			doc.BGPRouters = append(doc.BGPRouters, v1.BGPRouter{Tenant: s.Tenant, ASN: GatewayASN})
		}
		for i, t := range s.Tunnels {
			key, err := l.SiteKey(s.Name, i)
			if err != nil {
				return doc, fmt.Errorf("site %s is not started: %w", s.Name, err)
			}
			doc.S2SConnections = append(doc.S2SConnections, v1.S2SConnection{
				Tenant: s.Tenant, Name: s.Connection(i), Addresses: []string{t.Gateway().String(), t.Gateway6().String()},
				Peers: []v1.S2SPeer{{
					Name: s.Name, PublicKey: key, Endpoint: s.Endpoint(i).String(), FromBGP: true, Priority: uint32(10 * i),
					Prefixes: []string{single(t.Inside.Addr()), single(t.Inside6.Addr())},
				}},
			})
		}
		if k := s.Link; k != nil {
			doc.Attachments = append(doc.Attachments, v1.Attachment{
				Tenant: s.Tenant, Name: "dc", Uplink: k.Uplink, Addresses: []string{netip.PrefixFrom(k.Gateway, k.Router.Bits()).String()},
			})
		}
		doc.BGPPeers = append(doc.BGPPeers, s.peers(uint32(l.opts.BFD.Milliseconds()))...)
	}
	return doc, nil
}

// peers are the gateway's ends of the site's sessions.
func (s Site) peers(bfd uint32) (out []v1.BGPPeer) {
	for _, n := range s.sessions() {
		name := "dc"
		if strings.HasPrefix(n.link, "wg") {
			var i int
			_, _ = fmt.Sscanf(n.link, "wg%d", &i) // sessions names them so
			name = s.Connection(i)
		}
		if n.gateway.Is6() {
			name += "-v6"
		}
		pref := uint32(n.preference)
		p := v1.BGPPeer{
			Tenant: s.Tenant, Name: name, Address: n.local.String(), ASN: s.ASN, HoldSeconds: 9, ConnectRetry: 1,
			Import: &v1.BGPPolicy{Rules: []v1.BGPRule{{Set: &v1.BGPSet{LocalPref: &pref}}}},
		}
		if s.Speaker != GoBGP {
			p.BFD = &v1.BGPBFD{IntervalMS: bfd}
		}
		out = append(out, p)
	}
	return out
}

// ConnectSites gives the ends of the tunnels at the sites named, or at all, what they
// need to know of the gateway: its keys, and where it listens.
func (l *Lab) ConnectSites(ctx context.Context, names ...string) error {
	doc, err := l.Export(ctx, l.topo.Gateway.Name)
	if err != nil {
		return err
	}
	for _, s := range l.topo.Sites {
		if len(names) > 0 && !slices.Contains(names, s.Name) {
			continue
		}
		for i := range s.Tunnels {
			c, ok := connection(doc, s.Tenant, s.Connection(i))
			if !ok {
				return fmt.Errorf("the gateway has no connection %s of tenant %s", s.Connection(i), s.Tenant)
			}
			at, err := l.Listens(c)
			if err != nil {
				return err
			}
			if err := l.ConnectSite(ctx, s.Name, i, c.PublicKey, at, ""); err != nil {
				return fmt.Errorf("site %s: tunnel %d: %w", s.Name, i, err)
			}
		}
	}
	return nil
}

// Listens tells where the gateway's end of the connection is.
func (l *Lab) Listens(c v1.S2SConnection) (netip.AddrPort, error) {
	if c.LocalAddress != "" {
		a, err := netip.ParseAddr(c.LocalAddress)
		return netip.AddrPortFrom(a, c.ListenPort), err
	}
	t, err := l.topo.Tenant(c.Tenant)
	return netip.AddrPortFrom(t.External, c.ListenPort), err
}

func connection(doc v1.Document, tenant, name string) (v1.S2SConnection, bool) {
	for _, c := range doc.S2SConnections {
		if c.Tenant == tenant && c.Name == name {
			return c, true
		}
	}
	return v1.S2SConnection{}, false
}

// Export gives all that the machine's gatewayd was told.
func (l *Lab) Export(ctx context.Context, machine string) (doc v1.Document, err error) {
	out, err := l.ctl(ctx, machine, "export")
	if err != nil {
		return doc, err
	}
	if err := yaml.Unmarshal([]byte(out), &doc); err != nil {
		return doc, fmt.Errorf("export of %s: %w", machine, err)
	}
	return doc, nil
}

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

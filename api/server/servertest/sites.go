package servertest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// fabric calls fn with the state.
func fabric[T any](b *Backend, fn func(f *hnv.Fabric) T) (out T) {
	b.Store.View(func(f *hnv.Fabric) { out = fn(f) })
	return out
}

// wanted tells whether an object is among those asked for.
func wanted(name, asked hnv.Name) bool { return !asked.IsValid() || name == asked }

// Attachments are all ready, and have carried a little.
func (b *Backend) Attachments(_ context.Context, tenant, name hnv.Name) ([]v1.AttachmentStatus, error) {
	return fabric(b, func(f *hnv.Fabric) (out []v1.AttachmentStatus) {
		for _, a := range f.Attachments(tenant) {
			if !wanted(a.Name, name) {
				continue
			}
			st := v1.AttachmentStatus{
				Tenant: tenant.String(), Name: a.Name.String(), Phase: v1.PhaseReady, Interface: a.Link(), Kind: f.UplinkKind(a.Uplink),
				MAC: "02:00:00:00:00:07", MTU: 1500, Carrier: true, Addresses: v1.NewAttachment(a).Addresses,
				Received: v1.Traffic{Packets: 310, Bytes: 402000}, Sent: v1.Traffic{Packets: 290, Bytes: 31000},
			}
			if st.Kind == hnv.UplinkRouted {
				st.Interface, st.MAC = "ext", ""
			}
			out = append(out, st)
		}
		return out
	}), nil
}

// S2SStatus tells of connections whose first peers are alive and whose others never
// called.
func (b *Backend) S2SStatus(_ context.Context, tenant, name hnv.Name) ([]v1.S2SStatus, error) {
	return fabric(b, func(f *hnv.Fabric) (out []v1.S2SStatus) {
		for _, c := range f.Connections(tenant) {
			if !wanted(c.Name, name) {
				continue
			}
			at, _ := f.ListenAt(c)
			st := v1.S2SStatus{
				Tenant: tenant.String(), Name: c.Name.String(), Phase: v1.PhaseReady, Interface: c.Link(), Implementation: "embedded", Reason: "this kernel has no WireGuard",
				PublicKey: c.PublicKey.String(), Endpoint: netip.AddrPortFrom(at.Addr, c.ListenPort).String(), ListenPort: c.ListenPort, MTU: 1420,
			}
			for i, p := range v1.NewS2SConnection(c).Peers {
				x := v1.S2SPeerStatus{
					Name: p.Name, PublicKey: p.PublicKey, Endpoint: p.Endpoint, Prefixes: p.Prefixes, FromBGP: p.FromBGP,
					Liveness: v1.LivenessUnprobed, Priority: p.Priority, Weight: p.Weight,
				}
				if i == 0 {
					age := uint64(47)
					x.HandshakeAge, x.RxBytes, x.TxBytes = &age, 1_234_567, 45_678
					x.Liveness, x.SinceSeconds, x.RTT, x.LossPercent, x.Active = v1.LivenessUp, 3720, 1_820_000, 0.5, true
				} else {
					st.Phase, st.Message = v1.PhaseDegraded, "peer "+p.Name+" has not called yet"
				}
				st.Peers = append(st.Peers, x)
			}
			out = append(out, st)
		}
		return out
	}), nil
}

// PeerConfig gives the other end of a connection.
func (b *Backend) PeerConfig(_ context.Context, tenant, name, peer hnv.Name) (v1.S2SPeerConfig, error) {
	return fabric(b, func(f *hnv.Fabric) v1.S2SPeerConfig {
		c, _ := f.Connection(tenant, name)
		at, _ := f.ListenAt(c)
		out := v1.S2SPeerConfig{PublicKey: c.PublicKey.String(), Endpoint: netip.AddrPortFrom(at.Addr, c.ListenPort).String(), MTU: 1420}
		for _, p := range c.Peers {
			if p.Name != peer {
				continue
			}
			out.PresharedKey, out.ListenPort, out.Keepalive = p.PresharedKey != "", p.Endpoint.Port(), p.Keepalive
			for _, q := range p.Prefixes {
				for _, a := range c.Addresses {
					if q.IsSingleIP() && a.Contains(q.Addr()) {
						out.Addresses = append(out.Addresses, netip.PrefixFrom(q.Addr(), a.Bits()).String())
					}
				}
			}
		}
		for _, a := range c.Addresses {
			out.AllowedIPs = append(out.AllowedIPs, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()).String())
		}
		t, _ := f.Tenant(tenant)
		for _, s := range t.Subnets {
			for _, p := range s.Prefixes {
				out.AllowedIPs = append(out.AllowedIPs, p.Prefix.String())
			}
		}
		out.Quick = fmt.Sprintf("[Interface]\n# PrivateKey = \nAddress = %s\n\n[Peer]\nPublicKey = %s\nEndpoint = %s\nAllowedIPs = %s\n",
			strings.Join(out.Addresses, ", "), out.PublicKey, out.Endpoint, strings.Join(out.AllowedIPs, ", "))
		return out
	}), nil
}

// router finds the speaker of a tenant.
func (b *Backend) router(tenant hnv.Name) (r hnv.BGPRouter, peers []hnv.BGPPeer, err error) {
	b.Store.View(func(f *hnv.Fabric) {
		var ok bool
		if r, ok = f.BGPRouter(tenant); !ok {
			err = absent("tenant %s has no BGP router", tenant)
		}
		peers = f.BGPPeers(tenant)
	})
	return r, peers, err
}

// BGPStatus tells of a speaker whose first peer is established and whose others are
// not.
func (b *Backend) BGPStatus(_ context.Context, tenant hnv.Name) (v1.BGPStatus, error) {
	r, peers, err := b.router(tenant)
	if err != nil {
		return v1.BGPStatus{}, err
	}
	st := v1.BGPStatus{
		Tenant: tenant.String(), Phase: v1.PhaseReady, ASN: r.ASN, RouterID: "203.0.113.10", FIB: v1.BGPFIB{Installed: 3},
		Networks: []string{"10.1.1.0/24"},
	}
	for i, p := range peers {
		x := v1.BGPPeerStatus{Name: p.Peer.Name, ASN: p.ASN}
		if p.Address.IsValid() {
			x.Address = p.Address.String()
		}
		fam := v1.BGPFamilyStatus{Family: string(p.Exchanged()[0]), Limit: 100_000}
		if i == 0 {
			since, advertised := uint64(7265), uint64(2)
			x.Session, x.SinceSeconds, x.RouterID, x.Local, x.Hold, x.Keepalive = "established", &since, "192.168.7.1", "169.254.10.1", 90, 30
			fam.Received, fam.Accepted, fam.Advertised = 4, 3, &advertised
			x.Received = v1.BGPMessages{Updates: 5, Keepalives: 242}
			x.Sent = v1.BGPMessages{Updates: 2, Keepalives: 243}
			if p.BFD != nil {
				x.BFD = "up"
			}
		} else {
			x.Session, x.LastError = "active", "connection refused"
			st.Phase, st.Message = v1.PhaseDegraded, "BGP peer "+x.Name+" is not established: "+x.LastError
		}
		x.Families = []v1.BGPFamilyStatus{fam}
		st.Peers = append(st.Peers, x)
	}
	return st, nil
}

// BGPRoutes tells of four, one of which the policy of its peer rejects.
func (b *Backend) BGPRoutes(_ context.Context, tenant hnv.Name, q v1.BGPRouteQuery) ([]v1.BGPRoute, bool, error) {
	_, peers, err := b.router(tenant)
	if err != nil {
		return nil, false, err
	}
	if q.Peer != "" && (len(peers) == 0 || q.Peer != peers[0].Peer.Name) {
		return nil, false, absent("BGP peer %s/%s has no session", tenant, q.Peer)
	}
	med, pref := uint32(50), uint32(200)
	own := v1.BGPRoute{Prefix: "10.1.1.0/24", Best: true, Origin: "igp", AgeSeconds: 9000}
	their := v1.BGPRoute{Prefix: "172.16.0.0/16", Peer: "edge", From: "169.254.10.2", Best: true, AgeSeconds: 7200, NextHop: "169.254.10.2", ASPath: "65001", Origin: "igp", LocalPref: &pref,
		Communities: []string{"65001:100", "no-export"}, LargeCommunities: []string{"65001:1:2"}}
	far := v1.BGPRoute{Prefix: "172.17.0.0/16", Peer: "edge", From: "169.254.10.2", Best: true, AgeSeconds: 60, NextHop: "169.254.10.2", ASPath: "65001 65010 {65011,65012}", Origin: "incomplete", MED: &med, Stale: true}
	rejected := v1.BGPRoute{Prefix: "192.168.0.0/16", Peer: "edge", From: "169.254.10.2", Rejected: true, AgeSeconds: 7200, NextHop: "169.254.10.2", ASPath: "65001", Origin: "egp"}
	all := []v1.BGPRoute{own, their, far}
	switch q.Table {
	case v1.BGPReceived:
		all = []v1.BGPRoute{their, far, rejected}
	case v1.BGPAdvertised:
		own.Best, own.NextHop, own.ASPath = false, "169.254.10.1", "64512"
		all = []v1.BGPRoute{own}
	}
	var out []v1.BGPRoute
	for _, r := range all {
		p, _ := netip.ParsePrefix(r.Prefix)
		if within, err := netip.ParsePrefix(q.Within); err != nil || within.Contains(p.Addr()) && within.Bits() <= p.Bits() {
			out = append(out, r)
		}
	}
	n := min(q.Limit, len(out))
	return out[:n], n < len(out), nil
}

// BGPSoftReset knows the peers by name.
func (b *Backend) BGPSoftReset(_ context.Context, tenant hnv.Name, r v1.BGPSoftReset) error {
	_, peers, err := b.router(tenant)
	if err != nil {
		return err
	}
	for _, p := range peers {
		if p.Peer.Name == r.Peer {
			return nil
		}
	}
	return absent("BGP peer %s/%s does not exist", tenant, r.Peer)
}

// Path knows the virtual subnets, the prefixes of peers, and the default route.
func (b *Backend) Path(_ context.Context, tenant hnv.Name, q v1.PathQuery) (v1.PathExplanation, error) {
	dst, _ := netip.ParseAddr(q.Dst)
	def := v1.PathRoute{Prefix: "0.0.0.0/0", NextHops: []v1.PathHop{{Interface: "ext"}}, From: "nat"}
	out := v1.PathExplanation{
		Tenant: tenant.String(), Dst: q.Dst, Src: q.Src, Via: v1.ViaNAT, Through: "internet", Reason: "no other route leads to " + q.Dst,
		Translated: "the source becomes an address of the NAT pool, 203.0.113.10", MTU: 1500,
	}
	route := def
	b.Store.View(func(f *hnv.Fabric) {
		for _, c := range f.Connections(tenant) {
			for _, p := range c.Peers {
				for _, x := range p.Prefixes {
					if !x.Contains(dst) {
						continue
					}
					route = v1.PathRoute{Prefix: x.String(), NextHops: []v1.PathHop{{Interface: c.Link()}}, From: "s2s", Metric: 50}
					def.Why = "less specific"
					out.Via, out.Through, out.Translated, out.MTU, out.Others = v1.ViaS2S, c.Name.String(), "", 1420, []v1.PathRoute{def}
					out.Reason = fmt.Sprintf("%s is the most specific route to %s, and leads to peer %s of connection %s", x, q.Dst, p.Name, c.Name)
				}
			}
		}
	})
	out.Route = &route
	return out, nil
}

// reach adds what leads the tenant to its sites.
func (b *Backend) reach(tenant hnv.Name, st *v1.TenantStatus) {
	tunnels, sessions := fabric(b, func(f *hnv.Fabric) int { return len(f.Connections(tenant)) }), 0
	if _, peers, err := b.router(tenant); err == nil {
		sessions = len(peers)
	}
	if tunnels+sessions == 0 {
		return
	}
	st.Agent = &v1.AgentStatus{Running: true, PID: 4711, Adopted: true, Restarts: 1, Version: "0.1.0"}
	st.DerivedRoutes = &v1.DerivedRoutes{Used: 4}
	if tunnels > 0 {
		st.Tunnels = &v1.Tally{Up: tunnels, Total: tunnels}
	}
	if sessions > 0 {
		st.BGPSessions = &v1.Tally{Up: 1, Total: sessions}
	}
}

package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// site is what the answers about one tenant's ways outside begin with.
type site struct {
	tenant *tenant // nil: not known yet
	spec   hnv.Tenant
}

func (c *Controller) site(n hnv.Name) (site, error) {
	var s site
	var ok bool
	c.o.Store.View(func(f *hnv.Fabric) { s.spec, ok = f.Tenant(n) })
	if !ok {
		return s, fmt.Errorf("tenant %s does not exist: %w", n, hnv.ErrNotFound)
	}
	s.tenant = c.find(n)
	return s, nil
}

// condition gives one of the tenant's, and whether there is one.
func (s site) condition(kind string) (v1.Condition, bool) {
	if s.tenant == nil {
		return v1.Condition{}, false
	}
	return s.tenant.status.get(kind)
}

// phase is that of something which the condition covers.
func (s site) phase(kind string) (v1.Phase, string) {
	switch c, ok := s.condition(kind); {
	case !ok || s.tenant.keeper.pending() && c.Status:
		return v1.PhasePending, "it is being set up"
	case !c.Status:
		return v1.PhaseError, c.Message
	}
	return v1.PhaseReady, ""
}

// Attachments gives the state of a tenant's, of one if it is named.
func (c *Controller) Attachments(ctx context.Context, n, name hnv.Name) ([]v1.AttachmentStatus, error) {
	s, err := c.site(n)
	if err != nil {
		return nil, err
	}
	out := []v1.AttachmentStatus{}
	var kinds []string
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, a := range f.Attachments(n) {
			if name.IsValid() && a.Name != name {
				continue
			}
			kind := f.UplinkKind(a.Uplink)
			x := v1.AttachmentStatus{Tenant: n.String(), Name: a.Name.String(), Interface: a.Link(), Kind: kind, MTU: a.MTU, Addresses: []string{}}
			if kind == hnv.UplinkRouted {
				x.Interface = compartments.ExternalLink
			}
			for _, p := range a.Addresses {
				x.Addresses = append(x.Addresses, p.String())
			}
			out, kinds = append(out, x), append(kinds, kind)
		}
	})
	aside := []v1.AttachmentStatus{}
	eachAside(c.o.Store, n, func(f *hnv.Fabric, a hnv.Attachment, why string) {
		if !name.IsValid() || a.Name == name {
			x := v1.AttachmentStatus{Tenant: n.String(), Name: a.Name.String(), Interface: a.Link(), Kind: f.UplinkKind(a.Uplink), MTU: a.MTU, Addresses: texts(a.Addresses)}
			x.Phase, x.Message = v1.PhaseError, why
			aside = append(aside, x)
		}
	})
	if name.IsValid() && len(out)+len(aside) == 0 {
		return nil, fmt.Errorf("attachment %s/%s does not exist: %w", n, name, hnv.ErrNotFound)
	}
	for i := range out {
		cond := condForward
		if kinds[i] == hnv.UplinkRouted {
			cond = condCompartment
		}
		out[i].Phase, out[i].Message = s.phase(cond)
	}
	if s.tenant != nil && s.tenant.status.namespace() != "" && c.o.Forwarder != nil {
		list, err := c.o.Forwarder.Snapshot(ctx, n, s.tenant.status.namespace())
		if err != nil {
			c.o.Log.Warn("read attachments' links", "tenant", n, "err", err)
		}
		links := map[string]forwarder.LinkState{}
		for _, l := range list {
			links[l.Link] = l
		}
		for i := range out {
			l, ok := links[out[i].Interface]
			if !ok {
				out[i].Carrier = kinds[i] == hnv.UplinkRouted && out[i].Phase == v1.PhaseReady
				continue
			}
			out[i].MAC, out[i].MTU, out[i].Carrier = l.MAC, l.MTU, l.Carrier
			out[i].Received = v1.Traffic{Packets: l.Counters.RxPackets, Bytes: l.Counters.RxBytes}
			out[i].Sent = v1.Traffic{Packets: l.Counters.TxPackets, Bytes: l.Counters.TxBytes}
			if !l.Carrier && out[i].Phase == v1.PhaseReady {
				out[i].Phase, out[i].Message = v1.PhaseDegraded, "the link has no carrier"
			}
		}
	}
	out = append(out, aside...)
	slices.SortFunc(out, func(a, b v1.AttachmentStatus) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// eachAside goes through what of a kind is stored for the tenant and not made.
func eachAside[T hnv.Object](s Store, n hnv.Name, fn func(f *hnv.Fabric, o T, why string)) {
	s.View(func(f *hnv.Fabric) {
		for _, x := range f.Aside(n) {
			if o, ok := x.Object.(T); ok {
				fn(f, o, x.Why.Error())
			}
		}
	})
}

// S2SStatus gives the state of a tenant's connections, of one if it is named.
func (c *Controller) S2SStatus(ctx context.Context, n, name hnv.Name) ([]v1.S2SStatus, error) {
	s, err := c.site(n)
	if err != nil {
		return nil, err
	}
	var conns []hnv.S2SConnection
	at := map[hnv.Name]netip.AddrPort{}
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, conn := range f.Connections(n) {
			if name.IsValid() && conn.Name != name {
				continue
			}
			conns = append(conns, conn)
			if e, ok := f.ListenAt(conn); ok {
				at[conn.Name] = netip.AddrPortFrom(e.Addr, conn.ListenPort)
			}
		}
	})
	out := []v1.S2SStatus{}
	eachAside(c.o.Store, n, func(_ *hnv.Fabric, conn hnv.S2SConnection, why string) {
		if !name.IsValid() || conn.Name == name {
			x := describeConnection(conn, netip.AddrPort{})
			x.Phase, x.Message = v1.PhaseError, why
			out = append(out, x)
		}
	})
	if name.IsValid() && len(conns)+len(out) == 0 {
		return nil, fmt.Errorf("site-to-site connection %s/%s does not exist: %w", n, name, hnv.ErrNotFound)
	}
	now := map[string]s2s.TunnelState{}
	if s.tenant != nil {
		s.tenant.keeper.look(ctx)
		_, _, tunnels, _ := s.tenant.keeper.snapshot()
		for _, t := range tunnels.Tunnels {
			now[t.Name] = t
		}
	}
	for _, conn := range conns {
		x := describeConnection(conn, at[conn.Name])
		x.Phase, x.Message = s.phase(condTunnels)
		if t, ok := now[x.Name]; ok {
			fillConnection(&x, conn, t, time.Now())
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b v1.S2SStatus) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func describeConnection(c hnv.S2SConnection, at netip.AddrPort) v1.S2SStatus {
	x := v1.S2SStatus{
		Tenant: c.Tenant.String(), Name: c.Name.String(), Interface: c.Link(), PublicKey: c.PublicKey.String(),
		Endpoint: text(at), ListenPort: c.ListenPort, MTU: c.MTU, Peers: []v1.S2SPeerStatus{},
	}
	for _, p := range c.Peers {
		x.Peers = append(x.Peers, v1.S2SPeerStatus{
			Name: p.Name.String(), PublicKey: p.PublicKey.String(), Endpoint: text(p.Endpoint), Prefixes: texts(p.Prefixes),
			FromBGP: p.FromBGP, Liveness: v1.LivenessUnknown, Priority: p.Priority, Weight: uint16(max(p.Weight, 1)),
		})
	}
	return x
}

func texts(ps []netip.Prefix) []string {
	out := []string{}
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// fillConnection adds what the tunnel tells of itself.
func fillConnection(x *v1.S2SStatus, c hnv.S2SConnection, t s2s.TunnelState, now time.Time) {
	x.Implementation, x.Reason = string(t.Implementation), t.Reason
	x.InboundDrops, x.OutboundDrops = t.InboundDrops, t.OutboundDrops
	if t.MTU != 0 {
		x.MTU = t.MTU
	}
	if t.Error != "" {
		x.Phase, x.Message = v1.PhaseError, t.Error
	}
	byName := map[string]s2s.PeerState{}
	for _, p := range t.Peers {
		byName[p.Name] = p
	}
	down := 0
	for i := range x.Peers {
		p, ok := byName[x.Peers[i].Name]
		if !ok {
			continue
		}
		fillPeer(&x.Peers[i], p, now)
		if p.Liveness == s2s.Down {
			down++
		}
	}
	if down > 0 && x.Phase == v1.PhaseReady {
		x.Phase, x.Message = v1.PhaseDegraded, fmt.Sprintf("%d of %d peers do not answer", down, len(x.Peers))
	}
}

func fillPeer(out *v1.S2SPeerStatus, p s2s.PeerState, now time.Time) {
	if p.Endpoint.IsValid() {
		out.Endpoint = p.Endpoint.String()
	}
	if !p.LastHandshake.IsZero() {
		age := seconds(now.Sub(p.LastHandshake))
		out.HandshakeAge = &age
	}
	out.RxBytes, out.TxBytes, out.Liveness = p.RxBytes, p.TxBytes, string(p.Liveness)
	if !p.Since.IsZero() {
		out.SinceSeconds = seconds(now.Sub(p.Since))
	}
	out.LossPercent, out.RTT, out.Active, out.PathMTU = 100*p.Loss, int64(p.RTT), p.Active, p.Passes
}

func seconds(d time.Duration) uint64 { return uint64(max(d, 0) / time.Second) }

// PeerConfig gives what the other end of a connection needs.
func (c *Controller) PeerConfig(ctx context.Context, n, name, peer hnv.Name) (v1.S2SPeerConfig, error) {
	status, err := c.S2SStatus(ctx, n, name)
	if err != nil {
		return v1.S2SPeerConfig{}, err
	}
	var conn hnv.S2SConnection
	var t hnv.Tenant
	c.o.Store.View(func(f *hnv.Fabric) {
		conn, _ = f.Connection(n, name)
		t, _ = f.Tenant(n)
	})
	for i, p := range conn.Peers {
		if p.Name != peer {
			continue
		}
		tn := plainTunnel(conn)
		end := s2s.FarEnd{
			Tunnel: tn, Peer: tn.Peers[i], Prefixes: tenantPrefixes(t), MTU: status[0].MTU,
			PublicKey: s2s.Key(conn.PublicKey.Bytes()), PresharedElsewhere: p.PresharedKey != "",
		}
		end.Endpoint, _ = netip.ParseAddrPort(status[0].Endpoint) // none: it cannot be called
		return v1.S2SPeerConfig{
			Tenant: n.String(), Name: name.String(), Peer: peer.String(), PublicKey: conn.PublicKey.String(), Endpoint: status[0].Endpoint,
			Addresses: texts(end.Addresses()), ListenPort: p.Endpoint.Port(), AllowedIPs: texts(end.Allowed()), Keepalive: end.Keepalive(),
			MTU: end.MTU, PresharedKey: p.PresharedKey != "", Quick: end.Quick(),
		}, nil
	}
	return v1.S2SPeerConfig{}, fmt.Errorf("connection %s/%s has no peer %s: %w", n, name, peer, hnv.ErrNotFound)
}

// agentStatus tells of the tenant's agent; nil where it is to have none.
func (k *keeper) agentStatus() *v1.AgentStatus {
	d, told, _, _ := k.snapshot()
	if d == nil || k.t.c.o.Agents == nil {
		return nil
	}
	out := &v1.AgentStatus{Version: told.Version}
	if st, ok := k.t.c.o.Agents.Status(k.t.name); ok {
		out.Running, out.PID, out.Adopted, out.Restarts, out.LastError = st.PID != 0, st.PID, st.Adopted, st.Restarts, st.LastError
	}
	return out
}

// fillSites adds to a tenant's state what its ways to sites are.
func (t *tenant) fillSites(out *v1.TenantStatus, f *hnv.Fabric, spec hnv.Tenant) {
	d, _, tunnels, speaker := t.keeper.snapshot()
	out.Agent = t.keeper.agentStatus()
	if d != nil && d.tunnels != nil {
		out.Tunnels = tunnelTally(d.tunnels, tunnels).v1()
	}
	if d != nil && d.speaker != nil {
		out.BGPSessions = sessionTally(d.speaker, speaker).v1()
	}
	if spec.Gateway == nil {
		return
	}
	if used, left := beyond(f, spec, t.learned.Load()); len(used)+left > 0 {
		out.DerivedRoutes = &v1.DerivedRoutes{Used: len(used), LeftOut: left}
	}
}

func (t tally) v1() *v1.Tally { return &v1.Tally{Up: t.up, Total: t.total} }

// BGPSoftReset applies policies anew.
func (c *Controller) BGPSoftReset(ctx context.Context, n hnv.Name, r v1.BGPSoftReset) error {
	s, err := c.speaking(n)
	if err != nil {
		return err
	}
	q := url.Values{}
	if r.In {
		q.Set("in", "true")
	}
	if r.Out {
		q.Set("out", "true")
	}
	_, err = c.o.Agents.Ask(ctx, s.tenant.name, http.MethodPost, "/v1/"+agent.BGP+"/soft-reset/"+url.PathEscape(r.Peer)+"?"+q.Encode())
	return asked(n, r.Peer, err)
}

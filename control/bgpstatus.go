package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
)

// speaking gives a tenant whose agent has been told to speak BGP.
func (c *Controller) speaking(n hnv.Name) (site, error) {
	s, err := c.site(n)
	if err != nil {
		return s, err
	}
	var router bool
	c.o.Store.View(func(f *hnv.Fabric) { _, router = f.BGPRouter(n) })
	if !router {
		return s, fmt.Errorf("tenant %s has no BGP router: %w", n, hnv.ErrNotFound)
	}
	if s.tenant == nil || c.o.Agents == nil {
		return s, fmt.Errorf("the BGP speaker of tenant %s is not set up yet: %w", n, hnv.ErrNotFound)
	}
	return s, nil
}

// notThere is a sentence about something that is not there.
type notThere string

func (e notThere) Error() string { return string(e) }
func (notThere) Unwrap() error   { return hnv.ErrNotFound }

// asked puts an agent's refusal into the API's terms. peer is whom it was asked
// about; "" is nobody.
func asked(n hnv.Name, peer string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, agent.ErrNotThere) && peer != "":
		return notThere(fmt.Sprintf("tenant %s has no BGP session with a peer %s: «gatewayctl bgp peer list %s» lists those there are, and a dynamic one goes by its address", n, peer, n))
	case errors.Is(err, agent.ErrNotThere) || errors.Is(err, agent.ErrNoAgent):
		return notThere(fmt.Sprintf("the BGP speaker of tenant %s does not run: «gatewayctl tenant show %s» says why", n, n))
	}
	return fmt.Errorf("BGP of tenant %s: %w", n, err)
}

// BGPStatus gives the state of a tenant's speaker.
func (c *Controller) BGPStatus(ctx context.Context, n hnv.Name) (v1.BGPStatus, error) {
	s, err := c.site(n)
	if err != nil {
		return v1.BGPStatus{}, err
	}
	var r hnv.BGPRouter
	var peers []hnv.BGPPeer
	var ok bool
	var networks []bgp.Network
	out := v1.BGPStatus{Tenant: n.String(), Aggregates: []string{}, Networks: []string{}, Peers: []v1.BGPPeerStatus{}}
	c.o.Store.View(func(f *hnv.Fabric) {
		if r, ok = f.BGPRouter(n); !ok {
			return
		}
		peers = f.BGPPeers(n)
		out.ASN = r.ASN
		if s.spec.Gateway != nil {
			networks = advertised(f, s.spec, r)
			out.RouterID = routerID(f, s.spec, r).String()
		}
	})
	if !ok {
		return out, fmt.Errorf("tenant %s has no BGP router: set one with «gatewayctl bgp router set»: %w", n, hnv.ErrNotFound)
	}
	for _, w := range networks {
		out.Networks = append(out.Networks, w.Prefix.String())
	}
	out.Phase, out.Message = s.phase(condSpeaker)
	var now bgp.State
	if s.tenant != nil {
		s.tenant.keeper.look(ctx)
		var d *duty
		d, _, _, now = s.tenant.keeper.snapshot()
		out.Withheld = d != nil && d.speaker != nil && d.speaker.Withhold
	}
	out.Restarting = now.Restarting
	out.FIB = v1.BGPFIB(now.FIB)
	for _, a := range now.Aggregates {
		out.Aggregates = append(out.Aggregates, a.String())
	}
	down := 0
	told := map[string]bool{}
	for _, p := range now.Peers {
		told[p.Name] = true
		out.Peers = append(out.Peers, neighbour(p, time.Now()))
		if p.Session != sessionUp {
			down++
		}
	}
	for _, p := range peers { // those that nobody is connected by, or not told yet
		if !told[p.Peer.Name] {
			out.Peers = append(out.Peers, v1.BGPPeerStatus{Name: p.Peer.Name, Address: addrText(p.Address), ASN: p.ASN, Session: "idle", Families: []v1.BGPFamilyStatus{}})
		}
	}
	slices.SortStableFunc(out.Peers, func(a, b v1.BGPPeerStatus) int { return cmp.Compare(a.Name, b.Name) })
	switch {
	case out.Phase != v1.PhaseReady:
	case now.FIB.LastError != "":
		out.Phase, out.Message = v1.PhaseDegraded, "the kernel refused a route: "+now.FIB.LastError
	case out.Withheld:
		out.Phase, out.Message = v1.PhaseDegraded, "nothing is advertised, as the compartment cannot forward: see «gatewayctl tenant show "+n.String()+"»"
	case down > 0:
		out.Phase, out.Message = v1.PhaseDegraded, fmt.Sprintf("%d of %d sessions are not established", down, len(now.Peers))
	}
	return out, nil
}

// sessionUp is the state in which routes are exchanged.
const sessionUp = "established"

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func neighbour(p bgp.PeerState, now time.Time) v1.BGPPeerStatus {
	out := v1.BGPPeerStatus{
		Name: p.Name, Address: addrText(p.Address), Dynamic: p.Dynamic, ASN: p.ASN, Session: p.Session, LastError: p.Reason,
		RouterID: addrText(p.RouterID), Local: addrText(p.Local), Hold: uint32(p.Hold / time.Second), Keepalive: uint32(p.Keepalive / time.Second),
		OverLimit: p.OverLimit, BFD: p.BFD, Flaps: p.Flaps, Families: []v1.BGPFamilyStatus{},
		Received: v1.BGPMessages(p.Received), Sent: v1.BGPMessages(p.Sent),
	}
	if !p.Since.IsZero() {
		s := seconds(now.Sub(p.Since))
		out.SinceSeconds = &s
	}
	if !p.Retry.IsZero() {
		out.RetrySeconds = seconds(p.Retry.Sub(now))
	}
	for f, s := range p.Families {
		out.Families = append(out.Families, v1.BGPFamilyStatus{Family: string(f), Received: s.Received, Accepted: s.Accepted, Advertised: s.Advertised, Limit: s.Limit})
	}
	slices.SortFunc(out.Families, func(a, b v1.BGPFamilyStatus) int { return cmp.Compare(a.Family, b.Family) })
	return out
}

// BGPRoutes gives a table of a tenant's speaker.
func (c *Controller) BGPRoutes(ctx context.Context, n hnv.Name, q v1.BGPRouteQuery) (routes []v1.BGPRoute, more bool, err error) {
	s, err := c.speaking(n)
	if err != nil {
		return nil, false, err
	}
	args := url.Values{"limit": {strconv.Itoa(q.Limit + 1)}}
	if q.Within != "" {
		args.Set("within", q.Within)
	}
	table := "routes"
	switch q.Table {
	case v1.BGPBest:
		args.Set("best", "true")
	case v1.BGPReceived, v1.BGPAdvertised:
		table = q.Table + "/" + url.PathEscape(q.Peer)
	}
	paths, err := s.tenant.keeper.paths(ctx, table+"?"+args.Encode())
	if err != nil {
		return nil, false, asked(n, q.Peer, err)
	}
	if more = len(paths) > q.Limit; more {
		paths = paths[:q.Limit]
	}
	_, _, _, now := s.tenant.keeper.snapshot()
	names := map[netip.Addr]string{}
	for _, p := range now.Peers {
		names[p.Address] = p.Name
	}
	routes = []v1.BGPRoute{}
	for _, p := range paths {
		routes = append(routes, route(p, names, time.Now()))
	}
	return routes, more, nil
}

func route(p bgp.Path, names map[netip.Addr]string, now time.Time) v1.BGPRoute {
	out := v1.BGPRoute{
		Prefix: p.Prefix.String(), Peer: cmp.Or(names[p.Peer], addrText(p.Peer)), From: addrText(p.Peer), Best: p.Best, Rejected: p.Rejected, Stale: p.Stale,
		NextHop: addrText(p.NextHop), ASPath: p.ASPath, Origin: p.Origin, MED: p.MED, LocalPref: p.LocalPref,
		Aggregator: p.Aggregator, AtomicAggregate: p.AtomicAggregate,
	}
	if !p.Since.IsZero() {
		out.AgeSeconds = seconds(now.Sub(p.Since))
	}
	for _, x := range p.Communities {
		out.Communities = append(out.Communities, x.String())
	}
	for _, x := range p.LargeCommunities {
		out.LargeCommunities = append(out.LargeCommunities, x.String())
	}
	return out
}

package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	lib "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/hnvgate/hnvgate/bgp"
)

func peerEvent(p apiutil.Peer) PeerEvent {
	e := PeerEvent{
		Peer: p.State.NeighborAddress.Unmap(), Group: p.State.PeerGroup,
		Established: p.State.SessionState == lib.BGP_FSM_ESTABLISHED,
		OverLimit:   p.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT,
		Idle:        p.State.SessionState == lib.BGP_FSM_IDLE,
		Graceful:    p.State.DisconnectReason == api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART,
	}
	if !e.Established {
		e.Reason = endName(p.State.DisconnectReason)
		// Of a notification the message says which.
		if _, detail, ok := strings.Cut(p.State.DisconnectMessage, "notification-"); ok && e.Reason != "" {
			_, detail, _ = strings.Cut(detail, " ")
			e.Reason += ": " + detail
		}
	}
	return e
}

// Peers tells of all sessions, also those that never came up. With advertised, what
// each is sent is counted, for which the export policy is applied to all routes.
func (s *Server) Peers(ctx context.Context, advertised bool) ([]bgp.PeerState, error) {
	var out []bgp.PeerState
	err := s.lib.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: advertised}, func(p *api.Peer) { out = append(out, s.peerState(p, advertised)) })
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return out, nil
}

func (s *Server) peerState(p *api.Peer, advertised bool) bgp.PeerState {
	st := p.GetState()
	address, _ := netip.ParseAddr(st.GetNeighborAddress())
	out := bgp.PeerState{
		Address: address.Unmap(), ASN: st.GetPeerAsn(), Flaps: st.GetFlops(), OverLimit: st.GetAdminState() == api.PeerState_ADMIN_STATE_PFX_CT,
		Session: sessionName(st.GetSessionState()), Families: map[bgp.Family]bgp.FamilyState{},
		Received: messages(st.GetMessages().GetReceived()), Sent: messages(st.GetMessages().GetSent()),
	}
	out.Name = p.GetConf().GetDescription()
	if g := p.GetConf().GetPeerGroup(); g != "" {
		out.Name, out.Dynamic = g, true
	}
	t := p.GetTimers().GetState()
	if out.Session == established {
		out.RouterID, _ = netip.ParseAddr(st.GetRouterId())
		out.Local, _ = netip.ParseAddr(p.GetTransport().GetLocalAddress())
		out.Local = out.Local.Unmap()
		out.Hold = time.Duration(t.GetNegotiatedHoldTime()) * time.Second
		out.Keepalive = time.Duration(t.GetKeepaliveInterval()) * time.Second
		out.Since = moment(t.GetUptime().GetSeconds())
	} else {
		out.Since = moment(t.GetDowntime().GetSeconds())
	}
	switch {
	case p.GetBfd().GetEnabled():
		out.BFD = bfdName(st.GetBfdState().GetSessionState())
	case s.peers[out.Name].BFD != nil:
		out.BFD = bfdName(api.BfdSessionState_BFD_SESSION_STATE_DOWN)
	}
	for _, a := range p.GetAfiSafis() {
		f := bgp.IPv4
		if a.GetConfig().GetFamily().GetAfi() == api.Family_AFI_IP6 {
			f = bgp.IPv6
		}
		known := s.peers[out.Name]
		limit, _ := Watched(&known, f)
		out.Families[f] = bgp.FamilyState{Received: a.GetState().GetReceived(), Accepted: a.GetState().GetAccepted(), Limit: limit}
		if advertised {
			n := a.GetState().GetAdvertised()
			c := out.Families[f]
			c.Advertised = &n
			out.Families[f] = c
		}
	}
	return out
}

func moment(unix int64) time.Time {
	if unix <= 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

func messages(m *api.Message) bgp.Messages {
	return bgp.Messages{Updates: m.GetUpdate(), Keepalives: m.GetKeepalive(), Notifications: m.GetNotification(), Refreshes: m.GetRefresh()}
}

// Table is one of a speaker's.
type Table int

// The tables: all paths that were accepted; what a peer sent; what it is sent.
const (
	Local Table = iota
	Received
	Advertised
)

// ErrNoPeer is returned for a table of a peer that is not there.
var ErrNoPeer = errors.New("no such peer")

// Paths gives a table's paths to each, in no order; peer is for Received and
// Advertised. Only prefixes inside within, unless that is invalid.
func (s *Server) Paths(t Table, peer netip.Addr, within netip.Prefix, each func(bgp.Path)) error {
	r := apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL}
	if t != Local {
		r.Name = peer.String()
		// Not with EnableFiltered, which would put what the policy made of the paths in
		// place of what the peer sent.
		r.TableType = api.TableType_TABLE_TYPE_ADJ_IN
		if t == Advertised {
			r.TableType = api.TableType_TABLE_TYPE_ADJ_OUT
		}
	}
	if within.IsValid() {
		r.Prefixes = []*apiutil.LookupPrefix{{Prefix: within.String(), LookupOption: apiutil.LOOKUP_LONGER}}
	}
	for _, r.Family = range []lib.Family{lib.RF_IPv4_UC, lib.RF_IPv6_UC} {
		if within.IsValid() && r.Family != libFamily(within) {
			continue
		}
		err := s.lib.ListPath(r, func(_ lib.NLRI, paths []*apiutil.Path) {
			for _, p := range paths {
				if out, ok := shown(p); ok {
					each(out)
				}
			}
		})
		if err != nil && strings.Contains(err.Error(), "doesn't exist") {
			return fmt.Errorf("list routes of %s: %w", peer, ErrNoPeer)
		}
		if err != nil && !strings.Contains(err.Error(), "unsupported") {
			return fmt.Errorf("list routes: %w", err)
		}
	}
	return nil
}

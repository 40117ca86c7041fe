package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

// ErrNoPeer is returned where a peer is asked for that is not there.
var ErrNoPeer = errors.New("no such peer")

// Snapshot tells what is.
func (s *Speaker) Snapshot(ctx context.Context) (bgp.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := bgp.State{ASN: s.spec.ASN, RouterID: s.spec.RouterID, FIB: s.o.FIB.State(), Generation: s.generation.Load()}
	for a, on := range s.known {
		if on {
			out.Aggregates = append(out.Aggregates, a)
		}
	}
	slices.SortFunc(out.Aggregates, netip.Prefix.Compare)
	if s.srv == nil || s.closed {
		return out, nil
	}
	peers, err := s.srv.Peers(ctx, s.rib.size() <= bgp.CountAdvertised)
	if err != nil {
		return out, err
	}
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	out.Restarting = !s.restart.IsZero()
	for _, p := range peers {
		if ss := s.sessions[p.Address]; ss != nil && p.Session != "established" {
			p.Reason, p.Retry = ss.reason, ss.retry
		}
		if p.OverLimit {
			p.Reason = "sent more prefixes than its limit"
		}
		out.Peers = append(out.Peers, p)
	}
	slices.SortFunc(out.Peers, func(a, b bgp.PeerState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
	})
	return out, nil
}

// Filter chooses paths.
type Filter struct {
	Within netip.Prefix // only this prefix and those inside it; unset: all
	Best   bool         // only the best
	Limit  int          // at most so many; 0: all
}

// Routes are the paths of all peers that import policies let pass, and own ones.
func (s *Speaker) Routes(f Filter) ([]bgp.Path, error) {
	return s.paths(gobgp.Local, netip.Addr{}, f)
}

// Received are the paths that a peer sent, before policy; those that policy
// rejects are marked. The peer goes by name or address.
func (s *Speaker) Received(peer string, f Filter) ([]bgp.Path, error) {
	a, err := s.address(peer)
	if err != nil {
		return nil, err
	}
	out, err := s.paths(gobgp.Received, a, f)
	if err != nil {
		return nil, err
	}
	taken := map[netip.Prefix]bool{}
	table, err := s.paths(gobgp.Local, netip.Addr{}, Filter{Within: f.Within})
	for _, p := range table {
		if p.Peer == a {
			taken[p.Prefix] = true
		}
	}
	for i := range out {
		out[i].Rejected = !taken[out[i].Prefix]
	}
	return out, err
}

// Advertised are the paths that a peer is sent, as they are sent.
func (s *Speaker) Advertised(peer string, f Filter) ([]bgp.Path, error) {
	a, err := s.address(peer)
	if err != nil {
		return nil, err
	}
	return s.paths(gobgp.Advertised, a, f)
}

// address is that of the peer with the name, or the address that is written.
func (s *Speaker) address(peer string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(peer); err == nil {
		return a, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.spec.Peers {
		if p.Name == peer && p.Address.IsValid() {
			return p.Address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("peer %s: %w (of dynamic neighbours the address is needed)", peer, ErrNoPeer)
}

func (s *Speaker) paths(t gobgp.Table, peer netip.Addr, f Filter) ([]bgp.Path, error) {
	s.mu.Lock()
	srv, closed := s.srv, s.closed
	s.mu.Unlock()
	if srv == nil || closed {
		return nil, nil
	}
	var out []bgp.Path
	err := srv.Paths(t, peer, f.Within, func(p bgp.Path) {
		if !f.Best || p.Best {
			out = append(out, p)
		}
	})
	if errors.Is(err, gobgp.ErrNoPeer) {
		return nil, fmt.Errorf("peer %s: %w", peer, ErrNoPeer)
	}
	slices.SortFunc(out, func(a, b bgp.Path) int {
		return cmp.Or(a.Prefix.Compare(b.Prefix), b2i(b.Best)-b2i(a.Best), a.Peer.Compare(b.Peer))
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, err
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SoftReset applies policies anew to what a peer sent, to what it is sent, or
// both. Its session goes on.
func (s *Speaker) SoftReset(ctx context.Context, peer string, in, out bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil || s.closed {
		return fmt.Errorf("peer %s: %w", peer, ErrNoPeer)
	}
	states, err := s.srv.Peers(ctx, false)
	if err != nil {
		return err
	}
	found := false
	for _, st := range states {
		if st.Name == peer || st.Address.String() == peer {
			found = true
			if err := s.srv.SoftReset(ctx, st.Address, in || !out, out || !in); err != nil {
				return fmt.Errorf("reset peer %s softly: %w", peer, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("peer %s: %w", peer, ErrNoPeer)
	}
	return nil
}

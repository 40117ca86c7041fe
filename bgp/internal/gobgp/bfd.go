package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/hnvgate/hnvgate/bgp"
)

// detectorPatience is how long the library may take to begin or end one BFD session.
const detectorPatience = 2 * time.Second

// Detect switches the BFD session of a peer with an address on or off, as far as it
// is configured; the BGP session goes on. A new peer's is off.
//
// It must be on only while the BGP session is established. The library ends the BGP
// session whenever BFD loses the neighbour, also one that has ended already, and
// the NOTIFICATION for that one then waits for the next.
//
// They are switched one by one: the library can block for ever where several change
// while one of them loses its neighbour.
func (s *Server) Detect(ctx context.Context, name string, on bool) error {
	p, known := s.peers[name]
	if !known || !p.Address.IsValid() || p.BFD == nil || s.detecting[name] == on {
		return nil
	}
	if on {
		s.detecting[name] = true
	} else {
		delete(s.detecting, name)
	}
	if _, err := s.lib.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: s.message(p, false)}); err != nil {
		return fmt.Errorf("switch BFD of peer %s: %w", name, err)
	}
	if err := s.awaitDetector(ctx, p.Address, on); err != nil {
		return fmt.Errorf("switch BFD of peer %s: %w", name, err)
	}
	return nil
}

// awaitDetector returns when the library has taken a change of BFD up.
func (s *Server) awaitDetector(ctx context.Context, a netip.Addr, there bool) error {
	ctx, cancel := context.WithTimeout(ctx, detectorPatience)
	defer cancel()
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	for {
		found := false
		s.lib.ListBfdPeer(ctx, func(peer string, _ *api.BfdPeerState) { found = found || peer == a.String() })
		if found == there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
	}
}

// message is the peer in the library's terms as it is to be now.
func (s *Server) message(p bgp.Peer, enforce bool) *api.Peer {
	if !s.detecting[p.Name] {
		p.BFD = nil
	}
	return peer(&p, enforce)
}

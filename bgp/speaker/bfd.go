package speaker

import (
	"context"

	"github.com/hnvgate/hnvgate/bgp"
)

// wakeDetect has BFD brought in step with the sessions.
func (s *Speaker) wakeDetect() {
	select {
	case s.sessionChanged <- struct{}{}:
	default:
	}
}

// detect switches BFD of each peer on when its session is established, and off when
// that ends, before BFD itself can lose the neighbour. It does not share the worker,
// which may be handing on many routes of that very session.
func (s *Speaker) detect(ctx context.Context) {
	defer close(s.detected)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sessionChanged:
		}
		s.mu.Lock()
		peers := s.spec.Peers
		s.mu.Unlock()
		for _, p := range peers {
			if p.BFD != nil && p.Address.IsValid() && ctx.Err() == nil {
				s.detectPeer(ctx, p)
			}
		}
	}
}

// detectPeer brings one peer's BFD in step with its session.
func (s *Speaker) detectPeer(ctx context.Context, p bgp.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil || s.closed {
		return
	}
	s.eventMu.Lock()
	ss := s.sessions[p.Address]
	want, another := ss != nil && ss.up, ss != nil && ss.detected != ss.nth
	if ss != nil {
		ss.detected = 0
		if want {
			ss.detected = ss.nth
		}
	}
	s.eventMu.Unlock()
	// A session that came after one that ended unseen begins with a BFD session that
	// knows nothing.
	if !want || another {
		s.report("end BFD", s.srv.Detect(ctx, p.Name, false))
	}
	if want {
		s.report("begin BFD", s.srv.Detect(ctx, p.Name, true))
	}
}

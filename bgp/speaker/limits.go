package speaker

import (
	"context"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

// How often a neighbour's prefixes are counted: often while their number changes,
// less and less while it does not. Between two looks a neighbour can send more than
// its limit, as many as gobgp takes in that time.
const (
	countSoon = tick
	countLate = 2 * time.Second
)

// watch is when a neighbour's prefixes are counted next.
type watch struct {
	next  time.Time
	every time.Duration
	last  uint64
}

// again plans the next look after one that found n.
func (w *watch) again(now time.Time, n uint64) {
	w.every = min(2*w.every, countLate)
	if n != w.last || w.every == 0 {
		w.every = countSoon
	}
	w.last, w.next = n, now.Add(w.every)
}

// watchLimits ends the sessions of neighbours that sent too much. gobgp does that
// for low limits.
func (s *Speaker) watchLimits(ctx context.Context, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil || s.closed {
		return
	}
	for _, p := range s.spec.Peers {
		s.eventMu.Lock()
		ss := s.sessions[p.Address]
		look := ss != nil && ss.up && !now.Before(ss.watch.next)
		s.eventMu.Unlock()
		if !look {
			continue
		}
		over, n := false, uint64(0)
		for _, f := range p.Exchanged() {
			limit, watched := gobgp.Watched(&p, f)
			if !watched {
				continue
			}
			got, err := s.srv.Received(ctx, p.Address, f)
			s.report("count prefixes", err)
			n += got
			over = over || got > uint64(limit)
		}
		s.eventMu.Lock()
		ss.watch.again(now, n)
		s.eventMu.Unlock()
		if over {
			s.o.Log.Warn("peer sent more prefixes than its limit", "peer", p.Name, "prefixes", n)
			s.report("limit peer", s.srv.EnforceLimits(ctx, p, true))
		}
	}
}

// tryAgain has a neighbour that had sent too much for its limit of before try the new
// one soon.
func (s *Speaker) tryAgain(a netip.Addr) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	if ss := s.sessions[a]; ss != nil && ss.overLimit {
		ss.retry = time.Now()
	}
}

// enable lets a neighbour try again that had sent too much.
func (s *Speaker) enable(ctx context.Context, a netip.Addr) error {
	for _, p := range s.spec.Peers {
		if p.Address == a && hasWatched(&p) {
			if err := s.srv.EnforceLimits(ctx, p, false); err != nil {
				return err
			}
		}
	}
	return s.srv.Enable(ctx, a)
}

func hasWatched(p *bgp.Peer) bool {
	for _, f := range p.Exchanged() {
		if _, watched := gobgp.Watched(p, f); watched {
			return true
		}
	}
	return false
}

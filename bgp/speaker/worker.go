package speaker

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

const (
	batch = 4096 // routes handed on at once
	tick  = 250 * time.Millisecond
	// Once in so many ticks what could not be put into the FIB is tried again, and the
	// FIB is looked through for what others changed.
	retryTicks, repairTicks = 4, 240
)

// work hands changed routes on and does what is due.
func (s *Speaker) work(ctx context.Context) {
	defer close(s.done)
	every := time.NewTicker(tick)
	defer every.Stop()
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.rib.wake:
			s.flush(ctx)
		case <-s.o.FIB.Changes():
			s.report("mend routes", s.o.FIB.Repair())
		case <-every.C:
			switch st := s.o.FIB.State(); {
			case n%repairTicks == 0:
				s.report("mend routes", s.o.FIB.Repair())
			case n%retryTicks == 0 && st.Unresolved+st.Conflicts > 0:
				s.report("try routes again", s.o.FIB.Retry())
			}
			s.watchLimits(ctx, time.Now())
			n++
		}
		s.due(ctx)
	}
}

func (s *Speaker) report(what string, err error) {
	if err != nil {
		s.o.Log.Error("cannot "+what, "err", err)
	}
}

// flush hands on all that changed.
func (s *Speaker) flush(ctx context.Context) {
	for more := true; more && ctx.Err() == nil; {
		s.mu.Lock()
		p := s.plan
		if known := s.rib.known(); s.srv != nil && !s.closed && !maps.Equal(known, s.known) {
			s.report("originate aggregates", s.originate(known))
		}
		s.mu.Unlock()
		var routes []bgp.Route
		routes, more = s.rib.take(batch, p)
		if len(routes) == 0 {
			return
		}
		s.report("change routes", s.o.FIB.Change(routes))
		s.generation.Add(1)
		s.o.OnChange()
		if s.o.OnRoutes != nil {
			s.o.OnRoutes(routes)
		}
	}
}

// due ends the restart, lets peers try again, and sends surplus ones away.
func (s *Speaker) due(ctx context.Context) {
	now := time.Now()
	s.eventMu.Lock()
	ended := !s.restart.IsZero() && (len(s.waiting) == 0 || now.After(s.restart))
	if ended {
		s.restart, s.waiting = time.Time{}, map[endOfRIB]bool{}
	}
	var again []netip.Addr
	for a, ss := range s.sessions {
		if !ss.retry.IsZero() && now.After(ss.retry) {
			ss.retry = time.Time{}
			again = append(again, a)
		}
	}
	surplus := s.verdicts
	s.verdicts = nil
	s.eventMu.Unlock()

	if ended {
		// What the neighbours told before the end must be in the FIB first.
		s.flush(ctx)
		s.report("remove stale routes", s.o.FIB.Prune())
	}
	if !ended && len(again)+len(surplus) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended {
		s.left = 0
	}
	if s.srv == nil || s.closed {
		return
	}
	for _, a := range again {
		s.o.Log.Info("peer may try again", "peer", a)
		s.report("enable peer", s.enable(ctx, a))
	}
	for _, a := range surplus {
		if err := s.srv.DeleteNeighbor(ctx, a); err != nil {
			s.o.Log.Debug("neighbour is gone already", "peer", a, "err", err)
		}
	}
}

// peerEvent takes gobgp's word about a session.
func (s *Speaker) peerEvent(e gobgp.PeerEvent) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	ss := s.sessions[e.Peer]
	if ss == nil {
		ss = &session{group: e.Group}
		s.sessions[e.Peer] = ss
	}
	if ss.up != e.Established {
		ss.watch = watch{}
		if e.Established {
			ss.nth++
		}
		s.wakeDetect()
		s.o.Log.Info("session changed", "peer", e.Peer, "established", e.Established, "reason", e.Reason)
		s.o.OnChange()
	}
	ss.up, ss.overLimit = e.Established, e.OverLimit && !e.Established
	if e.Established {
		ss.reason = ""
	} else if e.Reason != "" {
		ss.reason = e.Reason
	}
	peer := s.configured(e.Peer, e.Group)
	if ss.overLimit && ss.retry.IsZero() {
		ss.retry = time.Now().Add(defaultTo(peer.ReEnable, bgp.DefaultReEnable))
	}
	if e.Group != "" {
		s.judge(e, peer)
	}
}

// configured is the peer as wanted now.
func (s *Speaker) configured(a netip.Addr, group string) bgp.Peer {
	for _, p := range s.wanted {
		if group != "" && p.Name == group || group == "" && p.Address == a {
			return p
		}
	}
	return bgp.Peer{}
}

// judge sends a dynamic neighbour away that is one too many, and forgets one whose
// session ended: gobgp would keep whoever once connected. One that restarts
// gracefully is waited for.
func (s *Speaker) judge(e gobgp.PeerEvent, peer bgp.Peer) {
	if e.Idle && !e.Graceful {
		delete(s.sessions, e.Peer)
		s.verdicts = append(s.verdicts, e.Peer)
		s.rib.poke()
		return
	}
	limit, n := peer.Limit, 0
	if limit == 0 {
		limit = bgp.DefaultDynamicLimit
	}
	for _, other := range s.sessions {
		if other.group == e.Group {
			n++
		}
	}
	if n > limit {
		delete(s.sessions, e.Peer)
		s.verdicts = append(s.verdicts, e.Peer)
		s.o.Log.Warn("too many dynamic neighbours", "peer", e.Peer, "prefix", peer.Prefix, "limit", limit)
		s.rib.poke()
	}
}

// forgetSessions drops what is known of a peer's sessions.
func (s *Speaker) forgetSessions(p bgp.Peer) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	for a, ss := range s.sessions {
		if p.Address.IsValid() && a == p.Address || p.Prefix.IsValid() && ss.group == p.Name {
			delete(s.sessions, a)
		}
	}
	for w := range s.waiting {
		if w.peer == p.Address {
			delete(s.waiting, w)
		}
	}
}

func defaultTo(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

// endOfRIB: a neighbour has told all it has.
func (s *Speaker) endOfRIB(peer netip.Addr, f bgp.Family) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	if s.restart.IsZero() {
		return
	}
	delete(s.waiting, endOfRIB{peer, f})
	if len(s.waiting) == 0 {
		s.rib.poke()
	}
}

package peers

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// session keeps one peer in step with this machine's claims.
type session struct {
	x    *Exchange
	peer Peer
	wake chan struct{} // something is to be told

	mu       sync.Mutex
	dirty    map[hnv.RecordKey]bool // records to look at
	anew     bool                   // what the peer holds is to be asked first
	sent     map[hnv.RecordKey]sent
	unneeded map[hnv.VSID]bool // virtual subnets that the peer does not have

	epoch     string // of the peer's process
	revision  int64  // of its store when it last did not take a record
	retryHeld time.Time
	patience  time.Duration // until the next try of what it does not take

	syncAt, beatAt time.Time
	state          v1.PeerStatus // what only requests change
}

// sent is what the peer was told of a record.
type sent struct {
	version uint64     // of the claim
	outcome string     // of v1; empty: it has it
	pa      netip.Addr // at which it has it of us; unset: it does not
}

func newSession(x *Exchange, p Peer) *session {
	return &session{
		x: x, peer: p, wake: make(chan struct{}, 1), anew: true,
		dirty: map[hnv.RecordKey]bool{}, sent: map[hnv.RecordKey]sent{}, unneeded: map[hnv.VSID]bool{},
		patience: x.o.Limits.Soon,
		state:    v1.PeerStatus{Name: p.Name, Target: p.Target, Phase: v1.PhasePending, Since: time.Now()},
	}
}

// mark says that a record is to be looked at. Past the limit everything is.
func (s *session) mark(k hnv.RecordKey) {
	s.mu.Lock()
	if !s.anew {
		s.dirty[k] = true
		if len(s.dirty) > s.x.o.Limits.Waiting {
			s.anew, s.dirty = true, map[hnv.RecordKey]bool{}
		}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run works until ctx ends.
func (s *session) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		next, err := s.work(ctx)
		wake := s.wake
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			failures++
			wake = nil // it waits out the pause, whatever happens
			next = time.Now().Add(s.pause(failures, err))
			s.failed(err, failures)
		} else {
			failures = 0
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-wake:
			gather(ctx, s.x.o.Limits.Gather)
		}
		timer.Stop()
	}
}

func gather(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// pause is how long to wait after the n-th failure in a row. Who refuses will
// refuse again, so it is not asked soon.
func (s *session) pause(n int, err error) time.Duration {
	l := s.x.o.Limits
	d := l.MaxRetry
	var p *v1.Problem
	refuses := errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusRequestTimeout && p.Status != http.StatusTooManyRequests
	if !refuses && n <= 20 {
		d = min(d, l.Retry<<(n-1))
	}
	return jitter(d)
}

// jitter keeps many machines from doing the same at the same time: half to one
// and a half of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }

// work does what is due and tells when the next thing will be.
func (s *session) work(ctx context.Context) (next time.Time, err error) {
	if err := s.x.ledger.caughtUp(ctx); err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	s.mu.Lock()
	anew, beat := s.anew || !now.Before(s.syncAt), !now.Before(s.beatAt)
	s.mu.Unlock()
	switch {
	case anew:
		err = s.compare(ctx)
	case beat:
		err = s.beat(ctx)
	}
	if err != nil {
		return time.Time{}, err
	}
	for {
		r, asked, later := s.gatherReport(time.Now())
		if len(asked) == 0 {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.anew {
				return time.Now(), nil
			}
			next = earlier(s.syncAt, s.beatAt)
			if !later.IsZero() {
				next = earlier(next, later)
			}
			return next, nil
		}
		if err := s.report(ctx, r, asked); err != nil {
			return time.Time{}, err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// compare asks what the peer holds of ours and marks what differs.
func (s *session) compare(ctx context.Context) error {
	l := s.x.ledger
	l.mu.Lock()
	pas := texts(l.own, l.former)
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.x.o.Limits.Timeout)
	defer cancel()
	st, err := s.peer.Remote.LearnedRecords(ctx, pas)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.sent
	if st.Epoch != s.epoch {
		before = nil
	}
	s.sent, s.dirty, s.unneeded = map[hnv.RecordKey]sent{}, map[hnv.RecordKey]bool{}, map[hnv.VSID]bool{}
	for _, item := range st.Items {
		rec, err := item.Object()
		m, marked := parseMark(item.Context)
		if err != nil || !marked || rec.Type != hnv.Dynamic {
			continue
		}
		if !l.isOwn(rec) && (m.origin != s.x.o.Origin || !l.former[rec.PA]) {
			continue
		}
		k := rec.RecordKey()
		if c := l.claims[k]; c != nil && sameMapping(c.rec, rec) {
			s.sent[k] = sent{version: c.version, pa: rec.PA}
			continue
		}
		s.sent[k] = sent{pa: rec.PA}
		s.dirty[k] = true
	}
	for k, c := range l.claims {
		is, known := s.sent[k]
		if was := before[k]; !known && was.outcome != "" {
			s.sent[k] = sent{outcome: was.outcome} // it has been tried before
		}
		if is.version != c.version {
			s.dirty[k] = true
		}
	}
	now := time.Now()
	s.anew, s.syncAt = false, now.Add(jitter(s.x.o.Limits.Anew))
	s.epoch, s.revision = st.Epoch, st.Revision
	s.reached(now)
	return nil
}

func texts(sets ...map[netip.Addr]bool) []string {
	var out []string
	for _, set := range sets {
		for a := range set {
			if len(out) < maxPAs {
				out = append(out, a.String())
			}
		}
	}
	return out
}

// beat looks whether the peer is there and still the same, and tries again what
// it did not take if it changed since.
func (s *session) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.x.o.Limits.Timeout)
	defer cancel()
	st, err := s.peer.Remote.LearnedRecords(ctx, nil)
	if err != nil {
		return err
	}
	now := time.Now()
	s.mu.Lock()
	same := st.Epoch == s.epoch
	if same {
		s.reached(now)
		s.lookAfterHeld(now, st.Revision)
	}
	s.mu.Unlock()
	if !same {
		return s.compare(ctx)
	}
	return nil
}

// lookAfterHeld marks what the peer did not take, if it is time to and the peer
// changed; with mu. What contradicts each other often does so for a moment only: a
// station moves, and its operator tells one machine after the other.
func (s *session) lookAfterHeld(now time.Time, revision int64) {
	due, any := !now.Before(s.retryHeld), false
	for k, v := range s.sent {
		if v.outcome == "" {
			continue
		}
		any = true
		if due && revision != s.revision {
			s.dirty[k] = true
			v.version = 0
			s.sent[k] = v
		}
	}
	if !any {
		return
	}
	if due {
		if revision != s.revision {
			s.unneeded = map[hnv.VSID]bool{}
		}
		s.revision = revision
		s.patience = min(2*s.patience, s.x.o.Limits.Rarely)
		s.retryHeld = now.Add(jitter(s.patience))
	}
	s.beatAt = earlier(s.beatAt, s.retryHeld)
}

// reached notes that the peer answered; with mu.
func (s *session) reached(now time.Time) {
	if !s.state.Connected {
		s.state.Connected, s.state.Since = true, now
		s.x.o.Log.Info("peer reached", "peer", s.peer.Name, "target", s.peer.Target)
	}
	s.state.LastContact, s.state.LastError = &now, ""
	s.beatAt = now.Add(jitter(s.x.o.Limits.Beat))
}

// failed notes that the peer did not.
func (s *session) failed(err error, failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.state.Connected || s.state.Failures == 0 {
		s.state.Connected, s.state.Since = false, now
	}
	if failures == 1 || s.state.LastError != err.Error() {
		s.x.o.Log.Warn("peer failed; it is tried again", "peer", s.peer.Name, "target", s.peer.Target, "err", err)
	}
	s.state.LastError = err.Error()
	s.state.Failures++
	s.anew, s.dirty = true, map[hnv.RecordKey]bool{} // whatever it heard or not
}

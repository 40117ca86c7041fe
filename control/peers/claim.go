package peers

import (
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// claim is an own learned record that peers shall have.
type claim struct {
	rec     hnv.Record
	tenant  hnv.Name
	version uint64    // changes with what the record says
	since   time.Time // when it was learned; zero: not known
	// notBefore puts a report off that changes too often.
	notBefore time.Time
}

// claim makes, changes or ends the claim to a record by what the ledger says of
// it; with mu.
func (l *ledger) claim(k hnv.RecordKey) {
	e, there := l.all[k]
	mine := there && l.isOwn(e.rec)
	c := l.claims[k]
	switch {
	case !mine && c == nil:
		l.unwait(k)
	case !mine:
		delete(l.claims, k)
		l.free(c.tenant)
		l.notify(k)
	case c != nil && sameMapping(c.rec, e.rec):
		c.rec, c.since = e.rec, e.since
	case c != nil:
		c.rec, c.since = e.rec, e.since
		l.renew(k, c)
	case l.claimed[e.tenant] >= l.limits.PerTenant:
		w := l.waiting[e.tenant]
		if w == nil {
			w = map[hnv.RecordKey]bool{}
			l.waiting[e.tenant] = w
		}
		w[k] = true
	default:
		l.unwait(k)
		c = &claim{rec: e.rec, tenant: e.tenant, since: e.since}
		l.claims[k] = c
		l.claimed[e.tenant]++
		l.renew(k, c)
	}
}

func (l *ledger) renew(k hnv.RecordKey, c *claim) {
	l.version++
	c.version = l.version
	c.notBefore = l.steady.changed(k, time.Now())
	l.notify(k)
}

func (l *ledger) notify(k hnv.RecordKey) {
	for _, s := range l.sessions {
		s.mark(k)
	}
}

func (l *ledger) unwait(k hnv.RecordKey) {
	for n, w := range l.waiting {
		if w[k] {
			delete(w, k)
			if len(w) == 0 {
				delete(l.waiting, n)
			}
			return
		}
	}
}

// free takes a claim off a tenant's number and lets another record have it.
func (l *ledger) free(n hnv.Name) {
	if l.claimed[n]--; l.claimed[n] == 0 {
		delete(l.claimed, n)
	}
	for k := range l.waiting[n] {
		l.unwait(k)
		l.claim(k)
		return
	}
}

// steadiness counts how often records change, so that two machines that claim
// one address do not wake the whole datacenter for ever.
type steadiness struct {
	limits Limits
	moves  map[hnv.RecordKey]moves
	pruned time.Time
}

// maxMoves bounds what is remembered of records that come and go; those past it
// are not held to steadiness.
const maxMoves = 1 << 17

type moves struct {
	begun time.Time
	n     int
}

// changed notes a change and tells until when it is to be left unsaid.
func (s *steadiness) changed(k hnv.RecordKey, now time.Time) (notBefore time.Time) {
	if now.Sub(s.pruned) >= s.limits.MoveWindow {
		s.pruned = now
		for k, m := range s.moves {
			if now.Sub(m.begun) >= s.limits.MoveWindow {
				delete(s.moves, k)
			}
		}
	}
	m, known := s.moves[k]
	if !known && len(s.moves) >= maxMoves {
		return time.Time{}
	}
	if now.Sub(m.begun) >= s.limits.MoveWindow {
		m = moves{begun: now}
	}
	m.n++
	s.moves[k] = m
	if m.n <= s.limits.Moves {
		return time.Time{}
	}
	return m.begun.Add(s.limits.MoveWindow)
}

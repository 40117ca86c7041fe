package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// LearnKind is what became of a claim.
type LearnKind uint8

// The kinds of LearnEvents.
const (
	Learned         LearnKind = iota + 1 // the station has the CA: a Dynamic record was made
	LearnedMove                          // likewise, and another one had it before
	LearnedAged                          // the station has given it up, or is gone: the record is gone
	LearnDuplicate                       // the CA moves to and fro: it stays where it is for a while
	LearnOverLimit                       // the port has as many CAs as it may have, or takes new ones too fast
	LearnConfigured                      // the CA turned out to be configured for somebody else
)

var learnKinds = [...]string{"", "learned", "moved", "aged", "duplicate", "over-limit", "configured"}

func (k LearnKind) String() string { return learnKinds[k] }

// LearnEvent tells of a CA that this machine learned, or ceased to know, or
// would not learn.
type LearnEvent struct {
	Kind   LearnKind
	RDID   hnv.RDID
	Record hnv.Record // as it is, or was, or would be: of type Dynamic
	Port   string
}

// Duplicate detection as RFC 7432 section 15.1 has it for MAC addresses.
const (
	movesAllowed = 5
	moveWindow   = 180 * time.Second
	holdDown     = 180 * time.Second
)

const (
	probes        = 3                // questions to a station before its CA is given up
	settleTime    = 10 * time.Second // the control plane may take so long to take a claim up
	maxMoves      = 1 << 16          // CAs whose moves are remembered
	complainEvery = 60 * time.Second // about one port's limit
	portGrace     = 30 * time.Second // for which a station may be unplugged, or without its record
)

// caKey is a CA of a routing domain.
type caKey struct {
	rdid hnv.RDID
	key  lookup.Key
}

// held is a CA that a station of this machine has.
type held struct {
	caKey
	record    hnv.Record
	port      string
	since     time.Time
	seen      time.Time
	until     time.Time // end of the DHCP lease
	gone      time.Time // since when the station has not been here
	asked     int       // probes without an answer
	confirmed bool      // the control plane knows of it
}

// station names the network interface that has the CA.
func (h *held) station() lookup.Station {
	return lookup.Station{VSID: h.record.VSID.Uint32(), MAC: h.record.MAC.Bytes()}
}

// learner keeps what is learned. Lock order: learner.mu before Switch.mu.
type learner struct {
	queue chan sighting
	lost  atomic.Uint64

	mu      sync.Mutex
	held    map[caKey]*held
	counts  map[lookup.Station]int // of held CAs
	paces   map[lookup.Station]*limiter
	moves   map[caKey][]time.Time
	frozen  map[caKey]time.Time // until when
	blamed  map[lookup.Station]time.Time
	pending []LearnEvent
}

func newLearner() *learner {
	return &learner{
		queue: make(chan sighting, maxSightings),
		held:  map[caKey]*held{}, counts: map[lookup.Station]int{}, paces: map[lookup.Station]*limiter{}, moves: map[caKey][]time.Time{}, frozen: map[caKey]time.Time{}, blamed: map[lookup.Station]time.Time{},
	}
}

// hold makes h the holder of its CA, instead of whoever was.
func (l *learner) hold(h *held) {
	l.drop(h.caKey)
	l.held[h.caKey] = h
	l.counts[h.station()]++
}

// drop leaves the CA without a holder here.
func (l *learner) drop(k caKey) {
	h := l.held[k]
	if h == nil {
		return
	}
	delete(l.held, k)
	if st := h.station(); l.counts[st] > 1 {
		l.counts[st]--
	} else {
		delete(l.counts, st)
	}
}

// learn takes up what the workers saw, the first sighting among them, and tells
// of what came of it.
func (s *Switch) learn(first ...sighting) {
	l := s.learner
	l.mu.Lock()
	now := s.opt.Now()
	for _, sight := range first {
		s.consider(sight, now)
	}
	for range len(l.queue) {
		select {
		case sight := <-l.queue:
			s.consider(sight, now)
		default:
		}
	}
	s.tell()
}

// tell hands the events over, outside the lock that it gives up.
func (s *Switch) tell() {
	events := s.learner.pending
	s.learner.pending = nil
	s.learner.mu.Unlock()
	if s.opt.OnLearn != nil {
		for _, e := range events {
			s.opt.OnLearn(e)
		}
	}
}

func (l *learner) event(k LearnKind, h *held) {
	l.pending = append(l.pending, LearnEvent{k, h.rdid, h.record, h.port})
}

// consider judges one sighting; with learner.mu.
func (s *Switch) consider(sight sighting, now time.Time) {
	l, p := s.learner, sight.port
	d := p.tenant.domain.Load()
	if d == nil {
		return
	}
	x := transit{domain: d, provider: s.provider.Load()}
	station := x.learning(p)
	if station == nil || !x.claimable(p.vsid, sight.ca) {
		return
	}
	k := caKey{p.tenant.rdid, lookup.KeyOf(p.vsid, sight.ca)}
	me := lookup.Station{VSID: p.vsid, MAC: p.mac}
	mine := l.held[k]
	switch {
	case sight.what == released:
		if mine != nil && mine.station() == me {
			s.giveUp(mine)
		}
		return
	case mine != nil && mine.station() == me && mine.record.PA == station.PA.Netip():
		mine.seen, mine.asked = now, 0
		if sight.what == leased {
			mine.until = now.Add(sight.lease)
		}
		if d.Record(p.vsid, sight.ca) == nil { // lost in a change of everything
			_ = s.updateRecords(k.rdid, []hnv.Record{mine.record}, nil)
		}
		return
	}
	h := &held{caKey: k, port: p.spec.Name, since: now, seen: now, record: hnv.Record{
		VSID: p.spec.VSID, CA: sight.ca, MAC: p.spec.MAC, PA: station.PA.Netip(), Rule: station.Rule.Hnv(), Type: hnv.Dynamic,
	}}
	for _, pa := range d.PAs(station)[1:] {
		h.record.TeamPAs = append(h.record.TeamPAs, pa.Netip())
	}
	if sight.what == leased {
		h.until = now.Add(sight.lease)
	}
	most := d.Subnet(p.vsid).Learning.PerPort()
	pace, interval := l.pace(me), int64(time.Minute)/int64(most)
	if (mine == nil || mine.station() != me) && l.counts[me] >= most || !pace.has(now.UnixNano(), interval, most) {
		if last, ok := l.blamed[me]; !ok || now.Sub(last) >= complainEvery {
			l.blamed[me] = now
			l.event(LearnOverLimit, h)
		}
		return
	}
	kind := Learned
	if rec := d.Record(p.vsid, sight.ca); rec != nil && (rec.MAC != p.mac || !x.isHere(rec)) {
		if kind = LearnedMove; !l.mayMove(k, now) {
			return
		}
		if len(l.moves[k]) >= movesAllowed {
			l.frozen[k] = now.Add(holdDown)
			l.event(LearnDuplicate, h)
			return
		}
	}
	pace.every(now.UnixNano(), interval, most)
	l.hold(h)
	if err := s.updateRecords(k.rdid, []hnv.Record{h.record}, nil); err != nil {
		l.drop(k)
		return
	}
	l.event(kind, h)
}

// mayMove notes a move of the CA, and tells whether it may be made: one that has
// moved too often stays where it is until the hold-down is over.
func (l *learner) mayMove(k caKey, now time.Time) bool {
	if until, ok := l.frozen[k]; ok {
		if now.Before(until) {
			return false
		}
		delete(l.frozen, k)
		delete(l.moves, k)
	}
	return l.noteMove(k, now)
}

// noteMove notes that the CA has moved, to here or away; false if there is no
// room to.
func (l *learner) noteMove(k caKey, now time.Time) bool {
	recent := slices.DeleteFunc(l.moves[k], func(t time.Time) bool { return now.Sub(t) > moveWindow })
	if recent == nil && len(l.moves) >= maxMoves {
		return false
	}
	if len(recent) < movesAllowed {
		recent = append(recent, now)
	}
	l.moves[k] = recent
	return true
}

// pace limits how many CAs the station may take in a minute: as many as it may
// have. One that takes and gives back without end would keep the control plane
// busy.
func (l *learner) pace(st lookup.Station) *limiter {
	if l.paces[st] == nil {
		l.paces[st] = new(limiter)
	}
	return l.paces[st]
}

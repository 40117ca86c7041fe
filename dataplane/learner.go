package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
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

// giveUp forgets a CA and its record; with learner.mu.
func (s *Switch) giveUp(h *held) {
	s.learner.drop(h.caKey)
	// The record may have become somebody else's, or the tenant be gone.
	if t := s.tenantBy(h.rdid); t != nil {
		if d := t.domain.Load(); d != nil {
			if rec := d.At(h.key); rec != nil && rec.Type == lookup.Dynamic && rec.MAC == h.record.MAC.Bytes() && rec.PA == lookup.AddrFrom(h.record.PA) {
				_ = s.updateRecords(h.rdid, nil, []hnv.RecordKey{h.record.RecordKey()})
			}
		}
	}
	s.learner.event(LearnedAged, h)
}

// age asks the stations that have been silent for long whether they still have
// their CAs, and gives up those of the stations that do not answer or are gone.
func (s *Switch) age() {
	l := s.learner
	l.mu.Lock()
	now, provider := s.opt.Now(), s.provider.Load()
	var w *Worker
	for _, h := range l.held {
		st := h.station()
		p := s.ports.Load().at(st.VSID, st.MAC)
		var d *lookup.Domain
		if p != nil && p.tenant.rdid == h.rdid {
			d = p.tenant.domain.Load()
			if d == nil || d.Subnet(p.vsid) == nil || d.Subnet(p.vsid).Learning == nil {
				s.giveUp(h)
				continue
			}
		}
		// Its port, or its record here, may be on the way to somewhere else.
		if d == nil || (&transit{domain: d, provider: provider}).learning(p) == nil {
			if h.gone.IsZero() {
				h.gone = now
			}
			if now.Sub(h.gone) >= portGrace {
				s.giveUp(h)
			}
			continue
		}
		h.gone = time.Time{}
		life, silent := d.Subnet(p.vsid).Learning.Age(), now.Sub(h.seen)
		switch {
		case now.Before(h.until) || silent < life*3/4:
		case silent >= life && h.asked >= probes:
			s.giveUp(h)
		default:
			h.asked++
			if w == nil {
				w = s.NewWorker(nil)
			}
			w.ask(p, d, h)
		}
	}
	for k, until := range l.frozen {
		if now.After(until) {
			delete(l.frozen, k)
		}
	}
	for k, at := range l.moves {
		if _, is := l.frozen[k]; !is && now.Sub(at[len(at)-1]) > moveWindow {
			delete(l.moves, k)
		}
	}
	for st, p := range l.paces {
		if p.next.Load() <= now.UnixNano() {
			delete(l.paces, st)
		}
	}
	for id, at := range l.blamed {
		if now.Sub(at) > complainEvery {
			delete(l.blamed, id)
		}
	}
	if w != nil {
		w.Close()
	}
	s.tell()
}

// ask has the distributed router ask the station for its CA.
func (w *Worker) ask(p *port, d *lookup.Domain, h *held) {
	from := d.Gateway(p.vsid, h.record.CA)
	if !from.IsValid() {
		return
	}
	f := w.lend(0)
	var built bool
	if h.record.CA.Is4() {
		built = packet.BuildARPRequest(f, p.mac, routerMAC, from, h.record.CA)
	} else {
		built = packet.BuildNeighborSolicitation(f, p.mac, routerMAC, from, h.record.CA)
	}
	if built {
		w.toPort(p, w.cellOf(p.tenant), f)
	}
}

// heed takes the control plane's word about records: what it says of a CA that
// is held here goes, once it has had the time to hear of it; put by put it gives
// the records back with those that are held and that it does not know yet. whole
// is the tenant whose records put are all of; nil for a change of some.
func (s *Switch) heed(rdid hnv.RDID, put []hnv.Record, del []hnv.RecordKey, whole *Tenant) (still []hnv.Record) {
	l := s.learner
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held) == 0 {
		return put
	}
	now := s.opt.Now()
	said := map[caKey]bool{}
	for i := range put {
		r := &put[i]
		if !r.CA.IsValid() {
			continue
		}
		k := caKey{rdid, lookup.KeyOf(r.VSID.Uint32(), r.CA)}
		h := l.held[k]
		if h == nil {
			continue
		}
		said[k] = true
		switch {
		case r.Type == hnv.Dynamic && r.MAC == h.record.MAC && r.PA == h.record.PA:
			h.confirmed = true
		case r.Type == hnv.Dynamic && !h.confirmed && now.Sub(h.since) < settleTime:
			put = slices.Clone(put)
			put[i] = h.record // it has not heard yet
		default:
			if r.Type == hnv.Dynamic {
				l.noteMove(k, now)
			} else {
				l.event(LearnConfigured, h)
			}
			l.drop(k)
		}
	}
	for _, r := range del {
		if r.CA.IsValid() {
			l.drop(caKey{rdid, lookup.KeyOf(r.VSID.Uint32(), r.CA)})
		}
	}
	if whole == nil {
		return put
	}
	for k, h := range l.held {
		switch {
		case k.rdid != rdid || said[k]:
		case h.confirmed || now.Sub(h.since) >= settleTime:
			l.drop(k) // it was taken back
		case !whole.admits(h.record):
			l.drop(k)
			l.event(LearnedAged, h)
		default:
			put = append(slices.Clip(put), h.record)
		}
	}
	return put
}

// admits tells whether a station of the tenant can have the CA of the record.
func (t *Tenant) admits(r hnv.Record) bool {
	for i := range t.Subnets {
		if sub := &t.Subnets[i]; sub.VSID == r.VSID {
			p, ok := sub.PrefixOf(r.CA)
			return ok && p.Gateway != r.CA
		}
	}
	return false
}

// adopt takes up the Dynamic records at PAs of ours that nobody holds, as after a
// restart: their stations are asked at once whether they still have their CAs.
func (s *Switch) adopt(rdid hnv.RDID, records []hnv.Record) {
	l := s.learner
	provider, now := s.provider.Load(), s.opt.Now()
	for i := range records {
		r := &records[i]
		if r.Type != hnv.Dynamic || !r.CA.IsValid() || !provider.owns(lookup.AddrFrom(r.PA)) {
			continue
		}
		k := caKey{rdid, lookup.KeyOf(r.VSID.Uint32(), r.CA)}
		l.mu.Lock()
		if l.held[k] == nil {
			l.hold(&held{caKey: k, record: *r, since: now, seen: now.Add(-s.learnAge(rdid, r.VSID) * 3 / 4), confirmed: true})
		}
		l.mu.Unlock()
	}
}

// adoptAll does so for all tenants, as when our PAs become known.
func (s *Switch) adoptAll() {
	s.mu.Lock()
	domains := make([]*lookup.Domain, 0, len(s.byRDID))
	for _, t := range s.byRDID {
		domains = append(domains, t.domain.Load())
	}
	s.mu.Unlock()
	for _, d := range domains {
		var found []hnv.Record
		d.Dynamics(func(r hnv.Record) { found = append(found, r) })
		s.adopt(d.RDID, found)
	}
}

// learnAge is how long a CA of the virtual subnet is kept without a sign of life.
func (s *Switch) learnAge(rdid hnv.RDID, v hnv.VSID) time.Duration {
	none := hnv.Learning{}
	if t := s.tenantBy(rdid); t != nil {
		if d := t.domain.Load(); d != nil {
			if sub := d.Subnet(v.Uint32()); sub != nil && sub.Learning != nil {
				return sub.Learning.Age()
			}
		}
	}
	return none.Age()
}

// LearnedCA is a CA that a station of this machine was found to have.
type LearnedCA struct {
	RDID   hnv.RDID
	Record hnv.Record
	Port   string
	Since  time.Time
	Seen   time.Time
	Until  time.Time // end of the DHCP lease, zero without one
}

// Learned lists the CAs that stations of this machine were found to have, and
// tells how many sightings were lost because too many came at once.
func (s *Switch) Learned() (list []LearnedCA, lost uint64) {
	l := s.learner
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		list = append(list, LearnedCA{h.rdid, h.record, h.port, h.since, h.seen, h.until})
	}
	slices.SortFunc(list, func(a, b LearnedCA) int {
		if c := slices.Compare([]byte(a.RDID.String()), []byte(b.RDID.String())); c != 0 {
			return c
		}
		if c := int(a.Record.VSID.Uint32()) - int(b.Record.VSID.Uint32()); c != 0 {
			return c
		}
		return a.Record.CA.Compare(b.Record.CA)
	})
	return list, l.lost.Load()
}

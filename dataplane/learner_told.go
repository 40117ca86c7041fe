package dataplane

import (
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

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

package peers

import (
	"context"
	"net/netip"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// asked is a record of a report.
type asked struct {
	key     hnv.RecordKey
	version uint64     // of the claim; 0: it is withdrawn
	pa      netip.Addr // at which it is reported or withdrawn
	gone    bool       // there is no claim to it
}

// gatherReport makes a report of what is marked, as much as fits. later is when
// something that is put off will be due.
func (s *session) gatherReport(now time.Time) (r v1.LearnedReport, all []asked, later time.Time) {
	l := s.x.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	r = v1.LearnedReport{Origin: s.x.o.Origin, PAs: texts(l.own)}
	for k := range s.dirty {
		if len(all) == s.x.o.Limits.Batch {
			break
		}
		c, was := l.claims[k], s.sent[k]
		switch {
		case c == nil && !was.pa.IsValid():
			delete(s.sent, k)
		case c == nil, was.version == c.version && was.outcome != "" && was.pa.IsValid():
			// It is gone, or the peer does not take what it is now and shall not
			// keep what it was.
			r.Withdraw = append(r.Withdraw, v1.LearnedKey{VSID: k.VSID.Uint32(), CA: k.CA.String(), PA: was.pa.String()})
			all = append(all, asked{key: k, pa: was.pa, gone: c == nil})
		case was.version == c.version:
		case s.unneeded[k.VSID]:
			s.sent[k] = sent{version: c.version, outcome: v1.LearnedUnneeded}
		case now.Before(c.notBefore):
			if later.IsZero() || c.notBefore.Before(later) {
				later = c.notBefore
			}
			continue // it stays marked
		default:
			r.Put = append(r.Put, put(c, now))
			all = append(all, asked{key: k, version: c.version, pa: c.rec.PA})
		}
		delete(s.dirty, k)
	}
	return r, all, later
}

func put(c *claim, now time.Time) v1.LearnedRecord {
	out := v1.LearnedRecord{Record: v1.NewLookupRecord(c.rec, "", "")}
	out.Record.Context = ""
	if !c.since.IsZero() {
		age := max(now.Sub(c.since).Milliseconds(), 0)
		out.AgeMillis = &age
	}
	return out
}

// report sends a report and notes what became of each record.
func (s *session) report(ctx context.Context, r v1.LearnedReport, all []asked) error {
	ctx, cancel := context.WithTimeout(ctx, s.x.o.Limits.Timeout)
	defer cancel()
	res, err := s.peer.Remote.ReportLearned(ctx, r)
	if err != nil {
		return err
	}
	held := map[string]v1.LearnedOutcome{}
	for _, h := range res.Held {
		v, err := hnv.NewVSID(h.VSID)
		if err != nil {
			continue
		}
		if ca, err := netip.ParseAddr(h.CA); err == nil {
			held[hnv.RecordKey{VSID: v, CA: ca}.String()] = h
		}
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached(now)
	s.state.Withdrawn += uint64(max(res.Withdrawn, 0))
	if res.Epoch != s.epoch {
		s.anew = true
		return nil
	}
	for _, a := range all {
		if a.version == 0 {
			was := s.sent[a.key]
			was.pa = netip.Addr{}
			s.sent[a.key] = was
			if a.gone {
				delete(s.sent, a.key)
			}
			continue
		}
		h, no := held[a.key.String()]
		if !no {
			s.sent[a.key] = sent{version: a.version, pa: a.pa}
			continue
		}
		s.hold(a, h, now)
		s.revision = res.Revision
	}
	return nil
}

// hold notes that the peer did not take a record; with mu.
func (s *session) hold(a asked, h v1.LearnedOutcome, now time.Time) {
	was := s.sent[a.key]
	if again := was.outcome != "" && was.version == 0; !again {
		s.patience = s.x.o.Limits.Soon
		s.retryHeld = now.Add(jitter(s.patience))
	}
	s.beatAt = earlier(s.beatAt, s.retryHeld)
	is := sent{version: a.version, outcome: h.Outcome}
	switch h.Outcome {
	case v1.LearnedUnneeded:
		s.unneeded[a.key.VSID] = true
	case v1.LearnedSuperseded, v1.LearnedLimit:
	default:
		// It may still have what the record was before.
		if was.pa.IsValid() {
			is.pa = was.pa
			s.dirty[a.key] = true
		}
	}
	s.sent[a.key] = is
	if h.Outcome != v1.LearnedUnneeded {
		s.state.LastHeld = h.Message
	}
}

// status is the peer's state for people.
func (s *session) status() v1.PeerStatus {
	l := s.x.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.state
	for k, c := range l.claims {
		v, known := s.sent[k]
		if !known || v.version != c.version {
			out.Pending++
		}
	}
	for k, v := range s.sent {
		if v.pa.IsValid() {
			out.Pushed++
		}
		if l.claims[k] == nil && v.pa.IsValid() {
			out.Pending++
		}
		switch v.outcome {
		case "":
		case v1.LearnedStatic:
			out.Static++
		case v1.LearnedUnneeded:
			out.Unneeded++
		case v1.LearnedSuperseded:
			out.Superseded++
		default:
			out.Refused++
		}
	}
	switch {
	case out.LastError != "":
		out.Phase = v1.PhaseDegraded
	case !out.Connected || out.Pending > 0:
		out.Phase = v1.PhasePending
	default:
		out.Phase = v1.PhaseReady
	}
	return out
}

package dataplane

import (
	"time"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

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

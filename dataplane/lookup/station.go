package lookup

import (
	"bytes"
	"cmp"
	"slices"
)

// Station finds a MAC in a virtual subnet: its L2Only record, or else the record
// that its CAs have; where these differ, as while a live migration moves them
// one by one, the one that most of them have. It is nil if the MAC is unknown.
//
// It costs 48 bytes for each MAC of the domain besides its record.
func (d *Domain) Station(vsid uint32, mac [6]byte) *Record { return d.station(nicOf(vsid, mac)) }

func (d *Domain) station(n nic) *Record {
	if r := d.l2only.Get(n); r != nil {
		return r
	}
	if s := d.stations.Get(n); s != nil {
		return &s.rec
	}
	return nil
}

// station is what the records of the CAs of a MAC say.
type station struct {
	rec Record
	n   uint32 // how many of them say so
}

// stationEdit follows the changes of records.
type stationEdit struct {
	stations *Editor[nic, station]
	split    *Editor[nic, []station] // what is said, where not all say the same
	// counting has the stations that were found split during this change.
	counting map[nic]map[Record]uint32
}

func (d *Domain) editStations() stationEdit {
	return stationEdit{d.stations.Edit(), d.split.Edit(), nil}
}

// count takes n records like r in, or out where n is ^0.
func (e *stationEdit) count(k nic, r *Record, n uint32) {
	if c := e.counting[k]; c != nil {
		c[*r] += n
		return
	}
	if p := e.split.Get(k); p != nil {
		e.open(k, *p)[*r] += n
		return
	}
	s, had := e.stations.Own(k)
	switch {
	case !had:
		s.rec = *r
		fallthrough
	case s.rec == *r:
		if s.n += n; s.n == 0 {
			e.stations.Delete(k)
		}
	default:
		e.open(k, []station{*s})[*r] += n
	}
}

func (e *stationEdit) open(k nic, said []station) map[Record]uint32 {
	if e.counting == nil {
		e.counting = map[nic]map[Record]uint32{}
	}
	c := make(map[Record]uint32, len(said)+1)
	for _, s := range said {
		c[s.rec] = s.n
	}
	e.counting[k] = c
	return c
}

// settle decides what split stations say.
func (e *stationEdit) settle(t *teams) {
	for k, c := range e.counting {
		var said []station
		for r, n := range c {
			if n > 0 {
				said = append(said, station{r, n})
			}
		}
		if len(said) < 2 {
			e.split.Delete(k)
		} else {
			slices.SortFunc(said, func(a, b station) int { return compareStations(t, &a, &b) })
			e.split.Put(k, said)
		}
		if len(said) == 0 {
			e.stations.Delete(k)
		} else {
			e.stations.Put(k, said[0])
		}
	}
}

// compareStations puts first what most records say; the rest only makes the
// order one that does not depend on how the records came.
func compareStations(t *teams, a, b *station) int {
	return cmp.Or(
		cmp.Compare(b.n, a.n),
		a.rec.PA.compare(b.rec.PA),
		int(a.rec.Rule)-int(b.rec.Rule),
		int(a.rec.Type)-int(b.rec.Type),
		bytes.Compare(flag(a.rec.UseVMMAC), flag(b.rec.UseVMMAC)),
		slices.CompareFunc(t.of(a.rec.Team), t.of(b.rec.Team), Addr.compare),
	)
}

func flag(b bool) []byte {
	if b {
		return []byte{1}
	}
	return nil
}

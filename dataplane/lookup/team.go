package lookup

import (
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/hnvgate/hnvgate/hnv"
)

// maxTeams is how many different teams a domain can name at a time.
const maxTeams = 1<<16 - 1

// teamKey is all PAs of a team: the primary one and then the others in order.
type teamKey [1 + hnv.MaxTeamPAs]Addr

// teams numbers the teams that records of a domain name. It is immutable. A
// number is not given to another team before all have been in use, so that a
// record of a later Domain is not misread by an earlier one.
type teams struct {
	pas  [][]Addr // by number - 1; nil is a number not in use
	ids  map[teamKey]uint16
	last uint16 // the number given out last
	// hosts tells the PAs apart by host.
	hosts hosts
}

// PAs gives all PAs of the host of a record of the domain, the record's own one
// first; the caller must not change them.
func (d *Domain) PAs(r *Record) []Addr {
	if n := int(r.Team); n != 0 && n <= len(d.teams.pas) {
		if pas := d.teams.pas[n-1]; len(pas) != 0 && pas[0] == r.PA {
			return pas
		}
	}
	return unsafe.Slice(&r.PA, 1)
}

// IsAt tells whether the PA is one of the host of a record of the domain.
func (d *Domain) IsAt(r *Record, pa Addr) bool {
	return r.PA == pa || r.Team != 0 && slices.Contains(d.PAs(r), pa)
}

// HostPAs gives all PAs of the host that has the PA in a team, nil where the PA is
// in none; the caller must not change them.
func (d *Domain) HostPAs(pa Addr) []Addr {
	h := &d.teams.hosts
	return h.all[h.of(pa)]
}

// of gives the PAs of a team by its number, none for 0.
func (t *teams) of(id uint16) []Addr {
	if id == 0 {
		return nil
	}
	return t.pas[id-1]
}

func (t *teams) clone() *teams {
	c := *t
	c.pas = slices.Clone(t.pas)
	if c.ids = maps.Clone(t.ids); c.ids == nil {
		c.ids = map[teamKey]uint16{}
	}
	return &c
}

// add numbers a team.
func (t *teams) add(k teamKey, pas []Addr) (uint16, error) {
	if len(t.ids) == maxTeams {
		return 0, fmt.Errorf("the domain has %d different teams of provider addresses already", maxTeams)
	}
	for {
		t.last++
		for len(t.pas) < int(t.last) {
			t.pas = append(t.pas, nil)
		}
		if t.last != 0 && t.pas[t.last-1] == nil {
			t.pas[t.last-1], t.ids[k] = pas, t.last
			return t.last, nil
		}
	}
}

// remove gives a team's number back.
func (t *teams) remove(id uint16) {
	var k teamKey
	copy(k[:], t.pas[id-1])
	delete(t.ids, k)
	t.pas[id-1] = nil
}

// hosts tells which PAs belong to one host: those of one team, and of teams that
// have a PA in common. A PA of no team is a host of its own, and not in here.
type hosts struct {
	first map[Addr]Addr   // the lowest PA of the same host
	all   map[Addr][]Addr // by the lowest PA
}

// of gives the PA that stands for the host of pa.
func (h *hosts) of(pa Addr) Addr {
	if f, ok := h.first[pa]; ok {
		return f
	}
	return pa
}

// pas gives all PAs of the host that first stands for.
func (h *hosts) pas(first Addr) []Addr {
	if all, ok := h.all[first]; ok {
		return all
	}
	return []Addr{first}
}

// joined finds the hosts of the teams.
func (t *teams) joined() hosts {
	if len(t.ids) == 0 {
		return hosts{}
	}
	first := map[Addr]Addr{}
	find := func(pa Addr) Addr {
		for {
			f, ok := first[pa]
			if !ok {
				first[pa] = pa
			}
			if !ok || f == pa {
				return pa
			}
			first[pa] = first[f] // halves the way for the next one
			pa = f
		}
	}
	for _, pas := range t.pas {
		for i, pa := range pas {
			a, b := find(pas[0]), find(pa)
			switch {
			case i == 0 || a == b:
			case a.compare(b) < 0:
				first[b] = a
			default:
				first[a] = b
			}
		}
	}
	h := hosts{first: first, all: map[Addr][]Addr{}}
	for pa := range first {
		f := find(pa)
		h.all[f] = append(h.all[f], pa)
	}
	for f, all := range h.all {
		slices.SortFunc(all, Addr.compare)
		for _, pa := range all {
			first[pa] = f
		}
	}
	return h
}

// regrouped gives the PAs that stand with other ones in b than in a.
func regrouped(a, b *hosts) []Addr {
	var out []Addr
	for pa := range a.first {
		if a.of(pa) != b.of(pa) {
			out = append(out, pa)
		}
	}
	for pa := range b.first {
		if _, ok := a.first[pa]; !ok && b.of(pa) != pa {
			out = append(out, pa)
		}
	}
	return out
}

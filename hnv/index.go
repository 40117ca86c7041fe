package hnv

import (
	"maps"
	"net/netip"
	"slices"
)

// index answers what lookup records have to do with each other without a walk
// over all of them. It is derived: add and remove keep it.
type index struct {
	pas map[netip.Addr]paUse
	// special counts the records of a VSID that need this machine though none of
	// its ports may be in the VSID, by PA: rewritten ones, whose packets carry no
	// VSID, and L2Only ones, whose CAs are learned here.
	special map[VSID]map[netip.Addr]int
	// stations holds the records of a MAC, in those VSIDs alone that have a
	// record bound to its MAC's others: the rest pay nothing for it.
	stations map[VSID]map[MAC][]RecordKey
}

// paUse counts the records that name a PA, and how many of them rewrite.
type paUse struct{ records, rewrites int }

func newIndex() index {
	return index{pas: map[netip.Addr]paUse{}, special: map[VSID]map[netip.Addr]int{}, stations: map[VSID]map[MAC][]RecordKey{}}
}

// bound tells whether the record must be where the other records of its MAC
// are: what is known of a station by its MAC holds for all of it.
func (r *Record) bound() bool { return r.Type == L2Only || r.Type == Dynamic }

func (r *Record) special() bool { return r.Type == L2Only || r.Rule == RuleRewrite }

// add takes note of r; all holds the records of its VSID.
func (x *index) add(r *Record, all map[RecordKey]Record) {
	x.count(r, 1)
	m := x.stations[r.VSID]
	if m != nil {
		m[r.MAC] = append(m[r.MAC], r.RecordKey())
		return
	}
	if !r.bound() {
		return
	}
	m = map[MAC][]RecordKey{}
	x.stations[r.VSID] = m
	for k, o := range all {
		m[o.MAC] = append(m[o.MAC], k)
	}
}

// remove forgets r; left says how many records its VSID has now.
func (x *index) remove(r *Record, left int) {
	x.count(r, -1)
	m := x.stations[r.VSID]
	if m == nil {
		return
	}
	if left == 0 {
		delete(x.stations, r.VSID)
		return
	}
	keys := slices.DeleteFunc(m[r.MAC], func(k RecordKey) bool { return k == r.RecordKey() })
	if len(keys) == 0 {
		delete(m, r.MAC)
	} else {
		m[r.MAC] = keys
	}
}

func (x *index) count(r *Record, n int) {
	each := func(pa netip.Addr) {
		u := x.pas[pa]
		u.records += n
		if r.Rule == RuleRewrite {
			u.rewrites += n
		}
		if u.records == 0 {
			delete(x.pas, pa)
		} else {
			x.pas[pa] = u
		}
		if !r.special() {
			return
		}
		m := x.special[r.VSID]
		if m == nil {
			m = map[netip.Addr]int{}
			x.special[r.VSID] = m
		}
		if m[pa] += n; m[pa] == 0 {
			delete(m, pa)
		}
		if len(m) == 0 {
			delete(x.special, r.VSID)
		}
	}
	each(r.PA)
	for _, pa := range r.TeamPAs {
		each(pa)
	}
}

// Here tells whether this machine has to do with a tenant's packets: it is its
// gateway, has a port of it, or a PA at which one of its records is rewritten or
// L2Only. No other machine needs the tenant's tables.
func (f *Fabric) Here(n Name) bool {
	t, ok := f.tenants[n]
	if !ok {
		return false
	}
	if t.Gateway != nil {
		return true
	}
	for _, p := range f.ports {
		if f.owners[p.VSID] == n {
			return true
		}
	}
	for _, s := range t.Subnets {
		for pa := range f.paddrs {
			if f.index.special[s.VSID][pa] > 0 {
				return true
			}
		}
	}
	return false
}

// CountRecords tells how many lookup records a tenant has.
func (f *Fabric) CountRecords(n Name) int {
	count := 0
	for _, s := range f.tenants[n].Subnets {
		count += len(f.records[s.VSID])
	}
	return count
}

// GatewayPA is the address at which hosts reach this machine's compartments: the
// lowest of its provider addresses. Hosts of the other address family, if it has
// addresses of both, reach them at the lowest of that one.
func (f *Fabric) GatewayPA() (pa netip.Addr, ok bool) {
	for a := range f.paddrs {
		if !ok || a.Less(pa) {
			pa, ok = a, true
		}
	}
	return pa, ok
}

// WithFollowers adds what the changes bring along. Dynamic records were learned
// of a station that an operator's record places: where that moves to another
// host, they move with it, and where an L2Only one goes, so do they. Changes
// that name such a record themselves have the last word.
func (f *Fabric) WithFollowers(changes []Change) []Change {
	var named map[RecordKey]bool
	out := changes
	for _, c := range changes {
		r, ok := value(c.object()).(Record)
		if !ok || r.Type == Dynamic {
			continue
		}
		old, was := f.records[r.VSID][r.RecordKey()]
		moved := c.Put != nil && old.MAC == r.MAC && (!samePAs(old, r) || old.Rule != r.Rule)
		gone := c.Put == nil && old.Type == L2Only
		if !was || old.Type == Dynamic || !moved && !gone {
			continue
		}
		if named == nil {
			named = recordsNamed(changes)
		}
		for _, k := range f.index.stations[r.VSID][old.MAC] {
			d := f.records[k.VSID][k]
			if d.Type != Dynamic || named[k] || !samePAs(d, old) {
				continue
			}
			named[k] = true
			if gone {
				out = append(slices.Clip(out), Change{Delete: d})
				continue
			}
			d.PA, d.TeamPAs, d.Rule = r.PA, r.TeamPAs, r.Rule
			out = append(slices.Clip(out), Change{Put: d})
		}
	}
	return out
}

func recordsNamed(changes []Change) map[RecordKey]bool {
	out := map[RecordKey]bool{}
	for _, c := range changes {
		if r, ok := value(c.object()).(Record); ok {
			out[r.RecordKey()] = true
		}
	}
	return out
}

// samePAs tells whether two records lie at the same host, whichever PA of it is
// named first.
func samePAs(a, b Record) bool {
	if len(a.TeamPAs) == 0 && len(b.TeamPAs) == 0 {
		return a.PA == b.PA
	}
	set := map[netip.Addr]bool{}
	for _, p := range a.PAs() {
		set[p] = true
	}
	other := map[netip.Addr]bool{}
	for _, p := range b.PAs() {
		other[p] = true
	}
	return maps.Equal(set, other)
}

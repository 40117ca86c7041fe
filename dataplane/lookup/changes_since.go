package lookup

import (
	"iter"
	"net/netip"
	"unsafe"
)

// What follows is for whoever keeps a copy of a Domain elsewhere, such as the
// kernel's tables: what there is to copy, and what of it has changed since. Where
// one Domain is the other's successor by Update, what both share is passed over,
// so that a change of few records among many costs little.

// RecordChange is a record as it was and as it is; nil where there is none.
type RecordChange struct{ Was, Is *Record }

// RecordChanges gives the records of CAs in which d differs from old, in no
// particular order. A nil old has none.
func (d *Domain) RecordChanges(old *Domain) iter.Seq2[Key, RecordChange] {
	was := new(Map[Key, Record])
	if old != nil {
		was = old.records
	}
	return func(yield func(Key, RecordChange) bool) {
		d.records.changes(was, func(k Key, was, is *Record) bool {
			// A team's number may have gone to another team since.
			if was != nil && is != nil && *was == *is && (is.Team == 0 || d.teams == old.teams) {
				return true
			}
			return yield(k, RecordChange{was, is})
		})
	}
}

// HostChanges gives the PAs that Hosts knows in one of d and old only, and whether
// it is d.
func (d *Domain) HostChanges(old *Domain) iter.Seq2[Addr, bool] {
	was := new(Map[Addr, uint32])
	if old != nil {
		was = old.pas
	}
	return func(yield func(Addr, bool) bool) {
		d.pas.changes(was, func(pa Addr, was, is *uint32) bool {
			return (was == nil) == (is == nil) || yield(pa, is != nil)
		})
	}
}

// Routes gives all prefixes of the domain and what it knows of them, by which
// Resolve goes where an address has no record.
func (d *Domain) Routes() iter.Seq2[netip.Prefix, *Route] {
	return func(yield func(netip.Prefix, *Route) bool) {
		for p, i := range d.routes.lpm.All() {
			if !yield(p, d.routes.list[i]) {
				return
			}
		}
	}
}

// SameRoutes tells whether both domains have the same routes and gateways because
// one is the other's successor by Update.
func (d *Domain) SameRoutes(old *Domain) bool { return old != nil && d.routes == old.routes }

// Gateways gives the distributed router's addresses, each with its virtual subnet.
func (d *Domain) Gateways() iter.Seq2[netip.Addr, uint32] {
	return func(yield func(netip.Addr, uint32) bool) {
		for v, links := range d.routes.onLink {
			for _, l := range links {
				if !yield(l.gateway, v) {
					return
				}
			}
		}
	}
}

// Nameless gives the virtual subnets that have stations whose CAs are not known:
// those of L2Only records.
func (d *Domain) Nameless() map[uint32]bool {
	out := map[uint32]bool{}
	for n := range d.l2only.All {
		out[unpack(n.vsid)] = true
	}
	return out
}

// changes calls yield for every key whose value may be another one in m than in
// old, with both; nil where it is not there.
func (m *Map[K, V]) changes(old *Map[K, V], yield func(k K, was, is *V) bool) {
	if m == old || m.n == 0 && old.n == 0 {
		return
	}
	if m.n > 0 && old.n > 0 && m.seed == old.seed && m.shift == old.shift {
		m.shardChanges(old, yield)
		return
	}
	for _, chunk := range m.root {
		for i := range chunk {
			for j := range chunk[i].entries {
				e := &chunk[i].entries[j]
				if !yield(e.key, old.Get(e.key), &e.val) {
					return
				}
			}
		}
	}
	for _, chunk := range old.root {
		for i := range chunk {
			for j := range chunk[i].entries {
				if e := &chunk[i].entries[j]; m.Get(e.key) == nil && !yield(e.key, &e.val, nil) {
					return
				}
			}
		}
	}
}

// shardChanges does so for Maps whose keys are in the same shards, passing over
// those that are shared.
func (m *Map[K, V]) shardChanges(old *Map[K, V], yield func(k K, was, is *V) bool) {
	for c := range m.root {
		a, b := old.root[c], m.root[c]
		if unsafe.SliceData(a) == unsafe.SliceData(b) {
			continue
		}
		for i := range b {
			was, is := &a[i], &b[i]
			if unsafe.SliceData(was.entries) == unsafe.SliceData(is.entries) && len(was.entries) == len(is.entries) {
				continue
			}
			for j := range is.entries {
				e := &is.entries[j]
				h := e.key.Hash(m.seed)
				var before *V
				if _, at := was.find(e.key, h); at >= 0 {
					before = &was.entries[at].val
				}
				if !yield(e.key, before, &e.val) {
					return
				}
			}
			for j := range was.entries {
				e := &was.entries[j]
				if _, at := is.find(e.key, e.key.Hash(m.seed)); at < 0 && !yield(e.key, &e.val, nil) {
					return
				}
			}
		}
	}
}

package lookup

import "github.com/hnvgate/hnvgate/hnv"

// changes are those of one Update.
type changes struct {
	put []hnv.Record
	del []hnv.RecordKey
}

// succeed completes d, which is prev after the changes: its Gen, and where the
// Mappings lead.
func (d *Domain) succeed(prev *Domain, c changes) {
	if c.rekey(prev, d) {
		d.gen = generation.Add(1)
	}
	if !prev.family.head.CompareAndSwap(prev, d) {
		d.family = new(family)
		d.family.head.Store(d)
		d.gen = generation.Add(1)
		return
	}
	d.family.keys.aim(len(c.put)+len(c.del), c.keys, d.records.Get)
}

// Reinstated gives what d is again where a successor of it was not published: that
// one's Mappings lead elsewhere by now, so flows are decided anew. It is d itself
// where d has no successor.
func (d *Domain) Reinstated() *Domain {
	if d.family.head.Load() == d {
		return d
	}
	next := *d
	next.gen = generation.Add(1)
	next.family = new(family)
	next.family.head.Store(&next)
	return &next
}

// all yields the keys of all records that may have changed: with a CA, or with
// a MAC alone.
func (c changes) all(yield func(hnv.RecordKey) bool) {
	for _, k := range c.del {
		if !yield(k) {
			return
		}
	}
	for i := range c.put {
		if !yield(c.put[i].RecordKey()) {
			return
		}
	}
}

// keys yields those with a CA.
func (c changes) keys(yield func(Key) bool) {
	for k := range c.all {
		if k.CA.IsValid() && !yield(KeyOf(k.VSID.Uint32(), k.CA)) {
			return
		}
	}
}

// rekey tells whether the changes are of the kind that Gen changes with.
func (c changes) rekey(prev, next *Domain) bool {
	for k := range c.all {
		v := k.VSID.Uint32()
		if !k.CA.IsValid() {
			n := nicOf(v, k.MAC.Bytes())
			if (prev.l2only.Get(n) == nil) != (next.l2only.Get(n) == nil) {
				return true
			}
			continue
		}
		was, is := prev.Record(v, k.CA), next.Record(v, k.CA)
		switch {
		case was == nil && is == nil:
		case was == nil || is == nil || was.MAC != is.MAC || (was.Type == Wildcard) != (is.Type == Wildcard):
			return true
		}
	}
	return false
}

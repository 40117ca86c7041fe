package lookup

import (
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// Mapping leads to the record of one key, whatever becomes of it: Domain.Update
// re-aims it with one store, so that all flows that hold it follow a live
// migration at once. Flows that hold no Mapping any more need not give it back.
type Mapping struct {
	rec atomic.Pointer[Record]
	// first is the record it began with. It saves an allocation and, which weighs
	// more, leaves room for fewer Mappings in a span of the runtime's heap: what
	// is held weakly there is found in a list.
	first Record
}

// Record gives the present record, nil where there is none any more. It must not
// be changed.
func (m *Mapping) Record() *Record { return m.rec.Load() }

// aim makes r the present record.
func (m *Mapping) aim(r *Record) {
	switch old := m.rec.Load(); {
	case r == nil && old == nil:
	case r == nil:
		m.rec.Store(nil)
	case old == nil || *old != *r:
		own := *r // r itself would keep its whole shard
		m.rec.Store(&own)
	}
}

// Mapping gives what leads to the record of the key: the same for the Domain and
// its successors by Update as long as somebody holds it, nil if the domain has no
// such record. What it leads to may be of a later Domain already.
//
// It takes a lock, and is for the first packet of a flow.
func (d *Domain) Mapping(k Key) *Mapping {
	if d.records.Get(k) == nil {
		return nil
	}
	f := d.family
	return f.keys.get(k, func() *Record { return f.head.Load().records.Get(k) })
}

// family is what a Domain has in common with its successors: the Mappings. Of two
// successors of one Domain, the second one starts a family of its own: whoever
// loses the race to publish one cannot mislead the other's flows.
type family struct {
	// head is the latest Domain. A Mapping is made from the head, under its
	// shard's lock; an Update first becomes the head and then re-aims, under the
	// same locks. So none is left behind.
	head atomic.Pointer[Domain]
	keys interned
}

// interned finds the Mappings in use. They are held weakly: one that nobody uses
// vanishes, and a cleanup takes its key out.
type interned struct {
	held   atomic.Int64 // how many keys there are
	shards [8]internedShard
}

type internedShard struct {
	sync.Mutex
	m map[Key]weak.Pointer[Mapping]
}

// shard spreads keys over the locks, and needs no secret seed for that.
func (in *interned) shard(k Key) *internedShard { return &in.shards[k.Hash(0)>>61] }

func (in *interned) get(k Key, record func() *Record) *Mapping {
	s := in.shard(k)
	s.Lock()
	defer s.Unlock()
	w, had := s.m[k]
	if m := w.Value(); m != nil {
		return m
	}
	if !had {
		in.held.Add(1) // before the head is looked at: see aim
	}
	m := new(Mapping)
	if r := record(); r != nil {
		m.first = *r
		m.rec.Store(&m.first)
	}
	if s.m == nil {
		s.m = map[Key]weak.Pointer[Mapping]{}
	}
	s.m[k] = weak.Make(m)
	// Weakly here too: a flow that outlives its domain must not keep the tables.
	runtime.AddCleanup(m, vanish, vanished{weak.Make(in), k})
	return m
}

// vanished is a Mapping that nobody held any more.
type vanished struct {
	in  weak.Pointer[interned]
	key Key
}

func vanish(v vanished) {
	in := v.in.Value()
	if in == nil {
		return
	}
	s := in.shard(v.key)
	s.Lock()
	defer s.Unlock()
	// In the meantime there may be another one of the same key.
	if w, had := s.m[v.key]; had && w.Value() == nil {
		delete(s.m, v.key)
		in.held.Add(-1)
	}
}

// aim re-aims the Mappings of the keys that changed, of which there are at most
// n. The new head must have been set before.
func (in *interned) aim(n int, changed iter.Seq[Key], record func(Key) *Record) {
	held := in.held.Load()
	switch {
	case held == 0: // whoever comes now sees the new head
	case held <= int64(n):
		for i := range in.shards {
			s := &in.shards[i]
			s.Lock()
			for k, w := range s.m {
				if m := w.Value(); m != nil {
					m.aim(record(k))
				}
			}
			s.Unlock()
		}
	default:
		for k := range changed {
			s := in.shard(k)
			s.Lock()
			if m := s.m[k].Value(); m != nil {
				m.aim(record(k))
			}
			s.Unlock()
		}
	}
}

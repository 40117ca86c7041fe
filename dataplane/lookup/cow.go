package lookup

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// A Map splits its entries over a power of two of shards by the top bits of
// the hash. A shard is a dense array of entries and an open-addressed index
// into it by the low bits:
//
//	root [ 0 | 1 | ... | 2^k-1 ]          one pointer a shard
//	             |
//	             v
//	  shard  index   [ . 2 . . 1 3 . . ]   1 + place in entries, 0 = free
//	         entries [ kv | kv | kv ]
//
// A change copies the root and the shards it touches and shares the others.

const (
	fullShard  = 160 // average at which the shards are doubled
	emptyShard = 24  // average below which they are halved
)

// Hashable is what a Map can be keyed by.
type Hashable interface {
	comparable
	Hash(seed uint64) uint64
}

// Map is an immutable hash table; Edit makes its successor. The zero Map is
// empty.
type Map[K Hashable, V any] struct {
	seed  uint64
	shift uint8 // 64 - log2(len(root))
	n     int
	root  []*shard[K, V]
}

type shard[K Hashable, V any] struct {
	index   []uint16
	entries []entry[K, V]
}

type entry[K Hashable, V any] struct {
	key K
	val V
}

// Len tells the number of entries.
func (m *Map[K, V]) Len() int { return m.n }

// Get finds the value of k, nil if there is none. The value must not be
// changed; it stays as it is also when the Map has successors.
func (m *Map[K, V]) Get(k K) *V {
	if m.n == 0 {
		return nil
	}
	h := k.Hash(m.seed)
	s := m.root[h>>m.shift]
	if s == nil {
		return nil
	}
	if _, i := s.find(k, h); i >= 0 {
		return &s.entries[i].val
	}
	return nil
}

// All calls yield for every entry, in no particular order, until it is false.
func (m *Map[K, V]) All(yield func(K, V) bool) {
	for _, s := range m.root {
		if s == nil {
			continue
		}
		for i := range s.entries {
			if !yield(s.entries[i].key, s.entries[i].val) {
				return
			}
		}
	}
}

// find gives the slot of k in the index and its place in the entries; place -1
// and the first free slot if it is not there.
func (s *shard[K, V]) find(k K, h uint64) (slot, place int) {
	mask := len(s.index) - 1
	for slot = int(h) & mask; ; slot = (slot + 1) & mask {
		i := int(s.index[slot]) - 1
		if i < 0 || s.entries[i].key == k {
			return slot, i
		}
	}
}

// Editor collects changes to a Map. It is for one goroutine.
type Editor[K Hashable, V any] struct {
	old  *Map[K, V]
	m    Map[K, V]
	mine []bool // shards that no Map shares yet; nil while the root is shared
}

// Edit starts a successor of m, which itself stays as it is. It costs nothing
// until the first change.
func (m *Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{old: m, m: *m} }

// Grow makes room for n entries more, where that spares growing by and by.
func (e *Editor[K, V]) Grow(n int) {
	shards := max(len(e.m.root), 1)
	for e.m.n+n >= fullShard*shards {
		shards *= 2
	}
	if shards > len(e.m.root) {
		e.unshare()
		e.resize(shards)
	}
}

// unshare makes the root one that no Map shares.
func (e *Editor[K, V]) unshare() {
	switch {
	case e.mine != nil:
		return
	case e.m.root == nil:
		e.m.seed = rand.Uint64()
		e.m.shift = 64
		e.m.root = make([]*shard[K, V], 1)
	default:
		e.m.root = slices.Clone(e.m.root)
	}
	e.mine = make([]bool, len(e.m.root))
}

// Done gives the successor, or the Map itself if nothing was changed. The Editor
// must not be used any more.
func (e *Editor[K, V]) Done() *Map[K, V] {
	if e.mine == nil {
		return e.old
	}
	shards := len(e.m.root)
	for shards > 1 && e.m.n < emptyShard*shards {
		shards /= 2
	}
	if shards < len(e.m.root) {
		e.resize(shards)
	}
	m := e.m
	*e = Editor[K, V]{}
	return &m
}

// Get finds the value of k among the changes made so far, nil if there is none.
func (e *Editor[K, V]) Get(k K) *V { return e.m.Get(k) }

// Put sets the value of k and gives what it was before.
func (e *Editor[K, V]) Put(k K, v V) (old V, had bool) {
	p, had := e.Own(k)
	old, *p = *p, v
	return old, had
}

// Own gives the value of k for writing, until the next change of the Editor: the
// present one or, if there is none, a zero one that it adds.
func (e *Editor[K, V]) Own(k K) (v *V, had bool) {
	e.unshare()
	if e.m.n >= fullShard*len(e.m.root) {
		e.resize(2 * len(e.m.root))
	}
	h := k.Hash(e.m.seed)
	s := e.own(h >> e.m.shift)
	slot, i := s.find(k, h)
	if i >= 0 {
		return &s.entries[i].val, true
	}
	s.entries = append(s.entries, entry[K, V]{key: k})
	s.index[slot] = uint16(len(s.entries))
	if 2*len(s.entries) > len(s.index) {
		s.reindex(e.m.seed)
	}
	e.m.n++
	return &s.entries[len(s.entries)-1].val, false
}

// Delete removes k and gives what its value was.
func (e *Editor[K, V]) Delete(k K) (old V, had bool) {
	if e.Get(k) == nil {
		return old, false
	}
	e.unshare()
	h := k.Hash(e.m.seed)
	s := e.own(h >> e.m.shift)
	slot, i := s.find(k, h)
	old = s.entries[i].val
	s.free(slot, e.m.seed)
	last := len(s.entries) - 1
	if i != last {
		moved, _ := s.find(s.entries[last].key, s.entries[last].key.Hash(e.m.seed))
		s.entries[i] = s.entries[last]
		s.index[moved] = uint16(i + 1)
	}
	s.entries[last] = entry[K, V]{}
	s.entries = s.entries[:last]
	e.m.n--
	return old, true
}

// own gives the shard for writing.
func (e *Editor[K, V]) own(i uint64) *shard[K, V] {
	s := e.m.root[i]
	switch {
	case s == nil:
		s = &shard[K, V]{index: make([]uint16, 8)}
	case e.mine[i]:
		return s
	default:
		s = &shard[K, V]{
			index:   append([]uint16(nil), s.index...),
			entries: append(make([]entry[K, V], 0, len(s.entries)+1), s.entries...),
		}
	}
	e.m.root[i], e.mine[i] = s, true
	return s
}

// free empties the slot and closes the gap, so that linear probing still finds
// what lies behind it.
func (s *shard[K, V]) free(gap int, seed uint64) {
	mask := len(s.index) - 1
	for slot := (gap + 1) & mask; s.index[slot] != 0; slot = (slot + 1) & mask {
		home := int(s.entries[s.index[slot]-1].key.Hash(seed)) & mask
		// The entry may move to the gap only if its home is not behind it.
		if (slot-home)&mask >= (slot-gap)&mask {
			s.index[gap] = s.index[slot]
			gap = slot
		}
	}
	s.index[gap] = 0
}

// reindex makes the index fit for the entries, at most half full.
func (s *shard[K, V]) reindex(seed uint64) {
	s.index = make([]uint16, 1<<bits.Len(uint(2*len(s.entries))))
	for i := range s.entries {
		slot, _ := s.find(s.entries[i].key, s.entries[i].key.Hash(seed))
		s.index[slot] = uint16(i + 1)
	}
}

// resize spreads all entries over another number of shards.
func (e *Editor[K, V]) resize(shards int) {
	root := make([]*shard[K, V], shards)
	shift := uint8(64 - bits.TrailingZeros(uint(shards)))
	for _, old := range e.m.root {
		if old == nil {
			continue
		}
		for i := range old.entries {
			to := old.entries[i].key.Hash(e.m.seed) >> shift
			if root[to] == nil {
				root[to] = &shard[K, V]{}
			}
			root[to].entries = append(root[to].entries, old.entries[i])
		}
	}
	for _, s := range root {
		if s != nil {
			s.reindex(e.m.seed)
		}
	}
	e.m.root, e.m.shift = root, shift
	e.mine = make([]bool, shards)
	for i := range e.mine {
		e.mine[i] = true
	}
}

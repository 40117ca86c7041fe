package lookup

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// Editor collects changes to a Map. It is for one goroutine.
type Editor[K Hashable, V any] struct {
	old *Map[K, V]
	m   Map[K, V]
	// mine has a bit for each shard that no Map shares yet, in a word for each
	// chunk; where one is set, the chunk is not shared either. It is nil while the
	// root is.
	mine []uint32
	// loose tells that shards of mine have grown, and have room to spare.
	loose bool
}

// Edit starts a successor of m, which itself stays as it is. It costs nothing
// until the first change.
func (m *Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{old: m, m: *m} }

// Grow makes room for n entries more, where that spares growing by and by.
func (e *Editor[K, V]) Grow(n int) {
	e.unshare()
	shards := e.m.shards()
	for e.m.n+n >= fullShard*shards {
		shards *= 2
	}
	if shards > e.m.shards() {
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
		e.m.root = [][]shard[K, V]{make([]shard[K, V], 1)}
	default:
		e.m.root = slices.Clone(e.m.root)
	}
	e.mine = make([]uint32, len(e.m.root))
}

// own gives the shard of the hash for writing.
func (e *Editor[K, V]) own(h uint64) *shard[K, V] {
	i := h >> e.m.shift
	c, bit := i>>chunkBits, uint32(1)<<(i&(1<<chunkBits-1))
	if e.mine[c] == 0 {
		e.m.root[c] = slices.Clone(e.m.root[c])
	}
	s := e.m.shard(h)
	if e.mine[c]&bit == 0 {
		e.mine[c] |= bit
		s.index = slices.Clone(s.index)
		s.entries = append(make([]entry[K, V], 0, len(s.entries)+1), s.entries...)
	}
	return s
}

// Done gives the successor, or the Map itself if nothing was changed. The Editor
// must not be used any more.
func (e *Editor[K, V]) Done() *Map[K, V] {
	if e.mine == nil {
		return e.old
	}
	shards := e.m.shards()
	for shards > 1 && e.m.n < emptyShard*shards {
		shards /= 2
	}
	if shards < e.m.shards() {
		e.resize(shards)
	}
	if e.loose {
		e.pack()
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
	if e.m.n >= fullShard*e.m.shards() {
		e.resize(2 * e.m.shards())
	}
	h := k.Hash(e.m.seed)
	s := e.own(h)
	slot, i := s.find(k, h)
	if i >= 0 {
		return &s.entries[i].val, true
	}
	e.loose = e.loose || len(s.entries) == cap(s.entries)
	s.entries = append(s.entries, entry[K, V]{key: k})
	if 4*len(s.entries) > 3*len(s.index) {
		s.reindex(e.m.seed)
	} else {
		s.point(slot, len(s.entries)-1, h)
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
	s := e.own(h)
	slot, i := s.find(k, h)
	old = s.entries[i].val
	s.free(slot, e.m.seed)
	last := len(s.entries) - 1
	if i != last {
		h := s.entries[last].key.Hash(e.m.seed)
		moved, _ := s.find(s.entries[last].key, h)
		s.entries[i] = s.entries[last]
		s.point(moved, i, h)
	}
	s.entries[last] = entry[K, V]{}
	s.entries = s.entries[:last]
	e.m.n--
	return old, true
}

// free empties the slot and closes the gap, so that linear probing still finds
// what lies behind it.
func (s *shard[K, V]) free(gap int, seed uint64) {
	mask := len(s.index) - 1
	for slot := (gap + 1) & mask; s.index[slot] != 0; slot = (slot + 1) & mask {
		home := int(s.entries[int(s.index[slot])&mask-1].key.Hash(seed)) & mask
		// The entry may move to the gap only if its home is not behind it.
		if (slot-home)&mask >= (slot-gap)&mask {
			s.index[gap] = s.index[slot]
			gap = slot
		}
	}
	s.index[gap] = 0
}

// reindex makes the index fit for the entries, at most three quarters full.
func (s *shard[K, V]) reindex(seed uint64) {
	slots := 1 << bits.Len(uint(4*len(s.entries)/3))
	s.index = make([]uint16, max(slots, minSlots))
	mask := len(s.index) - 1
	for i := range s.entries {
		h := s.entries[i].key.Hash(seed)
		slot := int(h) & mask
		for s.index[slot] != 0 {
			slot = (slot + 1) & mask
		}
		s.point(slot, i, h)
	}
}

// pack gives back what room shards have to spare. The next change of a shard
// would copy it in any case.
func (e *Editor[K, V]) pack() {
	for c, chunk := range e.m.root {
		for i := range chunk {
			s := &chunk[i]
			if e.mine[c]>>i&1 == 1 && cap(s.entries) > len(s.entries)+len(s.entries)/16 {
				s.entries = append(make([]entry[K, V], 0, len(s.entries)), s.entries...)
			}
		}
	}
}

// resize spreads all entries over another number of shards.
func (e *Editor[K, V]) resize(shards int) {
	old := e.m.root
	chunk := min(shards, 1<<chunkBits)
	e.m.root = make([][]shard[K, V], shards/chunk)
	e.m.shift = uint8(64 - bits.TrailingZeros(uint(shards)))
	e.mine = make([]uint32, len(e.m.root))
	for i := range e.m.root {
		e.m.root[i] = make([]shard[K, V], chunk)
		e.mine[i] = ^uint32(0)
	}
	for _, chunk := range old {
		for _, s := range chunk {
			for i := range s.entries {
				to := e.m.shard(s.entries[i].key.Hash(e.m.seed))
				to.entries = append(to.entries, s.entries[i])
			}
		}
	}
	for _, chunk := range e.m.root {
		for i := range chunk {
			chunk[i].reindex(e.m.seed)
		}
	}
	e.loose = true
}

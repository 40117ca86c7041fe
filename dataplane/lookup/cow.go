package lookup

// A Map splits its entries over a power of two of shards by the top bits of
// the hash. A shard is a dense array of entries and an open-addressed index
// into it by the low bits:
//
//	root [ 0 | 1 | ... ]                    chunks of at most 32 shards
//	         |
//	         v
//	  chunk [ 0 | 1 | ... | 31 ]            shards
//	              |
//	              v
//	       index   [ . 2 . . 1 3 . . ]      1 + place in entries, 0 = free
//	       entries [ kv | kv | kv ]
//
// An index of 2^b slots needs b bits of each for the place. The upper 16-b bits
// are of the hash, so that what is not the key sought is seldom looked at: that
// would be a cache miss.
//
// A change copies the root, and the chunks and shards that it touches, and
// shares the others.

const (
	fullShard  = 160 // average at which the shards are doubled
	emptyShard = 24  // average below which they are halved
	minSlots   = 8   // of an index
	chunkBits  = 5   // a chunk has 2^chunkBits shards, if there are so many
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
	shift uint8 // 64 - log2(shards)
	n     int
	root  [][]shard[K, V]
}

type shard[K Hashable, V any] struct {
	index   []uint16 // nil in an empty shard
	entries []entry[K, V]
}

type entry[K Hashable, V any] struct {
	key K
	val V
}

// Len tells the number of entries.
func (m *Map[K, V]) Len() int { return m.n }

// shards tells how many there are.
func (m *Map[K, V]) shards() int {
	if len(m.root) == 0 {
		return 0
	}
	return len(m.root) * len(m.root[0])
}

// shard gives the one of the hash. The Map must not be the zero one.
func (m *Map[K, V]) shard(h uint64) *shard[K, V] {
	i := h >> m.shift
	return &m.root[i>>chunkBits][i&(1<<chunkBits-1)]
}

// Get finds the value of k, nil if there is none. The value must not be
// changed; it stays as it is also when the Map has successors.
func (m *Map[K, V]) Get(k K) *V {
	if m.n == 0 {
		return nil
	}
	h := k.Hash(m.seed)
	s := m.shard(h)
	if _, i := s.find(k, h); i >= 0 {
		return &s.entries[i].val
	}
	return nil
}

// All calls yield for every entry, in no particular order, until it is false.
func (m *Map[K, V]) All(yield func(K, V) bool) {
	for _, chunk := range m.root {
		for _, s := range chunk {
			for i := range s.entries {
				if !yield(s.entries[i].key, s.entries[i].val) {
					return
				}
			}
		}
	}
}

// find gives the slot of k in the index and its place in the entries; place -1
// and the first free slot, if there is any, where it is not there.
func (s *shard[K, V]) find(k K, h uint64) (slot, place int) {
	if len(s.index) == 0 {
		return 0, -1
	}
	mask := len(s.index) - 1
	for slot = int(h) & mask; ; slot = (slot + 1) & mask {
		x := s.index[slot]
		if x == 0 {
			return slot, -1
		}
		if i := int(x)&mask - 1; (x^tag(h))&^uint16(mask) == 0 && s.entries[i].key == k {
			return slot, i
		}
	}
}

// tag gives the bits of the hash that stand in the index.
func tag(h uint64) uint16 { return uint16(h >> 32) }

// point lets the slot lead to the place of an entry with the hash.
func (s *shard[K, V]) point(slot, place int, h uint64) {
	mask := uint16(len(s.index) - 1)
	s.index[slot] = tag(h)&^mask | uint16(place+1)
}

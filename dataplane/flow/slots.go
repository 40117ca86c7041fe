package flow

import "sync/atomic"

// slots is a hash table with open addressing and linear probing. One writer at
// a time may change it while any number of readers look things up: an entry
// never moves. Removing leaves a mark that probing passes over; who wants rid of
// the marks, or of another size, makes new slots and publishes them.
//
// A tag is 32 bits of the hash: where probing starts, and what spares a look at
// nearly all entries that are not the one.
//
//	tags    [  0  |  1  | 5c0e | 91f2 |  0  | ... ]   0 = free, 1 = gone
//	entries [ nil | nil |  *   |  *   | nil | ... ]
type slots[A any] struct {
	tags    []atomic.Uint32
	entries []atomic.Pointer[Entry[A]]
}

const (
	tagFree uint32 = 0
	tagGone uint32 = 1

	minSlots = 8
)

// tagOf takes a tag out of a hash; shardOf takes other bits.
func tagOf(hash uint64) uint32 {
	tag := uint32(hash)
	if tag <= tagGone {
		tag += 2
	}
	return tag
}

// slotsFor gives how many slots hold n entries with room to grow.
func slotsFor(n uint32) uint32 {
	size := uint32(minSlots)
	for uint64(n)*8 > uint64(size)*5 {
		size *= 2
	}
	return size
}

func newSlots[A any](size uint32) *slots[A] {
	return &slots[A]{tags: make([]atomic.Uint32, size), entries: make([]atomic.Pointer[Entry[A]], size)}
}

func (s *slots[A]) mask() uint32 { return uint32(len(s.tags) - 1) }

// find gives the entry of a key, nil if there is none. A quarter of the slots
// being free, it ends.
func (s *slots[A]) find(k *Key, tag uint32) *Entry[A] {
	mask := s.mask()
	for i := tag & mask; ; i = (i + 1) & mask {
		switch s.tags[i].Load() {
		case tagFree:
			return nil
		case tag:
			if e := s.entries[i].Load(); e != nil && e.key == *k {
				return e
			}
		}
	}
}

// put adds an entry, in the place of a dead one with the same key if there is
// one. It tells what the slot was before: a tag, free or gone.
func (s *slots[A]) put(e *Entry[A]) (was uint32) {
	mask := s.mask()
	to, found := uint32(0), false
	for i := e.tag & mask; ; i = (i + 1) & mask {
		tag := s.tags[i].Load()
		switch {
		case tag == e.tag && s.entries[i].Load().key == e.key:
			s.entries[i].Store(e)
			return tag
		case tag <= tagGone && !found:
			to, found = i, true
		}
		if tag == tagFree {
			break
		}
	}
	was = s.tags[to].Load()
	s.entries[to].Store(e)
	s.tags[to].Store(e.tag)
	return was
}

// remove takes an entry out, if it is there still, and tells how many more
// slots are marked as gone than before. A mark that is followed by a free slot
// is of no use to probing: it becomes free, and so do those in front of it.
func (s *slots[A]) remove(e *Entry[A]) (ok bool, gone int) {
	mask := s.mask()
	i := e.tag & mask
	for ; ; i = (i + 1) & mask {
		tag := s.tags[i].Load()
		if tag == tagFree {
			return false, 0
		}
		if tag == e.tag && s.entries[i].Load() == e {
			break
		}
	}
	s.tags[i].Store(tagGone)
	s.entries[i].Store(nil)
	gone = 1
	if s.tags[(i+1)&mask].Load() == tagFree {
		for ; s.tags[i].Load() == tagGone; i = (i - 1) & mask {
			s.tags[i].Store(tagFree)
			gone--
		}
	}
	return true, gone
}

// resized gives slots of another size with the same entries and no marks.
func (s *slots[A]) resized(size uint32) *slots[A] {
	n := newSlots[A](size)
	mask := n.mask()
	for i := range s.tags {
		tag := s.tags[i].Load()
		if tag <= tagGone {
			continue
		}
		to := tag & mask
		for n.tags[to].Load() != tagFree {
			to = (to + 1) & mask
		}
		n.entries[to].Store(s.entries[i].Load())
		n.tags[to].Store(tag)
	}
	return n
}

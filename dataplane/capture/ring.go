package capture

import "sync/atomic"

// ring is a bounded queue of packets from any number of workers to one reader.
// None of them ever waits for another.
//
// A slot's turn says whose it is. Slot i starts at turn i; a worker that finds
// turn == head may claim the slot by moving head on, fills it, and gives it to
// the reader with turn head+1; the reader gives it back for the next round with
// turn tail+len(slots).
//
//	turn      i           i+1          i+len
//	      free (round 0) -> full -> free (round 1) -> ...
type ring struct {
	head  atomic.Uint64 // of workers
	_     [56]byte      // the reader's line is not the workers'
	tail  uint64        // of the reader
	slots []slot
}

// slot holds one packet. Between claim and turn it is one goroutine's.
type slot struct {
	turn   atomic.Uint64
	meta   Meta
	length int    // of the whole packet
	lost   uint64 // how many the session had lost before this one
	n      int    // bytes of data in use
	data   []byte // as much as is kept of a packet
}

// newRing makes a ring for size packets, a power of two, of snapLen bytes each.
// All memory is taken now, though the kernel hands it over only when it is first
// written to.
func newRing(size, snapLen int) *ring {
	r := &ring{slots: make([]slot, size)}
	all := make([]byte, size*snapLen)
	for i := range r.slots {
		r.slots[i].turn.Store(uint64(i))
		r.slots[i].data = all[i*snapLen : (i+1)*snapLen : (i+1)*snapLen]
	}
	return r
}

// put copies the packet in; false if the ring is full.
func (r *ring) put(m *Meta, packet []byte, lost uint64) bool {
	head := r.head.Load()
	for {
		s := &r.slots[head&uint64(len(r.slots)-1)]
		switch ahead := int64(s.turn.Load() - head); {
		case ahead < 0:
			return false
		case ahead == 0 && r.head.CompareAndSwap(head, head+1):
			s.meta, s.length, s.lost = *m, len(packet), lost
			s.n = copy(s.data, packet)
			s.turn.Store(head + 1)
			return true
		}
		head = r.head.Load()
	}
}

// first gives the oldest packet, nil if there is none. It stays in the ring
// until release.
func (r *ring) first() *slot {
	if s := &r.slots[r.tail&uint64(len(r.slots)-1)]; s.turn.Load() == r.tail+1 {
		return s
	}
	return nil
}

// release gives the oldest packet's slot back to the workers.
func (r *ring) release() {
	s := &r.slots[r.tail&uint64(len(r.slots)-1)]
	s.turn.Store(r.tail + uint64(len(r.slots)))
	r.tail++
}

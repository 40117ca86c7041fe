package flow

// Reason is why a flow has left the table.
type Reason uint8

// The reasons.
const (
	Expired   Reason = iota // idle for too long
	Displaced               // made room for another in a full table
	Removed                 // by Remove
	Replaced                // its key is that of a pair's reply now
	Reasons                 // how many there are
)

// String gives the reason as it stands in metrics: "displaced".
func (r Reason) String() string {
	if r < Reasons {
		return [Reasons]string{"expired", "displaced", "removed", "replaced"}[r]
	}
	return "unknown"
}

// Remove takes a flow out of the table, with both halves. It tells whether this
// call did, and not another one before.
func (t *Table[A]) Remove(e *Entry[A]) bool { return t.retire(e.flow, Removed) }

// retire removes a flow for whatever reason, once.
func (t *Table[A]) retire(f *flow[A], why Reason) bool {
	for {
		w := word(f.word.Load())
		if w&dead != 0 {
			return false
		}
		if f.claim(w) {
			t.finish(f, why)
			return true
		}
	}
}

// finish removes a flow that the caller has claimed.
func (t *Table[A]) finish(f *flow[A], why Reason) {
	t.unlink(&f.opener)
	packets, _ := f.opener.Counters()
	if f.reply != nil {
		t.unlink(f.reply)
		n, _ := f.reply.Counters()
		packets += n
	}
	t.flows.Add(-1)
	t.retired.Add(packets)
	t.evicted[why].Add(1)
	if t.evict != nil {
		t.evict(&f.opener, why)
	}
}

// unlink takes an entry out of its shard. It is not there any more if another
// one with its key has taken its place.
func (t *Table[A]) unlink(e *Entry[A]) {
	sh := &t.shards[e.shard]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := t.slots[e.shard].Load()
	if s == nil {
		return
	}
	ok, gone := s.remove(e)
	if ok {
		sh.used--
		sh.gone = uint32(int(sh.gone) + gone)
	}
}

const (
	window  = 16     // slots looked at together
	windows = shards // of each shard one, for one new flow
)

// makeRoom evicts one flow: of those that a clock hand comes by, the first that
// is idle for too long, or else the one that is least worth keeping in the first
// window that holds any. False if there is none among them.
func (t *Table[A]) makeRoom(now int64) bool {
	for range windows {
		at := t.clock.Add(1) - 1
		s := t.slots[at%shards].Load()
		if s == nil {
			continue
		}
		if v := s.victim(uint32(at/shards)*window, now); v.flow != nil && v.flow.claim(v.word) {
			t.finish(v.flow, v.why)
			return true
		}
	}
	return false
}

// victim is a flow that may be evicted, in the state in which it may be.
type victim[A any] struct {
	flow *flow[A]
	word word
	why  Reason
}

// victim picks from the window that begins at a slot.
func (s *slots[A]) victim(at uint32, now int64) (best victim[A]) {
	var bestRank uint8
	var bestSeen int64
	for i := range min(window, uint32(len(s.entries))) {
		e := s.entries[(at+i)&s.mask()].Load()
		if e == nil {
			continue
		}
		f := e.flow
		w := word(f.word.Load())
		if w&dead != 0 {
			continue
		}
		if f.expires.Load() <= now {
			return victim[A]{f, w, Expired}
		}
		r, seen := rank(w.state()), f.lastSeen(w)
		if r > bestRank || r != 0 && r == bestRank && seen < bestSeen {
			best, bestRank, bestSeen = victim[A]{f, w, Displaced}, r, seen
		}
	}
	return best
}

// rank orders the states by how little is lost with a flow; those of rank 0 stay.
func rank(s State) uint8 {
	switch s {
	case StateClosing:
		return 3
	case StateNew:
		return 2
	case StateReplied:
		return 1
	}
	return 0
}

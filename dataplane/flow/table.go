package flow

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
)

// Why a flow was not taken.
var (
	ErrFull     = errors.New("flow table is full")
	ErrConflict = errors.New("the reply's key belongs to another flow")
)

const (
	shards     = 16
	shardShift = 64 - 4
)

// Table is the unified flow table of one port: keys of packets and what is to
// be done with them. New makes one.
type Table[A any] struct {
	seed   seed
	limits [classes]limits
	max    int64
	evict  func(*Entry[A], Reason)

	slots  [shards]atomic.Pointer[slots[A]] // read by every packet, nil while empty
	shards [shards]shard

	flows   atomic.Int64  // in the table, or reserved by an insertion under way
	clock   atomic.Uint64 // windows that making room has looked at
	inserts atomic.Uint64
	full    atomic.Uint64
	retired atomic.Uint64 // packets of the flows that are gone
	evicted [Reasons]atomic.Uint64

	sweep struct {
		mu          sync.Mutex
		shard, slot int // where the next one goes on
	}
}

// shard is what writers have for each of the slots.
type shard struct {
	mu     sync.Mutex
	used   uint32 // slots with an entry
	gone   uint32 // slots marked as gone
	misses atomic.Uint64
}

// New makes an empty table. It costs less than a kilobyte until it has flows.
func New[A any](o Options[A]) *Table[A] {
	if o.Max <= 0 {
		o.Max = DefaultMax
	}
	return &Table[A]{
		seed:   newSeed(),
		limits: o.Timeouts.orDefault().limits(),
		max:    int64(min(o.Max, math.MaxInt32)),
		evict:  o.OnEvict,
	}
}

// Len tells how many flows there are, a pair counting as one, and those that
// are idle for too long still counting.
func (t *Table[A]) Len() int { return int(t.flows.Load()) }

// Lookup finds the entry of a key, nil if there is none or if it has been idle
// for too long. now is in nanoseconds of any clock that does not go back, the
// same one in all calls.
func (t *Table[A]) Lookup(k *Key, now int64) *Entry[A] {
	h := t.seed.hash(k)
	i := h >> shardShift
	if s := t.slots[i].Load(); s != nil {
		if e := s.find(k, tagOf(h)); e != nil && e.flow.live(now) {
			return e
		}
	}
	t.shards[i].misses.Add(1)
	return nil
}

// Insert adds a flow that has one direction only. If the key is there already,
// in either half of a flow, that entry is returned as it is: its Action tells
// whose it is. The packet that the flow begins with is counted by Hit, as all are.
func (t *Table[A]) Insert(k Key, a *A, gen uint64, now int64) (*Entry[A], error) {
	f := new(flow[A])
	t.fill(f, &f.opener, k, a, gen, now)
	return t.insert(f, now)
}

// InsertPair adds a flow with both directions: k of the packet at hand, and
// reply of the packets that answer it, which need not be its Reverse where
// addresses are translated. If k is there already, that entry is returned, as
// Insert does. A flow of one direction with the reply's key is replaced, as
// nothing but that direction was known of it; a pair is not: ErrConflict.
func (t *Table[A]) InsertPair(k Key, a *A, reply Key, ra *A, gen uint64, now int64) (*Entry[A], error) {
	if k == reply {
		return nil, ErrConflict
	}
	p := new(pair[A])
	t.fill(&p.flow, &p.opener, k, a, gen, now)
	t.fill(&p.flow, &p.answer, reply, ra, gen, now)
	p.answer.Reply = true
	p.reply = &p.answer
	return t.insert(&p.flow, now)
}

// fill makes one half of a flow that nobody else knows yet.
func (t *Table[A]) fill(f *flow[A], e *Entry[A], k Key, a *A, gen uint64, now int64) {
	h := t.seed.hash(&k)
	e.key, e.flow, e.tag, e.shard = k, f, tagOf(h), uint8(h>>shardShift)
	e.action.Store(a)
	e.Gen.Store(gen)
	if e == &f.opener {
		c := k.class()
		f.tcp, f.limits = c == classTCP, &t.limits[c]
		f.expires.Store(now + f.limits[StateNew])
	}
}

// attempts bounds how often an insertion begins anew, because others took the
// room that was made, or the key.
const attempts = 8

func (t *Table[A]) insert(f *flow[A], now int64) (*Entry[A], error) {
	for range attempts {
		e, err := t.admit(f, now)
		if e != nil || err != nil {
			return e, err
		}
		if !t.reserve() {
			if !t.makeRoom(now) {
				break
			}
			continue
		}
		if t.place(f) {
			t.inserts.Add(1)
			return &f.opener, nil
		}
		t.flows.Add(-1)
	}
	t.full.Add(1)
	return nil, ErrFull
}

// reserve counts one more flow if there may be one.
func (t *Table[A]) reserve() bool {
	for {
		n := t.flows.Load()
		if n >= t.max {
			return false
		}
		if t.flows.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// admit looks at what has the keys of a new flow. It gives the entry that was
// faster, or neither entry nor error where nothing is in the way any more.
func (t *Table[A]) admit(f *flow[A], now int64) (*Entry[A], error) {
	if e := t.find(&f.opener); e != nil {
		if e.flow.live(now) {
			return e, nil
		}
		t.retire(e.flow, Expired)
	}
	if f.reply == nil {
		return nil, nil
	}
	if e := t.find(f.reply); e != nil {
		switch {
		case !e.flow.live(now):
			t.retire(e.flow, Expired)
		case e.Peer() == nil:
			t.retire(e.flow, Replaced)
		case e.Peer().key == f.opener.key: // the same flow, that was just being added
			return e.Peer(), nil
		default:
			return nil, ErrConflict
		}
	}
	return nil, nil
}

// find gives the entry in the table that has e's key.
func (t *Table[A]) find(e *Entry[A]) *Entry[A] {
	if s := t.slots[e.shard].Load(); s != nil {
		return s.find(&e.key, e.tag)
	}
	return nil
}

// place puts both halves into the table, or neither if one of their keys is
// taken.
func (t *Table[A]) place(f *flow[A]) bool {
	a, b := int(f.opener.shard), int(f.opener.shard)
	if f.reply != nil {
		b = int(f.reply.shard)
	}
	t.shards[min(a, b)].mu.Lock()
	defer t.shards[min(a, b)].mu.Unlock()
	if a != b {
		t.shards[max(a, b)].mu.Lock()
		defer t.shards[max(a, b)].mu.Unlock()
	}
	if t.taken(&f.opener) || f.reply != nil && t.taken(f.reply) {
		return false
	}
	t.put(&f.opener)
	if f.reply != nil {
		t.put(f.reply)
	}
	return true
}

// taken tells whether a flow that is not dead has e's key. The shard is locked.
func (t *Table[A]) taken(e *Entry[A]) bool {
	old := t.find(e)
	return old != nil && word(old.flow.word.Load())&dead == 0
}

// put adds an entry to its shard, which is locked.
func (t *Table[A]) put(e *Entry[A]) {
	sh := &t.shards[e.shard]
	s := t.slots[e.shard].Load()
	if s == nil || uint64(sh.used+sh.gone+1)*4 > uint64(len(s.tags))*3 {
		s = t.resize(e.shard, slotsFor(sh.used+1))
	}
	switch s.put(e) {
	case tagFree:
		sh.used++
	case tagGone:
		sh.used++
		sh.gone--
	}
}

// resize gives a shard, which is locked, new slots without marks.
func (t *Table[A]) resize(i uint8, size uint32) *slots[A] {
	s := t.slots[i].Load()
	if s == nil {
		s = newSlots[A](size)
	} else {
		s = s.resized(size)
	}
	t.shards[i].gone = 0
	t.slots[i].Store(s)
	return s
}

// All gives every flow by its opener, those idle for too long too, in no
// particular order. Flows that come or go meanwhile may be among them or not.
// Flows may be removed on the way.
func (t *Table[A]) All(yield func(opener *Entry[A]) bool) {
	for i := range t.slots {
		s := t.slots[i].Load()
		if s == nil {
			continue
		}
		for j := range s.entries {
			e := s.entries[j].Load()
			if e == nil || e.Reply || word(e.flow.word.Load())&dead != 0 {
				continue
			}
			if !yield(e) {
				return
			}
		}
	}
}

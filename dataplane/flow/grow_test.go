package flow

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"
)

// heap gives the bytes that are in use, the garbage collected.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A port without traffic pays next to nothing for its table.
func TestIdleTableIsSmall(t *testing.T) {
	tables := make([]*Table[int], 1000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range tables {
		tables[i] = New(Options[int]{})
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 1000; n >= 1024 {
		t.Errorf("an empty table takes %d bytes", n)
	}
	// Lookups do not change that.
	k := key(1)
	for _, table := range tables {
		table.Lookup(&k, 0)
		table.Sweep(0, 0)
		for i := range table.slots {
			if table.slots[i].Load() != nil {
				t.Fatal("an empty table has slots")
			}
		}
	}
}

// Millions of them are meant to fit.
func TestFlowIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(pair[int]{}); n > 208 {
		t.Errorf("a pair takes %d bytes", n)
	}
	if n := unsafe.Sizeof(flow[int]{}); n > 128 {
		t.Errorf("a flow of one direction takes %d bytes", n)
	}
}

// The table holds what a map holds while it grows and shrinks, and gives the
// memory back once the flows are over.
func TestGrowsAndShrinks(t *testing.T) {
	const n = 50000
	table := New(Options[int]{Max: n})
	before := heap()
	want := map[Key]*Entry[int]{}
	for i := range n {
		e := insert(t, table, key(i), int64(i)*1e3)
		want[e.Key()], want[e.Peer().Key()] = e, e.Peer()
	}
	full := heap() - before
	checkSlots(t, table)
	check := func() {
		t.Helper()
		for k, e := range want {
			if table.Lookup(&k, 0) != e {
				t.Fatalf("%s: not found", k)
			}
		}
		if 2*table.Len() != len(want) {
			t.Fatalf("%d flows, want %d", table.Len(), len(want)/2)
		}
	}
	check()
	slots := func() (sum int) {
		for i := range table.slots {
			if s := table.slots[i].Load(); s != nil {
				sum += len(s.tags)
			}
		}
		return sum
	}
	if s := slots(); s > 6*n || s < 2*n {
		t.Errorf("%d slots for %d flows", s, n)
	}
	// All but the last twentieth go.
	now := int64(n*19/20)*1e3 + int64(DefaultTimeouts().TCPSetup) - 1
	gone := 0
	for range 1000 {
		gone += table.Sweep(now, 500)
	}
	for k, e := range want {
		if e.Expires() <= now {
			delete(want, k)
		}
	}
	if gone != n*19/20 {
		t.Errorf("%d flows were swept", gone)
	}
	check()
	checkSlots(t, table)
	if s := slots(); s > 8*len(want) {
		t.Errorf("%d slots for %d flows after the sweep", s, len(want)/2)
	}
	if got := table.Sweep(now+1e12, 0); got != len(want)/2 {
		t.Errorf("the last sweep removed %d", got)
	}
	clear(want)
	check()
	if s := slots(); s != 0 {
		t.Errorf("%d slots for no flows", s)
	}
	want = nil
	if left := heap() - before; left > full/20 {
		t.Errorf("%d bytes are left of %d", left, full)
	}
	runtime.KeepAlive(table)
}

// Coming and going without end fills no table with marks.
func TestChurn(t *testing.T) {
	table := New(Options[int]{})
	r := rand.New(rand.NewPCG(1, 9))
	var here []*Entry[int]
	for i := range 200000 {
		here = append(here, insert(t, table, key(i), 0))
		if len(here) > 500 {
			j := r.IntN(len(here))
			table.Remove(here[j])
			here[j] = here[len(here)-1]
			here = here[:len(here)-1]
		}
	}
	checkSlots(t, table)
	for i := range table.slots {
		if n := len(table.slots[i].Load().tags); n > 256 {
			t.Errorf("shard %d has %d slots", i, n)
		}
	}
	for _, e := range here {
		k := e.Key()
		if table.Lookup(&k, 0) != e {
			t.Errorf("%s: not found", k)
		}
	}
}

// Sweep looks at no more than it is told to, and gets round in time.
func TestSweepIsIncremental(t *testing.T) {
	const n = 1000
	table := New(Options[int]{})
	for i := range n {
		insert(t, table, key(i), 0)
	}
	now := int64(DefaultTimeouts().TCPSetup)
	total := 0
	for calls := 0; total < n; calls++ {
		got := table.Sweep(now, 10)
		if got > 10 {
			t.Fatalf("%d flows of 10 slots", got)
		}
		total += got
		if calls > 6*n/10 {
			t.Fatalf("after %d calls %d flows are gone", calls, total)
		}
	}
}

// Sweeping while a Sweep is under way is left to that one.
func TestOneSweepAtATime(t *testing.T) {
	table := New(Options[int]{OnEvict: nil})
	inner := -1
	table.evict = func(*Entry[int], Reason) { inner = table.Sweep(1e12, 0) }
	insert(t, table, key(1), 0)
	if got := table.Sweep(1e12, 0); got != 1 || inner != 0 {
		t.Errorf("%d flows outside, %d inside", got, inner)
	}
}

// Whoever makes room meets every slot in time: the one flow that may go is
// found among thousands that may not.
func TestClockGetsRound(t *testing.T) {
	const n = 4096
	table, log := recorded(Options[int]{Max: n})
	var weak *Entry[int]
	for i := range n {
		e := insert(t, table, key(i), 0)
		if i == 1234 {
			weak = e
			continue
		}
		establish(e, 0)
	}
	tries := 0
	for ; ; tries++ {
		_, err := table.Insert(udpKey(tries), nil, 1, 1)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrFull) || tries > 6*n/(window*windows) {
			t.Fatalf("try %d: %v", tries, err)
		}
	}
	if len(*log) != 1 || (*log)[0] != (eviction{weak, Displaced}) {
		t.Errorf("evicted %v", *log)
	}
	if s := table.Stats(); s.Full != uint64(tries) {
		t.Errorf("%d tries, %d refusals", tries, s.Full)
	}
}

// Of what may be evicted, the least valuable goes first, and of those the one
// that was idle longest.
func TestEvictionOrder(t *testing.T) {
	const late = int64(40e9)
	steps := map[string][]step{
		"closing": {{out, syn, 0}, {back, rst, 0}}, "new": {{out, syn, 0}}, "replied": handshake[:2],
		"half-closed": after(handshake, step{out, fin | ack, 0}), "established": handshake,
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range 50 {
		table := New(Options[int]{})
		s := newSlots[int](window)
		name := map[*flow[int]]string{}
		add := func(what string, since int64) {
			e := insert(t, table, key(len(name)), since)
			for _, p := range steps[what] {
				at := e
				if p.reply {
					at = e.Peer()
				}
				at.Hit(since, 1, p.flags)
			}
			e.tag = r.Uint32() | 2
			s.put(e)
			name[e.flow] = what
		}
		// All in one window, in any order.
		for _, what := range []string{"established", "half-closed", "replied", "new", "closing", "new", "replied"} {
			add(what, late+int64(r.IntN(1000))*1e6)
		}
		add("closing", late-1e9)
		add("new", late-1e9)
		add("replied", late-1e9)
		add("expired", 0)
		want := []string{"expired", "closing", "closing", "new", "new", "new", "replied", "replied", "replied"}
		var last *flow[int]
		for i, w := range want {
			v := s.victim(r.Uint32(), late+1e9)
			if v.flow == nil || name[v.flow] != w || (v.why == Expired) != (w == "expired") {
				t.Fatalf("victim %d: %q as %s, want %q", i, name[v.flow], v.why, w)
			}
			if last != nil && name[last] == w && last.lastSeen(word(last.word.Load())) > v.flow.lastSeen(v.word) {
				t.Fatalf("victim %d, %s: one that was seen later went before", i, w)
			}
			last = v.flow
			v.flow.claim(v.word)
		}
		if v := s.victim(r.Uint32(), late+1e9); v.flow != nil {
			t.Fatalf("%q is a victim", name[v.flow])
		}
	}
}

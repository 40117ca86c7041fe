package flow

import "testing"

// at makes an entry of a flow of its own whose probing starts at a slot.
func at(n int, slot uint32) *Entry[int] {
	f := new(flow[int])
	f.opener = Entry[int]{key: key(n), flow: f, tag: 1<<16 + slot}
	return &f.opener
}

// tags gives what the slots show: 0 free, 1 gone, otherwise where probing for
// the entry starts.
func (s *slots[A]) starts() (out [8]uint32) {
	for i := range s.tags {
		tag := s.tags[i].Load()
		if tag > tagGone {
			tag &= s.mask()
		}
		out[i] = tag
	}
	return out
}

// Probing goes round the end, passes over what is gone, and uses it again.
// Marks that nobody needs any more are freed.
func TestSlots(t *testing.T) {
	s := newSlots[int](8)
	a, b, c, d := at(1, 6), at(2, 6), at(3, 6), at(4, 7)
	put := func(e *Entry[int], was uint32) {
		t.Helper()
		if got := s.put(e); got != was {
			t.Errorf("the slot was %d, want %d", got, was)
		}
	}
	remove := func(e *Entry[int], ok bool, gone int) {
		t.Helper()
		if gotOK, gotGone := s.remove(e); gotOK != ok || gotGone != gone {
			t.Errorf("removed %v with %d marks, want %v, %d", gotOK, gotGone, ok, gone)
		}
	}
	shows := func(want [8]uint32) {
		t.Helper()
		if got := s.starts(); got != want {
			t.Errorf("slots %v, want %v", got, want)
		}
	}
	for _, e := range []*Entry[int]{a, b, c, d} {
		put(e, tagFree)
	}
	shows([8]uint32{6, 7, 0, 0, 0, 0, 6, 6})
	remove(b, true, 1)
	shows([8]uint32{6, 7, 0, 0, 0, 0, 6, 1})
	for _, e := range []*Entry[int]{a, c, d} {
		if s.find(&e.key, e.tag) != e {
			t.Errorf("%s: not found behind what is gone", e.key)
		}
	}
	remove(b, false, 0)
	put(b, tagGone)
	shows([8]uint32{6, 7, 0, 0, 0, 0, 6, 6})
	remove(b, true, 1)
	remove(c, true, 1)
	shows([8]uint32{1, 7, 0, 0, 0, 0, 6, 1})
	remove(d, true, -2) // the last of the run: it, and the two marks in front of it, are free
	shows([8]uint32{0, 0, 0, 0, 0, 0, 6, 0})
	if s.find(&a.key, a.tag) != a || s.find(&b.key, b.tag) != nil {
		t.Error("found wrongly")
	}
}

// One key has one slot: what is new takes that of the dead, whose removal then
// finds nothing to remove.
func TestPutReplacesTheDead(t *testing.T) {
	s := newSlots[int](8)
	first, dead, again := at(1, 3), at(2, 3), at(2, 3)
	s.put(first)
	s.put(dead)
	s.remove(first)
	dead.flow.claim(0)
	if was := s.put(again); was != dead.tag || s.find(&dead.key, dead.tag) != again {
		t.Errorf("put beside the dead: slot was %#x", was)
	}
	if ok, _ := s.remove(dead); ok || s.find(&again.key, again.tag) != again {
		t.Error("the dead took the new one along")
	}
}

func TestResized(t *testing.T) {
	s := newSlots[int](8)
	all := []*Entry[int]{at(1, 7), at(2, 7), at(3, 0), at(4, 3)}
	gone := at(5, 7)
	s.put(gone)
	for _, e := range all {
		s.put(e)
	}
	s.remove(gone)
	for _, size := range []uint32{8, 16, 1024, 8} {
		s = s.resized(size)
		if len(s.tags) != int(size) {
			t.Fatalf("%d slots", len(s.tags))
		}
		for i := range s.tags {
			if s.tags[i].Load() == tagGone {
				t.Error("a mark was taken along")
			}
		}
		for _, e := range all {
			if s.find(&e.key, e.tag) != e {
				t.Errorf("%d slots: %s is not found", size, e.key)
			}
		}
	}
}

func TestSlotsFor(t *testing.T) {
	for _, c := range [][2]uint32{{0, 8}, {5, 8}, {6, 16}, {10, 16}, {11, 32}, {1 << 24, 1 << 25}} {
		if got := slotsFor(c[0]); got != c[1] {
			t.Errorf("%d entries: %d slots, want %d", c[0], got, c[1])
		}
	}
}

// The tag of a hash is never that of a slot without an entry.
func TestTags(t *testing.T) {
	for _, h := range []uint64{0, 1, 2, 3, 1 << 32, 1<<32 + 1} {
		if tagOf(h) <= tagGone {
			t.Errorf("hash %#x has tag %d", h, tagOf(h))
		}
	}
}

// What has moved on since it was looked at is not evicted for what it was.
func TestClaim(t *testing.T) {
	table := New(Options[int]{})
	e := insert(t, table, key(1), 0)
	before := word(e.flow.word.Load())
	establish(e, 0)
	if e.flow.claim(before) {
		t.Error("claimed as new")
	}
	now := word(e.flow.word.Load())
	if !e.flow.claim(now) || e.flow.claim(now) {
		t.Error("a flow is claimed once")
	}
	k := key(1)
	if table.Lookup(&k, 0) != nil {
		t.Error("found while it is being removed")
	}
	if e.Hit(1, 1, syn); word(e.flow.word.Load())&dead == 0 {
		t.Error("a packet brought it back")
	}
	// Whoever adds the flow anew meanwhile is not kept waiting.
	if again := insert(t, table, key(1), 0); again == e || table.Lookup(&k, 0) != again {
		t.Error("the new flow is not found")
	}
	table.finish(e.flow, Removed)
	if e := table.Lookup(&k, 0); e == nil || table.Len() != 1 {
		t.Error("the end of the old flow took the new one along")
	}
	checkSlots(t, table)
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{StateHalfClosed.String(), "half-closed"}, {states.String(), "unknown"},
		{Displaced.String(), "displaced"}, {Reasons.String(), "unknown"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

package flow

import "math"

// Sweep removes flows that have been idle for too long, and gives memory back
// that the table no longer needs. It goes on where it stopped last time, looks
// at no more than max slots, and at each at most once; max <= 0 means all. A
// table has 1 to 3 slots for each key (and up to 16 before slots are given
// back), a pair being two keys. It tells how many flows it removed. One Sweep
// runs at a time: another one returns at once.
func (t *Table[A]) Sweep(now int64, max int) (removed int) {
	if !t.sweep.mu.TryLock() {
		return 0
	}
	defer t.sweep.mu.Unlock()
	left := max
	if max <= 0 {
		left, t.sweep.slot = math.MaxInt, 0
	}
	for range shards {
		removed += t.sweepShard(now, &left)
		if left == 0 {
			break
		}
	}
	return removed
}

// sweepShard goes on in the shard where the last Sweep stopped, for as many
// slots as are left, and to the next shard after its end.
func (t *Table[A]) sweepShard(now int64, left *int) (removed int) {
	i := t.sweep.shard
	if s := t.slots[i].Load(); s != nil {
		from := min(t.sweep.slot, len(s.entries)) // they may have become fewer
		to := from + min(*left, len(s.entries)-from)
		for j := from; j < to; j++ {
			e := s.entries[j].Load()
			if e != nil && e.flow.expires.Load() <= now && t.retire(e.flow, Expired) {
				removed++
			}
		}
		*left -= to - from
		if to < len(s.entries) {
			t.sweep.slot = to
			return removed
		}
		t.trim(i)
	}
	t.sweep.shard, t.sweep.slot = (i+1)%shards, 0
	return removed
}

// trim gives a shard smaller slots if they are too large for what they hold by
// far, or none if they hold nothing.
func (t *Table[A]) trim(i int) {
	sh := &t.shards[i]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := t.slots[i].Load()
	switch {
	case s == nil:
	case sh.used == 0:
		sh.gone = 0
		t.slots[i].Store(nil)
	case len(s.tags) > minSlots && uint64(sh.used)*8 < uint64(len(s.tags)):
		t.resize(uint8(i), slotsFor(sh.used))
	}
}

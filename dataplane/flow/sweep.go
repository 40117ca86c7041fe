package flow

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
	for range shards {
		if left = t.sweepShard(now, max > 0, left, &removed); left <= 0 && max > 0 {
			break
		}
	}
	return removed
}

// sweepShard goes on in the shard where the last Sweep stopped, and to the next
// one after its end. It gives what is left of the budget.
func (t *Table[A]) sweepShard(now int64, bounded bool, left int, removed *int) int {
	i := t.sweep.shard
	if s := t.slots[i].Load(); s != nil {
		for j := int(t.sweep.slot); j < len(s.entries); j++ {
			if bounded {
				if left == 0 {
					t.sweep.slot = uint32(j)
					return 0
				}
				left--
			}
			e := s.entries[j].Load()
			if e != nil && e.flow.expires.Load() <= now && t.retire(e.flow, Expired) {
				*removed++
			}
		}
		t.trim(i)
	}
	t.sweep.shard, t.sweep.slot = (i+1)%shards, 0
	return left
}

// trim gives a shard smaller slots if they are too large for what they hold by
// far, or none if they hold nothing.
func (t *Table[A]) trim(i uint32) {
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

package flow

// Peek is Lookup that is not counted: for people who look.
func (t *Table[A]) Peek(k *Key, now int64) *Entry[A] {
	h := t.seed.hash(k)
	if s := t.slots[h>>shardShift].Load(); s != nil {
		if e := s.find(k, tagOf(h)); e != nil && e.flow.live(now) {
			return e
		}
	}
	return nil
}

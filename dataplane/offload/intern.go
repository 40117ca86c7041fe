package offload

import "fmt"

// interner numbers values that many entries share, in a table of its own. What a
// number stands for never changes; numbers that nothing names any more are given
// back when there is no room (release).
type interner[V comparable] struct {
	t     table[uint32, V]
	ids   map[V]uint32
	taken map[uint32]V
	last  uint32
	max   uint32
	// shape takes out of a value what is not part of what it stands for.
	shape func(V) V
}

func newInterner[V comparable](t table[uint32, V], max uint32) interner[V] {
	return interner[V]{t: t, ids: map[V]uint32{}, taken: map[uint32]V{}, max: max, shape: func(v V) V { return v }}
}

func (i *interner[V]) inherit() error {
	return i.t.all(func(id uint32, v V) bool {
		i.ids[i.shape(v)], i.taken[id] = id, i.shape(v)
		i.last = max(i.last, id)
		return true
	})
}

// id gives the value's number, and writes it if it is new.
func (i *interner[V]) id(v V) (uint32, error) {
	k := i.shape(v)
	if id, ok := i.ids[k]; ok {
		return id, nil
	}
	if uint32(len(i.ids)) >= i.max {
		return 0, fullError{i.max, "teams of provider addresses, or sets of next hops"}
	}
	for {
		if i.last++; i.last != 0 {
			if _, taken := i.taken[i.last]; !taken {
				break
			}
		}
	}
	if err := put(i.t, i.last, v); err != nil {
		return 0, err
	}
	i.ids[k], i.taken[i.last] = i.last, k
	return i.last, nil
}

// fullError tells that a table has no room for more.
type fullError struct {
	max  uint32
	what string
}

func (e fullError) Error() string {
	return fmt.Sprintf("there is no room for more than %d %s", e.max, e.what)
}

// release gives back what is not in use.
func (i *interner[V]) release(used map[uint32]bool) error {
	var gone []uint32
	for id, v := range i.taken {
		if !used[id] {
			gone = append(gone, id)
			delete(i.taken, id)
			delete(i.ids, v)
		}
	}
	return i.t.delete(gone)
}

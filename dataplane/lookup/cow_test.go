package lookup

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
)

// crowded is a key whose hash leaves it few places, so that probing, closing of
// gaps and growing all happen among collisions.
type crowded uint16

func (c crowded) Hash(uint64) uint64 {
	return uint64(c%7)<<61 | uint64(c%5)
}

func contents[K Hashable, V any](m *Map[K, V]) map[K]V {
	out := map[K]V{}
	for k, v := range m.All {
		out[k] = v
	}
	return out
}

// checkMap compares m with what it should hold, by iteration and by lookup, and
// asks for keys that are not there.
func checkMap[K Hashable](t *testing.T, m *Map[K, int], want map[K]int, absent func() K) {
	t.Helper()
	if got := contents(m); !maps.Equal(got, want) || m.Len() != len(want) {
		t.Fatalf("map holds %d entries (Len %d), want %d", len(got), m.Len(), len(want))
	}
	for k, v := range want {
		if p := m.Get(k); p == nil || *p != v {
			t.Fatalf("Get(%v) = %v, want %d", k, p, v)
		}
	}
	for range 20 {
		k := absent()
		if _, there := want[k]; !there && m.Get(k) != nil {
			t.Fatalf("Get(%v) finds what was never put", k)
		}
	}
}

func TestMapAgainstGoMap(t *testing.T) {
	t.Run("crowded", func(t *testing.T) {
		testMap(t, func(r *rand.Rand) crowded { return crowded(r.IntN(300)) }, 40, 60)
	})
	t.Run("numbers", func(t *testing.T) {
		testMap(t, func(r *rand.Rand) Number { return Number(r.IntN(20000)) }, 40, 3000)
	})
}

func testMap[K Hashable](t *testing.T, key func(*rand.Rand) K, rounds, batch int) {
	r := rand.New(rand.NewPCG(1, 2))
	absent := func() K { return key(r) }
	m, want := new(Map[K, int]), map[K]int{}
	checkMap(t, m, want, absent)
	for round := range rounds {
		old, oldWant := m, maps.Clone(want)
		e := m.Edit()
		// Some rounds grow, the last ones shrink to nothing.
		putting := 7
		if round > rounds*2/3 {
			putting = 2
		}
		for range r.IntN(batch) {
			k := key(r)
			v, had := want[k]
			if r.IntN(10) < putting {
				n := r.Int()
				if got, ok := e.Put(k, n); ok != had || got != v {
					t.Fatalf("Put(%v) replaced %d, %v; want %d, %v", k, got, ok, v, had)
				}
				want[k] = n
			} else {
				if got, ok := e.Delete(k); ok != had || got != v {
					t.Fatalf("Delete(%v) removed %d, %v; want %d, %v", k, got, ok, v, had)
				}
				delete(want, k)
			}
			if p := e.Get(k); (p == nil) == (func() bool { _, ok := want[k]; return ok })() {
				t.Fatalf("the editor does not see its own change of %v", k)
			}
		}
		m = e.Done()
		checkMap(t, m, want, absent)
		checkMap(t, old, oldWant, absent) // the predecessor is untouched
	}
	e := m.Edit()
	for k := range want {
		e.Delete(k)
	}
	m = e.Done()
	checkMap(t, m, map[K]int{}, absent)
	if m.shards() != 1 {
		t.Errorf("an emptied map keeps %d shards", m.shards())
	}
}

// A write must not copy the whole table.
func TestOneWriteIsCheap(t *testing.T) {
	e := new(Map[Number, [4]uint64]).Edit()
	for i := range 200_000 {
		e.Put(Number(i), [4]uint64{})
	}
	m := e.Done()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const writes = 200
	for i := range writes {
		e := m.Edit()
		e.Put(Number(i*997), [4]uint64{1})
		m = e.Done()
	}
	runtime.ReadMemStats(&after)
	bytes := int64(after.TotalAlloc-before.TotalAlloc) / writes
	if whole := int64(200_000 * 40); bytes > whole/100 {
		t.Errorf("one write allocates %d bytes; the table has %d", bytes, whole)
	}
}

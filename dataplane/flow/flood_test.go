package flow

import (
	"math/rand/v2"
	"testing"
)

// A million new flows come, each once, to a table of 64k: fewer to a smaller one
// where the race detector makes each take long.
const (
	flood    = 1000000 / slower
	floodMax = 1 << 16 / slower
)

// A flood of new flows pushes out its own, and none that is established.
func TestSYNFlood(t *testing.T) {
	const max, good = floodMax, 1000
	for name, answered := range map[string]bool{"unanswered": false, "answered with SYN-ACK": true} {
		var evictions [Reasons]int
		before := heap()
		table := New(Options[int]{Max: max, OnEvict: func(e *Entry[int], why Reason) {
			evictions[why]++
			if e.State() == StateEstablished {
				t.Fatalf("%s: an established flow was evicted", name)
			}
		}})
		var keys []Key
		for i := range good {
			keys = append(keys, key(i))
			establish(insert(t, table, keys[i], 0), 0)
		}
		r := rand.New(rand.NewPCG(1, 1))
		a := new(1)
		for i := range flood {
			k := randomKey(r)
			now := int64(i) * 1000 // a million in a second
			e, err := table.InsertPair(k, a, k.Reverse(), a, 1, now)
			if err != nil {
				t.Fatalf("%s: flow %d: %v", name, i, err)
			}
			e.Hit(now, 60, syn)
			if answered {
				e.Peer().Hit(now, 60, syn|ack)
			}
			if table.Len() > max {
				t.Fatalf("%s: %d flows", name, table.Len())
			}
			// A handshake in the midst of it gets through.
			if i%5000 == 0 {
				k := key(1<<20 + i)
				establish(insert(t, table, k, now), now)
				keys = append(keys, k)
			}
		}
		for i := range keys {
			if table.Lookup(&keys[i], flood*1000) == nil {
				t.Fatalf("%s: established flow %d is gone", name, i)
			}
		}
		if want := flood + len(keys) - max; evictions[Displaced] != want || table.Len() != max {
			t.Errorf("%s: %d flows, %v evicted, want %d", name, table.Len(), evictions, want)
		}
		// A pair takes 208 bytes, and its two keys up to 2 * 12 / (3/8) in slots.
		if n := (heap() - before) / max; n > 208+64+20 {
			t.Errorf("%s: %d bytes a flow", name, n)
		}
		checkSlots(t, table)
	}
}

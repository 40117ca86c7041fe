package flow

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// inParallel runs n goroutines until the time is over and all have returned.
func inParallel(t *testing.T, n int, loop func(r *rand.Rand, now func() int64)) {
	t.Helper()
	var wg sync.WaitGroup
	var clock atomic.Int64
	stop := time.Now().Add(time.Second)
	for i := range n {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for time.Now().Before(stop) && !t.Failed() {
				for range 100 {
					loop(r, func() int64 { return clock.Add(int64(time.Millisecond)) })
				}
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}

// cargo is the action of one insertion: it tells what became of that.
type cargo struct {
	key      Key
	inserted atomic.Int32
	evicted  atomic.Int32
}

// Everybody does everything at once. Each flow that was added is evicted once or
// is still there, each half leads to its own key, and the counts add up.
func TestEverythingAtOnce(t *testing.T) {
	var evictions, inserts atomic.Int64
	table := New(Options[cargo]{Max: 300, OnEvict: func(e *Entry[cargo], _ Reason) {
		evictions.Add(1)
		if e.Reply || e.Action().evicted.Add(1) != 1 {
			t.Errorf("%s was evicted twice", e.Key())
		}
	}})
	inParallel(t, 8, func(r *rand.Rand, clock func() int64) {
		k, now := key(r.IntN(400)), clock()
		if r.IntN(2) == 0 {
			k = k.Reverse()
		}
		e := table.Lookup(&k, now)
		if e != nil && e.Key() != k {
			t.Errorf("%s found for %s", e.Key(), k)
		}
		switch op := r.IntN(20); {
		case op == 0:
			table.Sweep(now, 200)
		case op == 1:
			for e := range table.All {
				if e.Action() == nil || e.Action().inserted.Load() > 1 {
					t.Error("a flow without what it was made with")
				}
			}
			table.Stats()
		case e == nil:
			c := &cargo{key: k}
			var got *Entry[cargo]
			var err error
			if op == 2 {
				got, err = table.Insert(k, c, 1, now)
			} else {
				got, err = table.InsertPair(k, c, k.Reverse(), c, 1, now)
			}
			switch {
			case err == nil && got.Key() != k:
				t.Errorf("%s inserted as %s", k, got.Key())
			case err == nil && got.Action() == c:
				inserts.Add(1)
				c.inserted.Add(1)
				got.Hit(now, 1, syn)
			case err != nil && !errors.Is(err, ErrFull):
				t.Error(err)
			}
		case op < 6:
			if table.Remove(e) && e.Action().evicted.Load() != 1 {
				t.Error("OnEvict was not called before Remove returned")
			}
			if again := table.Lookup(&k, now); again == e {
				t.Error("found after Remove")
			}
		default:
			if p := e.Peer(); p != nil && (p.Peer() != e || p.Key() != k.Reverse() || p.Action() != e.Action()) {
				t.Error("a half of another flow")
			}
			e.Hit(now, 100, uint8(r.Uint32()))
			e.Gen.Store(uint64(now))
		}
		if n := table.Len(); n > 300 {
			t.Errorf("%d flows", n)
		}
	})
	seen := 0
	for e := range table.All {
		seen++
		if e.Action().evicted.Load() != 0 {
			t.Error("what was evicted is still there")
		}
	}
	s := table.Stats()
	if seen != s.Flows || int64(s.Inserts) != inserts.Load() || inserts.Load()-evictions.Load() != int64(seen) {
		t.Errorf("%d inserted, %d evicted, %d there, %+v", inserts.Load(), evictions.Load(), seen, s)
	}
	var sum uint64
	for _, n := range s.Evicted {
		sum += n
	}
	if int64(sum) != evictions.Load() || s.Evicted[Displaced] == 0 || s.Evicted[Removed] == 0 {
		t.Errorf("evicted %v, told of %d", s.Evicted, evictions.Load())
	}
	checkSlots(t, table)
}

// Readers find what is there at any moment, however the slots are rebuilt
// around it.
func TestReadersSeeThroughRebuilds(t *testing.T) {
	table := New(Options[int]{Max: 3000})
	keys := make([]Key, 100)
	for i := range keys {
		keys[i] = key(i)
		establish(insert(t, table, keys[i], 0), 0)
	}
	var next atomic.Int64
	next.Store(1000)
	var grown atomic.Int64
	inParallel(t, 6, func(r *rand.Rand, _ func() int64) {
		if r.IntN(50) == 0 { // up to the maximum, and down again
			for range 200 {
				k := key(int(next.Add(1)))
				if _, err := table.InsertPair(k, nil, k.Reverse(), nil, 1, 1); err != nil {
					t.Error(err)
				}
			}
			grown.Store(max(grown.Load(), int64(table.Len())))
			if table.Len() > 2500 {
				for e := range table.All {
					if e.State() == StateNew {
						table.Remove(e)
					}
				}
				table.Sweep(1, 0)
			}
		}
		for range 20 {
			k := keys[r.IntN(len(keys))]
			if r.IntN(2) == 0 {
				k = k.Reverse()
			}
			if e := table.Lookup(&k, 1); e == nil || e.Key() != k {
				t.Errorf("%s: %v", k, e)
				return
			}
		}
	})
	if grown.Load() < 2500 {
		t.Errorf("the table had no more than %d flows", grown.Load())
	}
	checkSlots(t, table)
}

// Of many that insert one flow at once, from either end, all get the same one.
func TestInsertRace(t *testing.T) {
	table := New(Options[int]{})
	for n := range 2000 {
		k := key(n)
		var wg sync.WaitGroup
		var got [4]*Entry[int]
		for i := range got {
			wg.Go(func() {
				at := k
				if i%2 == 1 {
					at = k.Reverse()
				}
				e, err := table.InsertPair(at, new(i), at.Reverse(), nil, 1, 0)
				if err != nil {
					t.Error(err)
					return
				}
				if got[i] = e; e.Key() != at {
					t.Errorf("%s inserted as %s", at, e.Key())
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		for _, e := range got {
			if e.Opener() != got[0].Opener() {
				t.Fatal("two flows of one key")
			}
		}
	}
	if table.Len() != 2000 {
		t.Errorf("%d flows", table.Len())
	}
}

// Of several flows that want the same reply at once, one gets it.
func TestConflictRace(t *testing.T) {
	table := New(Options[int]{})
	for n := range 2000 {
		var wg sync.WaitGroup
		var won, lost atomic.Int32
		for i := range 4 {
			wg.Go(func() {
				k := key(i<<20 + n)
				switch e, err := table.InsertPair(k, nil, udpKey(n).Reverse(), nil, 1, 0); {
				case err == nil && e.Key() == k:
					won.Add(1)
				case errors.Is(err, ErrConflict):
					lost.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 3 {
			t.Fatalf("%d of 4 got the key, %d were refused", won.Load(), lost.Load())
		}
	}
	if s := table.Stats(); s.Flows != 2000 || s.Inserts != 2000 {
		t.Errorf("%+v", s)
	}
	checkSlots(t, table)
}

// Hits of both directions from several workers lose nothing, and leave the
// timeout of the state that the flow came to.
func TestHitRace(t *testing.T) {
	table := New(Options[int]{})
	for n := range 300 {
		e := insert(t, table, key(n), 0)
		establish(e, 0)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				at := []*Entry[int]{e, e.Peer()}[i%2]
				for p := range 50 {
					at.Hit(int64(p)*2e6, 10, ack)
				}
				at.Hit(100e6, 10, fin|ack)
			})
		}
		wg.Wait()
		a, _ := e.Counters()
		b, bytes := e.Peer().Counters()
		if a+b != 3+4*51 || bytes != 60+2*51*10 {
			t.Fatalf("%d and %d packets, %d bytes", a, b, bytes)
		}
		// Of the workers' clocks, any may have been the last to be written.
		if end := e.Expires() - int64(DefaultTimeouts().TCPClosing); e.State() != StateClosing || end < 0 || end > 100e6 {
			t.Fatalf("%s until %d", e.State(), e.Expires())
		}
	}
}

package flow

import (
	"errors"
	"testing"
	"time"
)

// key gives the n-th of a family of TCP keys.
func key(n int) Key {
	k := Key{Proto: 6, Family: 4, Dir: Outbound, SrcPort: uint16(n), DstPort: 443}
	k.Src = [16]byte{10: 255, 11: 255, 12: 10, 13: byte(n >> 32), 14: byte(n >> 24), 15: byte(n >> 16)}
	k.Dst = [16]byte{10: 255, 11: 255, 12: 10, 15: 1}
	return k
}

func udpKey(n int) Key {
	k := key(n)
	k.Proto = 17
	return k
}

// eviction is a call of OnEvict.
type eviction struct {
	opener *Entry[int]
	why    Reason
}

// recorded gives a table that writes its evictions down.
func recorded(o Options[int]) (*Table[int], *[]eviction) {
	var log []eviction
	o.OnEvict = func(e *Entry[int], why Reason) { log = append(log, eviction{e, why}) }
	return New(o), &log
}

func insert(t testing.TB, table *Table[int], k Key, now int64) *Entry[int] {
	t.Helper()
	e, err := table.InsertPair(k, new(1), k.Reverse(), new(2), 1, now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// establish takes a flow through the handshake.
func establish(e *Entry[int], now int64) {
	e.Hit(now, 60, syn)
	e.Peer().Hit(now, 60, syn|ack)
	e.Hit(now, 52, ack)
}

func TestPair(t *testing.T) {
	table, log := recorded(Options[int]{})
	a, b := 1, 2
	k := key(1)
	nat := key(1).Reverse() // the answer to a translated packet
	nat.DstPort = 1024
	e, err := table.InsertPair(k, &a, nat, &b, 7, 100)
	if err != nil {
		t.Fatal(err)
	}
	p := e.Peer()
	switch {
	case e.Key() != k || p.Key() != nat:
		t.Error("keys are not those that were given")
	case e.Reply || !p.Reply || e.Opener() != e || p.Opener() != e || p.Peer() != e:
		t.Error("the halves do not know each other")
	case e.Action() != &a || p.Action() != &b || e.Gen.Load() != 7 || p.Gen.Load() != 7:
		t.Error("actions or generations are not those that were given")
	case table.Lookup(&k, 101) != e || table.Lookup(&nat, 101) != p:
		t.Error("not found")
	case table.Len() != 1:
		t.Errorf("a pair counts as %d", table.Len())
	}
	if r := k.Reverse(); table.Lookup(&r, 101) != nil {
		t.Error("found by the reverse of a translated flow's key")
	}
	c := 3
	e.SetAction(&c)
	if e.Action() != &c || p.Action() != &b {
		t.Error("SetAction is not about one half")
	}
	e.Hit(200, 60, syn)
	p.Hit(300, 1000, syn|ack)
	p.Hit(400, 500, ack)
	if n, bytes := e.Counters(); n != 1 || bytes != 60 {
		t.Errorf("opener: %d packets, %d bytes", n, bytes)
	}
	if n, bytes := p.Counters(); n != 2 || bytes != 1500 {
		t.Errorf("reply: %d packets, %d bytes", n, bytes)
	}
	if !table.Remove(p) || table.Remove(e) || table.Remove(p) {
		t.Error("removing either half must succeed once")
	}
	if table.Lookup(&k, 101) != nil || table.Lookup(&nat, 101) != nil || table.Len() != 0 {
		t.Error("found after Remove")
	}
	if len(*log) != 1 || (*log)[0] != (eviction{e, Removed}) {
		t.Errorf("evictions: %v", *log)
	}
	s := table.Stats()
	want := Stats{Hits: 3, Misses: 3, Inserts: 1}
	want.Evicted[Removed] = 1
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
}

func TestSingle(t *testing.T) {
	table, _ := recorded(Options[int]{})
	k := key(1)
	e, err := table.Insert(k, nil, 1, 0)
	if err != nil || e.Peer() != nil || e.Opener() != e || e.Reply || e.Action() != nil {
		t.Fatalf("%+v, %v", e, err)
	}
	e.Hit(1, 1, syn)
	e.Hit(1, 1, rst)
	e.Hit(1, 1, ack)
	if e.State() != StateNew {
		t.Errorf("%s without an answer", e.State())
	}
	table.Remove(e)
	if table.Lookup(&k, 1) != nil {
		t.Error("found after Remove")
	}
}

// Who comes second gets the entry of who came first, in either half of it.
func TestFirstWins(t *testing.T) {
	table, log := recorded(Options[int]{})
	k := key(1)
	first := insert(t, table, k, 0)
	if again := insert(t, table, k, 1); again != first {
		t.Error("the second insertion made an entry of its own")
	}
	if e, err := table.Insert(k, nil, 2, 1); e != first || err != nil {
		t.Errorf("single: %v, %v", e, err)
	}
	if e := insert(t, table, k.Reverse(), 1); e != first.Peer() {
		t.Error("the crossing flow made an entry of its own")
	}
	if table.Len() != 1 || len(*log) != 0 || table.Stats().Inserts != 1 {
		t.Errorf("%+v, %d evictions", table.Stats(), len(*log))
	}
}

func TestConflict(t *testing.T) {
	table, log := recorded(Options[int]{})
	first := insert(t, table, key(1), 0)
	other := key(2)
	if e, err := table.InsertPair(other, nil, key(1).Reverse(), nil, 1, 0); e != nil || !errors.Is(err, ErrConflict) {
		t.Errorf("another flow with the same reply: %v, %v", e, err)
	}
	if e, err := table.InsertPair(other, nil, key(1), nil, 1, 0); e != nil || !errors.Is(err, ErrConflict) {
		t.Errorf("a reply that another flow opens with: %v, %v", e, err)
	}
	if e, err := table.InsertPair(other, nil, other, nil, 1, 0); e != nil || !errors.Is(err, ErrConflict) {
		t.Errorf("a flow that is its own reply: %v, %v", e, err)
	}
	if table.Lookup(&other, 0) != nil || table.Len() != 1 || len(*log) != 0 {
		t.Error("a refused flow left something behind")
	}
	// Once the first is idle for too long, it is in nobody's way.
	late := first.Expires()
	if _, err := table.InsertPair(other, nil, key(1).Reverse(), nil, 1, late); err != nil {
		t.Error(err)
	}
	if len(*log) != 1 || (*log)[0] != (eviction{first, Expired}) || table.Len() != 1 {
		t.Errorf("%v, %d flows", *log, table.Len())
	}
}

// What is known of one direction alone gives way to a pair.
func TestPairReplacesSingle(t *testing.T) {
	table, log := recorded(Options[int]{})
	k := key(1)
	single, _ := table.Insert(k.Reverse(), nil, 1, 0)
	e := insert(t, table, k, 0)
	reverse := k.Reverse()
	if table.Lookup(&reverse, 0) != e.Peer() || table.Len() != 1 || len(*log) != 1 || (*log)[0] != (eviction{single, Replaced}) {
		t.Errorf("%v, %d flows", *log, table.Len())
	}
}

func TestExpiredIsReplaced(t *testing.T) {
	table, log := recorded(Options[int]{Timeouts: Timeouts{TCPSetup: time.Second}})
	old := insert(t, table, key(1), 0)
	fresh := insert(t, table, key(1), 1e9)
	if fresh == old || len(*log) != 1 || (*log)[0] != (eviction{old, Expired}) || table.Len() != 1 {
		t.Errorf("%v, %d flows", *log, table.Len())
	}
	k := key(1)
	if table.Lookup(&k, 1e9) != fresh {
		t.Error("the new flow is not found")
	}
}

func TestAll(t *testing.T) {
	table, log := recorded(Options[int]{})
	for n := range 100 {
		insert(t, table, key(n), 0)
		if _, err := table.Insert(udpKey(n), nil, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[Key]int{}
	for e := range table.All {
		seen[e.Key()]++
	}
	for n := range 100 {
		if seen[key(n)] != 1 || seen[udpKey(n)] != 1 {
			t.Fatalf("flow %d was given %d and %d times", n, seen[key(n)], seen[udpKey(n)])
		}
	}
	if len(seen) != 200 {
		t.Errorf("%d flows", len(seen))
	}
	for range table.All {
		break
	}
	for e := range table.All {
		table.Remove(e)
	}
	if table.Len() != 0 || len(*log) != 200 {
		t.Errorf("%d flows after all were removed, %d evictions", table.Len(), len(*log))
	}
}

// A table of one flow has room for one, whatever shard it is in.
func TestSmallestTable(t *testing.T) {
	table, log := recorded(Options[int]{Max: 1})
	for n := range 100 {
		insert(t, table, key(n), int64(n))
		if table.Len() != 1 || len(*log) != n {
			t.Fatalf("flow %d: %d flows, %d evictions", n, table.Len(), len(*log))
		}
	}
	for e := range table.All {
		establish(e, 100)
	}
	if _, err := table.Insert(key(1000), nil, 1, 100); !errors.Is(err, ErrFull) {
		t.Errorf("an established flow gave way: %v", err)
	}
	if s := table.Stats(); s.Full != 1 || s.Evicted[Displaced] != 99 {
		t.Errorf("%+v", s)
	}
}

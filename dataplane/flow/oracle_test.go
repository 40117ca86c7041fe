package flow

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// The oracle is a table as one would write it without a thought of speed: a
// map, a list, and a loop over all flows wherever one is looked for. The state
// of a flow is taken from word.next, which has tests of its own.

type oracleFlow struct {
	entry   *Entry[int] // what the table gave for it: the opener
	keys    []Key       // opener's, then the reply's
	packets [2]uint64
	word    word
	expires int64
}

type oracle struct {
	max    int
	limits [classes]limits
	flows  []*oracleFlow
}

func (o *oracle) find(k Key) (f *oracleFlow, half int) {
	for _, f := range o.flows {
		if i := slices.Index(f.keys, k); i >= 0 {
			return f, i
		}
	}
	return nil, 0
}

func (o *oracle) drop(f *oracleFlow) {
	o.flows = slices.DeleteFunc(o.flows, func(g *oracleFlow) bool { return f == g })
}

func (o *oracle) limit(f *oracleFlow) int64 { return o.limits[f.keys[0].class()][f.word.state()] }

// spared tells whether the flow must not give way to another one.
func (f *oracleFlow) spared(now int64) bool {
	return f.expires > now && (f.word.state() == StateEstablished || f.word.state() == StateHalfClosed)
}

// duel drives a table and the oracle with the same operations, drawn from data,
// and compares all that they say.
type duel struct {
	t     testing.TB
	data  []byte
	now   int64
	table *Table[int]
	log   *[]eviction
	o     oracle
	gone  []*Entry[int]
	misses,
	inserts, full uint64
	evicted [Reasons]uint64
	hits    uint64
}

func (d *duel) byte() byte {
	if len(d.data) == 0 {
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

// key draws one of a few keys, so that they meet often.
func (d *duel) key() Key {
	b := d.byte()
	k := Key{Proto: 6, Family: 4, Dir: Outbound, SrcPort: uint16(b >> 3), DstPort: 443}
	switch b & 7 {
	case 0:
		k.Proto = 17
	case 1:
		k.Proto, k.Kind, k.DstPort = 1, KindEchoRequest, k.SrcPort
	case 2:
		k.Kind = KindFragment
	case 3, 4:
		return k.Reverse()
	}
	return k
}

func (d *duel) run() {
	for len(d.data) > 0 {
		switch op := d.byte() % 16; op {
		case 0, 1:
			d.lookup(d.key())
		case 2:
			d.insert([]Key{d.key()})
		case 3, 4, 5:
			k := d.key()
			d.insert([]Key{k, k.Reverse()})
		case 6:
			d.insert([]Key{d.key(), d.key()})
		case 7, 8, 9, 10, 11:
			d.hit(d.key(), []uint8{syn, syn | ack, ack, ack, ack, fin | ack, rst, 0}[d.byte()&7])
		case 12:
			d.remove(d.key())
		case 13:
			d.sweep(int(d.byte()) - 1)
		default:
			d.now += int64(d.byte()) * int64(d.byte()) * 1e6 // up to 65 s
		}
		d.compare()
	}
}

func (d *duel) lookup(k Key) (*oracleFlow, *Entry[int]) {
	e := d.table.Lookup(&k, d.now)
	f, half := d.o.find(k)
	if f != nil && f.expires <= d.now {
		f = nil
	}
	switch {
	case f == nil:
		d.misses++
		if e != nil {
			d.t.Fatalf("%s is found", k)
		}
		return nil, nil
	case half == 0 && e != f.entry, half == 1 && e != f.entry.Peer():
		d.t.Fatalf("%s: another entry is found", k)
	}
	if e.Key() != k || e.Reply != (half == 1) || e.State() != f.word.state() || e.Expires() != f.expires || e.LastSeen() != f.expires-d.o.limit(f) {
		d.t.Fatalf("%s: %+v, want %+v", k, e, f)
	}
	if n, bytes := e.Counters(); n != f.packets[half] || bytes != 10*n {
		d.t.Fatalf("%s: %d packets with %d bytes, want %d", k, n, bytes, f.packets[half])
	}
	return f, e
}

func (d *duel) insert(keys []Key) {
	*d.log = (*d.log)[:0]
	var e *Entry[int]
	var err error
	if len(keys) == 1 {
		e, err = d.table.Insert(keys[0], nil, 1, d.now)
	} else {
		e, err = d.table.InsertPair(keys[0], nil, keys[1], nil, 1, d.now)
	}
	evictions := *d.log
	// evicts takes the next eviction out of the log, which must be as the rules say.
	evicts := func(f *oracleFlow, why Reason) {
		if len(evictions) == 0 || evictions[0] != (eviction{f.entry, why}) {
			d.t.Fatalf("insert %v: evicted %v, want %v first, %s", keys, evictions, f.keys, why)
		}
		evictions = evictions[1:]
		d.leaves(f, why)
	}
	if len(keys) == 2 && keys[0] == keys[1] {
		d.result(keys, e, err, nil, ErrConflict)
		return
	}
	if f, half := d.o.find(keys[0]); f != nil {
		if f.expires > d.now {
			want := f.entry
			if half == 1 {
				want = want.Peer()
			}
			d.result(keys, e, err, want, nil)
			return
		}
		evicts(f, Expired)
	}
	if len(keys) == 2 {
		if f, _ := d.o.find(keys[1]); f != nil {
			switch {
			case f.expires <= d.now:
				evicts(f, Expired)
			case len(f.keys) == 2:
				d.result(keys, e, err, nil, ErrConflict)
				return
			default:
				evicts(f, Replaced)
			}
		}
	}
	if len(d.o.flows) >= d.o.max && !d.makesRoom(keys, evictions) {
		d.full++
		d.result(keys, e, err, nil, ErrFull)
		return
	}
	if err != nil {
		d.t.Fatalf("insert %v: %v", keys, err)
	}
	f := &oracleFlow{entry: e, keys: keys}
	f.expires = d.now + d.o.limit(f)
	d.o.flows = append(d.o.flows, f)
	d.inserts++
}

// makesRoom takes the choice of the table over, if it may choose so. False if
// there is none.
func (d *duel) makesRoom(keys []Key, evictions []eviction) bool {
	if !slices.ContainsFunc(d.o.flows, func(f *oracleFlow) bool { return !f.spared(d.now) }) {
		if len(evictions) != 0 {
			d.t.Fatalf("insert %v: evicted %v, and all are established", keys, evictions)
		}
		return false
	}
	if len(evictions) != 1 {
		d.t.Fatalf("insert %v: evicted %v, want one of %d", keys, evictions, len(d.o.flows))
	}
	i := slices.IndexFunc(d.o.flows, func(f *oracleFlow) bool { return f.entry == evictions[0].opener })
	if i < 0 {
		d.t.Fatalf("insert %v: evicted what was not there", keys)
	}
	f, want := d.o.flows[i], Displaced
	if f.expires <= d.now {
		want = Expired
	}
	if f.spared(d.now) || evictions[0].why != want {
		d.t.Fatalf("insert %v: %s flow evicted as %s, want %s", keys, f.word.state(), evictions[0].why, want)
	}
	d.leaves(f, want)
	return true
}

func (d *duel) result(keys []Key, e *Entry[int], err error, want *Entry[int], wantErr error) {
	if e != want || !errors.Is(err, wantErr) {
		d.t.Fatalf("insert %v: %v, %v, want %v, %v", keys, e, err, want, wantErr)
	}
}

func (d *duel) leaves(f *oracleFlow, why Reason) {
	d.o.drop(f)
	d.gone = append(d.gone, f.entry)
	d.evicted[why]++
}

func (d *duel) hit(k Key, flags uint8) {
	f, e := d.lookup(k)
	if f == nil {
		return
	}
	e.Hit(d.now, 10, flags)
	half := 0
	if e.Reply {
		half = 1
	}
	d.hits++
	f.packets[half]++
	f.word = f.word.next(f.keys[0].class() == classTCP, half == 1, flags)
	f.expires = d.now + d.o.limit(f)
	d.lookup(k)
}

func (d *duel) remove(k Key) {
	*d.log = (*d.log)[:0]
	f, e := d.lookup(k)
	if f == nil {
		if n := len(d.gone); n > 0 && d.table.Remove(d.gone[int(d.byte())%n]) {
			d.t.Fatal("what was gone was removed")
		}
		return
	}
	if !d.table.Remove(e) || len(*d.log) != 1 || (*d.log)[0] != (eviction{f.entry, Removed}) {
		d.t.Fatalf("remove %s: evicted %v", k, *d.log)
	}
	d.leaves(f, Removed)
}

func (d *duel) sweep(max int) {
	*d.log = (*d.log)[:0]
	n := d.table.Sweep(d.now, max)
	if n != len(*d.log) || max > 0 && n > max {
		d.t.Fatalf("sweep of %d slots tells of %d flows, %d were evicted", max, n, len(*d.log))
	}
	for _, ev := range *d.log {
		i := slices.IndexFunc(d.o.flows, func(f *oracleFlow) bool { return f.entry == ev.opener })
		if i < 0 || d.o.flows[i].expires > d.now || ev.why != Expired {
			d.t.Fatalf("sweep: evicted %v", ev)
		}
		d.leaves(d.o.flows[i], Expired)
	}
	if max <= 0 && slices.ContainsFunc(d.o.flows, func(f *oracleFlow) bool { return f.expires <= d.now }) {
		d.t.Fatal("a whole sweep left something expired")
	}
}

// compare looks at all there is, after every operation.
func (d *duel) compare() {
	all := map[*Entry[int]]bool{}
	for e := range d.table.All {
		if all[e] {
			d.t.Fatalf("%s is given twice", e.Key())
		}
		all[e] = true
	}
	for _, f := range d.o.flows {
		if !all[f.entry] {
			d.t.Fatalf("%v is not among all", f.keys)
		}
	}
	want := Stats{Flows: len(d.o.flows), Hits: d.hits, Misses: d.misses, Inserts: d.inserts, Full: d.full, Evicted: d.evicted}
	if got := d.table.Stats(); got != want || len(all) != want.Flows || d.table.Len() != want.Flows {
		d.t.Fatalf("%+v with %d flows among all, want %+v", got, len(all), want)
	}
	checkSlots(d.t, d.table)
}

// checkSlots holds the table to what its own code relies on.
func checkSlots[A any](t testing.TB, table *Table[A]) {
	t.Helper()
	for i := range table.slots {
		sh := &table.shards[i]
		s := table.slots[i].Load()
		used, gone := uint32(0), uint32(0)
		if s != nil {
			for j := range s.tags {
				tag, e := s.tags[j].Load(), s.entries[j].Load()
				switch {
				case tag == tagGone:
					gone++
				case tag != tagFree:
					used++
				}
				if (tag > tagGone) != (e != nil) || e != nil && (e.tag != tag || int(e.shard) != i) {
					t.Fatalf("shard %d, slot %d: tag %#x, entry %v", i, j, tag, e)
				}
			}
			if (used+gone)*4 > uint32(len(s.tags))*3 {
				t.Fatalf("shard %d: %d used and %d gone of %d slots", i, used, gone, len(s.tags))
			}
		}
		if used != sh.used || gone != sh.gone {
			t.Fatalf("shard %d counts %d used and %d gone, has %d and %d", i, sh.used, sh.gone, used, gone)
		}
	}
}

func newDuel(t testing.TB, max int, data []byte) *duel {
	table, log := recorded(Options[int]{Max: max})
	return &duel{t: t, data: data, table: table, log: log, o: oracle{max: max, limits: Timeouts{}.orDefault().limits()}}
}

func TestAgainstOracle(t *testing.T) {
	for _, max := range []int{1, 3, 20, 1000} {
		var sum Stats
		const rounds uint64 = 60 / min(slower, 4)
		for seed := range rounds {
			r := rand.New(rand.NewPCG(seed, uint64(max)))
			data := make([]byte, 4000)
			for i := range data {
				data[i] = byte(r.Uint32())
			}
			d := newDuel(t, max, data)
			d.run()
			s := d.table.Stats()
			sum.Hits, sum.Full, sum.Inserts = sum.Hits+s.Hits, sum.Full+s.Full, sum.Inserts+s.Inserts
			for r := range s.Evicted {
				sum.Evicted[r] += s.Evicted[r]
			}
		}
		// The operations must reach what they are meant to reach.
		if sum.Hits < 50 || sum.Inserts < 500 || sum.Evicted[Expired] < 50 || sum.Evicted[Removed] < 5 || max > 3 && sum.Evicted[Replaced] < 3 ||
			(sum.Evicted[Displaced] == 0) != (max == 1000) || max == 1 && slower == 1 && sum.Full == 0 {
			t.Errorf("max %d: %+v", max, sum)
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add(uint8(1), []byte{3, 5, 7, 5, 0, 14, 200, 200, 3, 5})
	f.Add(uint8(3), []byte{3, 5, 3, 13, 3, 21, 3, 29, 13, 0})
	f.Fuzz(func(t *testing.T, max uint8, data []byte) {
		newDuel(t, 1+int(max%64), data[:min(len(data), 4096)]).run()
	})
}

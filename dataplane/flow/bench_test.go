package flow

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var sizes = []int{1, 1e4, 1e6}

// filled gives a table of n established flows, and their keys, of either half,
// in random order.
func filled(b testing.TB, n int) (*Table[int], []Key) {
	b.Helper()
	table := New(Options[int]{Max: n + 1})
	keys := make([]Key, 0, 2*n)
	for i := range n {
		e := insert(b, table, key(i), 0)
		establish(e, 0)
		keys = append(keys, e.Key(), e.Peer().Key())
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	return table, keys
}

func BenchmarkKeyOf(b *testing.B) {
	h := tcp4()
	var k Key
	for b.Loop() {
		k = KeyOf(Outbound, &h)
	}
	runtime.KeepAlive(k)
}

func BenchmarkKeySet(b *testing.B) {
	h := tcp4()
	var k Key
	for b.Loop() {
		k.Set(Outbound, &h)
	}
	runtime.KeepAlive(k)
}

func BenchmarkReverse(b *testing.B) {
	k := key(1)
	for b.Loop() {
		k = k.Reverse()
	}
	runtime.KeepAlive(k)
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range sizes {
		table, keys := filled(b, n)
		b.Run(fmt.Sprintf("hit/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if table.Lookup(&keys[i], 1) == nil {
					b.Fatal("not found")
				}
				if i++; i == len(keys) {
					i = 0
				}
			}
		})
		for i := range keys {
			keys[i].Proto = 17
		}
		b.Run(fmt.Sprintf("miss/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if table.Lookup(&keys[i], 1) != nil {
					b.Fatal("found")
				}
				if i++; i == len(keys) {
					i = 0
				}
			}
		})
	}
}

// All that the table does for a packet of a known flow.
func BenchmarkPacket(b *testing.B) {
	for _, n := range sizes {
		table, keys := filled(b, n)
		headers := make([]packet.Headers, len(keys))
		dirs := make([]uint8, len(keys))
		for i, k := range keys {
			headers[i] = packet.Headers{Version: k.Family, Src: k.Source(), Dst: k.Destination(), Proto: k.Proto, SrcPort: k.SrcPort, DstPort: k.DstPort, TCPFlags: ack}
			dirs[i] = k.Dir
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			var k Key
			i, now := 0, int64(0)
			for b.Loop() {
				k.Set(dirs[i], &headers[i])
				table.Lookup(&k, now).Hit(now, 1500, headers[i].TCPFlags)
				now += 100
				if i++; i == len(keys) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkHit(b *testing.B) {
	table, keys := filled(b, 1)
	e := table.Lookup(&keys[0], 0)
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		e.Hit(now, 1500, ack)
		now += 1000
	}
}

// One flow, all workers: as bad as it gets.
func BenchmarkHitParallel(b *testing.B) {
	table, keys := filled(b, 1)
	b.RunParallel(func(pb *testing.PB) {
		now := int64(0)
		for pb.Next() {
			table.Lookup(&keys[0], now).Hit(now, 1500, ack)
			now += 1000
		}
	})
}

// Flows come and go, with as many in the table as it says.
func BenchmarkInsert(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("remove/%d", n), func(b *testing.B) {
			table, _ := filled(b, n)
			b.ReportAllocs()
			i := n
			for b.Loop() {
				table.Remove(insert(b, table, key(i), 0))
				i++
			}
		})
	}
	b.Run("grow", func(b *testing.B) { // from nothing to a million
		b.ReportAllocs()
		table := New(Options[int]{Max: 1e6})
		i := 0
		for b.Loop() {
			if i == 1e6 {
				table, i = New(Options[int]{Max: 1e6}), 0
			}
			insert(b, table, key(i), 0)
			i++
		}
	})
	for _, good := range []int{0, 50, 90, 100} { // per cent established
		b.Run(fmt.Sprintf("full/%d%%", good), func(b *testing.B) {
			const n = 1 << 16
			table, _ := filled(b, n*good/100)
			table.max = n
			i := 1 << 20
			for table.Len() < n {
				insert(b, table, key(i), 0)
				i++
			}
			before := table.Stats()
			b.ReportAllocs()
			for b.Loop() {
				k := key(i)
				table.InsertPair(k, nil, k.Reverse(), nil, 1, int64(i))
				i++
			}
			b.ReportMetric(100*float64(table.Stats().Full-before.Full)/float64(b.N), "%refused")
		})
	}
}

// A whole round over flows that all stay.
func BenchmarkSweep(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table, _ := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if table.Sweep(0, 0) != 0 {
					b.Fatal("swept")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/flow")
		})
	}
}

func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1e3, 1e4, 1e5, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var table *Table[int]
			before, bytes := heap(), int64(0)
			for b.Loop() {
				table = New(Options[int]{Max: n})
				for i := range n {
					k := key(i)
					if _, err := table.InsertPair(k, nil, k.Reverse(), nil, 1, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			bytes = heap() - before
			b.ReportMetric(float64(bytes)/float64(n), "B/flow")
			runtime.KeepAlive(table)
		})
	}
}

package lookup

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gaissmai/bart"

	"github.com/hnvgate/hnvgate/hnv"
)

var sizes = []int{1e3, 1e4, 1e5, 1e6}

// bigConfig has n records of as many VMs in one VSID, spread over 1024 hosts.
func bigConfig(t testing.TB, n int) Config {
	t.Helper()
	c := Config{RDID: hnv.NewRDID(), Encap: hnv.NVGRE, Subnets: []hnv.Subnet{subnet(t, 5001, "10.0.0.0/8")}}
	c.Routes = []hnv.CustomerRoute{route(t, 5001, "0.0.0.0/0", "10.0.0.2", 0)}
	c.Records = make([]hnv.Record, n)
	v := vsid(t, 5001)
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24+2+uint32(i))
		mac, _ := hnv.MACFrom([6]byte{2, 0, b[0], b[1], b[2], b[3]})
		c.Records[i] = hnv.Record{
			VSID: v, CA: netip.AddrFrom4(b), MAC: mac, PA: netip.AddrFrom4([4]byte{192, 168, byte(i >> 8 & 3), byte(i)}),
			Rule: hnv.RuleNVGRE, Type: hnv.Static,
		}
	}
	return c
}

// bigConfig6 has IPv6 CAs drawn at random in 64 prefixes instead.
func bigConfig6(t testing.TB, n int) Config {
	t.Helper()
	c := bigConfig(t, n)
	c.Subnets, c.Routes = []hnv.Subnet{subnet(t, 5001, "fd00::/56")}, nil
	r := rand.New(rand.NewPCG(3, 4))
	for i := range c.Records {
		a := [16]byte{0xfd, 7: byte(r.IntN(64))}
		binary.BigEndian.PutUint64(a[8:], r.Uint64())
		c.Records[i].CA = netip.AddrFrom16(a)
	}
	return c
}

// shuffled gives the CAs of the records in a random order, so that neither
// caches nor prefetching make look-ups look better than they are.
func shuffled(records []hnv.Record) []netip.Addr {
	cas := make([]netip.Addr, len(records))
	for i := range cas {
		cas[i] = records[i].CA
	}
	rand.Shuffle(len(cas), func(i, j int) { cas[i], cas[j] = cas[j], cas[i] })
	return cas
}

// manyRoutes gives n different prefixes outside 10.0.0.0/8, of the lengths that
// routing tables have, to eight next hops.
func manyRoutes(t testing.TB, n int) []hnv.CustomerRoute {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	v := vsid(t, 5001)
	seen := map[netip.Prefix]bool{}
	out := make([]hnv.CustomerRoute, 0, n)
	for len(out) < n {
		a := netip.AddrFrom4([4]byte{byte(11 + r.IntN(200)), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		p := netip.PrefixFrom(a, []int{16, 20, 22, 23, 24, 24, 24, 24, 28, 32}[r.IntN(10)]).Masked()
		if !seen[p] {
			seen[p] = true
			out = append(out, hnv.CustomerRoute{VSID: v, Prefix: p, NextHop: netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + r.IntN(8))})})
		}
	}
	return out
}

// What the Domain is measured against: a map as one would write it first, and
// bart with a table of host routes for the virtual subnet.
type (
	plainKey struct {
		vsid uint32
		ca   netip.Addr
	}
	plainRecord struct {
		pa   netip.Addr
		mac  [6]byte
		rule hnv.Rule
	}
	plainMap map[plainKey]plainRecord
)

func loadMap(records []hnv.Record) plainMap {
	m := plainMap{}
	for i := range records {
		r := &records[i]
		m[plainKey{r.VSID.Uint32(), r.CA}] = plainRecord{r.PA, r.MAC.Bytes(), r.Rule}
	}
	return m
}

func loadBart(records []hnv.Record) *bart.Table[Record] {
	t := new(bart.Table[Record])
	for i := range records {
		r := &records[i]
		t.Insert(netip.PrefixFrom(r.CA, r.CA.BitLen()), Record{PA: AddrFrom(r.PA), MAC: r.MAC.Bytes(), Rule: ruleFrom(r.Rule)})
	}
	return t
}

// measure reports what load makes of n things: time and memory for each, and how
// much longer they make a run of the garbage collector.
func measure[T any](b *testing.B, n int, unit string, load func() T) {
	var before, after runtime.MemStats
	idle := collect()
	runtime.ReadMemStats(&before)
	var made T
	for b.Loop() {
		made = load()
	}
	b.StopTimer()
	busy := collect()
	runtime.ReadMemStats(&after)
	b.ReportMetric(max(0, (busy-idle).Seconds()*1e3), "ms/GC")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/"+unit)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(n), "B/"+unit)
	runtime.KeepAlive(made)
}

// collect gives the shortest time that a run of the garbage collector takes now.
func collect() time.Duration {
	best := time.Hour
	for range 3 {
		start := time.Now()
		runtime.GC()
		best = min(best, time.Since(start))
	}
	return best
}

// layouts of CAs: hosts numbered one after the other, as in IPv4, and interface
// identifiers drawn at random, as in IPv6 (RFC 7217).
var layouts = []struct {
	name  string
	sizes []int
	of    func(testing.TB, int) Config
}{
	{"dense4", sizes, bigConfig},
	{"random6", sizes[2:], bigConfig6},
}

func BenchmarkLoad(b *testing.B) {
	for _, l := range layouts {
		for _, n := range l.sizes {
			c := l.of(b, n)
			name := func(table string) string { return fmt.Sprintf("cas=%s/records=%d/table=%s", l.name, n, table) }
			b.Run(name("domain"), func(b *testing.B) {
				measure(b, n, "record", func() *Domain { return build(b, c) })
			})
			b.Run(name("map"), func(b *testing.B) {
				measure(b, n, "record", func() plainMap { return loadMap(c.Records) })
			})
			b.Run(name("bart"), func(b *testing.B) {
				measure(b, n, "record", func() *bart.Table[Record] { return loadBart(c.Records) })
			})
			runtime.KeepAlive(c)
		}
	}
}

// BenchmarkLookup asks for all CAs in a random order, so that nearly every
// look-up misses the caches where the table is large; and for a thousand of them,
// as traffic does.
func BenchmarkLookup(b *testing.B) {
	for _, l := range layouts {
		for _, n := range l.sizes {
			c := l.of(b, n)
			cas := shuffled(c.Records)
			run := func(table string, find func(netip.Addr) bool) {
				for _, active := range slices.Compact([]int{1000, n}) {
					b.Run(fmt.Sprintf("cas=%s/records=%d/active=%d/table=%s", l.name, n, active, table), func(b *testing.B) {
						b.ReportAllocs()
						i := 0
						for b.Loop() {
							if !find(cas[i]) {
								b.Fatal("not found")
							}
							if i++; i == active {
								i = 0
							}
						}
					})
				}
			}
			d := build(b, c)
			run("domain", func(a netip.Addr) bool { return d.Record(5001, a) != nil })
			// With the route, as a packet to be routed needs it.
			run("domain-resolve", func(a netip.Addr) bool { _, r := d.Resolve(a); return r != nil })
			d = nil
			m := loadMap(c.Records)
			run("map", func(a netip.Addr) bool { _, ok := m[plainKey{5001, a}]; return ok })
			m = nil
			t := loadBart(c.Records)
			run("bart", func(a netip.Addr) bool { _, ok := t.Lookup(a); return ok })
		}
	}
}

func BenchmarkStation(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			c := bigConfig(b, n)
			d := build(b, c)
			macs := make([][6]byte, n)
			for i, j := range rand.Perm(n) {
				macs[i] = c.Records[j].MAC.Bytes()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if d.Station(5001, macs[i]) == nil {
					b.Fatal("not found")
				}
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

func BenchmarkRoutes(b *testing.B) {
	const n = 1e5
	c := bigConfig(b, 1000)
	c.Routes = append(c.Routes, manyRoutes(b, n)...)
	alone := func() *bart.Table[Key] {
		t := new(bart.Table[Key])
		for _, r := range c.Routes {
			t.Insert(r.Prefix, KeyOf(r.VSID.Uint32(), r.NextHop))
		}
		return t
	}
	b.Run("load/table=domain", func(b *testing.B) { measure(b, n, "route", func() *Domain { return build(b, c) }) })
	b.Run("load/table=bart", func(b *testing.B) { measure(b, n, "route", alone) })
	d, t := build(b, c), alone()
	to := make([]netip.Addr, 1<<16)
	for i := range to {
		to[i] = netip.AddrFrom4([4]byte{byte(11 + rand.IntN(200)), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	}
	run := func(name string, find func(netip.Addr) bool) {
		b.Run("lookup/table="+name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if !find(to[i]) {
					b.Fatal("not found")
				}
				i = (i + 1) % len(to)
			}
		})
	}
	// To the record of the next hop.
	run("domain-resolve", func(a netip.Addr) bool { rt, _ := d.Resolve(a); return d.At(rt.Hops[0]) != nil })
	run("bart", func(a netip.Addr) bool { _, ok := t.Lookup(a); return ok })
}

func BenchmarkUpdateOne(b *testing.B) {
	pas := [2]netip.Addr{netip.AddrFrom4([4]byte{192, 168, 9, 1}), netip.AddrFrom4([4]byte{192, 168, 9, 2})}
	for _, n := range sizes {
		c := bigConfig(b, n)
		d := build(b, c)
		b.Run(fmt.Sprintf("kind=migrate/records=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i, d := 0, d
			for b.Loop() {
				r := c.Records[i*7919%n]
				r.PA = pas[i&1]
				d = succeed(b, d, []hnv.Record{r}, nil)
				i++
			}
		})
		b.Run(fmt.Sprintf("kind=add-and-remove/records=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i, d := 0, build(b, c)
			for b.Loop() {
				r := c.Records[i/2*7919%n]
				if i&1 == 0 {
					d = succeed(b, d, nil, []hnv.RecordKey{r.RecordKey()})
				} else {
					d = succeed(b, d, []hnv.Record{r}, nil)
				}
				i++
			}
		})
	}
}

func succeed(t testing.TB, d *Domain, put []hnv.Record, del []hnv.RecordKey) *Domain {
	t.Helper()
	next, err := d.Update(put, del)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// BenchmarkMapping measures what a flow pays: for its first packet, where the
// Mapping is new and where another flow has it, and for every packet; and what a
// migration costs while many Mappings are held.
func BenchmarkMapping(b *testing.B) {
	const n = 1e5
	c := bigConfig(b, n)
	d := build(b, c)
	cas := shuffled(c.Records)
	held := make([]*Mapping, n)
	hold := func() []*Mapping {
		for i := range held {
			held[i] = d.Mapping(KeyOf(5001, cas[i]))
		}
		return held
	}
	b.Run("new", func(b *testing.B) { measure(b, n, "mapping", hold) })
	hold()
	each := func(name string, f func(i int)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				f(i)
				if i++; i == n {
					i = 0
				}
			}
		})
	}
	each("shared", func(i int) { d.Mapping(KeyOf(5001, cas[i])) })
	each("record", func(i int) {
		if held[i].Record() == nil {
			b.Fatal("gone")
		}
	})
	each("migrate", func(i int) {
		r := c.Records[i*7919%n]
		r.PA = netip.AddrFrom4([4]byte{192, 168, 9, byte(i & 1)})
		d = succeed(b, d, []hnv.Record{r}, nil)
	})
	runtime.KeepAlive(held)
}

// BenchmarkFlood moves the only VM of a host to and fro, so that the list of a
// virtual subnet of so many hosts changes every time.
func BenchmarkFlood(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			c := bigConfig(b, n)
			for i := range c.Records {
				c.Records[i].PA = netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)})
			}
			d := build(b, c)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r := c.Records[n/2]
				if i&1 == 0 {
					r.PA = netip.AddrFrom4([4]byte{192, 169, 0, 1})
				}
				d = succeed(b, d, []hnv.Record{r}, nil)
				i++
			}
			if len(d.Flood(5001)) != n {
				b.Fatalf("%d hosts", len(d.Flood(5001)))
			}
		})
	}
}

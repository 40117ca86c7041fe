package lookup

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// bigDomain has n records in one VSID, spread over 64 PAs.
func bigDomain(t testing.TB, n int) (*Domain, []netip.Addr) {
	t.Helper()
	c := bigConfig(t, n)
	cas := make([]netip.Addr, n)
	for i := range cas {
		cas[i] = c.Records[i].CA
	}
	rand.Shuffle(len(cas), func(i, j int) { cas[i], cas[j] = cas[j], cas[i] })
	return build(t, c), cas
}

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
		c.Records[i] = hnv.Record{VSID: v, CA: netip.AddrFrom4(b), MAC: mac, PA: netip.AddrFrom4([4]byte{192, 168, 1, byte(i % 64)}), Rule: hnv.RuleNVGRE, Type: hnv.Static}
	}
	return c
}

func TestLookupsDoNotAllocate(t *testing.T) {
	d, cas := bigDomain(t, 1000)
	off := netip.MustParseAddr("8.8.8.8")
	pa := netip.MustParseAddr("192.168.1.7")
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		rt, rec := d.Resolve(cas[i%len(cas)])
		out, _ := d.Resolve(off)
		if rt == nil || rec == nil || d.At(out.Hops[0]) == nil || !d.Hosts(AddrFrom(pa)) || d.Has(6001) ||
			d.IsGateway(5001, off) || d.Gateway(5001, off).Is6() {
			t.Fatal("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

var sizes = []int{1e3, 1e4, 1e5, 1e6}

func BenchmarkResolve(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, cas := bigDomain(b, n)
			i := 0
			for b.Loop() {
				if _, rec := d.Resolve(cas[i]); rec == nil {
					b.Fatal("not found")
				}
				if i++; i == len(cas) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkResolveRouted(b *testing.B) {
	d, _ := bigDomain(b, 1e4)
	to := netip.MustParseAddr("203.0.113.9")
	for b.Loop() {
		rt, _ := d.Resolve(to)
		if d.At(rt.Hops[0]) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkUpdateOne(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, cas := bigDomain(b, n)
			rec := record(b, 5001, "10.0.0.5", "192.168.1.7")
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				rec.CA = cas[i%len(cas)]
				next, err := d.Update([]hnv.Record{rec}, nil)
				if err != nil {
					b.Fatal(err)
				}
				d = next
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{1e3, 1e6} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			c := bigConfig(b, n)
			var d *Domain
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				d, _ = Build(c)
			}
			b.StopTimer()
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(n), "B/record")
			runtime.KeepAlive(d)
			runtime.KeepAlive(c)
		})
	}
}

package store

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// BenchmarkLoad reads stored records as Open does, without etcd: what they cost
// in time and in memory.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys, values := stored(b, n)
			for b.Loop() {
				before := heap()
				f := hnv.NewFabric(site)
				for i, k := range keys {
					o, err := decode(k, values[i])
					if err != nil {
						b.Fatal(err)
					}
					if _, err := f.Apply([]hnv.Change{{Put: o}}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/float64(n), "B/record")
				runtime.KeepAlive(f)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
		})
	}
}

// stored gives what etcd holds for n records of one tenant, on 250 hosts.
func stored(b *testing.B, n int) (keys []string, values [][]byte) {
	b.Helper()
	t := tenant("contoso", 5000, hnv.NVGRE, "203.0.113.10")
	t.Subnets[1].Prefixes[0].Prefix = netip.MustParsePrefix("10.0.0.0/9")
	t.Subnets[0].Prefixes[0].Prefix = netip.MustParsePrefix("10.254.254.0/29")
	t.RDID = hnv.NewRDID()
	objects := []hnv.Object{
		hnv.ProviderAddress{Addr: netip.MustParsePrefix("192.168.1.1/16"), Interface: "eth1"}, t.Defaulted(),
	}
	for i := range n {
		i += 256
		r := record(5001, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String(),
			fmt.Sprintf("00:15:5d:%02x:%02x:%02x", byte(i>>16), byte(i>>8), byte(i)), hnv.RuleNVGRE)
		r.PA = netip.AddrFrom4([4]byte{192, 168, 3, byte(1 + i%250)})
		objects = append(objects, r)
	}
	for _, o := range objects {
		v, err := encode(o)
		if err != nil {
			b.Fatal(err)
		}
		keys, values = append(keys, keyOf(o.Kind(), o.Key())), append(values, []byte(v))
	}
	return keys, values
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

//go:build privileged && linux

package compartments

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
)

// numbered is one of many compartments.
func numbered(b testing.TB, i int) Spec {
	s := specOf(b, fmt.Sprintf("t%d", i), uint32(5000+i))
	a := netip.AddrFrom4([4]byte{203, 1, byte(i >> 8), byte(i)})
	s.External = []hnv.ExternalRange{{Addr: a}}
	return s
}

func crowd(b *testing.B, n int) (*machine, *Engine) {
	m := newMachine(b)
	e := m.engine()
	e.log = slog.New(slog.DiscardHandler)
	for i := range n {
		if _, err := e.Apply(b.Context(), numbered(b, i)); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	return m, e
}

// BenchmarkCreate makes compartments one after the other, several at a time;
// run it with -benchtime 1000x for the time of a thousand.
func BenchmarkCreate(b *testing.B) {
	_, e := crowd(b, 0)
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := e.Apply(b.Context(), numbered(b, int(next.Add(1)))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.StopTimer()
}

// BenchmarkAdopt looks at compartments that are right.
func BenchmarkAdopt(b *testing.B) {
	_, e := crowd(b, 300)
	for i := 0; b.Loop(); i++ {
		if _, err := e.Apply(b.Context(), numbered(b, i%300)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChange takes an address from a compartment among many and gives it
// back.
func BenchmarkChange(b *testing.B) {
	_, e := crowd(b, 300)
	for i := 0; b.Loop(); i++ {
		s := numbered(b, 7)
		if i%2 == 0 {
			s.External = append(s.External, hnv.ExternalRange{Addr: netip.MustParseAddr("203.2.0.1")})
		}
		if _, err := e.Apply(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPrune removes as many compartments as there are iterations, together.
func BenchmarkPrune(b *testing.B) {
	_, e := crowd(b, b.N)
	if _, err := e.Prune(b.Context(), nil); err != nil {
		b.Fatal(err)
	}
}

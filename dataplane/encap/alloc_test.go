package encap_test

import (
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestNothingAllocates(t *testing.T) {
	frame := inner(t, 1000)
	for name, h := range headers() {
		b := pushed(t, h, frame)
		var got encap.Header
		if n := testing.AllocsPerRun(200, func() { encap.Parse(b, &got) }); n != 0 {
			t.Errorf("%s: Parse makes %v allocations", name, n)
		}
		f := packet.NewFrame(len(frame))
		if n := testing.AllocsPerRun(200, func() {
			f.Set(frame)
			h.SetEntropy(7)
			encap.Push(f, &h)
		}); n != 0 {
			t.Errorf("%s: Push makes %v allocations", name, n)
		}
		g := partial(t, 1000)
		if n := testing.AllocsPerRun(200, func() {
			encap.Push(g, &h)
			g.TrimFront(g.Len() - len(frame))
		}); n != 0 {
			t.Errorf("%s: Push with a partial checksum makes %v allocations", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for name, h := range headers() {
		wire := pushed(b, h, inner(b, 1400))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var got encap.Header
			for b.Loop() {
				encap.Parse(wire, &got)
			}
		})
	}
}

func BenchmarkPush(b *testing.B) {
	for name, h := range headers() {
		f := packet.NewFrame(2000)
		f.Set(inner(b, 1400))
		off := f.Off
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				encap.Push(f, &h)
				f.Off = off
			}
		})
	}
}

//go:build privileged && linux

package port

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// superTCP is a TCP super-packet of n bytes in an Ethernet frame.
func superTCP(n int) *packet.Frame {
	b := eth(0x0800, ip4("10.9.9.9", 6, 0x4000, 0), make([]byte, n-34))
	copy(b, []byte{2, 0, 0, 0, 0, 0x0b})
	binary.BigEndian.PutUint16(b[16:], uint16(n-14))
	b[46] = 5 << 4
	f := frameOf(b)
	f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16, GSO: packet.GSOTCPv4, GSOSize: 1448}
	return f
}

func batchOf(n int, f func() *packet.Frame) []*packet.Frame {
	out := make([]*packet.Frame, n)
	for i := range out {
		out[i] = f()
	}
	return out
}

// Reading and writing batches, in either way through the packages's ports,
// allocates nothing.
func TestBatchesDoNotAllocate(t *testing.T) {
	na, nb := pair(t)
	na.ip("address add 192.168.1.1/24 dev va")
	nb.ip("address add 192.168.1.10/24 dev vb")
	na.ip("neigh add 192.168.1.10 lladdr " + macB + " dev va")
	a, b := openLink(t, na, "va", LinkOptions{}), openLink(t, nb, "vb", LinkOptions{})
	pa := openProvider(t, na, ProviderOptions{})
	pb := openProvider(t, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: On(addrs("192.168.1.10")...)}).Readers()[0]
	frames, packets := batchOf(32, func() *packet.Frame { return superTCP(9000) }), batchOf(32, func() *packet.Frame { return complete("192.168.1.1", "192.168.1.10", 1000, true) })
	in := frameList(64)
	var err error
	check := func(n int, e error) {
		if n == 0 || e != nil {
			err = fmt.Errorf("%d frames: %w", n, e)
		}
	}
	if got := testing.AllocsPerRun(200, func() {
		check(a.WriteBatch(frames))
		check(b.ReadBatch(in))
	}); got != 0 || err != nil {
		t.Errorf("a link allocates %v times for a batch: %v", got, err)
	}
	if got := testing.AllocsPerRun(200, func() {
		check(pa.WriteBatch(packets))
		check(pb.ReadBatch(in))
	}); got != 0 || err != nil {
		t.Errorf("the provider allocates %v times for a batch: %v", got, err)
	}
}

func reportRate(b *testing.B, frames int) {
	b.ReportMetric(float64(frames)/b.Elapsed().Seconds(), "frames/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkLinkWrite(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame func() *packet.Frame
	}{
		{"64", func() *packet.Frame { return frameOf(experimental(64, 0)) }},
		{"1514", func() *packet.Frame { return frameOf(experimental(1514, 0)) }},
		{"64K super", func() *packet.Frame { return superTCP(65000) }},
	} {
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/batch %d", c.name, size), func(b *testing.B) {
				na, _ := pair(b)
				a := openLink(b, na, "va", LinkOptions{})
				fs := batchOf(size, c.frame)
				sent := 0
				b.ReportAllocs()
				for b.Loop() {
					n, err := a.WriteBatch(fs)
					if err != nil {
						b.Fatal(err)
					}
					sent += n
				}
				reportRate(b, sent)
			})
		}
	}
}

func BenchmarkProviderWrite(b *testing.B) {
	for _, n := range []int{100, 1500} {
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("%d/batch %d", n, size), func(b *testing.B) {
				na, nb := pair(b)
				na.ip("address add 192.168.1.1/24 dev va")
				nb.ip("address add 192.168.1.10/24 dev vb")
				na.ip("neigh add 192.168.1.10 lladdr " + macB + " dev va")
				p := openProvider(b, na, ProviderOptions{})
				fs := batchOf(size, func() *packet.Frame { return complete("192.168.1.1", "192.168.1.10", n, true) })
				sent := 0
				b.ReportAllocs()
				for b.Loop() {
					n, err := p.WriteBatch(fs)
					if err != nil {
						b.Fatal(err)
					}
					sent += n
				}
				reportRate(b, sent)
			})
		}
	}
}

// Reading is measured with the frames waiting: the clock stops while they are
// made.
func BenchmarkRead(b *testing.B) {
	for _, c := range []struct {
		name  string
		frame func() *packet.Frame
	}{
		{"100", func() *packet.Frame { return nvgreTo("192.168.1.10", 0) }},
		{"64K super", func() *packet.Frame { return superTCP(65000) }},
	} {
		for _, size := range []int{1, 64} {
			b.Run(fmt.Sprintf("link/%s/batch %d", c.name, size), func(b *testing.B) {
				na, nb := pair(b)
				benchmarkRead(b, openLink(b, na, "va", LinkOptions{}), c.frame, openLink(b, nb, "vb", LinkOptions{ReadBuffer: 64 << 20}), size)
			})
		}
	}
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprintf("provider/100/batch %d", size), func(b *testing.B) {
			na, nb := pair(b)
			p := openProvider(b, nb, ProviderOptions{Interfaces: []string{"vb"}, Addresses: ours, ReadBuffer: 64 << 20})
			benchmarkRead(b, openLink(b, na, "va", LinkOptions{}), func() *packet.Frame { return nvgreTo("192.168.1.10", 0) }, p.Readers()[0], size)
		})
	}
}

func benchmarkRead(b *testing.B, w *Link, frame func() *packet.Frame, r reader, size int) {
	const waiting = 512
	out, in := batchOf(waiting, frame), frameList(size)
	got, left := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		if left < size {
			b.StopTimer()
			n, err := w.WriteBatch(out)
			if err != nil {
				b.Fatal(err)
			}
			left += n
			b.StartTimer()
		}
		n, err := r.ReadBatch(in)
		if err != nil {
			b.Fatal(err)
		}
		got, left = got+n, left-n
	}
	reportRate(b, got)
}

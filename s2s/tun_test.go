//go:build linux

package s2s

import (
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"testing"

	"golang.zx2c4.com/wireguard/tun"
)

// reads is a TUN link of which each read gives so many packets.
type reads struct {
	tun.Device
	left []int
	fail error // of the last one
	size int   // of each packet
	asks int
}

func (r *reads) File() *os.File { return nil }

func (r *reads) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	r.asks++
	n, err := r.left[0], error(nil)
	r.left = r.left[1:]
	if len(r.left) == 0 {
		err = r.fail
	}
	if n > len(bufs) {
		n, err = len(bufs)-1, tun.ErrTooManySegments
	}
	for i := range n {
		sizes[i] = max(copy(bufs[i][offset:], []byte{0x45, byte(r.asks), byte(i)}), r.size)
	}
	return n, err
}

func TestReadsAreBatched(t *testing.T) {
	const batch, offset = 128, 16
	many := func(n, of int) (out []int) {
		for range n {
			out = append(out, of)
		}
		return out
	}
	for name, c := range map[string]struct {
		left []int
		fail error
		want []int // packets of each read of the batch
		err  error
	}{
		"one":                        {left: []int{1}, want: []int{1}},
		"all that waits":             {left: many(5, 1), want: many(5, 1)},
		"room for a super-packet":    {left: many(100, 1), want: many(64, 1)},
		"a super-packet":             {left: []int{70, 1}, want: []int{70}},
		"short ones":                 {left: []int{20, 30, 40, 1}, want: []int{20, 30, 40}},
		"nothing of it is a packet":  {left: []int{0, 1}, want: []int{0}},
		"the link is gone":           {left: []int{1, 0}, fail: os.ErrClosed, want: []int{1, 0}, err: os.ErrClosed},
		"more segments than is room": {left: []int{40, 120, 1}, want: []int{40, 87}, err: tun.ErrTooManySegments},
		"some packet is bad":         {left: []int{1, 0, 1}, want: []int{1, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			link := &reads{left: c.left, fail: c.fail}
			d := newDevice(link, &policy{mtu: 1420})
			d.more = func() bool { return len(link.left) > 0 }
			bufs, sizes := make([][]byte, batch), make([]int, batch)
			for i := range bufs {
				bufs[i] = make([]byte, 64)
			}
			n, err := d.Read(bufs, sizes, offset)
			if !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			at := 0
			for ask, got := range c.want {
				for i := range got {
					if b := bufs[at][offset : offset+sizes[at]]; len(b) != 3 || b[1] != byte(ask+1) || b[2] != byte(i) {
						t.Fatalf("packet %d is %v", at, b)
					}
					at++
				}
			}
			if n != at || link.asks != len(c.want) {
				t.Errorf("%d packets of %d reads, want %d of %d", n, link.asks, at, len(c.want))
			}
			if !errors.Is(err, tun.ErrTooManySegments) || len(link.left) == 0 {
				return
			}
			link.left = many(2, 1)
			if n, err := d.Read(bufs, sizes, offset); n != 1 || err != nil {
				t.Errorf("after a super-packet without room %d packets were read at once: %v", n, err)
			}
		})
	}
}

// Once in a while a big packet goes alone, and those that were read with it after it.
func TestBigPacketGoesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		want []int // packets of each read
	}{
		"big":   {1420, []int{1, 44, 2, 45}},
		"small": {MinMTU, []int{47, 45}},
	} {
		t.Run(name, func(t *testing.T) {
			link := &reads{left: []int{45, 1, 1, 45}, size: c.size}
			d := newDevice(link, &policy{mtu: 1420})
			d.more = func() bool { return len(link.left) > 1 }
			bufs, sizes := make([][]byte, 128), make([]int, 128)
			for i := range bufs {
				bufs[i] = make([]byte, 2000)
			}
			var got []int
			for _, want := range c.want {
				n, err := d.Read(bufs, sizes, 16)
				if n != want || err != nil {
					t.Fatalf("a read gave %d packets, want %d: %v", n, want, err)
				}
				d.lone = math.MaxInt64 / 2 // from now on it is not time, however slow this is
				for i := range n {
					if sizes[i] != c.size {
						t.Fatalf("a packet of %d bytes has %d", c.size, sizes[i])
					}
					got = append(got, int(bufs[i][17])<<8|int(bufs[i][18]))
				}
			}
			if !slices.IsSorted(got) || len(slices.Compact(got)) != 45+1+1+45 {
				t.Errorf("packets came as %v", got)
			}
		})
	}
}

// What waits is told without taking it, and not of a file that is closed.
func TestWaiting(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	more := waiting(r)
	if more() {
		t.Error("something waits in an empty pipe")
	}
	if _, err := io.WriteString(w, "x"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !more() {
			t.Error("what waits is not seen")
		}
	}
	if n := testing.AllocsPerRun(100, func() { more() }); n != 0 {
		t.Errorf("to look allocates %v times", n)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if more() {
		t.Error("something waits in a closed file")
	}
	if waiting(nil) != nil {
		t.Error("no file can be asked")
	}
}

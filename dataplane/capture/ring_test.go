package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// One goroutine, against a queue that cannot be wrong.
func TestRingIsAQueue(t *testing.T) {
	for _, size := range []int{2, 8, 64} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		r := newRing(size, 8)
		var model []uint64
		for n := uint64(0); n < 20000; n++ {
			if rng.IntN(2) == 0 {
				room := len(model) < size
				if r.put(&Meta{Time: int64(n)}, number(n), n) != room {
					t.Fatalf("put with %d of %d waiting: %v", len(model), size, !room)
				}
				if room {
					model = append(model, n)
				}
				continue
			}
			k := r.first()
			if (k == nil) != (len(model) == 0) {
				t.Fatalf("first with %d waiting: %v", len(model), k)
			}
			if k == nil {
				continue
			}
			if k.n != 8 || binary.BigEndian.Uint64(k.data) != model[0] || k.meta.Time != int64(model[0]) || k.lost != model[0] {
				t.Fatalf("got %+v, want number %d", k.meta, model[0])
			}
			r.release()
			model = model[1:]
		}
	}
}

func TestRingCutsPackets(t *testing.T) {
	r := newRing(2, 4)
	if !r.put(&Meta{}, number(1<<56), 0) {
		t.Fatal("full")
	}
	if k := r.first(); k.n != 4 || k.length != 8 || k.data[0] != 1 {
		t.Errorf("kept %d of %d bytes", k.n, k.length)
	}
}

// Several workers: what was taken comes out once, whole, and in each worker's
// own order; what was refused does not.
func TestRingWithManyWorkers(t *testing.T) {
	const workers, each = 4, 20000
	r := newRing(64, 8)
	var taken [workers][]uint64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			// On a busy machine a worker may meet nothing but a full ring for long:
			// it goes on until it got something in.
			for i := uint64(0); i < each || len(taken[w]) == 0; i++ {
				n := uint64(w)<<32 | i
				if r.put(&Meta{Time: int64(n), VSID: uint32(w)}, number(n), n) {
					taken[w] = append(taken[w], n)
				} else {
					runtime.Gosched()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var got [workers][]uint64
	for ended := false; ; {
		k := r.first()
		if k == nil {
			if ended {
				break
			}
			select {
			case <-done:
				ended = true
			default:
				runtime.Gosched()
			}
			continue
		}
		n := binary.BigEndian.Uint64(k.data[:k.n])
		if uint64(k.meta.Time) != n || k.lost != n || uint64(k.meta.VSID) != n>>32 {
			t.Fatalf("a torn packet: %d is %+v", n, k.meta)
		}
		got[n>>32] = append(got[n>>32], n)
		r.release()
	}
	for w := range workers {
		if !slices.Equal(got[w], taken[w]) {
			t.Errorf("worker %d: %d came out, %d went in", w, len(got[w]), len(taken[w]))
		}
	}
}

package s2s

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Over a long time as much passes as the rate says, whatever the packets' sizes.
func TestLimit(t *testing.T) {
	for _, kbps := range []uint64{MinKbps, 1000, 100000, 1e7} {
		for _, size := range []int{60, 1420, 9000} {
			l := newLimit(kbps)
			if !l.take(size, 0) {
				t.Fatalf("%d kbps: a packet of %d bytes does not pass at all", kbps, size)
			}
			perSecond := kbps * 1000 / 8
			span := 100 * uint64(size) * uint64(time.Second) / perSecond // for about 100 packets
			span = max(span, uint64(10*burst))
			step := max(uint64(size)*uint64(time.Second)/perSecond/4, 1)
			var passed, want uint64
			start := uint64(time.Hour)
			for l.take(size, int64(start)) { // the burst
			}
			for now := start; now < start+span && passed < 1<<40; now += step {
				if l.take(size, int64(now)) {
					passed += uint64(size)
				}
				want = perSecond * (now - start) / uint64(time.Second)
				if now-start > 50000*step {
					break
				}
			}
			if diff := float64(passed)/float64(want) - 1; diff > 0.05 || diff < -0.05 {
				t.Errorf("%d kbps, packets of %d bytes: %d bytes passed, want %d", kbps, size, passed, want)
			}
		}
	}
	if newLimit(0) != nil {
		t.Error("no limit is one")
	}
}

// Workers share the bucket.
func TestLimitShared(t *testing.T) {
	l := newLimit(1600) // 200 kB/s: 100 kB at once
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if l.take(1000, 0) {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n < 95 || n > 105 {
		t.Errorf("%d packets of 1000 bytes passed at once, want 100", n)
	}
}

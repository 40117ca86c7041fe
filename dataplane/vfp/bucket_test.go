package vfp_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// What passes in a time is the burst and the rate, whatever the packets' sizes.
func TestBucketRate(t *testing.T) {
	for _, rate := range []uint64{64_000, 1_000_000, 100_000_000, 10_000_000_000, 100_000_000_000} {
		for _, size := range []int{64, 577, 1500, 65549} {
			for _, epoch := range []int64{0, 1_700_000_000_000_000_000} { // a clock may count from anywhere
				b := vfp.NewBucket(rate, 1)
				const packets = 10_000
				every := float64(size) * 8e9 / float64(rate) // nanoseconds for a packet at the rate
				passed := 0
				for i := range packets * 3 { // three times what may pass
					if b.Take(epoch+int64(float64(i)*every/3), size) {
						passed++
					}
				}
				want := packets + float64(b.Burst())/float64(size)
				if math.Abs(float64(passed)-want) > 0.002*want+1 {
					t.Errorf("%d bit/s, %d bytes: %d packets passed, want %.0f", rate, size, passed, want)
				}
			}
		}
	}
}

func TestBucketBurst(t *testing.T) {
	for _, c := range []struct {
		rate       uint64
		given, has int
	}{
		{8_000, 0, vfp.MinBurst}, {8_000, 100, vfp.MinBurst}, {8_000_000_000, 0, 10_000_000}, {8_000, 1 << 20, 1 << 20}, {math.MaxUint64, 0, math.MaxInt32},
	} {
		b := vfp.NewBucket(c.rate, c.given)
		if b.Burst() != c.has || b.Rate() != c.rate {
			t.Errorf("burst %d of %d bit/s: has %d of %d", c.given, c.rate, b.Burst(), b.Rate())
		}
	}
	b := vfp.NewBucket(8_000, 0) // a byte a millisecond
	const super = 65535 + 14
	switch {
	case !b.Take(5, super):
		t.Error("a super-packet does not pass a fresh bucket")
	case b.Take(5, super):
		t.Error("two pass at once")
	case b.Take(5+57_000_000_000, super):
		t.Error("the next one passes too soon")
	case !b.Take(5+58_000_000_000, super):
		t.Error("the next one never passes")
	case !b.Take(5+1000_000_000_000, super) || b.Take(5+1000_000_000_000, super):
		t.Error("a long rest does not give one burst")
	}
}

func TestBucketWithoutLimit(t *testing.T) {
	b := vfp.NewBucket(0, 0)
	if b != nil || !b.Take(0, math.MaxInt) || b.Rate() != 0 || b.Burst() != 0 {
		t.Error("a rate of 0 is a limit")
	}
	if b := vfp.NewBucket(1, 0); b.Take(0, math.MaxInt) {
		t.Error("a packet without end passes")
	}
}

func TestTakeAllOrNone(t *testing.T) {
	wide, tight := vfp.NewBucket(1e9, vfp.MinBurst), vfp.NewBucket(1e3, vfp.MinBurst)
	both := []*vfp.Bucket{wide, nil, tight}
	if !vfp.TakeAll(both, 1, vfp.MinBurst) || !vfp.TakeAll(nil, 1, 1) {
		t.Fatal("fresh buckets refuse")
	}
	const later = 10_000_000 // full again, and the tight one all but empty
	for range 100 {
		if vfp.TakeAll(both, later, 1500) {
			t.Fatal("the tight bucket let pass")
		}
	}
	if !wide.Take(later, vfp.MinBurst) {
		t.Error("what the tight bucket refused was taken out of the wide one")
	}
}

// Workers together get the rate of the bucket, not each of them.
func TestBucketShared(t *testing.T) {
	const rate, workers, rounds, size = 1_000_000_000, 4, 20_000, 1500
	b := vfp.NewBucket(rate, vfp.MinBurst)
	var clock, passed atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				if b.Take(clock.Add(1000), size) { // a microsecond for each try
					passed.Add(size)
				}
			}
		})
	}
	wg.Wait()
	want := float64(rate) / 8 * float64(clock.Load()) / 1e9
	if got := float64(passed.Load()); math.Abs(got-want) > vfp.MinBurst+0.01*want {
		t.Errorf("%.0f bytes passed, want %.0f", got, want)
	}
}

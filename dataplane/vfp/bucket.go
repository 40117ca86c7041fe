package vfp

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// MinBurst is the least burst of a Bucket in bytes: the greatest super-packet
// with its headers must pass in one piece.
const MinBurst = 66 << 10

const (
	ticks    = 16 // of a bucket's clock in a nanosecond, for high rates
	fraction = 20 // bits of a tick in the cost of a byte
	second   = 1e9 * ticks
	farAhead = math.MaxInt64 / 4 // ticks, longer than any machine runs
)

// Bucket is a token bucket: the generic cell rate algorithm of ITU-T I.371
// (virtual scheduling), on one number that all workers share. It neither blocks
// nor allocates. A nil Bucket is one without limit.
type Bucket struct {
	rate    uint64 // bits a second
	burst   int    // bytes
	perByte uint64 // ticks, shifted by fraction
	ahead   int64  // ticks that due may be ahead of now
	epoch   atomic.Int64
	due     atomic.Int64 // theoretical arrival time, ticks since epoch
}

// NewBucket makes a bucket of bitsPerSecond that holds burstBytes, at least
// MinBurst; 0 are those of 10 ms. It starts full. A rate of 0 is no limit: the
// bucket is nil.
func NewBucket(bitsPerSecond uint64, burstBytes int) *Bucket {
	if bitsPerSecond == 0 {
		return nil
	}
	if burstBytes <= 0 {
		burstBytes = int(min(bitsPerSecond/8/100, math.MaxInt32))
	}
	burstBytes = max(burstBytes, MinBurst)
	b := &Bucket{rate: bitsPerSecond, burst: burstBytes}
	b.perByte = max(1, (8*second<<fraction)/bitsPerSecond)
	b.ahead = b.cost(burstBytes)
	return b
}

// Rate is in bits a second, 0 without limit.
func (b *Bucket) Rate() uint64 {
	if b == nil {
		return 0
	}
	return b.rate
}

// Burst is in bytes, 0 without limit.
func (b *Bucket) Burst() int {
	if b == nil {
		return 0
	}
	return b.burst
}

func (b *Bucket) cost(bytes int) int64 {
	hi, lo := bits.Mul64(uint64(max(bytes, 0)), b.perByte)
	lo, carry := bits.Add64(lo, 1<<(fraction-1), 0) // to the nearest tick
	hi += carry
	if hi>>fraction != 0 {
		return farAhead
	}
	return int64(min(hi<<(64-fraction)|lo>>fraction, farAhead))
}

// Take takes a packet of that many bytes out of the bucket, or tells that there
// is not enough in it. now is in nanoseconds of any one clock; callers may be
// somewhat apart, and it may stand still.
func (b *Bucket) Take(now int64, bytes int) bool {
	if b == nil {
		return true
	}
	epoch := b.epoch.Load()
	if epoch == 0 {
		b.epoch.CompareAndSwap(0, now|1) // 0 is "not yet"
		epoch = b.epoch.Load()
	}
	at, cost := (now-epoch)*ticks, b.cost(bytes)
	for {
		due := b.due.Load()
		next := max(due, at) + cost
		if next-at > b.ahead {
			return false
		}
		if b.due.CompareAndSwap(due, next) {
			return true
		}
	}
}

// give puts back what Take took.
func (b *Bucket) give(bytes int) {
	if b != nil {
		b.due.Add(-b.cost(bytes))
	}
}

// TakeAll takes the packet out of every bucket, or out of none.
func TakeAll(buckets []*Bucket, now int64, bytes int) bool {
	for i, b := range buckets {
		if !b.Take(now, bytes) {
			for _, had := range buckets[:i] {
				had.give(bytes)
			}
			return false
		}
	}
	return true
}

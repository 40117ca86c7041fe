package vfp

import (
	"math"
	"math/bits"
	"sync/atomic"
)

// MinBurst is the least burst of a Bucket in bytes: the greatest super-packet must
// pass in one piece, with the headers that its packets have on a wire of 1500 bytes.
const MinBurst = 72 << 10

// How a bucket counts, for those who share it.
const (
	Ticks    = 16 // of its clock in a nanosecond, for high rates
	Fraction = 20 // bits of a tick in the cost of a byte
)

const (
	second   = 1e9 * Ticks
	farAhead = math.MaxInt64 / 4 // ticks, longer than any machine runs
)

// Bucket is a token bucket: the generic cell rate algorithm of ITU-T I.371
// (virtual scheduling), on one number that all workers share, and others who know
// its place. It neither blocks nor allocates. A nil Bucket is one without limit.
type Bucket struct {
	rate    uint64 // bits a second
	burst   int    // bytes
	perByte uint64 // ticks, shifted by Fraction
	ahead   int64  // ticks that due may be ahead of now
	epoch   atomic.Int64
	due     atomic.Int64 // theoretical arrival time, ticks since epoch
	place   atomic.Pointer[Place]
}

// Place is where a bucket is kept that others take out of too: they and it change
// one number, each by compare and swap.
type Place struct {
	Due  *atomic.Int64 // theoretical arrival time, in ticks of the place's clock
	Zero int64         // what the bucket's clock shows when the place's shows 0, in nanoseconds
	Keep any           // what must be there for as long as Due is
}

// Move has the bucket be kept at p, with what was taken out there, from the next
// packet on; nil: for itself again.
func (b *Bucket) Move(p *Place) {
	if b != nil {
		b.place.Store(p)
	}
}

// Terms are what others must know to take out of the bucket: a packet of n bytes
// costs n*perByte/2^Fraction ticks, to the nearest, by which due, or now if that is
// later, moves on, if it is then at most so many ticks ahead of now. Both are 0
// where there is no limit.
func (b *Bucket) Terms() (perByte uint64, ahead int64) {
	if b == nil {
		return 0, 0
	}
	return b.perByte, b.ahead
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
	b.perByte = max(1, (8*second<<Fraction)/bitsPerSecond)
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
	lo, carry := bits.Add64(lo, 1<<(Fraction-1), 0) // to the nearest tick
	hi += carry
	if hi>>Fraction != 0 {
		return farAhead
	}
	return int64(min(hi<<(64-Fraction)|lo>>Fraction, farAhead))
}

// Take takes a packet of that many bytes out of the bucket, or tells that there
// is not enough in it. now is in nanoseconds of any one clock; callers may be
// somewhat apart, and it may stand still.
func (b *Bucket) Take(now int64, bytes int) bool {
	if b == nil {
		return true
	}
	word, at := b.look(now)
	cost := b.cost(bytes)
	for {
		due := word.Load()
		next := max(due, at) + cost
		if next-at > b.ahead {
			return false
		}
		if word.CompareAndSwap(due, next) {
			return true
		}
	}
}

// look gives where due is, and the time in its ticks.
func (b *Bucket) look(now int64) (due *atomic.Int64, at int64) {
	if p := b.place.Load(); p != nil {
		return p.Due, (now - p.Zero) * Ticks
	}
	epoch := b.epoch.Load()
	if epoch == 0 {
		b.epoch.CompareAndSwap(0, now|1) // 0 is "not yet"
		epoch = b.epoch.Load()
	}
	return &b.due, (now - epoch) * Ticks
}

// give puts back what Take took.
func (b *Bucket) give(now int64, bytes int) {
	if b != nil {
		due, _ := b.look(now)
		due.Add(-b.cost(bytes))
	}
}

// TakeAll takes the packet out of every bucket, or out of none.
func TakeAll(buckets []*Bucket, now int64, bytes int) bool {
	for i, b := range buckets {
		if !b.Take(now, bytes) {
			for _, had := range buckets[:i] {
				had.give(now, bytes)
			}
			return false
		}
	}
	return true
}

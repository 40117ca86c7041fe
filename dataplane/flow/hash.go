package flow

import (
	"math/bits"
	"math/rand/v2"
)

// seed is the secret of a table's hash. Whoever sends packets chooses the keys,
// so the hash must not be one that can be computed elsewhere.
//
// The words of a key go through NH, the universal hash of UMAC (RFC 4418
// section 5.2.2) with words of 64 bits as in VMAC: whatever two keys are
// chosen, they meet in its 128 bits under one of 2^64 seeds only. A multiplication
// folds these to 64 bits that can be used separately.
type seed struct {
	nh   [5]uint64 // the last one stands alone, as its partner would only add a constant
	fold [2]uint64
}

// newSeed draws from the generator of the runtime, which the system seeds.
func newSeed() (s seed) {
	for i := range s.nh {
		s.nh[i] = rand.Uint64()
	}
	for i := range s.fold {
		s.fold[i] = rand.Uint64()
	}
	return s
}

func (s *seed) hash(k *Key) uint64 {
	a, b, c, d, e := k.words()
	hi, lo := bits.Mul64(a+s.nh[0], b+s.nh[1])
	h, l := bits.Mul64(c+s.nh[2], d+s.nh[3])
	lo, carry := bits.Add64(lo, l, 0)
	hi, _ = bits.Add64(hi, h, carry)
	h, l = bits.Mul64(e, s.nh[4])
	lo, carry = bits.Add64(lo, l, 0)
	hi, _ = bits.Add64(hi, h, carry)
	hi, lo = bits.Mul64(hi^s.fold[0], lo^s.fold[1])
	return hi ^ lo
}

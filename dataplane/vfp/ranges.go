package vfp

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// wide is an unsigned number of 128 bits, wide enough for every field.
type wide struct{ hi, lo uint64 }

func (a wide) less(b wide) bool { return a.hi < b.hi || a.hi == b.hi && a.lo < b.lo }

func (a wide) compare(b wide) int {
	switch {
	case a.less(b):
		return -1
	case a == b:
		return 0
	}
	return 1
}

// next is a+1, which wraps to zero.
func (a wide) next() wide {
	lo, carry := bits.Add64(a.lo, 1, 0)
	return wide{a.hi + carry, lo}
}

func wideMAC(m [6]byte) wide {
	return wide{lo: uint64(binary.BigEndian.Uint16(m[:]))<<32 | uint64(binary.BigEndian.Uint32(m[2:]))}
}

func wideAddr(a netip.Addr) wide {
	if a.Is4() {
		b := a.As4()
		return wide{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// span is a range of values with both its ends.
type span struct{ lo, hi wide }

func number(n uint64) wide { return wide{lo: n} }

func one(n uint64) span { return span{number(n), number(n)} }

func spanPrefix(p netip.Prefix) span {
	lo := wideAddr(p.Masked().Addr())
	host := p.Addr().BitLen() - p.Bits()
	mask := wide{lo: math.MaxUint64}
	switch {
	case host < 64:
		mask.lo = 1<<host - 1
	default:
		mask.hi = 1<<(host-64) - 1 // a shift by 64 gives 0, and so all ones
	}
	return span{lo, wide{lo.hi | mask.hi, lo.lo | mask.lo}}
}

// ranges is a set of values: spans in ascending order with gaps in between. nil
// is every value there is, for a field that nothing is asked of.
type ranges []span

// normalize sorts spans and joins those that touch; it gives nil where they
// cover the field, whose greatest value is top.
func normalize(s []span, top wide) ranges {
	slices.SortFunc(s, func(a, b span) int { return a.lo.compare(b.lo) })
	r := s[:0]
	for _, x := range s {
		if n := len(r); n > 0 && !r[n-1].hi.next().less(x.lo) || n > 0 && r[n-1].hi == top {
			if r[n-1].hi.less(x.hi) {
				r[n-1].hi = x.hi
			}
			continue
		}
		r = append(r, x)
	}
	if len(r) == 1 && r[0] == (span{wide{}, top}) {
		return nil
	}
	return r
}

// covers tells whether all of o is in r.
func (r ranges) covers(o ranges) bool {
	if r == nil {
		return true
	}
	if o == nil {
		return false
	}
	i := 0
	for _, x := range o {
		for i < len(r) && r[i].hi.less(x.lo) {
			i++
		}
		if i == len(r) || x.lo.less(r[i].lo) || r[i].hi.less(x.hi) {
			return false
		}
	}
	return true
}

// intersect gives what is in both; empty, not nil, where nothing is.
func (r ranges) intersect(o ranges) ranges {
	if r == nil {
		return o
	}
	if o == nil {
		return r
	}
	both := ranges{}
	for i, j := 0, 0; i < len(r) && j < len(o); {
		x := span{r[i].lo, r[i].hi}
		if x.lo.less(o[j].lo) {
			x.lo = o[j].lo
		}
		if o[j].hi.less(x.hi) {
			x.hi = o[j].hi
		}
		if !x.hi.less(x.lo) {
			both = append(both, x)
		}
		if r[i].hi.less(o[j].hi) {
			i++
		} else {
			j++
		}
	}
	return both
}

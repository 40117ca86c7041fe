package vfp

import (
	"math/bits"
	"slices"
)

const (
	// leafRules is how many rules one matrix decides among. Bigger matrices
	// need fewer searches for a group, but rows of more words.
	leafRules = 256
	maxWords  = 8 // of a row; 8*64 leaves are more than maxRules takes
	maxRules  = 1 << 16
)

// set is a set of up to 64*maxWords items, such as the rules that still match.
type set [maxWords]uint64

// matrix finds which of its items, rules or parts of a group, match a packet:
// for every field that any item asks about, a table of the items that each value
// lets pass. A packet's items are those in all of its rows ("bit vectors",
// Lakshman and Stiliadis, SIGCOMM 1998).
//
//	dst port    0..79    80     81..442   443   444..65535
//	row         ..##     #.##   ..##      .###  ..##         one bit for each rule
type matrix struct {
	words int // of a row
	all   set // every item
	dims  []dim
}

// dim is the table of one field. Values are cut into intervals at every bound
// that an item has; starts are their first values, beginning with zero.
type dim struct {
	field  field
	starts []uint64 // of fields up to 64 bits
	wides  []wide   // of IPv6 addresses, instead of starts
	at     []uint32 // where the interval's row begins in rows
	rows   []uint64 // different ones, once each
}

// newMatrix makes a matrix of up to 64*maxWords items.
func newMatrix(items []tuple) matrix {
	m := matrix{words: (len(items) + 63) / 64}
	var uses uint16
	for i := range items {
		m.all[i/64] |= 1 << (i % 64)
		uses |= items[i].uses()
	}
	for f := range fields {
		if uses&(1<<f) != 0 {
			m.dims = append(m.dims, newDim(f, items, m.words))
		}
	}
	return m
}

// newDim sweeps over the bounds that the items have in the field, and keeps the
// set of items that hold the present value.
func newDim(f field, items []tuple, words int) dim {
	type bound struct {
		at   wide
		item int
	}
	var now set
	var bounds []bound
	for i := range items {
		r := items[i][f]
		if r == nil {
			now[i/64] |= 1 << (i % 64)
		}
		for _, s := range r {
			bounds = append(bounds, bound{s.lo, i})
			if end := s.hi.next(); end != (wide{}) {
				bounds = append(bounds, bound{end, i})
			}
		}
	}
	slices.SortFunc(bounds, func(a, b bound) int { return a.at.compare(b.at) })
	d := dim{field: f}
	places := map[set]uint32{}
	var wides []wide
	for i, at := 0, (wide{}); ; {
		for ; i < len(bounds) && bounds[i].at == at; i++ {
			item := bounds[i].item
			now[item/64] ^= 1 << (item % 64) // an item's spans never touch: it begins or ends here
		}
		place, seen := places[now]
		if !seen {
			place = uint32(len(d.rows))
			places[now] = place
			d.rows = append(d.rows, now[:words]...)
		}
		if n := len(d.at); n == 0 || d.at[n-1] != place {
			wides, d.at = append(wides, at), append(d.at, place)
		}
		if i == len(bounds) {
			break
		}
		at = bounds[i].at
	}
	if wides[len(wides)-1].hi != 0 {
		d.wides = slices.Clip(wides)
	} else {
		d.starts = make([]uint64, len(wides))
		for i, w := range wides {
			d.starts[i] = w.lo
		}
	}
	d.at, d.rows = slices.Clip(d.at), slices.Clip(d.rows)
	return d
}

// row finds the row of a value.
func (d *dim) row(v *wide) []uint64 {
	i := 0
	if d.wides == nil {
		s, n := d.starts, len(d.starts)
		if v.hi != 0 {
			i = n - 1
		} else {
			for n > 1 {
				half := n >> 1
				if s[i+half] <= v.lo {
					i += half
				}
				n -= half
			}
		}
	} else {
		s, n := d.wides, len(d.wides)
		for n > 1 {
			half := n >> 1
			if !v.less(s[i+half]) {
				i += half
			}
			n -= half
		}
	}
	return d.rows[d.at[i]:]
}

// match narrows left, which starts as all items, to those that match the packet.
// The fields of skip are taken to match. False if none is left.
func (m *matrix) match(k *keys, skip uint16, left *set) bool {
	*left = m.all
	for i := range m.dims {
		d := &m.dims[i]
		if skip&(1<<d.field) != 0 {
			continue
		}
		row := d.row(&k[d.field])[:m.words]
		some := uint64(0)
		for w := range row {
			left[w] &= row[w]
			some |= left[w]
		}
		if some == 0 {
			return false
		}
	}
	return m.words > 0
}

// classifier finds the first of a list of rules that matches: a matrix for each
// leafRules of them, and one on top that tells which of those are worth asking.
type classifier struct {
	top    matrix // of leaves; not used where there is only one
	leaves []matrix
}

func newClassifier(rules []tuple, cl class) *classifier {
	c := new(classifier)
	var unions []tuple
	for part := range slices.Chunk(rules, leafRules) {
		c.leaves = append(c.leaves, newMatrix(part))
		unions = append(unions, union(part, cl))
	}
	if len(c.leaves) > 1 {
		c.top = newMatrix(unions)
	}
	return c
}

// union matches whatever any of the rules matches, and maybe more: it is made
// field by field.
func union(rules []tuple, c class) (u tuple) {
fields:
	for f := range fields {
		var s []span
		for i := range rules {
			if rules[i][f] == nil {
				continue fields
			}
			s = append(s, rules[i][f]...)
		}
		u[f] = normalize(s, f.top(c))
	}
	return u
}

// first gives the place of the first rule that matches, or -1.
func (c *classifier) first(k *keys, skip uint16) int {
	var left set
	if len(c.leaves) == 1 {
		if c.leaves[0].match(k, skip, &left) {
			return left.lowest()
		}
		return -1
	}
	var leaves set
	if !c.top.match(k, skip, &leaves) {
		return -1
	}
	for w, bit := range leaves[:c.top.words] {
		for ; bit != 0; bit &= bit - 1 {
			i := w*64 + bits.TrailingZeros64(bit)
			if c.leaves[i].match(k, skip, &left) {
				return i*leafRules + left.lowest()
			}
		}
	}
	return -1
}

// all gives the places of the rules before end that match, until yield has
// enough.
func (c *classifier) all(k *keys, end int, yield func(int) bool) {
	var left set
	for i := range c.leaves {
		if i*leafRules >= end {
			return
		}
		if !c.leaves[i].match(k, 0, &left) {
			continue
		}
		for w, bit := range left {
			for ; bit != 0; bit &= bit - 1 {
				if n := i*leafRules + w*64 + bits.TrailingZeros64(bit); n >= end || !yield(n) {
					return
				}
			}
		}
	}
}

func (s *set) lowest() int {
	for w, bit := range s {
		if bit != 0 {
			return w*64 + bits.TrailingZeros64(bit)
		}
	}
	return -1
}

package lookup

// Rewrites calls yield for every rewrite record, in no particular order, until it
// is false: the PA that stands for one CA, and that CA. A PA that two records
// name stands for none of them: a packet to it would be anybody's.
func (d *Domain) Rewrites(yield func(pa Addr, k Key) bool) {
	for pa, c := range d.rewrites.All {
		if c.n == 1 && !yield(pa, c.keys) {
			return
		}
	}
}

// SameRewrites tells whether the rewrite records of both domains, of which one
// is the other's successor, are the same.
func (d *Domain) SameRewrites(o *Domain) bool { return d.rewrites == o.rewrites }

// Rewritten finds the CA that the PA stands for.
func (d *Domain) Rewritten(pa Addr) (k Key, ok bool) {
	if c := d.rewrites.Get(pa); c != nil && c.n == 1 {
		return c.keys, true
	}
	return Key{}, false
}

// claims are those of rewrite records to one PA.
type claims struct {
	n uint32
	// keys is the exclusive or of all that claim the PA: where one is left, after
	// however many came and went, it is that one.
	keys Key
}

// claim takes a rewrite record in, or out where n is leaves.
func claim(e *Editor[Addr, claims], pa Addr, k Key, n uint32) {
	c, _ := e.Own(pa)
	c.n += n
	for i := range k.ca.b {
		c.keys.ca.b[i] ^= k.ca.b[i]
	}
	for i := range k.vsid {
		c.keys.vsid[i] ^= k.vsid[i]
	}
	c.keys.ca.fam ^= k.ca.fam
	if c.n == 0 {
		e.Delete(pa)
	}
}

package hnv

import (
	"cmp"
	"iter"
	"slices"
)

// Records gives the lookup records of a virtual subnet in no order, one by one:
// a list of them can be long. The state must not change meanwhile.
func (f *Fabric) Records(v VSID) iter.Seq[Record] {
	return func(yield func(Record) bool) {
		for _, r := range f.records[v] {
			if !yield(r) {
				return
			}
		}
	}
}

// Compare orders keys by VSID, then those with a MAC before those with a CA.
func (k RecordKey) Compare(o RecordKey) int {
	return cmp.Or(cmp.Compare(k.VSID.n, o.VSID.n), k.CA.Compare(o.CA), slices.Compare(k.MAC.b[:], o.MAC.b[:]))
}

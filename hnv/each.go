package hnv

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// RecordKeys gives the keys of a virtual subnet's lookup records in no order,
// one by one: there can be many. The state must not change meanwhile.
func (f *Fabric) RecordKeys(v VSID) iter.Seq[RecordKey] { return maps.Keys(f.records[v]) }

// Compare orders keys by VSID, then those with a MAC before those with a CA.
func (k RecordKey) Compare(o RecordKey) int {
	if c := cmp.Compare(k.VSID.n, o.VSID.n); c != 0 {
		return c
	}
	if c := k.CA.Compare(o.CA); c != 0 {
		return c
	}
	return slices.Compare(k.MAC.b[:], o.MAC.b[:])
}

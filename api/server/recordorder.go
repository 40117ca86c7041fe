package server

import (
	"slices"
	"sync"

	"github.com/hnvgate/hnvgate/hnv"
)

// The sorted keys of a virtual subnet with many records are kept for the next
// answer of the same list.
const (
	keptFrom = 20_000 // records
	keptMost = 4      // lists
)

// recordOrder sorts the keys of virtual subnets, outside of the state's lock. A
// list that goes on uses the order it began with: a record that was added since
// is not in it, one that was deleted is passed over.
type recordOrder struct {
	mu   sync.Mutex
	last uint64
	kept []*ordered // the one used last comes last
}

// ordered are the keys of a virtual subnet. What is in it is not changed.
type ordered struct {
	id   uint64 // 0: not kept
	vsid hnv.VSID
	keys []hnv.RecordKey
}

// of gives the order with the id, or where that is not kept any more a new one.
func (o *recordOrder) of(store Store, v hnv.VSID, id uint64) *ordered {
	if x := o.find(v, id); x != nil {
		return x
	}
	x := &ordered{vsid: v}
	store.View(func(f *hnv.Fabric) { x.keys = slices.AppendSeq(x.keys, f.RecordKeys(v)) })
	slices.SortFunc(x.keys, hnv.RecordKey.Compare)
	if len(x.keys) < keptFrom {
		return x
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	x.id = o.last
	o.kept = append(o.kept, x)
	if len(o.kept) > keptMost {
		o.kept = slices.Delete(o.kept, 0, 1)
	}
	return x
}

func (o *recordOrder) find(v hnv.VSID, id uint64) *ordered {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.kept, func(x *ordered) bool { return id != 0 && x.id == id && x.vsid == v })
	if i < 0 {
		return nil
	}
	x := o.kept[i]
	o.kept = append(slices.Delete(o.kept, i, i+1), x)
	return x
}

// forget lets go of an order whose list is at its end.
func (o *recordOrder) forget(x *ordered) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = slices.DeleteFunc(o.kept, func(k *ordered) bool { return k == x })
}

// from gives the keys from one on.
func (x *ordered) from(k hnv.RecordKey) []hnv.RecordKey {
	i, _ := slices.BinarySearchFunc(x.keys, k, hnv.RecordKey.Compare)
	return x.keys[i:]
}

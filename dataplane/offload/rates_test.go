package offload

import (
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

func newTestRates(entries []rateValue) *rates {
	return newRates(rateMemory{entries: entries}, func() time.Duration { return 0 })
}

// kept gives the number that a bucket is kept at, by taking something out.
func keptAt(t *testing.T, entries []rateValue, b *vfp.Bucket) *rateBucket {
	t.Helper()
	before := map[*rateBucket]int64{}
	for i := range entries {
		for _, w := range []*rateBucket{&entries[i].Out, &entries[i].In} {
			before[w] = w.Due.Load()
		}
	}
	if !b.Take(0, 1000) {
		t.Fatal("the bucket is empty")
	}
	for w, due := range before {
		if w.Due.Load() != due {
			return w
		}
	}
	return nil
}

// A bucket is one number, which is the owner's for as long as it has rates. Another
// rate begins with a full bucket, the same one where it was.
func TestRatesAreKeptInTheirEntry(t *testing.T) {
	entries := make([]rateValue, 8)
	r := newTestRates(entries)
	port, tenant := rateOwner{1, 11}, rateOwner{tenant: 1}
	set := func(o rateOwner, out, in *vfp.Bucket, next uint32) uint32 {
		t.Helper()
		at, err := r.set(o, out, in, next)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := set(port, nil, nil, 0); at != 0 || len(r.of) != 0 {
		t.Fatalf("a port without rates has entry %d", at)
	}
	slow, fast := vfp.NewBucket(1e6, 0), vfp.NewBucket(1e9, 0)
	shared := set(tenant, nil, fast, 0)
	at := set(port, slow, nil, shared)
	if shared == 0 || at == 0 || shared == at {
		t.Fatalf("entries %d and %d", shared, at)
	}
	e := &entries[at]
	if e.Tenant.Load() != 1 || e.Port.Load() != 11 || e.Next.Load() != shared || e.In.PerByte.Load() != 0 {
		t.Errorf("the port's entry is %+v", e)
	}
	if keptAt(t, entries, slow) != &e.Out || keptAt(t, entries, fast) != &entries[shared].In {
		t.Error("the buckets are kept elsewhere")
	}
	due := e.Out.Due.Load()
	if set(port, slow, nil, shared) != at || e.Out.Due.Load() != due {
		t.Error("the same rate anew is not what it was")
	}
	slower := vfp.NewBucket(1e5, 0)
	if set(port, slower, nil, shared) != at || e.Out.Due.Load() != 0 || keptAt(t, entries, slow) != nil || keptAt(t, entries, slower) != &e.Out {
		t.Error("another rate is not kept in the entry, or does not start full")
	}
	if per, ahead := slower.Terms(); e.Out.PerByte.Load() != per || e.Out.Ahead.Load() != uint64(ahead) {
		t.Errorf("the terms are %+v", e)
	}
	// Without rates of its own, a port has its tenant's, and keeps its entry.
	if set(port, nil, nil, shared) != shared || keptAt(t, entries, slower) != nil || e.Out.PerByte.Load() != 0 {
		t.Errorf("without a rate the port's entry is %+v", e)
	}
	if set(port, slow, nil, shared) != at {
		t.Error("with a rate again it has another one")
	}
	r.drop(port)
	r.drop(port)
	if e.Tenant.Load() != 0 || e.Out.Due.Load() != 0 || keptAt(t, entries, slow) != nil {
		t.Errorf("what is left of a port that is gone: %+v", e)
	}
	if got := set(rateOwner{2, 12}, slow, slow, 0); got != at || e.Tenant.Load() != 2 || e.Next.Load() != 0 {
		t.Errorf("the next one has entry %d: %+v", got, e)
	}
}

// Where there is no room, it is said, and what gives some back makes some.
func TestRatesHaveRoom(t *testing.T) {
	entries := make([]rateValue, 3)
	r := newTestRates(entries)
	b := vfp.NewBucket(1e6, 0)
	for port := range uint32(2) {
		if _, err := r.set(rateOwner{1, port}, b, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := r.set(rateOwner{1, 7}, b, nil, 0); err == nil {
		t.Fatalf("a third one has entry %d", at)
	}
	r.drop(rateOwner{1, 0})
	if _, err := r.set(rateOwner{1, 7}, b, nil, 0); err != nil {
		t.Error(err)
	}
}

// The next process finds what was taken out, and gives back what nobody has any
// more; a rate that changed meanwhile starts full.
func TestRatesOutliveAProcess(t *testing.T) {
	entries := make([]rateValue, 16)
	old := newTestRates(entries)
	at := map[uint32]uint32{}
	for port := range uint32(5) {
		b := vfp.NewBucket(1e6, 0)
		at[port], _ = old.set(rateOwner{1, port}, b, nil, 0)
		if !b.Take(0, 50_000) {
			t.Fatal("a fresh bucket is empty")
		}
	}
	old.drop(rateOwner{1, 1})
	next := newTestRates(entries)
	same, other := vfp.NewBucket(1e6, 0), vfp.NewBucket(2e6, 0)
	if got, _ := next.set(rateOwner{1, 2}, same, nil, 0); got != at[2] || same.Has(0, 50_000) || !same.Has(0, 10_000) {
		t.Errorf("the port has entry %d, and had %d", got, at[2])
	}
	if got, _ := next.set(rateOwner{1, 3}, other, nil, 0); got != at[3] || !other.Has(0, 50_000) {
		t.Errorf("with another rate, it has entry %d, and had %d", got, at[3])
	}
	if got, _ := next.set(rateOwner{1, 4}, nil, nil, 0); got != 0 {
		t.Errorf("without a rate it has entry %d", got)
	}
	next.settle()
	if len(next.of) != 2 || entries[at[0]].Tenant.Load()+entries[at[4]].Tenant.Load() != 0 {
		t.Errorf("entries of %+v are left", next.of)
	}
	used := map[uint32]bool{at[2]: true, at[3]: true}
	for port := range uint32(13) {
		got, err := next.set(rateOwner{2, port}, vfp.NewBucket(1e6, 0), nil, 0)
		if err != nil || used[got] || got == 0 {
			t.Fatalf("port %d has entry %d: %v", port, got, err)
		}
		used[got] = true
	}
}

// Ports have their entries before they say so, and user space where there is no room.
func TestMirrorOfRates(t *testing.T) {
	w := newWorld(t, 3)
	f := newFakes()
	f.rates = make([]rateValue, 4) // for three
	w.m = newTestMirror(t, w.sw, f)
	w.sw.Follow(w.m)
	w.provider()
	w.tenants[0] = w.shape(0)
	for len(w.tenants[0].Subnets) == 0 {
		w.tenants[0] = w.shape(0)
	}
	w.apply(0)
	for len(w.ports) < 3 {
		w.plug(w.tenants[0])
	}
	value := func(l Link) portValue { return f.ports.m[uint32(l.Ifindex)] }
	for id, l := range w.ports {
		if value(l).Rates != 0 {
			t.Errorf("a port without rates has entry %d", value(l).Rates)
		}
		must := w.sw.SetPort(id, hnv.Name{}, 1000, 0)
		if v := value(l); must != nil || v.Rates == 0 || v.Flags&(portSlowIn|portSlowOut) != 0 || f.rates[v.Rates].Port.Load() != v.Ifindex || f.rates[v.Rates].Tenant.Load() != v.Tenant || f.rates[v.Rates].In.PerByte.Load() == 0 {
			t.Errorf("a port with a rate is %+v (%v)", v, must)
		}
		if w.m.Unrated(id) != nil {
			t.Error(w.m.Unrated(id))
		}
	}
	qos := &hnv.QoS{OutKbps: 7}
	w.tenants[0].QoS = qos
	w.apply(0)
	for id, l := range w.ports {
		if v := value(l); v.Rates != 0 || v.Flags&portSlowIn == 0 || v.Flags&portSlowOut == 0 || w.m.Unrated(id) == nil {
			t.Errorf("a port without room is %+v", v)
		}
	}
	var first Link
	for id, l := range w.ports { // it gives its own back, and all have room
		first = l
		w.unplug(id)
		break
	}
	w.apply(0)
	shared := map[uint32]bool{}
	for id, l := range w.ports {
		v := value(l)
		if v.Rates == 0 || v.Flags&(portSlowIn|portSlowOut) != 0 || w.m.Unrated(id) != nil {
			t.Errorf("a port with room again is %+v", v)
		}
		shared[f.rates[v.Rates].Next.Load()] = true
		if err := w.sw.SetPort(id, hnv.Name{}, 0, 0); err != nil {
			t.Fatal(err)
		}
		if !shared[value(l).Rates] {
			t.Errorf("without a rate of its own, a port is %+v", value(l))
		}
	}
	if _, there := f.ports.m[uint32(first.Ifindex)]; there || len(shared) != 1 || shared[0] {
		t.Errorf("the tenant's entries are %v", shared)
	}
	w.sw.Remove(w.rdids[0])
	for i := range f.rates {
		if f.rates[i].Tenant.Load() != 0 {
			t.Errorf("entry %d is left of a tenant that is gone", i)
		}
	}
}

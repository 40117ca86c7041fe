package offload

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// The entries of the table of rates, as bpf/rate.h has them. They are memory that
// we share with the programs: what of them changes is read and written at once.
type (
	rateBucket struct {
		Due            atomic.Int64
		PerByte, Ahead atomic.Uint64
	}

	rateValue struct {
		Tenant, Port atomic.Uint32 // 0: nobody's; 0: the tenant's own
		Next         atomic.Uint32
		Pad          uint32
		Out, In      rateBucket
	}
)

// rateMemory is the table. The first entry is nobody's.
type rateMemory struct {
	entries []rateValue
	keep    any           // what the memory is there for as long as
	now     func() uint64 // nanoseconds, by the programs' clock; nil: a test has no programs
}

// rateOwner is whose rates an entry has: a port's, by its interface, or with 0 the
// tenant's own.
type rateOwner struct{ tenant, port uint32 }

// rates are the buckets that the Switch and the programs both take out of. A bucket
// is one number in an entry, whoever changes it. The terms stand beside it, so that
// another rate is in force with one write, whatever flows there are; it begins with
// a full bucket, as the Switch has it. An entry keeps its place, and what was taken
// out, from one process to the next.
type rates struct {
	mem  rateMemory
	zero int64 // see vfp.Place
	of   map[rateOwner]uint32
	free []uint32
	next uint32 // the first entry that nobody ever had
	// moved are the buckets that are kept in an entry.
	moved map[rateOwner][2]*vfp.Bucket
}

func newRates(mem rateMemory, uptime func() time.Duration) *rates {
	r := &rates{mem: mem, zero: zeroOf(mem.now, uptime), next: 1, of: map[rateOwner]uint32{}, moved: map[rateOwner][2]*vfp.Bucket{}}
	for i := range mem.entries {
		if e := &mem.entries[i]; e.Tenant.Load() != 0 {
			r.of[rateOwner{e.Tenant.Load(), e.Port.Load()}] = uint32(i)
			for ; r.next < uint32(i); r.next++ {
				r.free = append(r.free, r.next)
			}
			r.next = uint32(i) + 1
		}
	}
	return r
}

// zeroOf gives what the Switch's clock shows when the programs' shows 0. Both go on
// alike; of several looks at both, the fastest one tells best.
func zeroOf(now func() uint64, uptime func() time.Duration) (zero int64) {
	if now == nil {
		return 0
	}
	fastest := time.Duration(math.MaxInt64)
	for range 9 {
		before := uptime()
		theirs := now()
		after := uptime()
		if took := after - before; took < fastest {
			fastest, zero = took, int64(before+took/2)-int64(theirs)
		}
	}
	return zero
}

// set has the buckets be kept in the owner's entry, and gives its number; 0 if there
// are none, and none behind it either. out and in may be nil.
func (r *rates) set(o rateOwner, out, in *vfp.Bucket, next uint32) (at uint32, err error) {
	at, ok := r.of[o]
	if !ok {
		if out == nil && in == nil {
			return next, nil
		}
		if at, err = r.take(); err != nil {
			return 0, err
		}
		r.of[o] = at
	}
	e := &r.mem.entries[at]
	had := r.moved[o]
	r.move(&e.Out, had[0], out)
	r.move(&e.In, had[1], in)
	e.Next.Store(next)
	e.Port.Store(o.port)
	e.Tenant.Store(o.tenant)
	if out == nil && in == nil {
		delete(r.moved, o)
		return next, nil
	}
	r.moved[o] = [2]*vfp.Bucket{out, in}
	return at, nil
}

// move has a bucket be kept at w, where had was. What was taken out stays if the
// terms are what they were.
func (r *rates) move(w *rateBucket, had, b *vfp.Bucket) {
	if perByte, ahead := b.Terms(); w.PerByte.Load() != perByte || w.Ahead.Load() != uint64(ahead) {
		w.Due.Store(0)
		w.Ahead.Store(uint64(ahead))
		w.PerByte.Store(perByte)
	}
	if had != b {
		had.Move(nil)
		b.Move(&vfp.Place{Due: &w.Due, Zero: r.zero, Keep: r.mem.keep})
	}
}

func (r *rates) take() (uint32, error) {
	if n := len(r.free); n > 0 {
		at := r.free[n-1]
		r.free = r.free[:n-1]
		return at, nil
	}
	if int(r.next) >= len(r.mem.entries) {
		return 0, fmt.Errorf("there is room for the rates of %d ports and tenants", max(0, len(r.mem.entries)-1))
	}
	r.next++
	return r.next - 1, nil
}

// drop gives the owner's entry back, to which nothing leads any more.
func (r *rates) drop(o rateOwner) {
	at, ok := r.of[o]
	if !ok {
		return
	}
	for _, b := range r.moved[o] {
		b.Move(nil)
	}
	delete(r.moved, o)
	delete(r.of, o)
	e := &r.mem.entries[at]
	e.Tenant.Store(0)
	for _, w := range []*rateBucket{&e.Out, &e.In} {
		r.move(w, nil, nil)
	}
	r.free = append(r.free, at)
}

// settle gives back what nobody has a rate in, as an earlier process's.
func (r *rates) settle() {
	for o := range r.of {
		if _, used := r.moved[o]; !used {
			r.drop(o)
		}
	}
}

// rated gives a port's entry with its rates, which are kept where the programs find
// them; where they cannot be, user space has the port.
func (m *mirror) rated(p *plug, v portValue) portValue {
	view, ok := m.sw.PortView(p.id)
	if !ok {
		return v
	}
	x := view.Rates
	shared, err := m.rates.set(rateOwner{tenant: v.Tenant}, x.TenantOut, x.TenantIn, 0)
	if err == nil {
		v.Rates, err = m.rates.set(rateOwner{v.Tenant, v.Ifindex}, x.Out, x.In, shared)
	}
	if err != nil && p.unrated == nil {
		m.log.Warn("the fast path cannot take a port's rates: its packets go through user space", "port", view.Spec.Name, "err", err)
	}
	if p.unrated = err; err != nil {
		v.Rates = 0
		v.Flags = v.Flags&^(portAskOut|portAskIn) | portSlowOut | portSlowIn
	}
	return v
}

// Unrated tells why user space has the packets of a port that is plugged in, for
// its rates; nil: it has not.
func (m *mirror) Unrated(id dataplane.PortID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.ports[id]; p != nil {
		return p.unrated
	}
	return nil
}

package dataplane

import (
	"runtime"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// hit measures packets of n flows that the port's table knows.
func (r *rig) hit(b *testing.B, to way, n int, change func(*ends)) {
	s := r.flowsOf(to, 0, n, change)
	r.meet(b, to, s)
	s.shuffle() // what was allocated in a row is not asked for in a row
	t := r.settled(to, s)
	done := t.count()
	for i := 0; b.Loop(); i = (i + len(r.lent)) % s.len() {
		r.pass(t, to, s, i, len(r.lent))
	}
	done()
	r.passed(b, r.sinkOf(to), t.packets)
	t.report(b, "packet")
}

// settled passes some packets, so that whatever is made once has been made, and
// gives a watch.
func (r *rig) settled(to way, s *stack) *watch {
	r.pass(new(watch), to, s, 0, len(r.lent))
	r.sinkOf(to).n = 0
	runtime.GC() // what was left from making all this is not the packets'
	return new(watch)
}

// meet passes each packet of the stack once.
func (r *rig) meet(b *testing.B, to way, s *stack) {
	r.through(new(watch), to, s)
	r.passed(b, r.sinkOf(to), s.len())
}

func (r *rig) through(t *watch, to way, s *stack) {
	for i := 0; i < s.len(); i += len(r.lent) {
		r.pass(t, to, s, i, min(len(r.lent), s.len()-i))
	}
}

// first measures first packets of flows while the table has n others. The new
// ones are forgotten when there are as many of them as of the others.
func (r *rig) first(b *testing.B, to way, n int, change func(*ends)) {
	old := r.flowsOf(to, 0, n, change)
	r.meet(b, to, old)
	t := r.settled(to, old)
	fresh := &stack{}
	for b.Loop() {
		b.StopTimer()
		fresh.reset()
		for range min(max(n, chunk), 1<<18) / chunk * chunk {
			fresh.add(r.packet(to, n+r.fresh, change))
			r.fresh++
		}
		b.StartTimer()
		done := t.count()
		r.through(t, to, fresh)
		done()
		b.StopTimer()
		r.passed(b, r.sinkOf(to), fresh.len())
		r.forget(b, to, old)
		b.StartTimer()
	}
	t.report(b, "packet")
}

// forget lets all flows go but the old ones.
func (r *rig) forget(b *testing.B, to way, old *stack) {
	r.clock.t = r.clock.t.Add(20 * time.Second)
	r.meet(b, to, old)
	r.clock.t = r.clock.t.Add(20 * time.Second)
	for range 256 {
		r.sw.Upkeep()
	}
}

// again measures packets of n known flows that must be decided anew, because
// records have come or gone.
func (r *rig) again(b *testing.B, to way, n int) {
	s := r.flowsOf(to, 0, n, nil)
	r.meet(b, to, s)
	s.shuffle()
	t := r.settled(to, s)
	// A record that no packet has to do with comes and goes.
	bystander := r.record(r.records + 1)
	put, del := []hnv.Record{bystander}, []hnv.RecordKey(nil)
	for b.Loop() {
		b.StopTimer()
		if err := r.sw.UpdateRecords(r.shape.RDID, put, del); err != nil {
			b.Fatal(err)
		}
		if del == nil {
			put, del = nil, []hnv.RecordKey{bystander.RecordKey()}
		} else {
			put, del = []hnv.Record{bystander}, nil
		}
		b.StartTimer()
		done := t.count()
		r.through(t, to, s)
		done()
	}
	r.passed(b, r.sinkOf(to), t.packets)
	t.report(b, "packet")
}

// each measures packets that are decided by themselves.
func (r *rig) each(b *testing.B, to way, n int) {
	r.hit(b, to, n, func(e *ends) { e.fragment = true })
}

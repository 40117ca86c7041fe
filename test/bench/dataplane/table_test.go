package dataplane

import (
	"fmt"
	"runtime"
	"testing"
)

// BenchmarkFull measures new flows at a port whose table is full, of flows that
// nobody has answered: each takes the place of another one.
func BenchmarkFull(b *testing.B) {
	const flows = 10_000
	r := newRig(b, layout{flows: flows, records: 100})
	s := r.flowsOf(encapsulate, 0, 5*flows, nil)
	r.meet(b, encapsulate, s)
	t := r.settled(encapsulate, s)
	done := t.count()
	for i := 0; b.Loop(); i = (i + chunk) % s.len() {
		r.pass(t, encapsulate, s, i, chunk)
	}
	done()
	r.passed(b, &r.fabric, t.packets)
	t.report(b, "packet")
}

func BenchmarkMemory(b *testing.B) { benchmarkMemory(b, 1e6) }

// benchmarkMemory measures what a flow takes in memory, at a port without a list
// and at one with one, which also keeps the flow's replies.
func benchmarkMemory(b *testing.B, flows int) {
	for _, rules := range []int{0, 1} {
		b.Run(fmt.Sprintf("rules=%d/flows=%s", rules, short(flows)), func(b *testing.B) {
			l := layout{}
			if rules > 0 {
				l.acl = list(rules)
			}
			r := newRig(b, l)
			s := r.flowsOf(encapsulate, 0, flows, nil)
			before := heap()
			r.meet(b, encapsulate, s)
			for b.Loop() { // it was done once, and that is enough
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(heap()-before)/float64(flows), "B/flow")
			runtime.KeepAlive(r)
		})
	}
}

// heap is what is in use, without garbage.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

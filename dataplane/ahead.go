package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// A packet of a flow that no cache holds waits for memory five times: for the
// slot, the entry, the action and the mapping of its flow, one leading to the
// next, while there are 63 more in its batch of which the same is true. So before
// a batch for a port with many flows is taken, its packets' flows are looked for,
// step by step for all of them at once: the waits overlap, and what is needed is
// there when it is needed. Nothing else depends on it.

// crowded is from how many flows on a port's table is likely to be larger than a
// second level cache: half a kilobyte each.
const crowded = 4096

// ahead is what a Worker looks ahead with.
type ahead struct {
	sought  [BatchSize]flow.Sought[action]
	touched uint64 // keeps the compiler from passing over reads that serve no other end
}

// lookAhead looks ahead for packets of the port; at most BatchSize of them.
func (w *Worker) lookAhead(p *port, frames []*packet.Frame) {
	a := w.aheadOf()
	n := 0
	for _, f := range frames {
		if s := &a.sought[n]; s.Key.Peek(flow.Outbound, f.Bytes()) {
			s.Table = p.flows
			n++
		}
	}
	a.look(n)
}

// lookAheadInbound looks ahead for packets from the fabric; at most BatchSize of
// them. It tells whether any was for a crowded port.
func (w *Worker) lookAheadInbound(frames []*packet.Frame) bool {
	a, ports, n := w.aheadOf(), w.sw.ports.Load(), 0
	for _, f := range frames {
		vsid, inner, ok := encap.Peek(f.Bytes())
		if s := &a.sought[n]; ok && s.Key.Peek(flow.Inbound, inner) {
			if p := ports.at(vsid, [6]byte(inner)); p != nil && p.flows.Len() >= crowded {
				s.Table = p.flows
				n++
			}
		}
	}
	a.look(n)
	return n > 0
}

func (w *Worker) aheadOf() *ahead {
	if w.ahead == nil { // of few Workers
		w.ahead = new(ahead)
	}
	return w.ahead
}

// look looks for the flows of the first n keys, and on to what their actions
// need.
func (a *ahead) look(n int) {
	sought := a.sought[:n]
	flow.LookAhead(sought)
	for i := range sought {
		if e := sought[i].Entry; e != nil {
			if act := e.Action(); act != nil {
				a.touched += act.policy + uint64(act.src.key.VSID())
			}
		}
	}
	for i := range sought {
		if e := sought[i].Entry; e != nil {
			if act := e.Action(); act != nil {
				act.to.now()
				act.src.now()
			}
		}
		sought[i] = flow.Sought[action]{} // it must not keep flows from going
	}
}

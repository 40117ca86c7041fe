package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// route is the distributed router: it takes a packet that was sent to its MAC
// into the virtual subnet of the destination, or of the next hop towards it. src
// is the record that vouched for the source, nil if none had to.
func (w *Worker) route(src *lookup.Record) drop.Reason {
	x := &w.x
	rt, to := x.domain.Resolve(x.h.Dst)
	if rt != nil && to == nil && rt.OnLink() && rt.Gateway == x.h.Dst {
		return w.toRouter()
	}
	if x.h.TTL <= 1 {
		w.icmpError(packet.TimeExceeded, 0)
		return drop.TTLExpired
	}
	if rt == nil {
		w.icmpError(packet.NoRoute, 0)
		return drop.NoRoute
	}
	vsid := rt.VSID
	if !rt.OnLink() {
		vsid, to = x.nextHop(rt)
	}
	if to == nil {
		w.icmpError(packet.HostUnreachable, 0)
		return drop.DestinationUnknown
	}
	return w.forward(way{to: to, vsid: vsid, src: src, routed: true})
}

// nextHop picks one of the equal next hops by the flow, so that a flow keeps its
// way, passing over those without a record.
func (x *transit) nextHop(rt *lookup.Route) (uint32, *lookup.Record) {
	n := uint32(len(rt.Hops))
	first := uint32(0)
	if n > 1 {
		first = x.h.FlowHash() % n
	}
	for i := range n {
		hop := rt.Hops[(first+i)%n]
		if rec := x.domain.At(hop); rec != nil {
			return hop.VSID(), rec
		}
	}
	return 0, nil
}

// toRouter takes a packet for the router itself, which answers when it is pinged
// and is silent otherwise.
func (w *Worker) toRouter() drop.Reason {
	x := &w.x
	if !x.h.IsEchoRequest() {
		return drop.RouterAddress
	}
	if r := packet.EchoReply(x.f, &x.h); r != drop.None {
		return r
	}
	w.answer(x.f)
	return drop.None
}

// answer gives the port its answer.
func (w *Worker) answer(f *packet.Frame) {
	w.x.c.add(answered, 1)
	w.toPort(w.x.in, w.x.c, f)
}

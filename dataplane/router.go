package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// route is the distributed router: it finds the way of a packet that was sent to
// its MAC into the virtual subnet of the destination, or of the next hop towards
// it. done tells that the packet was for the router itself.
func (w *Worker) route() (to way, done bool, r drop.Reason) {
	x := &w.x
	rt, rec := x.domain.Resolve(x.h.Dst)
	if rt != nil && rec == nil && rt.OnLink() && rt.Gateway == x.h.Dst {
		return way{}, true, w.toRouter()
	}
	if x.h.TTL <= 1 {
		w.icmpError(packet.TimeExceeded, 0)
		return way{}, false, drop.TTLExpired
	}
	to.routed = true
	switch {
	case rec != nil:
		to.to = place{rec, lookup.KeyOf(rt.VSID, x.h.Dst)}
	case rt == nil:
		hops := x.domain.WildcardsFor(x.h.Dst)
		if len(hops) == 0 {
			w.icmpError(packet.NoRoute, 0)
			return way{}, false, drop.NoRoute
		}
		to.to = x.nextHop(hops)
	case !rt.OnLink():
		to.to = x.nextHop(rt.Hops)
	}
	if to.to.rec == nil {
		w.icmpError(packet.HostUnreachable, 0)
		return way{}, false, drop.DestinationUnknown
	}
	return to, false, drop.None
}

// nextHop picks one of the equal next hops by the flow, so that a flow keeps its
// way, passing over those without a record.
func (x *transit) nextHop(hops []lookup.Key) place {
	n := uint32(len(hops))
	first := uint32(0)
	if n > 1 {
		first = x.h.FlowHash() % n
	}
	for i := range n {
		hop := hops[(first+i)%n]
		if rec := x.domain.At(hop); rec != nil {
			return place{rec, hop}
		}
	}
	return place{}
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

package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// FromPort takes Ethernet frames that a port sent.
func (w *Worker) FromPort(id PortID, frames []*packet.Frame) {
	w.tick()
	p := w.sw.ports.Load().byID.Get(lookup.Number(id))
	if p == nil {
		for _, f := range frames {
			w.x = transit{f: f}
			w.dropped(w.nowhere, drop.NoPort)
		}
		return
	}
	c := w.cellOf((*p).tenant)
	many := len(frames) > 1 && (*p).flows.Len() >= crowded
	for i, f := range frames {
		if many && i%BatchSize == 0 {
			w.lookAhead(*p, frames[i:min(i+BatchSize, len(frames))])
		}
		if w.watched {
			w.seePortIn(*p, f)
		}
		c.traffic(fromPorts, f.Len())
		w.dropped(c, w.send(*p, c, f))
		w.relieve()
	}
}

// send takes one frame of a port to where it belongs inside the port's routing
// domain. It tells why the frame was dropped, or drop.None.
func (w *Worker) send(in *port, c *cell, f *packet.Frame) drop.Reason {
	// The tenant. From here on its domain alone decides.
	x := &w.x
	*x = transit{f: f, in: in, at: in, vsid: in.vsid, tenant: in.tenant, c: c, provider: w.sw.provider.Load()}
	x.domain = in.tenant.domain.Load()
	if x.domain == nil || !x.domain.Has(in.vsid) {
		return drop.PortDown // the tenant is gone, or this virtual subnet of it
	}

	// The frame, and who sent it.
	if r := x.h.DecodeEthernet(f.Bytes()); r != drop.None {
		return r
	}
	if x.h.SrcMAC != in.mac {
		return drop.SourceMACMismatch
	}
	if !f.Offload.SpareHeaders(&x.h) || !x.cutPadding() {
		return drop.ChecksumUnsupported
	}
	switch {
	case x.h.EtherType == packet.EtherTypeARP:
		return w.arpFromPort()
	case x.h.Version == 0:
		return drop.EtherTypeUnsupported
	case x.h.IsND():
		return w.ndFromPort()
	}
	if x.h.IsDHCPToServer() {
		w.watchDHCPClient()
	}
	if isGroup(&x.h) {
		return w.replicate()
	}

	// What was decided for the flow, or else a decision.
	fl := w.flowOf(in, outbound)
	if a := fl.current(x); a != nil {
		if r, ok := w.replayOutbound(&fl, a); ok {
			return r
		}
	}
	return w.decideOutbound(&fl)
}

// cutPadding takes off what stands behind the packet, but for what Ethernet may need:
// it would be carried along, and no MTU counts it. False if a partial checksum is
// said to be there.
func (x *transit) cutPadding() bool {
	const least = 60 // of a frame, without its check sequence
	end := max(least, x.h.L3+x.h.Length)
	return x.f.Len() <= end || x.f.TrimBack(end)
}

// decideOutbound takes a packet from a port through the layers: it is decided
// who vouches for the source, what the port's layers say, and where the packet
// goes. The flow's further packets take the same way.
func (w *Worker) decideOutbound(fl *flowState) drop.Reason {
	x := &w.x
	if r := checkAddresses(&x.h); r != drop.None {
		return r
	}
	src, r := x.checkPortSource()
	switch {
	case r != drop.None:
		return r
	case x.h.IsDHCPToClient() && !x.mayServe(x.vsid, src):
		return drop.DHCPRogue
	}
	if w.tr != nil {
		w.tr.source(src)
	}
	if r := w.judge(fl); r != drop.None {
		return r
	}
	// A rewritten packet goes where it is addressed to now.
	dstMAC := x.h.DstMAC
	if r := w.applyVerdict(); r != drop.None {
		return r
	}
	if t := fixedTunnel(&w.verdict); t != nil {
		var a *action
		if w.keeps(fl) {
			a = &action{src: w.link(src), dstMAC: dstMAC, freely: src.rec == nil, tunnel: t}
		}
		if r := w.remember(fl, a); r != drop.None {
			return r
		}
		return w.forwardTunnel(t, src)
	}
	var to way
	done := false
	if dstMAC == routerMAC {
		to, done, r = w.route()
	} else {
		to, r = w.bridge()
	}
	if done || r != drop.None {
		w.verdict.Lease.Release() // there is no flow that could keep it
		return r
	}
	to.src = src
	var a *action
	if w.keeps(fl) {
		to.hash = x.h.FlowHash()
		a = &action{src: w.link(src), to: w.link(to.to), dstMAC: dstMAC, routed: to.routed, freely: src.rec == nil, hash: to.hash}
	}
	if r := w.remember(fl, a); r != drop.None {
		return r
	}
	return w.forward(&to)
}

// replayOutbound takes a packet the way that was decided for its flow, as long
// as the mappings that the decision stands on are still good; not ok where it
// must be decided anew. A mapping that has changed meanwhile, as by a live
// migration, leads to where it points now.
func (w *Worker) replayOutbound(fl *flowState, a *action) (r drop.Reason, ok bool) {
	x := &w.x
	to := way{routed: a.routed, hash: a.hash}
	if a.dstMAC != x.h.DstMAC || a.routed && x.h.TTL <= 1 || x.h.TTL == 0 {
		return 0, false
	}
	if !a.freely {
		to.src = a.src.now()
		if to.src.rec == nil || !x.isAtPort(to.src.key.VSID(), to.src.rec) {
			return 0, false
		}
	}
	if a.tunnel != nil {
		if r := w.pass(fl, a); r != drop.None {
			return r, true
		}
		return w.forwardTunnel(a.tunnel, to.src), true
	}
	if to.to = a.to.now(); to.to.rec == nil || !a.routed && to.to.rec.MAC != x.h.DstMAC {
		return 0, false
	}
	if r := w.pass(fl, a); r != drop.None {
		return r, true
	}
	return w.forward(&to), true
}

// bridge takes a packet on inside its virtual subnet: the record of the
// destination, or of a next hop that leads to it, must be of this subnet and
// have the MAC that the packet is sent to.
func (w *Worker) bridge() (way, drop.Reason) {
	x := &w.x
	rt, rec := x.domain.Resolve(x.h.Dst)
	var hops []lookup.Key
	switch {
	case rt == nil:
		if hops = x.domain.WildcardsFor(x.h.Dst); len(hops) == 0 {
			return way{}, drop.NoRoute
		}
	case rec != nil && rt.VSID == x.vsid && rec.MAC == x.h.DstMAC:
		return way{to: place{rec, lookup.KeyOf(rt.VSID, x.h.Dst)}}, drop.None
	case rec != nil:
		return way{}, drop.WrongPort
	case rt.OnLink() && x.h.Dst == rt.Gateway: // by another MAC than the router's
		return way{}, drop.RouterAddress
	case rt.OnLink():
		// A station whose CAs are not known is found by its MAC.
		if rec := x.domain.Station(x.vsid, x.h.DstMAC); rt.VSID == x.vsid && rec != nil && rec.Type == lookup.L2Only {
			x.nameless = true
			return way{to: place{rec, lookup.KeyOf(x.vsid, x.h.Dst)}}, drop.None
		}
		return way{}, drop.DestinationUnknown
	default:
		hops = rt.Hops
	}
	r := drop.DestinationUnknown
	for _, hop := range hops {
		rec := x.domain.At(hop)
		switch {
		case rec == nil:
		case hop.VSID() == x.vsid && rec.MAC == x.h.DstMAC:
			return way{to: place{rec, hop}}, drop.None
		default:
			r = drop.WrongPort
		}
	}
	return way{}, r
}

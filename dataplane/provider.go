package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// FromProvider takes outer IP packets from the fabric.
func (w *Worker) FromProvider(frames []*packet.Frame) {
	w.tick()
	for i, f := range frames {
		if w.many && len(frames) > 1 && i%BatchSize == 0 {
			w.many = w.lookAheadInbound(frames[i:min(i+BatchSize, len(frames))])
		}
		if w.watched {
			w.seeFabricIn(f)
		}
		c, r := w.receive(f)
		w.dropped(c, r)
		w.relieve()
	}
}

// receive takes one outer packet to a local port, and nowhere else. It gives the
// cell to count in and why the packet was dropped, or drop.None.
func (w *Worker) receive(f *packet.Frame) (*cell, drop.Reason) {
	if c, r, taken := w.receiveRewritten(f); taken {
		return c, r
	}
	// The outer headers, and between whom the packet travelled. The frame is
	// the inner one afterwards.
	outer := &w.outer
	if r := encap.Pop(f, outer); r != drop.None {
		w.x = transit{f: f, outer: true}
		if p := w.sw.provider.Load(); p.claims != nil && !encap.Claimed(f.Bytes(), p.claimed) {
			w.nowhere.add(leftToStack, 1)
		}
		return w.nowhere, r
	}
	x := &w.x
	*x = transit{f: f, vsid: outer.VSID, pa: lookup.AddrFrom(outer.Src), provider: w.sw.provider.Load()}
	own := x.provider.owns(lookup.AddrFrom(outer.Dst))
	if !own && !outer.Dst.IsMulticast() {
		return w.nowhere, drop.OuterNotOurs
	}
	if x.provider.owns(x.pa) {
		return w.nowhere, drop.OuterSourceOurs
	}

	// The tenant. From here on its domain alone decides.
	x.tenant, x.domain = w.sw.tenantOf(outer.VSID)
	if x.domain == nil {
		if x.provider.claims != nil && !x.provider.claimed(outer.VSID) {
			w.nowhere.add(leftToStack, 1)
		}
		return w.nowhere, drop.VSIDUnknown
	}
	x.c = w.cellOf(x.tenant)
	x.c.traffic(fromFabric, outer.Total)
	if !own && x.domain.Subnet(x.vsid).Group != lookup.AddrFrom(outer.Dst) {
		return x.c, drop.OuterNotOurs
	}
	x.rule = ruleOf(outer.Kind)

	// The inner frame.
	if r := x.h.DecodeEthernet(f.Bytes()); r != drop.None {
		return x.c, r
	}
	if w.tr != nil {
		w.tr.decap()
	}
	if !f.Offload.SpareHeaders(&x.h) || !x.cutPadding() {
		return x.c, drop.ChecksumUnsupported
	}
	switch {
	case x.h.EtherType == packet.EtherTypeARP:
		return x.c, w.arpFromFabric()
	case x.h.Version == 0:
		return x.c, drop.EtherTypeUnsupported
	case x.h.IsND():
		return x.c, w.ndFromFabric()
	}
	if isGroup(&x.h) {
		return x.c, w.spread()
	}
	if !own { // a packet for one station has no business at the subnet's group
		return x.c, drop.GroupMismatch
	}

	to := w.sw.ports.Load().at(x.vsid, x.h.DstMAC)
	if to == nil || to.tenant != x.tenant {
		return x.c, w.astray()
	}
	return x.c, w.enter(to)
}

// enter takes a packet from the fabric to the port by what was decided for its
// flow, or else by a decision.
func (w *Worker) enter(to *port) drop.Reason {
	w.x.at = to
	w.many = w.many || to.flows.Len() >= crowded
	fl := w.flowOf(to, inbound)
	if a := fl.current(&w.x); a != nil && a.fromFabric {
		if r, ok := w.replayInbound(&fl, a); ok {
			return r
		}
	}
	return w.decideInbound(&fl)
}

// astray says why a packet that is for none of our ports is dropped: that its
// source is wrong counts for more.
func (w *Worker) astray() drop.Reason {
	x := &w.x
	if r := checkAddresses(&x.h); r != drop.None {
		return r
	}
	if _, r := x.checkFabricSource(); r != drop.None {
		return r
	}
	return drop.NotLocal
}

// decideInbound decides about a packet from the fabric for the flow's port: who
// vouches for its source, whether the destination is found at the port, and what
// the port's layers say.
func (w *Worker) decideInbound(fl *flowState) drop.Reason {
	x := &w.x
	if r := checkAddresses(&x.h); r != drop.None {
		return r
	}
	src, r := x.checkFabricSource()
	switch {
	case r != drop.None:
		return r
	case x.h.IsDHCPToClient() && !x.mayServe(x.vsid, src):
		return drop.DHCPRogue
	}
	if w.tr != nil {
		w.tr.source(src)
	}
	to, r := x.destination(fl.port)
	if r != drop.None {
		return r
	}
	if w.tr != nil {
		w.tr.destination(to)
	}
	if r := x.checkTunnel(); r != drop.None {
		return r
	}
	if r := w.judge(fl); r != drop.None {
		return r
	}
	if r := w.applyVerdict(); r != drop.None {
		return r
	}
	// The word of a distributed router about itself is taken anew each time.
	var a *action
	if w.keeps(fl) {
		a = &action{src: w.link(src), to: w.link(to), outside: to.rec == nil, fromFabric: src.rec != nil}
	}
	if r := w.remember(fl, a); r != drop.None {
		return r
	}
	return w.deliver(fl.port)
}

// replayInbound takes a packet the way that was decided for its flow, as long as
// the mappings of both ends still say so; not ok where it must be decided anew.
func (w *Worker) replayInbound(fl *flowState, a *action) (r drop.Reason, ok bool) {
	x := &w.x
	src := a.src.now().rec
	if src == nil || x.h.TTL == 0 || !x.domain.IsAt(src, x.pa) || x.h.SrcMAC != src.MAC && x.h.SrcMAC != routerMAC {
		return 0, false
	}
	x.srcRule = src.Rule
	if !a.outside {
		to := a.to.now().rec
		if to == nil || to.MAC != fl.port.mac || !x.isHere(to) {
			return 0, false
		}
		x.dstRule = to.Rule
	}
	if x.checkTunnel() != drop.None {
		return 0, false
	}
	if r := w.pass(fl, a); r != drop.None {
		return r, true
	}
	return w.deliver(fl.port), true
}

// destination checks that the packet's destination is found at the port, and
// gives the record that says so; none where the compartment has the way out.
func (x *transit) destination(to *port) (place, drop.Reason) {
	rt, rec := x.domain.Resolve(x.h.Dst)
	var hops []lookup.Key
	switch {
	case rt == nil:
		hops = x.domain.WildcardsFor(x.h.Dst)
	case rec != nil:
		return place{rec, lookup.KeyOf(rt.VSID, x.h.Dst)}, x.leadsTo(to, rt.VSID, rec)
	case rt.OnLink() && x.h.Dst == rt.Gateway:
		return place{}, drop.RouterAddress
	case rt.OnLink():
		if rec := x.domain.Station(x.vsid, to.mac); rt.VSID == x.vsid && rec != nil && rec.Type == lookup.L2Only {
			x.nameless = true
			return place{}, x.leadsTo(to, x.vsid, rec)
		}
		return place{}, drop.DestinationUnknown
	default:
		hops = rt.Hops
	}
	r := drop.DestinationUnknown
	var found place
	for _, hop := range hops {
		rec := x.domain.At(hop)
		if rec == nil {
			continue
		}
		if no := x.leadsTo(to, hop.VSID(), rec); no != drop.None {
			r = no
			continue
		}
		// Of several that lead to the port, the sender went by one of its own kind.
		if found.rec == nil || rec.Rule == x.rule {
			found = place{rec, hop}
		}
	}
	switch {
	case found.rec != nil:
		x.dstRule = found.rec.Rule
		return found, drop.None
	case rt == nil && to.spec.Kind == PortCompartment:
		x.dstRule = 0
		return place{}, drop.None // it has the ways out of the routing domain
	case rt == nil && len(hops) == 0:
		r = drop.WrongPort
	}
	return place{}, r
}

// leadsTo tells whether the record, of the virtual subnet, is that of the port.
func (x *transit) leadsTo(to *port, vsid uint32, rec *lookup.Record) drop.Reason {
	x.dstRule = rec.Rule
	switch {
	case !x.isHere(rec):
		return drop.NotLocal
	case vsid != to.vsid || rec.MAC != to.mac:
		return drop.WrongPort
	}
	return drop.None
}

// deliver gives a packet from the fabric to the port as the sender's router left
// it: receiving is not a hop.
func (w *Worker) deliver(to *port) drop.Reason {
	x := &w.x
	if to.spec.MTU > 0 && x.wireLen() > to.spec.MTU {
		return drop.TooBig
	}
	ecn, ok := packet.DecapECN(w.outer.ECN(), x.h.ECN)
	if !ok {
		return drop.ECNInvalid
	}
	if ecn != x.h.ECN {
		packet.SetECN(x.f.Bytes()[x.h.L3:], ecn)
	}
	return w.give(to)
}

func ruleOf(k encap.Kind) lookup.Rule {
	switch k {
	case encap.KindNVGRE:
		return lookup.RuleNVGRE
	case encap.KindVXLAN:
		return lookup.RuleVXLAN
	}
	return 0
}

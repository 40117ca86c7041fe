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
	for _, f := range frames {
		c, r := w.receive(f)
		c.drop(r, 1)
		w.relieve()
	}
}

// receive takes one outer packet to a local port, and nowhere else. It gives the
// cell to count in and why the packet was dropped, or drop.None.
func (w *Worker) receive(f *packet.Frame) (*cell, drop.Reason) {
	// The outer headers, and between whom the packet travelled. The frame is
	// the inner one afterwards.
	outer := &w.outer
	if r := encap.Pop(f, outer); r != drop.None {
		return w.nowhere, r
	}
	x := &w.x
	*x = transit{f: f, vsid: outer.VSID, pa: lookup.AddrFrom(outer.Src), provider: w.sw.provider.Load()}
	if !x.provider.owns(lookup.AddrFrom(outer.Dst)) {
		return w.nowhere, drop.OuterNotOurs
	}
	if x.provider.owns(x.pa) {
		return w.nowhere, drop.OuterSourceOurs
	}

	// The tenant. From here on its domain alone decides.
	x.tenant, x.domain = w.sw.tenantOf(outer.VSID)
	if x.domain == nil {
		return w.nowhere, drop.VSIDUnknown
	}
	x.c = w.cellOf(x.tenant)
	x.c.traffic(fromFabric, outer.Total)
	x.rule = ruleOf(outer.Kind)

	// The inner frame.
	if r := x.h.DecodeEthernet(f.Bytes()); r != drop.None {
		return x.c, r
	}
	if !f.Offload.SpareHeaders(&x.h) {
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
	if r := checkAddresses(&x.h); r != drop.None {
		return x.c, r
	}
	if r := x.checkFabricSource(); r != drop.None {
		return x.c, r
	}
	to, r := w.localPort(x)
	if r != drop.None {
		return x.c, r
	}
	if r := x.checkTunnel(); r != drop.None {
		return x.c, r
	}
	return x.c, w.deliver(x, to, outer.ECN())
}

// localPort finds the port that a packet from the fabric is for: the one of its
// virtual subnet and destination MAC, if the destination address is found there.
func (w *Worker) localPort(x *transit) (*port, drop.Reason) {
	to := w.sw.ports.Load().at(x.vsid, x.h.DstMAC)
	if to == nil || to.tenant != x.tenant {
		return nil, drop.NotLocal
	}
	rt, rec := x.domain.Resolve(x.h.Dst)
	switch {
	case rt == nil && to.spec.Kind == PortCompartment:
		return to, drop.None // it has the ways out of the routing domain
	case rt == nil:
		return nil, drop.WrongPort
	case rec != nil:
		return to, x.leadsTo(to, rt.VSID, rec)
	case rt.OnLink() && x.h.Dst == rt.Gateway:
		return nil, drop.RouterAddress
	case rt.OnLink():
		return nil, drop.DestinationUnknown
	}
	r := drop.DestinationUnknown
	for _, hop := range rt.Hops {
		if rec := x.domain.At(hop); rec != nil {
			if r = x.leadsTo(to, hop.VSID(), rec); r == drop.None {
				return to, r
			}
		}
	}
	return nil, r
}

// leadsTo tells whether the record, of the virtual subnet, is that of the port.
func (x *transit) leadsTo(to *port, vsid uint32, rec *lookup.Record) drop.Reason {
	x.dstRule = rec.Rule
	switch {
	case !x.provider.owns(rec.PA):
		return drop.NotLocal
	case vsid != to.vsid || rec.MAC != to.mac:
		return drop.WrongPort
	}
	return drop.None
}

// deliver gives the packet to the port as the sender's router left it: receiving
// is not a hop.
func (w *Worker) deliver(x *transit, to *port, outerECN uint8) drop.Reason {
	if to.spec.MTU > 0 && x.wireLen() > to.spec.MTU {
		return drop.TooBig
	}
	ecn, ok := packet.DecapECN(outerECN, x.h.ECN)
	if !ok {
		return drop.ECNInvalid
	}
	if ecn != x.h.ECN {
		packet.SetECN(x.f.Bytes()[x.h.L3:], ecn)
	}
	w.toPort(to, x.c, x.f)
	return drop.None
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

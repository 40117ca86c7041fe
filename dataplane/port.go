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
		w.nowhere.drop(drop.NoPort, len(frames))
		return
	}
	c := w.cellOf((*p).tenant)
	for _, f := range frames {
		c.traffic(fromPorts, f.Len())
		c.drop(w.send(*p, c, f), 1)
		w.relieve()
	}
}

// send takes one frame of a port to where it belongs inside the port's routing
// domain. It tells why the frame was dropped, or drop.None.
func (w *Worker) send(in *port, c *cell, f *packet.Frame) drop.Reason {
	// The tenant. From here on its domain alone decides.
	x := &w.x
	*x = transit{f: f, in: in, vsid: in.vsid, tenant: in.tenant, c: c, provider: w.sw.provider.Load()}
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
	if !f.Offload.SpareHeaders(&x.h) {
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
	if r := checkAddresses(&x.h); r != drop.None {
		return r
	}
	src, r := x.checkPortSource()
	if r != drop.None {
		return r
	}

	// The way on.
	if x.h.DstMAC == routerMAC {
		return w.route(src)
	}
	return w.bridge(src)
}

// bridge takes a packet on inside its virtual subnet: the record of the
// destination, or of a next hop that leads to it, must be of this subnet and
// have the MAC that the packet is sent to.
func (w *Worker) bridge(src *lookup.Record) drop.Reason {
	x := &w.x
	rt, rec := x.domain.Resolve(x.h.Dst)
	switch {
	case rt == nil:
		return drop.NoRoute
	case rec != nil && rt.VSID == x.vsid && rec.MAC == x.h.DstMAC:
		return w.forward(way{to: rec, vsid: x.vsid, src: src})
	case rec != nil:
		return drop.WrongPort
	case rt.OnLink():
		return drop.DestinationUnknown
	}
	r := drop.DestinationUnknown
	for _, hop := range rt.Hops {
		rec := x.domain.At(hop)
		switch {
		case rec == nil:
		case hop.VSID() == x.vsid && rec.MAC == x.h.DstMAC:
			return w.forward(way{to: rec, vsid: x.vsid, src: src})
		default:
			r = drop.WrongPort
		}
	}
	return r
}

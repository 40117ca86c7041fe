package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// way is where a packet from a port goes.
type way struct {
	to     *lookup.Record
	vsid   uint32         // of the record, in which the packet travels
	src    *lookup.Record // vouched for the source; nil if none had to
	routed bool
}

// pieces are the cutters of packets too big for where they go.
type pieces struct {
	segments  packet.Segments
	fragments packet.Fragments
}

// defaultMTU is the fabric's where nothing is said.
const defaultMTU = 1500

// forward takes the packet from a port along the way, whole or in pieces.
func (w *Worker) forward(to way) drop.Reason {
	if w.x.provider.owns(to.to.PA) {
		return w.forwardLocal(to)
	}
	return w.forwardFabric(to)
}

// forwardLocal takes the packet to another port of this machine. Super-packets
// stay whole: ports take them.
func (w *Worker) forwardLocal(to way) drop.Reason {
	x := &w.x
	out := w.sw.ports.Load().at(to.vsid, to.to.MAC)
	switch {
	case out == nil || out.tenant != x.tenant:
		return drop.NoPort
	case out == x.in:
		return drop.SamePort
	}
	cut, r := w.fit(out.spec.MTU)
	if r != drop.None {
		return r
	}
	x.rewrite(to)
	if !cut {
		w.toPort(out, x.c, x.f)
		return drop.None
	}
	p := &w.pieces.fragments
	r = p.Start(x.f, out.spec.MTU)
	for r == drop.None && p.Left() > 0 {
		f := w.lend(out.spec.MTU + packet.EthernetLen)
		if !p.Next(f) {
			return drop.NoBuffer
		}
		w.toPort(out, x.c, f)
	}
	return r
}

// forwardFabric takes the packet to the PA of the record. What leaves is
// complete: the fabric gets no super-packets and no partial checksums.
func (w *Worker) forwardFabric(to way) drop.Reason {
	x := &w.x
	tunnel, r := x.tunnel(to)
	if r != drop.None {
		return r
	}
	mtu := max(1, x.provider.MTU-encap.Overhead(tunnel.Kind, to.to.PA.Is6()))
	cut, r := w.fit(mtu)
	if r != drop.None {
		return r
	}
	x.rewrite(to)
	switch {
	case x.f.Offload.GSO != packet.GSONone:
		p := &w.pieces.segments
		r = p.Start(x.f)
		for r == drop.None && p.Left() > 0 {
			f := w.lend(x.provider.MTU)
			if !p.Next(f) {
				return drop.NoBuffer
			}
			r = w.encapsulate(f, &tunnel)
		}
		return r
	case cut:
		p := &w.pieces.fragments
		r = p.Start(x.f, mtu)
		for r == drop.None && p.Left() > 0 {
			f := w.lend(x.provider.MTU)
			if !p.Next(f) {
				return drop.NoBuffer
			}
			r = w.encapsulate(f, &tunnel)
		}
		return r
	}
	if !packet.CompleteChecksum(x.f) {
		return drop.ChecksumUnsupported
	}
	x.f.Offload = packet.Offload{}
	return w.encapsulate(x.f, &tunnel)
}

// tunnel gives the outer headers towards a record. The outer source is the PA of
// the record that vouched for the inner one, as the receiver will check.
func (x *transit) tunnel(to way) (h encap.Header, r drop.Reason) {
	kind := kindOf(to.to.Rule)
	if kind == 0 {
		return h, drop.RuleUnsupported
	}
	from := x.provider.source(to.to.PA)
	if to.src != nil {
		from = to.src.PA
	}
	if !from.IsValid() || from.Is6() != to.to.PA.Is6() {
		return h, drop.NoSourcePA
	}
	h = encap.Header{Kind: kind, Src: from.Netip(), Dst: to.to.PA.Netip(), VSID: to.vsid, TOS: x.h.ECN}
	h.SetEntropy(x.h.FlowHash())
	return h, drop.None
}

// encapsulate sends an inner frame to the fabric.
func (w *Worker) encapsulate(f *packet.Frame, tunnel *encap.Header) drop.Reason {
	if !encap.Push(f, tunnel) {
		return drop.NoBuffer
	}
	w.toFabric(w.x.c, f)
	return drop.None
}

// rewrite makes a routed packet one of the next virtual subnet. The TTL has been
// found to be greater than 1.
func (x *transit) rewrite(to way) {
	if !to.routed {
		return
	}
	b := x.f.Bytes()
	copy(b[0:6], to.to.MAC[:])
	if to.src == nil || !to.src.UseVMMAC {
		copy(b[6:12], routerMAC[:])
	}
	packet.DecrementTTL(b[x.h.L3:])
}

// fit tells whether the packet must be cut to pass an MTU; 0 is any. What may
// not be cut is reported to its sender, as it was received.
func (w *Worker) fit(mtu int) (cut bool, r drop.Reason) {
	x := &w.x
	if mtu == 0 || x.wireLen() <= mtu {
		return false, drop.None
	}
	if x.h.Version == 4 && !x.h.DontFragment && x.f.Offload.GSO == packet.GSONone {
		return true, drop.None
	}
	w.icmpError(packet.TooBig, mtu)
	return false, drop.TooBig
}

// wireLen is the length of the IP packet, or of the greatest one that a
// super-packet is cut into.
func (x *transit) wireLen() int {
	o := &x.f.Offload
	if o.GSO == packet.GSONone || x.h.IsFragment() {
		return x.h.Length
	}
	header := x.h.L4 - x.h.L3
	switch x.h.Proto {
	case packet.ProtoTCP:
		header += int(x.f.Bytes()[x.h.L4+12]>>4) * 4
	case packet.ProtoUDP:
		header += packet.UDPLen
	}
	return min(x.h.Length, header+int(o.GSOSize))
}

func kindOf(r lookup.Rule) encap.Kind {
	switch r {
	case lookup.RuleNVGRE:
		return encap.KindNVGRE
	case lookup.RuleVXLAN:
		return encap.KindVXLAN
	}
	return 0
}

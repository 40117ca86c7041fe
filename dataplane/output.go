package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// way is where a packet from a port goes.
type way struct {
	to     place // the packet travels in the record's virtual subnet
	src    place // vouched for the source; none if none had to
	routed bool
	hash   uint32 // of the flow, if it is known already
}

func (to *way) vsid() uint32 { return to.to.key.VSID() }

// pieces are the cutters of packets too big for where they go.
type pieces struct {
	segments  packet.Segments
	fragments packet.Fragments
}

// defaultMTU is the fabric's where nothing is said.
const defaultMTU = 1500

// forward takes the packet from a port along the way, whole or in pieces.
func (w *Worker) forward(to *way) drop.Reason {
	if w.tr != nil {
		w.tr.way(*to)
	}
	if w.x.isHere(to.to.rec) {
		return w.forwardLocal(to)
	}
	return w.forwardFabric(to)
}

// forwardLocal takes the packet to another port of this machine, through that
// one's layers.
func (w *Worker) forwardLocal(to *way) drop.Reason {
	x := &w.x
	out := w.sw.ports.Load().at(to.vsid(), to.to.rec.MAC)
	switch {
	case out == nil || out.tenant != x.tenant:
		return drop.NoPort
	case out.id == x.in.id:
		return drop.SamePort
	case out.vsid != x.vsid && x.h.IsDHCPToClient() && !x.mayServe(out.vsid, to.src):
		return drop.DHCPRogue
	}
	x.at = out
	if w.tr != nil {
		w.tr.local(out)
	}
	if r := w.admit(out); r != drop.None {
		return r
	}
	cut, r := w.fit(out.spec.MTU)
	if r != drop.None {
		return r
	}
	x.rewrite(to)
	if !cut {
		return w.give(out)
	}
	return w.giveCut(out)
}

// giveCut hands the packet under way to the port in fragments of its MTU.
func (w *Worker) giveCut(to *port) drop.Reason {
	x := &w.x
	p := &w.pieces.fragments
	r := p.Start(x.f, to.spec.MTU)
	for r == drop.None && p.Left() > 0 {
		f := w.lend(to.spec.MTU + packet.EthernetLen)
		if !p.Next(f) {
			return drop.NoBuffer
		}
		w.toPort(to, x.c, f)
	}
	return r
}

// give hands the packet under way to the port: super-packets whole, unless the
// port takes none.
func (w *Worker) give(to *port) drop.Reason {
	x := &w.x
	if x.h.IsDHCPToClient() {
		w.watchDHCPServer(to)
	}
	if x.h.ICMPType != 0 && w.isProbe(to) {
		if r, done := w.answerProbe(to); done {
			return r
		}
	}
	if !to.spec.Plain {
		w.toPort(to, x.c, x.f)
		return drop.None
	}
	if x.f.Offload.GSO == packet.GSONone {
		if !packet.CompleteChecksum(x.f) {
			return drop.ChecksumUnsupported
		}
		x.f.Offload = packet.Offload{}
		w.toPort(to, x.c, x.f)
		return drop.None
	}
	p := &w.pieces.segments
	r := p.Start(x.f)
	for r == drop.None && p.Left() > 0 {
		f := w.lend(x.wireLen() + packet.EthernetLen)
		if !p.Next(f) {
			return drop.NoBuffer
		}
		w.toPort(to, x.c, f)
	}
	return r
}

// forwardFabric takes the packet to the PA of the record. What leaves is
// complete: the fabric gets no super-packets and no partial checksums.
func (w *Worker) forwardFabric(to *way) drop.Reason {
	x := &w.x
	if to.to.rec.Rule == lookup.RuleRewrite && to.src.rec != nil && to.src.rec.Rule == lookup.RuleRewrite {
		return w.forwardRewritten(to)
	}
	var tunnel encap.Header
	if r := w.tunnel(to, &tunnel); r != drop.None {
		return r
	}
	mtu := x.innerMTU(&tunnel)
	cut, r := w.fit(mtu)
	if r != drop.None {
		return r
	}
	x.rewrite(to)
	return w.emit(&tunnel, mtu, cut)
}

// emit sends the packet under way through the tunnel, cut into pieces of the MTU
// if it must be. Without a tunnel it goes as the IP packet that it is.
func (w *Worker) emit(tunnel *encap.Header, mtu int, cut bool) drop.Reason {
	x := &w.x
	if w.tr != nil {
		w.tr.emit(tunnel, mtu, cut)
	}
	switch {
	case x.f.Offload.GSO != packet.GSONone:
		p := &w.pieces.segments
		r := p.Start(x.f)
		for r == drop.None && p.Left() > 0 {
			f := w.lend(x.provider.MTU + packet.EthernetLen)
			if !p.Next(f) {
				return drop.NoBuffer
			}
			r = w.encapsulate(f, tunnel)
		}
		return r
	case cut:
		p := &w.pieces.fragments
		r := p.Start(x.f, mtu)
		for r == drop.None && p.Left() > 0 {
			f := w.lend(x.provider.MTU + packet.EthernetLen)
			if !p.Next(f) {
				return drop.NoBuffer
			}
			r = w.encapsulate(f, tunnel)
		}
		return r
	}
	if !packet.CompleteChecksum(x.f) {
		return drop.ChecksumUnsupported
	}
	x.f.Offload = packet.Offload{}
	return w.encapsulate(x.f, tunnel)
}

// tunnel sets the outer headers towards a record. Where hosts have several PAs,
// flows spread over those that are up.
func (w *Worker) tunnel(to *way, h *encap.Header) drop.Reason {
	x := &w.x
	h.Kind = kindOf(to.to.rec.Rule)
	if h.Kind == 0 { // only one end is rewritten
		h.Kind = kindOf(x.domain.Rule)
	}
	hash := to.hash
	if hash == 0 {
		hash = x.h.FlowHash()
	}
	dst := x.choosePA(to.to.rec, hash)
	src := w.outerSource(to.src.rec, dst, hash)
	if !src.IsValid() || src.Is6() != dst.Is6() {
		return drop.NoSourcePA
	}
	h.Src, h.Dst, h.VSID = src.Netip(), dst.Netip(), to.vsid()
	h.TOS = x.tenant.dscp(x.h.DSCP)<<2 | x.h.ECN
	h.SetEntropy(hash)
	return drop.None
}

// outerSource gives the PA that a packet leaves by for another one: one of the record
// that vouched for its source, as the receiver will check. A compartment, which has
// one such record here, has one for hosts of the other address family as well: it
// is at our PAs of both. So is what nobody vouches for.
func (w *Worker) outerSource(src *lookup.Record, to lookup.Addr, hash uint32) lookup.Addr {
	x := &w.x
	if src != nil {
		pa := x.choosePA(src, hash)
		if pa.Is6() == to.Is6() || x.in == nil || x.in.spec.Kind != PortCompartment {
			return pa
		}
	}
	return w.sourcePA(to)
}

// innerMTU is the greatest inner IP packet that fits the fabric in the tunnel.
func (x *transit) innerMTU(h *encap.Header) int {
	return max(1, x.provider.MTU-encap.Overhead(h.Kind, h.Dst.Is6()))
}

// choosePA picks one of the record's PAs by the flow, among those not known to
// be down; if all are, the first.
func (x *transit) choosePA(rec *lookup.Record, hash uint32) lookup.Addr {
	if rec.Team == 0 {
		return rec.PA
	}
	pas := x.domain.PAs(rec)
	n := uint32(len(pas))
	for i := range n {
		// The low bits choose the path through the fabric already.
		if pa := pas[(hash>>16+i)%n]; !x.provider.isDown(pa) {
			return pa
		}
	}
	return rec.PA
}

// encapsulate sends an inner frame to the fabric.
func (w *Worker) encapsulate(f *packet.Frame, tunnel *encap.Header) drop.Reason {
	switch {
	case tunnel == nil:
		f.TrimFront(packet.EthernetLen)
	case !encap.Push(f, tunnel):
		return drop.NoBuffer
	}
	w.toFabric(w.x.c, f)
	return drop.None
}

// rewrite makes a routed packet one of the next virtual subnet. The TTL has been
// found to be greater than 1.
func (x *transit) rewrite(to *way) {
	if !to.routed {
		return
	}
	b := x.f.Bytes()
	copy(b[0:6], to.to.rec.MAC[:])
	if to.src.rec == nil || !to.src.rec.UseVMMAC {
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
	if x.mayCut() {
		return true, drop.None
	}
	w.icmpError(packet.TooBig, mtu)
	return false, drop.TooBig
}

// mayCut tells whether the packet may be made into fragments.
func (x *transit) mayCut() bool {
	return x.h.Version == 4 && !x.h.DontFragment && x.f.Offload.GSO == packet.GSONone
}

// wireLen is the length of the IP packet, or of the greatest one that a
// super-packet is cut into.
func (x *transit) wireLen() int {
	o := &x.f.Offload
	if o.GSO == packet.GSONone || x.h.IsFragment() {
		return x.h.Length
	}
	return min(x.h.Length, x.headers()+int(o.GSOSize))
}

// headers is the length of the IP header and the transport's.
func (x *transit) headers() int {
	n := x.h.L4 - x.h.L3
	switch x.h.Proto {
	case packet.ProtoTCP:
		n += int(x.f.Bytes()[x.h.L4+12]>>4) * 4
	case packet.ProtoUDP:
		n += packet.UDPLen
	}
	return n
}

// charge is what the frame costs of rates: its bytes, and those of the headers that
// a super-packet's packets will have. No more than a full bucket has: who makes
// packets of a few bytes each is to be slow, and not stuck.
func (x *transit) charge() int {
	n := x.f.Len()
	if size := int(x.f.Offload.GSOSize); x.f.Offload.GSO != packet.GSONone && size > 0 && !x.h.IsFragment() {
		header := x.headers()
		if more := (x.h.Length - header - 1) / size; more > 0 {
			n += more * (packet.EthernetLen + header)
		}
	}
	return min(n, vfp.MinBurst)
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

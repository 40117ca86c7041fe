package dataplane

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// The proxy answers ARP (RFC 826) and neighbor discovery (RFC 4861) from the
// records, so that neither is ever passed on:
//
//	from a port    for the router's address in the virtual subnet, and for any
//	               CA that has a record there
//	from a tunnel  for CAs with a record at a PA of ours; asked by a kernel or
//	               Open vSwitch host that has no proxy of its own
//
// Nobody gets an answer about an address of his own (duplicate address
// detection would find itself), or one without a record. Advertisements and
// replies are of no interest: records say where addresses live.

// allNodes is where an asker without an address is answered (RFC 4861 section
// 7.2.4).
var allNodes = netip.MustParseAddr("ff02::1")

// macOf gives the MAC to answer a port with that asks for the address; false if
// there is none in its virtual subnet.
func (x *transit) macOf(a netip.Addr) (mac [6]byte, router, ok bool) {
	if x.domain.IsGateway(x.vsid, a) {
		return routerMAC, true, true
	}
	if rec := x.domain.Record(x.vsid, a); rec != nil {
		return rec.MAC, false, true
	}
	return mac, false, false
}

// mayAsk tells whether the port may ask in the name of the address: it must have
// its record. A compartment may also use addresses from outside the routing
// domain, as its kernel does when it forwards.
func (x *transit) mayAsk(a netip.Addr) bool {
	if rec := x.domain.Record(x.vsid, a); rec != nil {
		return x.isAtPort(x.vsid, rec)
	}
	if x.in.spec.Kind != PortCompartment {
		return false
	}
	rt := x.domain.Route(a)
	return rt == nil || !rt.OnLink() && rt.Cover == nil
}

// arpFromPort answers an ARP request of a port.
func (w *Worker) arpFromPort() drop.Reason {
	x := &w.x
	var q packet.ARP
	if r := q.Parse(x.f.Bytes()[x.h.L3:]); r != drop.None {
		return r
	}
	probe := q.SenderIP.IsUnspecified()
	if q.SenderMAC != x.in.mac || !probe && !w.mayClaim(q.SenderIP) && !x.mayAsk(q.SenderIP) {
		return drop.ARPSpoofed
	}
	if q.Op != packet.ARPRequest || q.TargetIP == q.SenderIP {
		return drop.ARPIgnored
	}
	mac, _, ok := x.macOf(q.TargetIP)
	if !ok {
		return w.discover(drop.ARPUnknown)
	}
	if mac == x.in.mac {
		return drop.ARPIgnored
	}
	if !replyTo(&q, mac).Build(x.f, q.SenderMAC, mac) {
		return drop.NoBuffer
	}
	w.answer(x.f)
	return drop.None
}

// arpFromFabric answers an ARP request that came out of a tunnel, back to where
// it came from, if the asker is who it says.
func (w *Worker) arpFromFabric() drop.Reason {
	x := &w.x
	var q packet.ARP
	if r := q.Parse(x.f.Bytes()[x.h.L3:]); r != drop.None {
		return r
	}
	if q.SenderMAC != x.h.SrcMAC {
		return drop.ARPSpoofed
	}
	if q.SenderIP.IsUnspecified() {
		return x.foreign(drop.ARPIgnored)
	}
	if r := x.checkRemoteAsker(q.SenderIP, drop.ARPSpoofed); r != drop.None {
		return r
	}
	if q.Op != packet.ARPRequest || q.TargetIP == q.SenderIP {
		return drop.ARPIgnored
	}
	rec, r := x.localRecord(q.TargetIP, drop.ARPUnknown)
	switch {
	case r == drop.ARPUnknown && x.checkGroupTunnel() == drop.None:
		return w.discover(r)
	case r != drop.None:
		return r
	}
	if !replyTo(&q, rec.MAC).Build(x.f, q.SenderMAC, rec.MAC) {
		return drop.NoBuffer
	}
	return w.answerFabric(rec)
}

// replyTo gives the reply that the target of the request has the MAC.
func replyTo(q *packet.ARP, mac [6]byte) *packet.ARP {
	return &packet.ARP{
		Op:        packet.ARPReply,
		SenderMAC: mac, SenderIP: q.TargetIP,
		TargetMAC: q.SenderMAC, TargetIP: q.SenderIP,
	}
}

// ndFromPort answers a neighbor solicitation of a port.
func (w *Worker) ndFromPort() drop.Reason {
	x := &w.x
	var q packet.ND
	if r := x.parseND(&q); r != drop.None {
		return r
	}
	probe := x.h.Src.IsUnspecified()
	switch {
	case q.HasLinkAddr && q.LinkAddr != x.in.mac:
		return drop.NDSpoofed
	case !probe && !x.h.Src.IsLinkLocalUnicast() && !w.mayClaim(x.h.Src) && !x.mayAsk(x.h.Src):
		return drop.NDSpoofed
	case q.Type == packet.NDNeighborAdvertisement && w.mayClaim(q.Target):
		return drop.NDIgnored // but learned
	case q.Type != packet.NDNeighborSolicitation || q.Target == x.h.Src:
		return drop.NDIgnored
	}
	mac, router, ok := x.macOf(q.Target)
	if !ok {
		return w.discover(drop.NDUnknown)
	}
	if mac == x.in.mac {
		return drop.NDIgnored
	}
	to, toMAC := x.h.Src, x.h.SrcMAC
	if probe {
		to, toMAC = allNodes, packet.MulticastMAC(allNodes)
	}
	if !advertise(q.Target, mac, router, !probe).Build(x.f, toMAC, mac, q.Target, to) {
		return drop.NoBuffer
	}
	w.answer(x.f)
	return drop.None
}

// ndFromFabric answers a neighbor solicitation that came out of a tunnel.
func (w *Worker) ndFromFabric() drop.Reason {
	x := &w.x
	var q packet.ND
	if r := x.parseND(&q); r != drop.None {
		return r
	}
	if q.HasLinkAddr && q.LinkAddr != x.h.SrcMAC {
		return drop.NDSpoofed
	}
	if x.h.Src.IsUnspecified() || x.h.Src.IsLinkLocalUnicast() {
		return x.foreign(drop.NDIgnored) // no record says whose it is
	}
	if r := x.checkRemoteAsker(x.h.Src, drop.NDSpoofed); r != drop.None {
		return r
	}
	if q.Type != packet.NDNeighborSolicitation || q.Target == x.h.Src {
		return drop.NDIgnored
	}
	rec, r := x.localRecord(q.Target, drop.NDUnknown)
	switch {
	case r == drop.NDUnknown && x.checkGroupTunnel() == drop.None:
		return w.discover(r)
	case r != drop.None:
		return r
	}
	if !advertise(q.Target, rec.MAC, false, true).Build(x.f, x.h.SrcMAC, rec.MAC, q.Target, x.h.Src) {
		return drop.NoBuffer
	}
	return w.answerFabric(rec)
}

func (x *transit) parseND(q *packet.ND) drop.Reason {
	if x.f.Offload.GSO != packet.GSONone || !packet.CompleteChecksum(x.f) {
		return drop.NDMalformed
	}
	return q.Parse(x.f.Bytes(), &x.h)
}

// advertise gives the advertisement that the target has the MAC. It overrides
// what the asker knew: there is no better source than the record.
func advertise(target netip.Addr, mac [6]byte, router, solicited bool) *packet.ND {
	return &packet.ND{
		Type:   packet.NDNeighborAdvertisement,
		Router: router, Solicited: solicited, Override: true,
		Target: target, LinkAddr: mac, HasLinkAddr: true,
	}
}

// checkRemoteAsker checks who asks out of a tunnel: the host of the address'
// record in this virtual subnet, with the record's own MAC, or a host's
// distributed router. The reason spoofed is for the rest.
func (x *transit) checkRemoteAsker(a netip.Addr, spoofed drop.Reason) drop.Reason {
	rec := x.domain.Record(x.vsid, a)
	switch {
	case rec != nil && !x.domain.IsAt(rec, x.pa):
		return x.foreign(drop.SourcePAMismatch)
	case rec != nil && rec.MAC == x.h.SrcMAC:
		x.srcRule = rec.Rule
		return drop.None
	case rec != nil || !x.domain.IsGateway(x.vsid, a) || x.h.SrcMAC != routerMAC:
		return x.foreign(spoofed)
	}
	x.srcRule = x.domain.Rule
	return x.foreign(drop.None)
}

// localRecord gives the record of an address at a PA of ours in this virtual
// subnet, if whoever asks came by a tunnel that goes with it. The reason unknown
// is for addresses without a record.
func (x *transit) localRecord(a netip.Addr, unknown drop.Reason) (*lookup.Record, drop.Reason) {
	rec := x.domain.Record(x.vsid, a)
	switch {
	case rec == nil:
		return nil, unknown
	case !x.isHere(rec):
		return nil, drop.NotLocal
	}
	x.dstRule = rec.Rule
	return rec, x.checkTunnel()
}

// answerFabric sends the answer in the packet's frame, which is about the record,
// back the way that the packet came.
func (w *Worker) answerFabric(rec *lookup.Record) drop.Reason {
	x := &w.x
	from := w.outer.Dst
	if from.IsMulticast() {
		from = rec.PA.Netip()
	}
	if from.Is6() != x.pa.Is6() {
		return drop.NoSourcePA
	}
	h := encap.Header{Kind: kindOf(x.rule), Src: from, Dst: x.pa.Netip(), VSID: x.vsid}
	h.SetEntropy(x.h.FlowHash())
	x.c.add(answered, 1)
	return w.encapsulate(x.f, &h)
}

package dataplane

import (
	"github.com/hnvgate/hnvgate/dataplane/capture"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Onlookers see packets at five points of their way:
//
//	fabric --> fabric-in --> decap --+--> layers --> port-out --> port
//	port   --> port-in --------------+--> layers --> encap --> fabric-out --> fabric
//	                                 `--> drop
//
// A Worker looks once a batch whether there are any. While there are none, a
// packet costs a look at one flag of the Worker's own at each point.

// onlookers are those who look at a Worker's packets.
type onlookers struct {
	watched bool              // there are any
	pings   *pings            // nil: none is under way
	taps    *capture.Sessions // nil: nobody captures
	meta    capture.Meta      // of the packet shown
	inner   packet.Headers    // likewise
	shown   encap.Header      // likewise, the outer one
}

// Tap is where captures of the Switch's packets run:
//
//	err := s.Tap().Run(ctx, session)
//
// Frames that a port's or the fabric's Writer did not take are shown as sent: no
// Writer tells which they were. Counters have them.
func (s *Switch) Tap() *capture.Tap { return &s.tap }

// lookOut sees who looks on during a batch.
func (w *Worker) lookOut() {
	if w.tr != nil { // what never happened is nobody else's business
		w.watched = true
		return
	}
	w.taps, w.pings = w.sw.tap.Sessions(), w.sw.pinger.now.Load()
	w.watched = w.taps != nil || w.pings != nil
}

// lookAway lets go of onlookers between batches: one that is idle for long must
// not keep what they hold.
func (w *Worker) lookAway() {
	w.taps, w.pings, w.watched = nil, nil, false
}

// dropped counts the packet under way as dropped for r, if it was.
func (w *Worker) dropped(c *cell, r drop.Reason) {
	if r == drop.None {
		return
	}
	c.drop(r, 1)
	if w.watched {
		w.seeDrop(r)
	}
}

func (w *Worker) wants(p capture.Point) bool { return w.taps != nil && w.taps.Want(p) }

// seeFabricIn shows an outer packet as it arrived.
func (w *Worker) seeFabricIn(f *packet.Frame) {
	if w.wants(capture.FabricIn) {
		w.show(capture.FabricIn)
		w.describeOuter(f)
		w.taps.Offer(&w.meta, f.Bytes())
	}
}

// seeFabricOut shows an outer packet as it leaves, and tells whether it is taken:
// then it does not.
func (w *Worker) seeFabricOut(f *packet.Frame) (taken bool) {
	if w.tr != nil {
		w.tr.sent(nil, f)
		return true
	}
	if w.wants(capture.FabricOut) {
		w.show(capture.FabricOut)
		w.describeOuter(f)
		w.taps.Offer(&w.meta, f.Bytes())
	}
	return false
}

// seePortIn shows a frame as the port sent it.
func (w *Worker) seePortIn(p *port, f *packet.Frame) {
	if w.wants(capture.PortIn) {
		w.show(capture.PortIn)
		w.describePort(p)
		w.describeInner(f)
		w.taps.Offer(&w.meta, f.Bytes())
	}
}

// seePortOut shows a frame as the port gets it, and tells whether it is taken:
// then the port does not get it.
func (w *Worker) seePortOut(p *port, f *packet.Frame) (taken bool) {
	if w.tr != nil {
		w.tr.sent(p, f)
		return true
	}
	if w.pings != nil && w.takeReply(p, f) {
		return true
	}
	if w.wants(capture.PortOut) {
		w.show(capture.PortOut)
		w.describePort(p)
		w.describeInner(f)
		w.describeFabric()
		w.taps.Offer(&w.meta, f.Bytes())
	}
	return false
}

// seeDrop shows the packet under way as it was when it was dropped.
func (w *Worker) seeDrop(r drop.Reason) {
	if w.tr != nil {
		w.tr.drop(r)
		return
	}
	if w.pings != nil {
		w.missReply(r)
	}
	if !w.wants(capture.Drop) {
		return
	}
	x := &w.x
	w.show(capture.Drop)
	w.meta.Reason = r
	if x.outer {
		w.describeOuter(x.f)
	} else {
		w.describeInner(x.f)
		w.describeFabric()
	}
	switch {
	case x.at != nil:
		w.describePort(x.at)
	case x.tenant != nil:
		w.describeTenant(x.tenant, x.domain)
		fallthrough
	case !x.outer:
		w.meta.VSID = x.vsid
	}
	w.taps.Offer(&w.meta, x.f.Bytes())
}

// show begins the description of a packet.
func (w *Worker) show(p capture.Point) {
	w.meta = capture.Meta{Time: w.now, Point: p, Link: capture.Ethernet}
	if p == capture.FabricIn || p == capture.FabricOut {
		w.meta.Link = capture.RawIP
	}
}

func (w *Worker) describeTenant(t *tenant, d *lookup.Domain) {
	w.meta.RDID = t.rdid
	if d != nil {
		w.meta.Tenant = d.Name
	}
}

func (w *Worker) describePort(p *port) {
	w.describeTenant(p.tenant, p.tenant.domain.Load())
	w.meta.VSID, w.meta.Port = p.vsid, p.spec.Name
}

// describeInner describes an Ethernet frame. Of one that cannot be read, as much
// is told as was read.
func (w *Worker) describeInner(f *packet.Frame) {
	w.inner.DecodeEthernet(f.Bytes())
	w.meta.SetInner(&w.inner, f.Bytes(), f.Offload)
}

// describeFabric tells between which PAs the packet under way has travelled.
func (w *Worker) describeFabric() {
	x := &w.x
	switch {
	case x.in != nil || !x.pa.IsValid():
	case x.rule == lookup.RuleRewrite:
		w.meta.SrcPA = x.pa.Netip()
	default:
		w.meta.SrcPA, w.meta.DstPA = w.outer.Src, w.outer.Dst
	}
}

// describeOuter describes an IP packet of the fabric: whose it is by its VSID,
// or by its PAs if they stand for CAs.
func (w *Worker) describeOuter(f *packet.Frame) {
	m, b := &w.meta, f.Bytes()
	m.Link, m.Offload = capture.RawIP, f.Offload
	src, dst, proto := ends(b)
	m.SrcPA, m.DstPA = src.Netip(), dst.Netip()
	if w.describeRewritten(src, dst, proto, f) {
		return
	}
	if encap.Parse(b, &w.shown) != drop.None {
		return
	}
	m.VSID = w.shown.VSID
	if t, d := w.sw.tenantOf(m.VSID); t != nil {
		w.describeTenant(t, d)
	}
	frame := b[w.shown.InnerOff:w.shown.Total]
	w.inner.DecodeEthernet(frame)
	m.SetInner(&w.inner, frame, f.Offload)
}

// describeRewritten describes a packet between PAs that stand for CAs; false if
// it is none.
func (w *Worker) describeRewritten(src, dst lookup.Addr, proto uint8, f *packet.Frame) bool {
	table := w.sw.rewritten.Load()
	if table.Len() == 0 {
		return false
	}
	t := table.Get(dst)
	if t == nil {
		return false
	}
	d := (*t).domain.Load()
	if d == nil {
		return false
	}
	to, ok := d.Rewritten(dst)
	if !ok {
		return false
	}
	from, fromVM := d.Rewritten(src)
	if !fromVM && (proto == packet.ProtoGRE || proto == packet.ProtoUDP) {
		return false
	}
	w.describeTenant(*t, d)
	w.inner.DecodeIP(f.Bytes())
	m := &w.meta
	m.SetInner(&w.inner, f.Bytes(), f.Offload)
	m.VSID, m.Dst = to.VSID(), to.CA()
	if fromVM {
		m.Src = from.CA()
	}
	return true
}

package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// IP rewrite is the mechanism without a tunnel: each CA has a PA that stands for
// it and for nothing else, and packets travel over the fabric as they are, with
// PAs in the place of both CAs.
//
//	VM        10.1.1.11 > 10.1.1.12      Ethernet taken off
//	fabric    192.168.1.111 > 192.168.2.112   both addresses rewritten
//	VM        10.1.1.11 > 10.1.1.12      Ethernet made anew from the records
//
// The pair of PAs says everything: a packet from a PA that stands for a CA to
// one that stands for another of the same routing domain is that one's, whatever
// else it is, even if a VM made it look like a tunnel packet. Where only one end
// of a conversation is rewritten, the other encapsulates by the tenant's own
// rule; so a tunnel packet comes from, or goes to, a PA that stands for no CA.

// rewritten tells, of the PAs that stand for a CA, whose they are.
type rewritten = lookup.Map[lookup.Addr, *tenant]

// claimPAs checks that nobody else has the PAs of the rewrite records of a
// tenant's next domain; with mu.
func (s *Switch) claimPAs(rdid hnv.RDID, d *lookup.Domain) (err error) {
	table := s.rewritten.Load()
	d.Rewrites(func(pa lookup.Addr, k lookup.Key) bool {
		if other := table.Get(pa); other != nil && (*other).rdid != rdid {
			err = fmt.Errorf("PA %s of rewrite record %d/%s stands for an address of routing domain %s: %w", pa, k.VSID(), k.CA(), (*other).rdid, ErrConflict)
		}
		return err == nil
	})
	return err
}

// registerPAs publishes which PAs stand for CAs of the tenant, where that has
// changed; with mu.
func (s *Switch) registerPAs(t *tenant, old, now *lookup.Domain) {
	if old != nil && now != nil && old.SameRewrites(now) {
		return
	}
	edit := s.rewritten.Load().Edit()
	if old != nil {
		old.Rewrites(func(pa lookup.Addr, _ lookup.Key) bool { edit.Delete(pa); return true })
	}
	if now != nil {
		now.Rewrites(func(pa lookup.Addr, _ lookup.Key) bool { edit.Put(pa, t); return true })
	}
	s.rewritten.Store(edit.Done())
}

// ends reads the addresses of an IP packet, as far as is needed to tell whose
// it is.
func ends(b []byte) (src, dst lookup.Addr, proto uint8) {
	switch {
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		return lookup.AddrFrom(netip.AddrFrom4([4]byte(b[12:]))), lookup.AddrFrom(netip.AddrFrom4([4]byte(b[16:]))), b[9]
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		return lookup.AddrFrom(netip.AddrFrom16([16]byte(b[8:]))), lookup.AddrFrom(netip.AddrFrom16([16]byte(b[24:]))), b[6]
	}
	return src, dst, 0
}

// receiveRewritten takes a packet from the fabric that is addressed to a PA that
// stands for a CA; not taken is one that must be a tunnel packet.
func (w *Worker) receiveRewritten(f *packet.Frame) (c *cell, r drop.Reason, taken bool) {
	table := w.sw.rewritten.Load()
	if table.Len() == 0 {
		return nil, 0, false
	}
	from, to, proto := ends(f.Bytes())
	t := table.Get(to)
	if t == nil {
		return nil, 0, false
	}
	domain := (*t).domain.Load()
	if domain == nil {
		w.x = transit{f: f, outer: true}
		return w.nowhere, drop.VSIDUnknown, true
	}
	dst, ok := domain.Rewritten(to)
	if !ok { // between two steps of a change
		w.x = transit{f: f, outer: true}
		return w.nowhere, drop.RewriteUnknown, true
	}
	src, fromVM := domain.Rewritten(from)
	if !fromVM && (proto == packet.ProtoGRE || proto == packet.ProtoUDP) {
		return nil, 0, false
	}
	x := &w.x
	*x = transit{f: f, outer: true, tenant: *t, domain: domain, vsid: dst.VSID(), pa: from, rule: lookup.RuleRewrite, provider: w.sw.provider.Load(), c: w.cellOf(*t)}
	x.c.traffic(fromFabric, f.Len())
	rec := domain.At(dst)
	switch {
	case rec == nil:
		return x.c, drop.RewriteUnknown, true
	case !x.isHere(rec):
		return x.c, drop.OuterNotOurs, true
	case x.provider.owns(from):
		return x.c, drop.OuterSourceOurs, true
	}
	if r := x.h.DecodeIP(f.Bytes()); r != drop.None {
		return x.c, r, true
	}
	if x.h.HasOptions {
		return x.c, drop.RewriteImpossible, true
	}
	if f.Offload.GSO == packet.GSONone && !f.TrimBack(x.h.Length) || !f.Offload.SpareHeaders(&x.h) {
		return x.c, drop.ChecksumUnsupported, true
	}
	if !fromVM {
		return x.c, w.fabricError(dst, rec), true
	}
	return x.c, w.restore(src, dst, rec), true
}

// restore makes the packet under way again what it was between CAs, and takes it
// on as one out of a tunnel.
func (w *Worker) restore(src, dst lookup.Key, to *lookup.Record) drop.Reason {
	x := &w.x
	from := x.domain.At(src)
	switch {
	case from == nil:
		return drop.RewriteUnknown
	case x.h.IsND(): // hosts answer it from records, and pass none on
		return drop.NDIgnored
	}
	mac := routerMAC
	if src.VSID() == dst.VSID() {
		mac = from.MAC
	}
	back := vfp.Transposition{Set: vfp.SetSrc | vfp.SetDst, NewSrc: src.CA(), NewDst: dst.CA()}
	if r := back.Apply(x.f, &x.h); r != drop.None {
		return r
	}
	if r := x.frame(mac, to.MAC); r != drop.None {
		return r
	}
	if w.tr != nil {
		w.tr.restore(src, dst)
	}
	w.outer = encap.Header{TOS: x.h.ECN} // there is one header only
	p := w.sw.ports.Load().at(dst.VSID(), to.MAC)
	if p == nil || p.tenant != x.tenant {
		return drop.NoPort
	}
	return w.enter(p)
}

// frame puts an Ethernet header before the packet under way, and reads it again.
func (x *transit) frame(src, dst [6]byte) drop.Reason {
	etherType := x.h.EtherType
	b := x.f.Prepend(packet.EthernetLen)
	if b == nil {
		return drop.NoBuffer
	}
	packet.PutEthernet(b, dst, src, etherType)
	x.outer = false
	return x.h.DecodeEthernet(x.f.Bytes())
}

// fabricError takes an ICMP error of a router of the fabric to the VM whose
// rewritten packet it is about, as if it came from the packet's destination: that
// the packet was too big, and nothing else, and only of flows that there are.
func (w *Worker) fabricError(dst lookup.Key, to *lookup.Record) drop.Reason {
	x := &w.x
	tooBig := x.h.Version == 4 && x.h.Proto == packet.ProtoICMP && x.h.ICMPType == 3 && x.h.ICMPCode == 4 ||
		x.h.Version == 6 && x.h.Proto == packet.ProtoICMPv6 && x.h.ICMPType == 2
	var quoted packet.Headers
	if !tooBig || x.h.IsFragment() || !packet.CompleteChecksum(x.f) || !quote(&quoted, x.f.Bytes()[:x.h.Length], &x.h) {
		return drop.RewriteUnknown
	}
	remote, ok := x.domain.Rewritten(lookup.AddrFrom(quoted.Dst))
	if own, mine := x.domain.Rewritten(lookup.AddrFrom(quoted.Src)); !ok || !mine || own != dst {
		return drop.RewriteUnknown
	}
	quoted.Src, quoted.Dst = dst.CA(), remote.CA()
	p := w.sw.ports.Load().at(dst.VSID(), to.MAC)
	if p == nil || p.tenant != x.tenant {
		return drop.NoPort
	}
	key := flow.KeyOf(uint8(outbound), &quoted)
	if w.lookup(p, &key) == nil {
		return drop.RewriteUnknown
	}
	back := vfp.Transposition{Set: vfp.SetSrc | vfp.SetDst, NewSrc: remote.CA(), NewDst: dst.CA()}
	if r := back.Apply(x.f, &x.h); r != drop.None {
		return r
	}
	if r := x.frame(routerMAC, to.MAC); r != drop.None {
		return r
	}
	w.toPort(p, x.c, x.f)
	return drop.None
}

// forwardRewritten takes the packet to the PA that stands for its destination.
func (w *Worker) forwardRewritten(to *way) drop.Reason {
	x := &w.x
	src, dst := to.src.rec, to.to.rec
	if x.h.HasOptions || src.PA.Is6() != dst.PA.Is6() || !x.standsFor(to.src, x.h.Src) || !x.standsFor(to.to, x.h.Dst) {
		return drop.RewriteImpossible
	}
	cut, r := w.fit(x.provider.MTU)
	if r != drop.None {
		return r
	}
	x.rewrite(to)
	if x.f.Offload.GSO == packet.GSONone && !x.f.TrimBack(x.h.L3+x.h.Length) {
		return drop.ChecksumUnsupported
	}
	there := vfp.Transposition{Set: vfp.SetSrc | vfp.SetDst, NewSrc: src.PA.Netip(), NewDst: dst.PA.Netip()}
	if r := there.Apply(x.f, &x.h); r != drop.None {
		return r
	}
	return w.emit(nil, x.provider.MTU, cut)
}

// standsFor tells whether the PA of the record stands for the address.
func (x *transit) standsFor(p place, ca netip.Addr) bool {
	k, ok := x.domain.Rewritten(p.rec.PA)
	return ok && k == p.key && k.CA() == ca
}

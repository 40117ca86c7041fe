package dataplane

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// Broadcast and multicast stay within their virtual subnet: a copy for each
// other port of it on this machine, and one for each other host that has records
// in it, by unicast, or a single one to the subnet's PA multicast group (RFC 7637
// section 4.2, RFC 7348 section 4.2). What came out of a tunnel goes to ports
// only. A frame for several stations must be addressed so on both layers
// (RFC 1122 section 3.3.6), or filters that look at one of them could be slipped
// past.
//
//	port --> source --> layers --> storm limit --+--> other ports' layers --> ports
//	                                             |--> one copy a remote host, or
//	                                             `--> one to the PA group
//	fabric --> source --> storm limit -----------'--> ports' layers --> ports
//
// Broadcasts of DHCP clients go to the subnet's DHCP server alone, where one is
// configured; then nobody else speaks for one either.

// defaultStormBurst is how many seconds' worth of broadcasts may come at once.
const stormBurst = 1

// replicate takes a broadcast or multicast packet of a port to the other
// stations of its virtual subnet.
func (w *Worker) replicate() drop.Reason {
	x := &w.x
	if !x.isGroupOnBothLayers() {
		return drop.GroupMismatch
	}
	src, r := x.checkGroupSource()
	if r != drop.None {
		return r
	}
	if r := w.admitGroup(x.in, x.in.policy.Load(), outbound); r != drop.None {
		return r
	}
	if !w.allow(&x.tenant.sent, x.tenant.stormRate(), x.tenant.stormRate()*stormBurst) {
		return drop.StormLimited
	}
	sub := x.domain.Subnet(x.vsid)
	if x.asksServer(sub) {
		return w.toDHCPServer(sub.DHCP, src)
	}
	targets := 0
	r = drop.None
	if sub.Group.IsValid() {
		targets++
		r = w.copyTo(lookup.Target{PA: sub.Group, Rule: x.domain.Rule}, src)
	} else {
		for _, t := range x.domain.Flood(x.vsid) {
			if x.provider.owns(t.PA) {
				continue
			}
			targets++
			w.dropped(x.c, w.copyTo(t, src)) // each copy for itself
		}
	}
	if n := w.toStations(x.in.id); n+targets == 0 {
		return drop.NoStation
	}
	return r
}

// spread takes a broadcast or multicast packet from the fabric to the ports of
// its virtual subnet, and never back to the fabric.
func (w *Worker) spread() drop.Reason {
	x := &w.x
	if !x.isGroupOnBothLayers() {
		return drop.GroupMismatch
	}
	if r := x.checkFabricGroupSource(); r != drop.None {
		return r
	}
	if !w.allow(&x.tenant.received, x.tenant.stormRate(), x.tenant.stormRate()*stormBurst) {
		return drop.StormLimited
	}
	ecn, ok := packet.DecapECN(w.outer.ECN(), x.h.ECN)
	if !ok {
		return drop.ECNInvalid
	}
	if ecn != x.h.ECN {
		packet.SetECN(x.f.Bytes()[x.h.L3:], ecn)
	}
	if sub := x.domain.Subnet(x.vsid); x.asksServer(sub) {
		return w.toDHCPServer(sub.DHCP, place{})
	}
	if w.toStations(0) == 0 {
		return drop.NoStation
	}
	return drop.None
}

// toStations gives a copy to each port of the virtual subnet but one, through
// its layers, and tells how many ports there are. What a port's layers drop is
// counted as its tenant's.
func (w *Worker) toStations(but PortID) (n int) {
	x := &w.x
	whole := *x
	for _, to := range w.sw.ports.Load().in(x.vsid) {
		if to.id == but || to.tenant != x.tenant {
			continue
		}
		n++
		*x = whole
		x.at = to
		if x.f = w.copyOf(whole.f); x.f == nil {
			x.f = whole.f
			w.dropped(x.c, drop.NoBuffer)
			continue
		}
		w.dropped(x.c, w.giveCopy(to))
	}
	*x = whole
	return n
}

// giveCopy gives a copy of a packet for several stations to the port, through its
// layers, and in pieces if a port sent it and it may be cut.
func (w *Worker) giveCopy(to *port) drop.Reason {
	x := &w.x
	if r := w.admitOne(to); r != drop.None {
		return r
	}
	mtu := to.spec.MTU
	switch {
	case mtu == 0 || x.wireLen() <= mtu:
		return w.give(to)
	case x.in == nil || !x.mayCut():
		return drop.TooBig
	}
	return w.giveCut(to)
}

// admitOne lets a packet through the layers of the port, as one of no flow.
func (w *Worker) admitOne(to *port) drop.Reason {
	pol := to.policy.Load()
	if !pol.inbound {
		return drop.None
	}
	return w.admitGroup(to, pol, inbound)
}

// admitGroup asks the port's layers about a packet for several stations, which
// is of no flow. Its addresses stay as they are, whatever a layer rewrites: a
// group's are nobody's.
func (w *Worker) admitGroup(p *port, pol *policy, dir vfp.Direction) drop.Reason {
	fl := flowState{port: p, pol: pol, dir: dir}
	w.goesWith(&fl)
	if r := w.judge(&fl); r != drop.None {
		return r
	}
	v := &w.verdict
	v.Lease.Release()
	v.Lease, v.Transposition, w.replies = vfp.Lease{}, vfp.Transposition{}, vfp.Transposition{}
	return w.remember(&fl, nil)
}

// copyTo sends a copy to another host.
func (w *Worker) copyTo(t lookup.Target, src place) drop.Reason {
	x := &w.x
	whole := *x
	defer func() { *x = whole }()
	kind := kindOf(t.Rule)
	t.PA = x.reachable(t.PA)
	from := w.outerSource(src.rec, t.PA, 0)
	if kind == 0 {
		kind = kindOf(x.domain.Rule)
	}
	if kind == 0 || !from.IsValid() || from.Is6() != t.PA.Is6() {
		return drop.NoSourcePA
	}
	tunnel := encap.Header{Kind: kind, Src: from.Netip(), Dst: t.PA.Netip(), VSID: x.vsid, TOS: x.tenant.dscp(x.h.DSCP)<<2 | x.h.ECN}
	tunnel.SetEntropy(x.h.FlowHash())
	mtu := x.innerMTU(&tunnel)
	cut, r := w.fit(mtu)
	if r != drop.None {
		return r
	}
	if x.f = w.copyOf(whole.f); x.f == nil {
		return drop.NoBuffer
	}
	return w.emit(&tunnel, mtu, cut)
}

// reachable gives the PA, or another one of its host if it is known to be down.
func (x *transit) reachable(pa lookup.Addr) lookup.Addr {
	if !x.provider.isDown(pa) {
		return pa
	}
	for _, other := range x.domain.HostPAs(pa) {
		if !x.provider.isDown(other) {
			return other
		}
	}
	return pa
}

// copyOf lends a copy of the frame; nil if there is no room.
func (w *Worker) copyOf(f *packet.Frame) *packet.Frame {
	c := w.lend(f.Len())
	if !f.Clone(c) {
		return nil
	}
	return c
}

// asksServer tells whether the packet is a DHCP client's for the subnet's server.
func (x *transit) asksServer(sub *lookup.Subnet) bool {
	return sub.DHCP.IsValid() && sub.DHCP.Is4() == (x.h.Version == 4) && x.h.IsDHCPToServer()
}

// toDHCPServer takes a broadcast of a DHCP client to the server's host alone, and
// there to the server alone.
func (w *Worker) toDHCPServer(ca netip.Addr, src place) drop.Reason {
	x := &w.x
	rt, rec := x.domain.Resolve(ca)
	switch {
	case rec == nil || rt.VSID != x.vsid:
		return drop.DestinationUnknown
	case !x.isHere(rec) && x.in == nil:
		return drop.NotLocal
	case !x.isHere(rec):
		return w.copyTo(lookup.Target{PA: rec.PA, Rule: rec.Rule}, src)
	}
	to := w.sw.ports.Load().at(x.vsid, rec.MAC)
	switch {
	case to == nil || to.tenant != x.tenant:
		return drop.NoPort
	case to == x.in:
		return drop.SamePort
	}
	x.at = to
	return w.giveCopy(to)
}

// isGroupOnBothLayers tells whether MAC and IP destination are both a group's,
// and go together.
func (x *transit) isGroupOnBothLayers() bool {
	broadcast := x.h.DstMAC == [6]byte{255, 255, 255, 255, 255, 255}
	switch {
	case x.h.Dst.IsMulticast():
		return x.h.DstMAC[0]&1 != 0 // some systems broadcast multicast (RFC 1112 section 6.4)
	case !broadcast || !x.h.Dst.Is4():
		return false
	}
	return x.h.Dst == broadcastIP || x.isDirectedBroadcast(x.h.Dst)
}

// isDirectedBroadcast tells whether the address is the broadcast one of a prefix
// of the virtual subnet.
func (x *transit) isDirectedBroadcast(a netip.Addr) bool {
	for _, p := range x.domain.Subnet(x.vsid).Prefixes {
		if p.Prefix.Contains(a) && p.Prefix.Bits() < 31 && !p.Prefix.Contains(a.Next()) {
			return true
		}
	}
	return false
}

// checkGroupSource checks who sends a broadcast or multicast packet: the port's
// own station. One that has no address yet may ask for one by DHCP; an IPv6
// station also speaks by its link-local address.
func (x *transit) checkGroupSource() (place, drop.Reason) {
	if !x.hasNoCA() {
		if r := checkGroupAddress(x.h.Src); r != drop.None {
			return place{}, r
		}
		src, r := x.checkPortSource()
		if r == drop.None && x.h.IsDHCPToClient() && !x.mayServe(x.vsid, src) {
			r = drop.DHCPRogue
		}
		return src, r
	}
	if x.h.IsDHCPToClient() && !x.mayServeByMAC(x.in.mac) {
		return place{}, drop.DHCPRogue
	}
	// The station's PA is that of its MAC.
	if rec := x.domain.Station(x.vsid, x.in.mac); rec != nil && x.isHere(rec) {
		return place{rec: rec}, drop.None
	}
	if x.in.spec.Kind == PortCompartment {
		return place{}, drop.None
	}
	return place{}, drop.SourceCAUnknown
}

// hasNoCA tells whether the packet is one that a station may send without, or not
// in the name of, a CA of its own.
func (x *transit) hasNoCA() bool {
	switch {
	case x.h.Version == 6 && x.h.Src.IsLinkLocalUnicast():
		return true
	case !x.h.Src.IsUnspecified():
		return false
	case x.h.Version == 4:
		return x.h.IsDHCPToServer()
	}
	return x.h.Proto == packet.ProtoICMPv6 // MLD (RFC 3810 section 5.2.13)
}

// checkFabricGroupSource makes the same check on a packet from the fabric.
func (x *transit) checkFabricGroupSource() drop.Reason {
	if !x.hasNoCA() {
		if r := checkGroupAddress(x.h.Src); r != drop.None {
			return r
		}
		src, r := x.checkFabricSource()
		switch {
		case r != drop.None:
			return r
		case x.h.IsDHCPToClient() && !x.mayServe(x.vsid, src):
			return drop.DHCPRogue
		}
		return x.checkGroupTunnel()
	}
	rec := x.domain.Station(x.vsid, x.h.SrcMAC)
	switch {
	case rec == nil:
		return x.foreign(drop.SourceCAUnknown)
	case !x.domain.IsAt(rec, x.pa):
		return x.foreign(drop.SourcePAMismatch)
	case x.h.IsDHCPToClient() && !x.mayServeByMAC(x.h.SrcMAC):
		return drop.DHCPRogue
	}
	x.srcRule = rec.Rule
	return x.checkGroupTunnel()
}

// checkGroupTunnel checks the kind of tunnel of what is for several stations: that
// of the sender's record, the tenant's own, as it is for a PA group, or the one
// by which this host is sent copies.
func (x *transit) checkGroupTunnel() drop.Reason {
	if x.rule == x.srcRule || x.rule == x.domain.Rule {
		return drop.None
	}
	for _, t := range x.domain.Flood(x.vsid) {
		if t.Rule == x.rule && x.provider.owns(t.PA) {
			return drop.None
		}
	}
	return drop.EncapMismatch
}

func checkGroupAddress(src netip.Addr) drop.Reason {
	if martian(src) || src.IsMulticast() {
		return drop.SourceMartian
	}
	return drop.None
}

// isSubnetDHCP tells whether the packet is between a client and the DHCP server
// that the subnet is configured with. Lists do not keep a station from getting
// its address: the question is a broadcast, so that no list could tell an answer
// to it from anything else.
func (x *transit) isSubnetDHCP(at *port) bool {
	sub := x.domain.Subnet(at.vsid)
	if sub == nil || !sub.DHCP.Is4() || x.h.Version != 4 {
		return false
	}
	return x.h.IsDHCPToServer() && (x.h.Dst == broadcastIP || x.h.Dst == sub.DHCP) || x.h.IsDHCPToClient() && x.h.Src == sub.DHCP
}

// mayServe tells whether the station may answer the virtual subnet's DHCP clients:
// anyone where no server is configured, and that one where it is.
func (x *transit) mayServe(vsid uint32, src place) bool {
	sub := x.domain.Subnet(vsid)
	return sub == nil || !sub.DHCP.IsValid() || sub.DHCP.Is4() != (x.h.Version == 4) || src.rec != nil && src.key == lookup.KeyOf(src.key.VSID(), sub.DHCP)
}

// mayServeByMAC tells the same of a station that speaks by its link-local address.
func (x *transit) mayServeByMAC(mac [6]byte) bool {
	sub := x.domain.Subnet(x.vsid)
	if !sub.DHCP.IsValid() || sub.DHCP.Is4() != (x.h.Version == 4) {
		return true
	}
	rec := x.domain.Record(x.vsid, sub.DHCP)
	return rec != nil && rec.MAC == mac
}

// stormRate is how many broadcasts a second the tenant may have.
func (t *tenant) stormRate() int {
	if d := t.domain.Load(); d != nil && d.StormPPS > 0 {
		return int(d.StormPPS)
	}
	return hnv.DefaultStormPPS
}

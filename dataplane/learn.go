package dataplane

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Learning is for stations whose CAs nobody configured: a port whose MAC has an
// L2Only record here, in a virtual subnet that allows it. Such a port claims a CA
// by ARP or neighbor discovery in its name, or by the lease that a DHCP server
// gives it; data packets claim nothing.
//
//	worker                      learner (Run, Upkeep)              control plane
//	port --> ARP, ND -----.
//	     --> DHCP release -+-> sighting --> limit, moves, ageing --> OnLearn
//	port <-- DHCP ack -----'                      |                      |
//	                                              v                      v
//	                                 Dynamic record in the domain    store, peers
//
// A worker only says what it saw, into a queue that loses what does not fit; all
// else happens outside the packets' way. Whatever is configured wins: no claim
// replaces a record that is not Dynamic.

// sighting is what a worker saw of a station that may claim CAs.
type sighting struct {
	what  seen
	port  *port
	ca    netip.Addr
	lease time.Duration // of a DHCP lease
}

type seen uint8

const (
	claimed  seen = iota + 1 // in the name of the CA
	leased                   // a DHCP server gave it the CA
	released                 // it gave the CA back
)

// maxSightings is how many may wait for the learner, and sightingRate how many a
// tenant may have in a second, so that none crowds the others out.
const (
	maxSightings = 1024
	sightingRate = 200
)

// learning gives the L2Only record of the port if it may learn, nil if not.
func (x *transit) learning(p *port) *lookup.Record {
	sub := x.domain.Subnet(p.vsid)
	if sub == nil || sub.Learning == nil {
		return nil
	}
	rec := x.domain.Station(p.vsid, p.mac)
	if rec == nil || rec.Type != lookup.L2Only || !x.isHere(rec) {
		return nil
	}
	return rec
}

// mayClaim tells whether the port may say that the CA is its own, and reports
// that it did. It may where nobody else was configured to have it.
func (w *Worker) mayClaim(ca netip.Addr) bool {
	x := &w.x
	if x.learning(x.in) == nil || !x.claimable(x.in.vsid, ca) {
		return false
	}
	w.report(sighting{what: claimed, port: x.in, ca: ca})
	return true
}

// claimable tells whether a station of the virtual subnet can have the CA at
// all, as far as the configuration says.
func (x *transit) claimable(vsid uint32, ca netip.Addr) bool {
	if x.domain.IsGateway(vsid, ca) {
		return false
	}
	if rec := x.domain.Record(vsid, ca); rec != nil && rec.Type != lookup.Dynamic {
		return false
	}
	sub := x.domain.Subnet(vsid)
	if ca == sub.DHCP { // the server's, who may answer all clients, is configured or nobody's
		return false
	}
	for _, p := range sub.Prefixes {
		if p.Prefix.Contains(ca) {
			return ca != p.Prefix.Masked().Addr() && !packet.IsBroadcastAddr(ca, p.Prefix)
		}
	}
	return false
}

// report puts a sighting before the learner.
func (w *Worker) report(s sighting) {
	if w.tr != nil {
		return
	}
	if !s.port.tenant.sightings.allow(w.now, sightingRate, sightingRate) {
		w.sw.learner.lost.Add(1)
		return
	}
	select {
	case w.sw.learner.queue <- s:
	default:
		w.sw.learner.lost.Add(1)
	}
}

// watchDHCPClient notes what the port's DHCP client asks, and reports what it gives
// back.
func (w *Worker) watchDHCPClient() {
	x := &w.x
	if w.tr != nil || x.learning(x.in) == nil || x.f.Offload.GSO != packet.GSONone || !packet.CompleteChecksum(x.f) {
		return
	}
	if x.h.Version == 6 {
		var m packet.DHCPv6
		if m.Parse(x.f.Bytes(), &x.h) {
			x.in.asked6.note(m.Xid)
		}
		return
	}
	var m packet.DHCP
	if !m.Parse(x.f.Bytes(), &x.h) || m.ClientMAC != x.in.mac {
		return
	}
	switch m.Type {
	case packet.DHCPDiscover, packet.DHCPRequest:
		x.in.asked4.note(m.Xid)
	case packet.DHCPRelease:
		w.report(sighting{what: released, port: x.in, ca: m.ClientIP})
	case packet.DHCPDecline:
		w.report(sighting{what: released, port: x.in, ca: m.Requested})
	}
}

// transaction is the identifier of the last question of a DHCP client.
type transaction struct{ known atomic.Uint64 } // 0: none was asked

func (t *transaction) note(xid uint32) { t.known.Store(1<<32 | uint64(xid)) }

func (t *transaction) is(xid uint32) bool { return t.known.Load() == 1<<32|uint64(xid) }

// watchDHCPServer reports what a DHCP server gives to the station at the port, if
// that has asked for it. That the server may do so has been found.
func (w *Worker) watchDHCPServer(to *port) {
	x := &w.x
	if x.learning(to) == nil || x.f.Offload.GSO != packet.GSONone || !packet.CompleteChecksum(x.f) {
		return
	}
	if x.h.Version == 6 {
		var m packet.DHCPv6
		if !m.Parse(x.f.Bytes(), &x.h) || m.Type != packet.DHCPv6Reply || !to.asked6.is(m.Xid) {
			return
		}
		for _, l := range m.Leases() {
			if l.Valid > 0 {
				w.reportLease(to, l.Addr, l.Valid)
			}
		}
		return
	}
	var m packet.DHCP
	if m.Parse(x.f.Bytes(), &x.h) && m.Type == packet.DHCPAck && m.ClientMAC == to.mac && m.YourIP.IsValid() && to.asked4.is(m.Xid) {
		w.reportLease(to, m.YourIP, m.Lease)
	}
}

// reportLease reports a lease. That of the subnet's configured server is good for
// its time; anybody else's is a claim, of which the station will be asked.
func (w *Worker) reportLease(to *port, ca netip.Addr, seconds uint32) {
	x := &w.x
	if !x.claimable(to.vsid, ca) {
		return
	}
	s := sighting{what: claimed, port: to, ca: ca}
	if server := x.domain.Subnet(to.vsid).DHCP; server.IsValid() && server.Is4() == ca.Is4() {
		s.what, s.lease = leased, time.Duration(seconds)*time.Second
	}
	w.report(s)
}

// discover takes a question for an address that nobody is known to have to the
// stations whose addresses are not known: one of them may have it, and what it
// answers is learned. Others are not bothered. It gives the reason unknown where
// there is nobody to ask.
func (w *Worker) discover(unknown drop.Reason) drop.Reason {
	x := &w.x
	sub := x.domain.Subnet(x.vsid)
	if sub == nil || sub.Learning == nil {
		return unknown
	}
	var one *lookup.Record // that is asked and nobody else
	if x.h.DstMAC[0]&1 == 0 {
		if one = x.domain.Station(x.vsid, x.h.DstMAC); one == nil {
			return unknown
		}
	}
	asked := w.askStations()
	if x.in != nil {
		src := place{rec: x.domain.Station(x.vsid, x.in.mac)}
		for _, t := range x.domain.Flood(x.vsid) {
			if !t.L2Only || x.provider.owns(t.PA) || one != nil && !x.domain.IsAt(one, t.PA) {
				continue
			}
			if !w.allow(&x.tenant.sent, x.tenant.stormRate(), x.tenant.stormRate()) {
				return drop.StormLimited
			}
			w.dropped(x.c, w.copyTo(t, src))
			asked++
		}
	}
	if asked == 0 {
		return unknown
	}
	return drop.None
}

// askStations gives a copy of the question to each port with a station whose
// addresses are not known, and tells how many there are.
func (w *Worker) askStations() (n int) {
	x := &w.x
	storm := &x.tenant.sent
	if x.in == nil {
		storm = &x.tenant.received
	}
	for _, p := range w.sw.ports.Load().in(x.vsid) {
		if x.in != nil && p.id == x.in.id || p.tenant != x.tenant || x.learning(p) == nil ||
			x.h.DstMAC[0]&1 == 0 && x.h.DstMAC != p.mac {
			continue
		}
		if !w.allow(storm, x.tenant.stormRate(), x.tenant.stormRate()) {
			return n
		}
		if f := w.copyOf(x.f); f != nil {
			w.toPort(p, x.c, f)
			n++
		}
	}
	return n
}

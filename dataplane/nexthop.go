package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// NextHopQuery asks how a packet of a VM gets to an address, whichever host the
// VM is on.
type NextHopQuery struct {
	VSID         hnv.VSID // of the source
	SrcCA, DstCA netip.Addr
}

// NextHop is what Select-NetVirtualizationNextHop tells: where packets from a CA
// to another one go, by the records and routes that this machine has.
type NextHop struct {
	Tenant hnv.Name
	RDID   hnv.RDID

	// Reason is why there is no way; then what follows is set as far as it is
	// known.
	Reason drop.Reason

	// Routed tells that the distributed router takes the packet, and not only a
	// bridge; Router that the destination is an address of the router itself, which
	// answers on the source's machine.
	Routed, Router bool
	// Match is the prefix that leads to the destination: a customer route's if
	// CustomerRoute is set, and else a virtual subnet's. Unset: a wildcard.
	Match         netip.Prefix
	CustomerRoute bool
	Wildcard      bool // a record of type GatewayWildcard takes it, for want of a route

	CA    netip.Addr   // whose record the packet goes by: the destination's or the next hop's
	Equal []netip.Addr // the next hops that flows spread over, if there are several
	VSID  uint32       // in which the packet travels

	// The MAC address that the source sends the frame to, and those that it
	// arrives with.
	SentTo, Source, Destination hnv.MAC

	SrcPAs, DstPAs []netip.Addr // flows spread over them, if they are several
	Rule           hnv.Rule
	Type           hnv.RecordType // of the record
	Local          bool           // the record is at a PA of this machine
	Compartment    bool           // the record is a tenant's compartment
}

// NextHop tells where packets from a CA to another one go.
func (s *Switch) NextHop(q NextHopQuery) (NextHop, error) {
	refuse := func(err error) (NextHop, error) { return NextHop{}, fmt.Errorf("next hop: %w", err) }
	if q.SrcCA.Is4() != q.DstCA.Is4() {
		return refuse(fmt.Errorf("%s and %s are not of one address family", q.SrcCA, q.DstCA))
	}
	w, src, err := s.dryFor(q.VSID, q.SrcCA)
	if err != nil {
		return refuse(err)
	}
	x := &w.x
	n := NextHop{Tenant: x.domain.Name, RDID: x.domain.RDID, SrcPAs: unpacked(x.domain.PAs(src.rec))}
	x.h.Src, x.h.Dst, x.h.TTL = q.SrcCA, q.DstCA, 64
	x.h.Version = 4
	if q.DstCA.Is6() {
		x.h.Version = 6
	}
	to, r := w.nextHopOf(q, &n)
	n.SentTo = macFrom(x.h.DstMAC)
	if n.Router || r != drop.None {
		n.Reason = r
		return n, nil
	}
	to.src = src
	rec := to.to.rec
	n.CA, n.VSID, n.Routed = to.to.key.CA(), to.vsid(), to.routed
	n.Source, n.Destination = macFrom(src.rec.MAC), macFrom(rec.MAC)
	if n.Routed && !src.rec.UseVMMAC {
		n.Source = hnv.RouterMAC
	}
	n.Rule, n.Type = w.ruleTo(to).Hnv(), rec.Type.Hnv()
	n.DstPAs, n.Local = unpacked(x.domain.PAs(rec)), x.isHere(rec)
	// A compartment has PAs of either family, of which its record names one.
	if x.in = s.ports.Load().at(x.vsid, src.rec.MAC); !n.Local && x.in != nil && src.rec.PA.Is6() != rec.PA.Is6() {
		if pa := w.outerSource(src.rec, rec.PA, 0); pa.Is6() == rec.PA.Is6() && pa.IsValid() {
			n.SrcPAs = unpacked([]lookup.Addr{pa})
		}
	}
	if v, err := hnv.NewVSID(n.VSID); err == nil {
		n.Compartment = n.Destination == hnv.CompartmentMAC(v)
	}
	return n, nil
}

// dryFor gives a Worker that has no effects, for packets of a CA, and the record
// that the CA is found by.
func (s *Switch) dryFor(vsid hnv.VSID, src netip.Addr) (*Worker, place, error) {
	t, d := s.tenantOf(vsid.Uint32())
	if t == nil {
		return nil, place{}, fmt.Errorf("no tenant of this machine has VSID %s: %w", vsid, ErrUnknown)
	}
	w := s.dryWorker(new(tracer))
	w.x = transit{vsid: vsid.Uint32(), tenant: t, domain: d, provider: s.provider.Load(), c: w.cellOf(t)}
	if from := w.x.origin(src); from.rec != nil {
		return w, from, nil
	}
	return nil, place{}, fmt.Errorf("the source %s has no lookup record in VSID %s of tenant %s, and none of a next hop that leads to it: %w", src, vsid, d.Name, ErrUnknown)
}

// origin finds by whose record a source in the packet's virtual subnet is known:
// its own, or that of the next hop which leads to it.
func (x *transit) origin(src netip.Addr) place {
	rt, rec := x.domain.Resolve(src)
	switch {
	case rec != nil && rt.VSID == x.vsid:
		return place{rec, lookup.KeyOf(rt.VSID, src)}
	case rec != nil || rt != nil && rt.OnLink():
		return place{}
	}
	hops := x.domain.WildcardsFor(src)
	if rt != nil {
		hops = rt.Hops
	}
	for _, hop := range hops {
		if rec := x.domain.At(hop); rec != nil && hop.VSID() == x.vsid {
			return place{rec, hop}
		}
	}
	return place{}
}

// nextHopOf finds the way of the packet under way as its sender's host does: the
// sender asks for the destination's MAC if it lies in its own virtual subnet, and
// else for the router's.
func (w *Worker) nextHopOf(q NextHopQuery, n *NextHop) (to way, r drop.Reason) {
	x := &w.x
	x.h.DstMAC = routerMAC
	own, inside := x.subnetPrefix(x.vsid, q.DstCA)
	if inside {
		n.Match = own
		mac, router, ok := x.macOf(q.DstCA)
		switch {
		case router:
			n.Router = true
			return way{}, drop.None
		case ok:
			x.h.DstMAC = mac
		default: // nobody answers who asks for it
			x.h.DstMAC = [6]byte{}
			return way{}, drop.DestinationUnknown
		}
	}
	rt, rec := x.domain.Resolve(q.DstCA)
	switch {
	case rt == nil:
		n.Wildcard = len(x.domain.WildcardsFor(q.DstCA)) > 0
	case rec != nil || rt.OnLink():
		n.Match, _ = x.subnetPrefix(rt.VSID, q.DstCA)
		n.Router = rec == nil && q.DstCA == rt.Gateway
	default:
		n.Match, _ = x.domain.Match(q.DstCA)
		n.CustomerRoute = true
		if len(rt.Hops) > 1 {
			for _, hop := range rt.Hops {
				if x.domain.At(hop) != nil {
					n.Equal = append(n.Equal, hop.CA())
				}
			}
		}
	}
	switch {
	case n.Router:
		return way{}, drop.None
	case inside:
		return w.bridge()
	}
	to, _, r = w.route()
	return to, r
}

// subnetPrefix finds the prefix of the virtual subnet that holds the address.
func (x *transit) subnetPrefix(vsid uint32, a netip.Addr) (netip.Prefix, bool) {
	for _, p := range x.domain.Subnet(vsid).Prefixes {
		if p.Prefix.Contains(a) {
			return p.Prefix, true
		}
	}
	return netip.Prefix{}, false
}

// ruleTo tells how a packet gets to where it goes: without a tunnel only if both
// ends are rewritten.
func (w *Worker) ruleTo(to way) lookup.Rule {
	switch {
	case to.to.rec.Rule != lookup.RuleRewrite:
		return to.to.rec.Rule
	case to.src.rec != nil && to.src.rec.Rule == lookup.RuleRewrite:
		return lookup.RuleRewrite
	}
	return w.x.domain.Rule
}

func unpacked(pas []lookup.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(pas))
	for _, pa := range pas {
		out = append(out, pa.Netip())
	}
	return out
}

// macFrom gives the form of a record's MAC that people read; none of what is no
// station's.
func macFrom(b [6]byte) hnv.MAC {
	m, err := hnv.MACFrom(b)
	if err != nil {
		return hnv.MAC{}
	}
	return m
}

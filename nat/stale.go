package nat

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/ct"
)

const (
	protocolTCP = 6
	protocolUDP = 17
)

// wanted answers for many connections whether the Spec still has them so.
type wanted struct {
	spec     Spec
	attached Link
	mappings map[endKey]netip.AddrPort
	mine     map[netip.Addr]bool // the compartment's own addresses, also external
	listen   map[netip.AddrPort]bool
	services map[endKey][]netip.Prefix // peers by own address and port
	calls    map[portKey][]Service
	ways     bool
}

// endKey is an address and port of ours that others call.
type endKey struct {
	proto uint8
	at    netip.AddrPort
}

type portKey struct {
	proto uint8
	port  uint16
}

func protocolOf(p hnv.Proto) uint8 {
	if p == hnv.UDP {
		return protocolUDP
	}
	return protocolTCP
}

func newWanted(s Spec) wanted {
	w := wanted{spec: s, mappings: make(map[endKey]netip.AddrPort, len(s.Mappings)), mine: map[netip.Addr]bool{},
		listen: map[netip.AddrPort]bool{}, services: map[endKey][]netip.Prefix{}, calls: map[portKey][]Service{}, ways: len(s.ways()) > 0}
	w.attached, _ = s.attached()
	for _, m := range s.Mappings {
		w.mappings[endKey{protocolOf(m.Proto), m.External}] = m.Internal
	}
	for _, a := range slices.Concat(s.own(), w.attached.Addresses) {
		w.mine[a] = true
	}
	for _, r := range s.Pool {
		w.mine[r.Addr] = true
	}
	for _, t := range s.Tunnels {
		w.listen[netip.AddrPortFrom(t.At, t.ListenPort)] = true
	}
	for _, v := range s.Services {
		p := protocolOf(v.Proto)
		for _, a := range v.At {
			k := endKey{p, netip.AddrPortFrom(a, v.Port)}
			w.services[k] = append(w.services[k], v.Peers...)
		}
		k := portKey{p, v.Port}
		w.calls[k] = append(w.calls[k], v)
	}
	return w
}

// stale tells whether a connection must be forgotten: its translation is one that
// no mapping, or no external address, stands for any more; or it is not translated,
// and is with the compartment itself or over outside, where nothing allows it any
// more. All translation in a compartment is this package's. Which of the other
// links a connection takes, routes tell.
func (w wanted) stale(e ct.Entry) bool {
	dnat, snat := e.DNAT(), e.SNAT()
	if dnat {
		internal, ok := w.mappings[endKey{e.Orig.Proto, e.Orig.Dst}]
		if !ok || internal != e.Reply.Src {
			return true
		}
	}
	switch {
	case snat && dnat && w.hairpin(e.Reply.Dst.Addr()):
		return false
	case snat:
		return !w.spec.external(e.Reply.Dst) || e.Orig.Proto == protocolUDP && w.listen[e.Reply.Dst]
	case dnat:
		return false
	case w.mine[e.Orig.Dst.Addr()]:
		return hasPorts(e) && !contains(w.services[endKey{e.Orig.Proto, e.Orig.Dst}], e.Orig.Src.Addr())
	case w.mine[e.Orig.Src.Addr()]:
		return hasPorts(e) && !slices.ContainsFunc(w.calls[portKey{e.Orig.Proto, e.Orig.Dst.Port()}], func(v Service) bool {
			return slices.Contains(v.At, e.Orig.Src.Addr()) && contains(v.Peers, e.Orig.Dst.Addr())
		})
	case e.Zone == Zone:
		return !w.ways
	}
	return !w.plain(e.Orig.Src.Addr(), e.Orig.Dst.Addr()) && !w.plain(e.Orig.Dst.Addr(), e.Orig.Src.Addr())
}

// hairpin tells whether hairpins are translated to the address for want of another.
func (w wanted) hairpin(to netip.Addr) bool {
	a, ok := w.spec.hairpinVia(to.Is6())
	return ok && a == to
}

// plain tells whether packets from the one to the other go over outside as they
// are.
func (w wanted) plain(from, to netip.Addr) bool {
	return contains(w.attached.Sources, from) && contains(w.attached.Destinations, to)
}

func hasPorts(e ct.Entry) bool { return e.Orig.Proto == protocolTCP || e.Orig.Proto == protocolUDP }

func contains(ps []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
}

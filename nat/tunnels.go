package nat

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// listenSet has the links, addresses and ports of WireGuard.
func (b builder) listenSet(f family) nft.Set {
	s := nft.Set{Name: "listen" + f.digit, Key: []nft.Type{nft.IfName, f.addr, nft.InetService}}
	for _, t := range b.tunnels() {
		if t.At.Is6() == f.six {
			s.Elements = append(s.Elements, nft.E(nft.Name(b.spec.linkOf(t)), nft.Addr(t.At), nft.Port(t.ListenPort)))
		}
	}
	return s
}

func (b builder) endpointSet(f family) nft.Set {
	s := nft.Set{Name: "endpoints" + f.digit, Key: []nft.Type{f.addr}}
	var all []netip.Addr
	for _, t := range b.spec.Tunnels {
		all = append(all, t.Endpoints...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	for _, a := range slices.Compact(all) {
		if a.Is6() == f.six {
			s.Elements = append(s.Elements, nft.E(nft.Addr(a)))
		}
	}
	return s
}

// tunnels gives them in a fixed order.
func (b builder) tunnels() []Tunnel {
	return slices.SortedFunc(slices.Values(b.spec.Tunnels), func(x, y Tunnel) int { return cmp.Compare(x.ListenPort, y.ListenPort) })
}

// toTunnels match what is for WireGuard.
func (b builder) toTunnels(then nft.Stmt) []nft.Rule {
	if len(b.spec.Tunnels) == 0 {
		return nil
	}
	var out []nft.Rule
	for _, f := range b.families {
		out = append(out, nft.R(nft.L4Proto(nft.ProtoUDP), nft.In("listen"+f.digit, nft.IIfField, f.dst, nft.DPortField), then))
	}
	return out
}

// toErrors matches errors about packets that may be WireGuard's.
func (b builder) toErrors() []nft.Rule {
	if len(b.spec.Tunnels) == 0 {
		return nil
	}
	return []nft.Rule{
		nft.R(append(nft.ICMPError(nft.IPv4), nft.Jump("errors"))...),
		nft.R(append(nft.ICMPError(nft.IPv6), nft.Jump("errors"))...),
	}
}

// errors about WireGuard's packets are let in untracked, as these are: by them it
// learns how much a path takes.
func (b builder) errors() []nft.Chain {
	if len(b.spec.Tunnels) == 0 {
		return nil
	}
	c := nft.Chain{Name: "errors"}
	for _, t := range b.tunnels() {
		match := []nft.Stmt{nft.IIfName(b.spec.linkOf(t)), nft.DAddr(netip.PrefixFrom(t.At, t.At.BitLen()))}
		f := nft.IPv6
		if t.At.Is4() {
			f = nft.IPv4
			match = append(match, nft.Quoted4())
		}
		c.Rules = append(c.Rules, nft.R(append(match, nft.QuotedIs(f, nft.ProtoUDP), nft.QuotedSPort(f, t.ListenPort),
			nft.Limit(errorRate, errorBurst), nft.Notrack(), nft.Accept())...))
	}
	return []nft.Chain{c}
}

// tunnelCalls lets in what WireGuard needs no processor time to tell apart, and so
// many handshakes.
func (b builder) tunnelCalls() []nft.Chain {
	if len(b.spec.Tunnels) == 0 {
		return nil
	}
	c := nft.Chain{Name: "calls", Rules: []nft.Rule{nft.R(nft.L4Proto(nft.ProtoUDP), nft.NotHandshake(), nft.Notrack(), nft.Accept())}}
	for _, f := range b.families {
		c.Rules = append(c.Rules, nft.R(nft.In("endpoints"+f.digit, f.src), nft.Limit(knownRate, knownBurst), nft.Notrack(), nft.Accept()))
	}
	c.Rules = append(c.Rules, nft.R(nft.Limit(callRate, callBurst), nft.Notrack(), nft.Accept()), drop(DropTunnelRate))
	return []nft.Chain{c}
}

// rawOutput has WireGuard speak with the address that it listens at: the kernel
// would take another of the link's.
func (b builder) rawOutput() []nft.Chain {
	if len(b.ways) == 0 {
		return nil
	}
	c := nft.Chain{Name: "raw-output", Hook: &nft.Hook{Type: nft.Filter, At: nft.Output, Priority: nft.PriorityRaw}}
	for _, t := range b.tunnels() {
		c.Rules = append(c.Rules, nft.R(nft.OIfName(b.spec.linkOf(t)), nft.SPorts(nft.ProtoUDP, t.ListenPort, t.ListenPort),
			nft.NotSAddr(netip.PrefixFrom(t.At, t.At.BitLen())), nft.SetSource(t.At)))
	}
	c.Rules = append(c.Rules, b.tunnelOutput(nft.Notrack(), nft.Accept())...)
	c.Rules = append(c.Rules, nft.R(b.overWay(), nft.SetZone(Zone)))
	return []nft.Chain{c}
}

// tunnelOutput match what WireGuard sends.
func (b builder) tunnelOutput(then ...nft.Stmt) []nft.Rule {
	if len(b.spec.Tunnels) == 0 {
		return nil
	}
	var out []nft.Rule
	for _, f := range b.families {
		out = append(out, nft.R(slices.Concat([]nft.Stmt{nft.L4Proto(nft.ProtoUDP), nft.In("listen"+f.digit, nft.OIfField, f.src, nft.SPortField)}, then)...))
	}
	return out
}

func (b builder) tunnelInput() []nft.Rule {
	out := b.toTunnels(nft.Accept())
	if len(out) > 0 {
		for _, f := range []nft.Family{nft.IPv4, nft.IPv6} {
			out = append(out, nft.R(append(nft.ICMPError(f), nft.CTState(nft.StateUntracked), nft.Accept())...).Note("about tunnels"))
		}
	}
	return out
}

// free gives what tunnels leave of a range for UDP.
func (s Spec) free(r hnv.ExternalRange) [][2]uint16 {
	lo, hi := r.Ports()
	var taken []uint16
	for _, t := range s.Tunnels {
		if t.At == r.Addr && lo <= t.ListenPort && t.ListenPort <= hi {
			taken = append(taken, t.ListenPort)
		}
	}
	slices.Sort(taken)
	var out [][2]uint16
	from := uint32(lo)
	for _, p := range slices.Compact(taken) {
		if from < uint32(p) {
			out = append(out, [2]uint16{uint16(from), p - 1})
		}
		from = uint32(p) + 1
	}
	if from <= uint32(hi) {
		out = append(out, [2]uint16{uint16(from), hi})
	}
	return out
}

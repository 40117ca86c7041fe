package nat

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// Zone is the zone of connection tracking in which the connections over attachments
// with links of their own and over tunnels are; those over outside are in none.
// So a packet goes by its route, whatever its like did before: when a route to a
// site comes, packets that were translated so far begin a connection of their own,
// untranslated, and when it goes, they find the old one again.
const Zone = 1

const (
	// callRate and callBurst bound the handshakes that are let in from anywhere,
	// knownRate and knownBurst those from peers whose addresses are known, beside
	// them. WireGuard's own defence against floods is behind that.
	callRate, callBurst   = 1000, 1000
	knownRate, knownBurst = 500, 1000
	// errorRate bounds what is heard from routers about tunnels' packets.
	errorRate, errorBurst = 100, 100
	// serviceLimit bounds the connections with the compartment itself.
	serviceLimit = 1024
	// afterDstNAT is where the destination is the final one, and no route is chosen.
	afterDstNAT = nft.PriorityDstNAT + 10
)

func (b builder) fromWays() nft.Stmt { return nft.In("ways", nft.IIfField) }

func (b builder) overWay() nft.Stmt { return nft.In("ways", nft.OIfField) }

// links gives the attachments in a fixed order.
func (b builder) links() []Link {
	return slices.SortedFunc(slices.Values(b.spec.Forward), func(x, y Link) int { return cmp.Compare(x.Name, y.Name) })
}

// waySets tell what goes as it is.
func (b builder) waySets() []nft.Set {
	var out []nft.Set
	if len(b.ways) > 0 {
		ways := nft.Set{Name: "ways", Key: []nft.Type{nft.IfName}}
		for _, w := range b.ways {
			ways.Elements = append(ways.Elements, nft.E(nft.Name(w)))
		}
		links := nft.Set{Name: "links", Key: ways.Key, Elements: slices.Concat(
			[]nft.Element{nft.E(nft.Name(b.spec.Inside)), nft.E(nft.Name(b.spec.Outside))}, ways.Elements)}
		out = append(out, ways, links)
	}
	if len(b.spec.Tunnels) > 0 {
		tunnels := nft.Set{Name: "tunnels", Key: []nft.Type{nft.IfName}}
		for _, t := range b.tunnels() {
			tunnels.Elements = append(tunnels.Elements, nft.E(nft.Name(t.Link)))
		}
		out = append(out, tunnels, nft.ICMPErrors())
	}
	for _, f := range b.families {
		if b.isAttached {
			out = append(out, prefixSet("plain-from"+f.digit, f, b.attached.Sources), prefixSet("plain-to"+f.digit, f, b.attached.Destinations))
		}
		if len(b.spec.Tunnels) > 0 {
			out = append(out, b.listenSet(f), b.endpointSet(f))
		}
		if len(b.spec.Services) > 0 {
			out = append(out, b.serviceSet(f))
		}
	}
	return out
}

func prefixSet(name string, f family, prefixes []netip.Prefix) nft.Set {
	s := nft.Set{Name: name, Key: []nft.Type{f.addr}, Interval: true}
	for _, p := range merge(prefixes, f.six) {
		s.Elements = append(s.Elements, nft.E(nft.Prefix(p)))
	}
	return s
}

// raw comes before connection tracking: what carries tunnels is not tracked, so
// that no flood of it can fill the table, and what goes by the ways is in the zone.
func (b builder) raw() []nft.Chain {
	if len(b.ways) == 0 {
		return nil
	}
	c := nft.Chain{Name: "raw", Hook: &nft.Hook{Type: nft.Filter, At: nft.Prerouting, Priority: nft.PriorityRaw}}
	c.Rules = append(c.Rules, b.toTunnels(nft.Goto("calls"))...)
	c.Rules = append(c.Rules, b.toErrors()...)
	c.Rules = append(c.Rules,
		nft.R(b.fromWays(), nft.SetZone(Zone)),
		nft.R(slices.Concat([]nft.Stmt{b.in}, nft.RoutedElsewhere(b.spec.Outside), []nft.Stmt{nft.SetZone(Zone)})...))
	return []nft.Chain{c}
}

// unrouted counts what the kernel will drop, and answer, for want of a route.
func (b builder) unrouted() []nft.Chain {
	if len(b.ways) == 0 {
		return nil
	}
	c := nft.Chain{Name: "unrouted", Hook: &nft.Hook{Type: nft.Filter, At: nft.Prerouting, Priority: afterDstNAT}}
	c.Rules = []nft.Rule{nft.R(slices.Concat([]nft.Stmt{nft.CTState(nft.StateNew)}, nft.NoRoute(), []nft.Stmt{nft.Count(DropNoRoute)})...)}
	return []nft.Chain{c}
}

// plainOut match what goes over outside as it is, plainIn what comes so.
func (b builder) plainOut(then nft.Stmt, match ...nft.Stmt) []nft.Rule {
	return b.plain(then, match, func(f family) []nft.Stmt {
		return []nft.Stmt{nft.In("plain-from"+f.digit, f.src), nft.In("plain-to"+f.digit, f.dst)}
	})
}

func (b builder) plainIn(then nft.Stmt, match ...nft.Stmt) []nft.Rule {
	return b.plain(then, match, func(f family) []nft.Stmt {
		return []nft.Stmt{nft.In("plain-to"+f.digit, f.src), nft.In("plain-from"+f.digit, f.dst)}
	})
}

func (b builder) plain(then nft.Stmt, match []nft.Stmt, ends func(family) []nft.Stmt) []nft.Rule {
	if !b.isAttached {
		return nil
	}
	var out []nft.Rule
	for _, f := range b.families {
		out = append(out, nft.R(slices.Concat(match, ends(f), []nft.Stmt{then})...))
	}
	return out
}

// plainOutward are the new connections over outside that are not translated.
func (b builder) plainOutward() []nft.Rule {
	return b.plain(nft.Goto("plain-out"), []nft.Stmt{b.in, b.out}, func(f family) []nft.Stmt { return []nft.Stmt{nft.In("plain-to"+f.digit, f.dst)} })
}

// overWays are the new connections that go as they are.
func (b builder) overWays() []nft.Rule {
	inward, outside := nft.OIfName(b.spec.Inside), nft.IIfName(b.spec.Outside)
	out := b.plainIn(nft.Goto("carry"), outside)
	if len(b.ways) == 0 {
		return out
	}
	out = append(out,
		nft.R(b.in, b.overWay(), nft.Goto("leave")),
		nft.R(b.fromWays(), inward, nft.CTStatusDNAT(), nft.Goto("admit")).Note("static mappings"),
		nft.R(b.fromWays(), inward, nft.Goto("carry")),
		nft.R(b.fromWays(), b.overWay(), nft.Goto("carry")).Note("transit"))
	out = append(out, b.plainOut(nft.Goto("carry"), b.fromWays(), b.out)...)
	return out
}

// carry lets connections begin that are not translated, in their middle too: where
// nothing is translated nothing need be guessed.
func (b builder) carry() []nft.Chain {
	var out []nft.Chain
	if b.isAttached {
		c := nft.Chain{Name: "plain-out"}
		for _, f := range b.families {
			c.Rules = append(c.Rules, drop(DropSource, nft.NotIn("plain-from"+f.digit, f.src)))
		}
		c.Rules = append(c.Rules, nft.R(nft.Goto("carry")))
		out = append(out, c)
	}
	if len(b.ways) > 0 {
		c := nft.Chain{Name: "leave"}
		for _, f := range b.families {
			c.Rules = append(c.Rules, drop(DropSource, nft.NotIn("inside"+f.digit, f.src)))
		}
		c.Rules = append(c.Rules, nft.R(nft.Goto("carry")))
		out = append(out, c)
	}
	if len(out) > 0 {
		out = append(out, nft.Chain{Name: "carry", Rules: []nft.Rule{nft.R(nft.Jump("connections")), nft.R(nft.Accept())}})
	}
	return out
}

// nearEcho answers pings over attachments and tunnels.
func (b builder) nearEcho() []nft.Rule {
	if len(b.ways) == 0 {
		return nil
	}
	var out []nft.Rule
	for _, f := range b.families {
		for _, set := range []string{"own", "external"} {
			out = append(out, nft.R(b.fromWays(), nft.In(set+f.digit, f.dst), f.echo, nft.Limit(nearRate, nearRate), nft.Accept()))
		}
		out = append(out, drop(DropEchoRate, b.fromWays(), nft.NFProto(f.nft), f.echo))
	}
	return out
}

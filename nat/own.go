package nat

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/internal/nft"
)

func (b builder) input() nft.Chain {
	c := nft.Chain{Name: "input", Hook: &nft.Hook{Type: nft.Filter, At: nft.Input, Priority: nft.PriorityFilter, Drop: true}}
	c.Rules = append(c.Rules, nft.R(nft.IIfName("lo"), nft.Accept()))
	c.Rules = append(c.Rules, b.tunnelInput()...)
	for _, f := range b.families {
		// Before connections are looked at: a ping goes on within one.
		c.Rules = append(c.Rules,
			nft.R(nft.IIfName(b.spec.Outside), nft.In("external"+f.digit, f.dst), f.echo, nft.Limit(echoRate, echoBurst), nft.Accept()),
			drop(DropEchoRate, nft.IIfName(b.spec.Outside), nft.NFProto(f.nft), f.echo))
	}
	c.Rules = append(c.Rules, b.nearEcho()...)
	c.Rules = append(c.Rules, b.near()...)
	c.Rules = append(c.Rules, nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()))
	c.Rules = append(c.Rules, b.services(nft.IIfField, nft.Goto("service"), true)...)
	c.Rules = append(c.Rules,
		nft.R(nft.IIfName(b.spec.Inside), nft.Jump("input-inside")),
		nft.R(nft.IIfName(b.spec.Outside), nft.Jump("input-outside")))
	if len(b.ways) > 0 {
		c.Rules = append(c.Rules, nft.R(b.fromWays(), nft.Jump("input-outside")))
	}
	c.Rules = append(c.Rules, multicast()...)
	c.Rules = append(c.Rules, drop(DropInput))
	return c
}

func (b builder) inputInside() nft.Chain {
	c := nft.Chain{Name: "input-inside"}
	for _, f := range b.families {
		for _, set := range []string{"own", "external"} {
			c.Rules = append(c.Rules, nft.R(nft.In(set+f.digit, f.dst), f.echo, nft.Goto("admit")))
		}
	}
	c.Rules = append(c.Rules, neighbours()...)
	return c
}

func (b builder) inputOutside() nft.Chain {
	return nft.Chain{Name: "input-outside", Rules: neighbours()}
}

// multicast takes apart what the kernel itself says to groups (MLD, IGMP, router
// solicitations), so that it does not hide what matters in the other counters.
func multicast() []nft.Rule {
	return []nft.Rule{
		drop(DropMulticast, nft.DAddr(netip.MustParsePrefix("224.0.0.0/4"))),
		drop(DropMulticast, nft.DAddr(netip.MustParsePrefix("ff00::/8"))),
	}
}

func neighbours() []nft.Rule {
	return []nft.Rule{
		nft.R(nft.ICMPv6TypeIs(nft.ICMPv6NeighSolicit), nft.Accept()),
		nft.R(nft.ICMPv6TypeIs(nft.ICMPv6NeighAdvert), nft.Accept()),
	}
}

func (b builder) output() nft.Chain {
	c := nft.Chain{Name: "output", Hook: &nft.Hook{Type: nft.Filter, At: nft.Output, Priority: nft.PriorityFilter, Drop: true}}
	c.Rules = append(c.Rules, nft.R(nft.OIfName("lo"), nft.Accept()))
	c.Rules = append(c.Rules, b.tunnelOutput(nft.Accept())...)
	c.Rules = append(c.Rules, nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()))
	if len(b.ways) > 0 {
		for _, f := range b.families {
			c.Rules = append(c.Rules, nft.R(b.overWay(), nft.NFProto(f.nft), f.echo, nft.Accept()).Note("probes"))
		}
	}
	c.Rules = append(c.Rules, b.services(nft.OIfField, nft.Accept(), false)...)
	c.Rules = append(c.Rules, neighbours()...)
	c.Rules = append(c.Rules, multicast()...)
	c.Rules = append(c.Rules, drop(DropOutput))
	return c
}

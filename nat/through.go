package nat

import (
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/internal/nft"
)

func (b builder) prerouting() nft.Chain {
	c := nft.Chain{Name: "prerouting", Hook: &nft.Hook{Type: nft.Filter, At: nft.Prerouting, Priority: nft.PriorityMangle}}
	// The others are about what comes from elsewhere; that half of all packets need not
	// pass each of them.
	c.Rules = append(c.Rules, drop(DropInvalid, nft.CTState(nft.StateInvalid)), nft.R(b.in, nft.Accept()))
	for _, f := range b.families {
		c.Rules = append(c.Rules,
			drop(DropSpoofed, nft.IIfName(b.spec.Outside), nft.In("inside"+f.digit, f.src)),
			drop(DropSpoofed, nft.IIfName(b.spec.Outside), nft.In("external"+f.digit, f.src)))
		if len(b.ways) > 0 {
			for _, set := range []string{"inside", "external", "own"} {
				c.Rules = append(c.Rules, drop(DropSpoofed, b.fromWays(), nft.In(set+f.digit, f.src)))
			}
		}
	}
	if len(b.ways) > 0 {
		// Nobody outside is a host of a site's, or of a physical network's. Answers may
		// come, as those of connections from before there was a route.
		c.Rules = append(c.Rules, drop(DropReversePath, nft.IIfName(b.spec.Outside), nft.CTState(nft.StateNew), nft.NoReversePath(true)))
	}
	if len(b.spec.Tunnels) > 0 {
		// A key does not tell whose addresses a peer may use that says by BGP what is
		// behind it. Another tunnel may be the way back.
		for _, elsewhere := range []nft.Stmt{nft.NoReversePath(false), nft.SourceOver(b.spec.Outside), nft.SourceOver(b.spec.Inside)} {
			c.Rules = append(c.Rules, drop(DropReversePath, nft.In("tunnels", nft.IIfField), elsewhere))
		}
	}
	for _, l := range b.links() {
		if l.Name != b.spec.Outside && l.ReversePath != ReversePathOff {
			c.Rules = append(c.Rules, drop(DropReversePath, nft.IIfName(l.Name), nft.NoReversePath(l.ReversePath != ReversePathLoose)))
		}
	}
	return c
}

func (b builder) forward() nft.Chain {
	c := nft.Chain{Name: "forward", Hook: &nft.Hook{Type: nft.Filter, At: nft.Forward, Priority: nft.PriorityFilter, Drop: true}}
	for _, f := range b.families {
		c.Rules = append(c.Rules, nft.R(nft.NFProto(f.nft), nft.TCPFlags(nft.SYN|nft.RST, nft.SYN),
			nft.ClampMSS(uint16(b.spec.InsideMTU)-f.mss)))
		for _, l := range b.links() {
			if l.MTU == 0 || l.MTU >= b.spec.InsideMTU {
				continue
			}
			for _, over := range []nft.Stmt{nft.IIfName(l.Name), nft.OIfName(l.Name)} {
				c.Rules = append(c.Rules, nft.R(over, nft.NFProto(f.nft), nft.TCPFlags(nft.SYN|nft.RST, nft.SYN), nft.ClampMSS(uint16(l.MTU)-f.mss)))
			}
		}
	}
	if len(b.ways) > 0 {
		// Also of what is established: a link may be the tenant's no more.
		c.Rules = append(c.Rules, drop(DropForward, nft.NotIn("links", nft.IIfField)), drop(DropForward, nft.NotIn("links", nft.OIfField)))
	}
	c.Rules = append(c.Rules,
		nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()),
		drop(DropForward, nft.CTState(nft.StateUntracked)))
	c.Rules = append(c.Rules, b.plainOutward()...)
	c.Rules = append(c.Rules,
		nft.R(b.in, b.out, nft.Goto("outbound")),
		nft.R(nft.IIfName(b.spec.Outside), nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.Goto("admit")).Note("static mappings"),
		nft.R(b.in, nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.Goto("hairpin")))
	c.Rules = append(c.Rules, b.overWays()...)
	c.Rules = append(c.Rules, drop(DropForward))
	return c
}

// outbound is for new connections from inside to outside.
func (b builder) outbound() nft.Chain {
	c := nft.Chain{Name: "outbound"}
	for _, f := range b.families {
		if len(f.pool(b.spec)) == 0 {
			c.Rules = append(c.Rules, drop(DropNoExternal, nft.NFProto(f.nft)))
			continue
		}
		c.Rules = append(c.Rules, drop(DropSource, nft.NotIn("inside"+f.digit, f.src)),
			nft.R(nft.NFProto(f.nft), f.echo, nft.Goto("admit")))
	}
	for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP} {
		c.Rules = append(c.Rules, nft.R(nft.L4Proto(p), nft.Goto("admit")))
	}
	c.Rules = append(c.Rules, drop(DropProtocol))
	return c
}

// hairpin is for new connections from a VM to a mapping of its own tenant.
func (b builder) hairpin() nft.Chain {
	c := nft.Chain{Name: "hairpin"}
	for _, f := range b.families {
		c.Rules = append(c.Rules, drop(DropSource, nft.NotIn("inside"+f.digit, f.src)))
	}
	c.Rules = append(c.Rules, nft.R(nft.Goto("admit")))
	return c
}

// admit lets a new connection in that may be.
func (b builder) admit() nft.Chain {
	return nft.Chain{Name: "admit", Rules: []nft.Rule{
		// In the middle of a connection that was forgotten there is nothing to
		// translate by; guessing could revive a mapping that was removed.
		drop(DropNotSYN, nft.NotTCPFlags(nft.FIN|nft.SYN|nft.RST|nft.ACK, nft.SYN)),
		nft.R(nft.Jump("connections")),
		nft.R(nft.Accept()),
	}}
}

// shareSize is how many connections are counted together. Each new connection
// costs the kernel a walk through all those counted with it, and a tenant must
// not be able to keep a processor busy by having many.
const shareSize = 64

// shares splits a connection limit into a power of two. Together the shares never
// exceed it; as connections do not end in the order in which they are dealt out, a
// split limit may begin to bite a little earlier.
func shares(limit uint32) (n, each uint32) {
	n = 1
	for uint64(n)*shareSize < uint64(limit) {
		n *= 2
	}
	return n, max(1, limit/n)
}

// shareSet is filled by the rule in connections. Its name changes with the
// limit, because an element keeps the limit that it was made with.
func (b builder) shareSet() []nft.Set {
	n, each := shares(b.spec.limit())
	if n == 1 {
		return nil
	}
	return []nft.Set{{Name: fmt.Sprintf("connections-%dx%d", n, each), Key: []nft.Type{nft.Mark}, Dynamic: true, Size: 2 * n}}
}

// connections stands alone so that no other change resets its count.
func (b builder) connections() nft.Chain {
	n, each := shares(b.spec.limit())
	over := nft.CountOver(each)
	if n > 1 {
		over = nft.CountSharesOver(b.shareSet()[0].Name, n, each)
	}
	return nft.Chain{Name: "connections", Rules: []nft.Rule{drop(DropLimit, over)}}
}

// egress is the last look at what leaves: whatever the rules before it did, only
// the tenant's external addresses and ports get out.
func (b builder) egress() nft.Chain {
	c := nft.Chain{Name: "egress", Hook: &nft.Hook{Type: nft.Filter, At: nft.Postrouting, Priority: guardPriority}}
	c.Rules = append(c.Rules, b.toNeighbours()...)
	c.Rules = append(c.Rules, nft.R(nft.NotOIfName(b.spec.Outside), nft.Accept()))
	c.Rules = append(c.Rules, b.plainOut(nft.Accept())...)
	for _, f := range b.families {
		c.Rules = append(c.Rules,
			nft.R(nft.In("whole"+f.digit, f.src), nft.Accept()),
			nft.R(nft.In("ports"+f.digit, f.src, nft.ProtoField, nft.SPortField), nft.Accept()),
			nft.R(nft.In("external"+f.digit, f.src), nft.In("icmp"+f.digit, f.icmpType), nft.Accept()))
		for _, r := range f.pool(b.spec) {
			if !r.Whole() {
				c.Rules = append(c.Rules, nft.R(nft.SAddr(netip.PrefixFrom(r.Addr, r.Addr.BitLen())), f.echo, f.icmpID(r.Lo, r.Hi), nft.Accept()))
			}
		}
	}
	for _, t := range []uint8{nft.ICMPv6NeighSolicit, nft.ICMPv6NeighAdvert} {
		c.Rules = append(c.Rules,
			nft.R(nft.SAddr(netip.MustParsePrefix("fe80::/10")), nft.ICMPv6TypeIs(t), nft.Accept()),
			nft.R(nft.In("external6", nft.SAddr6), nft.ICMPv6TypeIs(t), nft.Accept()))
	}
	c.Rules = append(c.Rules, nft.R(nft.SAddr(netip.MustParsePrefix("::/128")), nft.ICMPv6TypeIs(nft.ICMPv6NeighSolicit), nft.Accept()).
		Note("duplicate address detection"))
	c.Rules = append(c.Rules, drop(DropEgress))
	return c
}

package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// dstnat serves both sides: from inside it is one half of a hairpin.
func (b builder) dstnat() nft.Chain {
	c := nft.Chain{Name: "dstnat", Hook: &nft.Hook{Type: nft.NAT, At: nft.Prerouting, Priority: nft.PriorityDstNAT}}
	for _, f := range b.families {
		c.Rules = append(c.Rules, nft.R(nft.DNAT(f.nft, "mappings"+f.digit, f.dst, nft.ProtoField, nft.DPortField)))
	}
	return c
}

// srcnat translates what leaves, and the other half of a hairpin: its answers
// must come back through here.
func (b builder) srcnat() nft.Chain {
	c := nft.Chain{Name: "srcnat", Hook: &nft.Hook{Type: nft.NAT, At: nft.Postrouting, Priority: nft.PrioritySrcNAT}}
	c.Rules = append(c.Rules, b.plainOut(nft.Accept(), b.out)...)
	for _, f := range b.families {
		if len(f.pool(b.spec)) == 0 {
			c.Rules = append(c.Rules, b.hairpinOnly(f)...)
			continue
		}
		c.Rules = append(c.Rules,
			nft.R(b.out, nft.In("inside"+f.digit, f.src), nft.Goto("snat"+f.digit)),
			nft.R(nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.In("inside"+f.digit, f.src), nft.Goto("snat"+f.digit)))
	}
	return c
}

// hairpinOnly is for mappings of a tenant without NAT: answers come back to the
// compartment's own address.
func (b builder) hairpinOnly(f family) []nft.Rule {
	a, ok := b.spec.hairpinVia(f.six)
	if !ok {
		return nil
	}
	var out []nft.Rule
	for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP} {
		out = append(out, nft.R(nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.In("inside"+f.digit, f.src), nft.L4Proto(p), nft.SNAT(a, 1024, 65535)))
	}
	return out
}

// hairpinVia gives the address that hairpins are translated to where there is no
// external one of the family to translate to.
func (s Spec) hairpinVia(six bool) (a netip.Addr, ok bool) {
	is := func(a netip.Addr) bool { return a.Is6() == six }
	if slices.ContainsFunc(s.Pool, func(r hnv.ExternalRange) bool { return is(r.Addr) }) ||
		!slices.ContainsFunc(s.Mappings, func(m hnv.NATMapping) bool { return is(m.External.Addr()) }) {
		return a, false
	}
	i := slices.IndexFunc(s.InsideAddrs, is)
	if i < 0 {
		return a, false
	}
	return s.InsideAddrs[i], true
}

// snat spreads the inside addresses over the external ranges, each range taking
// a share in proportion to its ports; an inside address stays with one range.
func (b builder) snat(f family) []nft.Chain {
	pool := f.pool(b.spec)
	if len(pool) == 0 {
		return nil
	}
	var total uint32
	for _, r := range pool {
		total += size(r)
	}
	spread := nft.Chain{Name: "snat" + f.digit}
	chains := []nft.Chain{spread}
	var upTo uint32
	for i, r := range pool {
		name := fmt.Sprintf("snat%s-%d", f.digit, i+1)
		upTo += size(r)
		rule := nft.R(nft.HashBelow(f.src, total, hashSeed, upTo), nft.Goto(name))
		if i == len(pool)-1 {
			rule = nft.R(nft.Goto(name))
		}
		chains[0].Rules = append(chains[0].Rules, rule)
		to := nft.Chain{Name: name}
		for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP, f.icmp} {
			to.Rules = append(to.Rules, b.snatTo(r, p)...)
		}
		chains = append(chains, to)
	}
	return chains
}

// snatTo translates to a range, for UDP to what tunnels leave of it: what came to
// their ports would not be taken for an answer. A port stays what it is where it
// can.
func (b builder) snatTo(r hnv.ExternalRange, p nft.Protocol) []nft.Rule {
	lo, hi := r.Ports()
	if p != nft.ProtoUDP {
		return []nft.Rule{nft.R(nft.L4Proto(p), nft.SNAT(r.Addr, lo, hi))}
	}
	parts := b.spec.free(r)
	if len(parts) == 0 {
		return nil // nothing is left; the egress guard drops it
	}
	widest := 0
	for i, part := range parts {
		if part[1]-part[0] > parts[widest][1]-parts[widest][0] {
			widest = i
		}
	}
	var out []nft.Rule
	for i, part := range parts {
		if i != widest {
			out = append(out, nft.R(nft.SPorts(p, part[0], part[1]), nft.SNAT(r.Addr, part[0], part[1])))
		}
	}
	return append(out, nft.R(nft.L4Proto(p), nft.SNAT(r.Addr, parts[widest][0], parts[widest][1])))
}

func size(r hnv.ExternalRange) uint32 {
	lo, hi := r.Ports()
	return uint32(hi) - uint32(lo) + 1
}

package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// TableName is the name of the table in the compartment.
const TableName = "hnv"

// DropPrefix begins the name of each counter of drops; the reason follows.
const DropPrefix = "drop-"

// The counters. Each counts packets that were dropped.
const (
	DropInvalid    = "drop-invalid"     // in no state that belongs to a connection
	DropSpoofed    = "drop-spoofed"     // from outside with an address of the inside
	DropSource     = "drop-source"      // from inside with a source that is not the tenant's
	DropNoExternal = "drop-no-external" // no external address of this family
	DropProtocol   = "drop-protocol"    // not TCP, UDP or ICMP echo
	DropNotSYN     = "drop-not-syn"     // TCP of a connection that is not known
	DropLimit      = "drop-limit"       // over the tenant's connection limit
	DropForward    = "drop-forward"     // anything else that wanted through
	DropInput      = "drop-input"       // to the compartment itself
	DropEchoRate   = "drop-echo-rate"   // echo requests from outside over the rate
	DropOutput     = "drop-output"      // from the compartment itself
	DropMulticast  = "drop-multicast"   // to or from the compartment itself, to a group: nobody listens
	DropEgress     = "drop-egress"      // about to leave with a source that is not external
)

var counters = []string{
	DropInvalid, DropSpoofed, DropSource, DropNoExternal, DropProtocol, DropNotSYN,
	DropLimit, DropForward, DropInput, DropEchoRate, DropOutput, DropMulticast, DropEgress,
}

const (
	// echoRate and echoBurst bound, in packets a second, what the compartment
	// answers to pings from outside.
	echoRate, echoBurst = 50, 100
	// hashSeed keeps an inside address with its external one across restarts.
	hashSeed = 0x686e7667
	// guardPriority puts the egress guard behind every translation.
	guardPriority = 300
)

// family is what differs between IPv4 and IPv6 in the rules.
type family struct {
	nft        nft.Family
	six        bool
	digit      string
	addr       nft.Type
	src, dst   nft.Field
	mss        uint16 // what IP and TCP headers take of the MTU
	icmp       nft.Protocol
	icmpType   nft.Field
	echo       nft.Stmt
	icmpID     func(lo, hi uint16) nft.Stmt
	icmpErrors nft.Set
}

func families() [2]family {
	errors4 := nft.Set{Name: "icmp4", Key: []nft.Type{nft.ICMPType}}
	for _, t := range []uint8{nft.ICMPEchoReply, nft.ICMPUnreachable, nft.ICMPTimeExceeded, nft.ICMPParameter} {
		errors4.Elements = append(errors4.Elements, nft.E(nft.ICMP(t)))
	}
	errors6 := nft.Set{Name: "icmp6", Key: []nft.Type{nft.ICMPv6Type}}
	for _, t := range []uint8{nft.ICMPv6Unreachable, nft.ICMPv6TooBig, nft.ICMPv6TimeExceeded, nft.ICMPv6Parameter, nft.ICMPv6EchoReply} {
		errors6.Elements = append(errors6.Elements, nft.E(nft.ICMPv6(t)))
	}
	return [2]family{
		{nft.IPv4, false, "4", nft.IPv4Addr, nft.SAddr4, nft.DAddr4, 40, nft.ProtoICMP, nft.ICMPField,
			nft.ICMPTypeIs(nft.ICMPEchoRequest), nft.ICMPID, errors4},
		{nft.IPv6, true, "6", nft.IPv6Addr, nft.SAddr6, nft.DAddr6, 60, nft.ProtoICMPv6, nft.ICMPv6Field,
			nft.ICMPv6TypeIs(nft.ICMPv6EchoRequest), nft.ICMPv6ID, errors6},
	}
}

// pool gives the external ranges of the family in a fixed order.
func (f family) pool(s Spec) []hnv.ExternalRange {
	var out []hnv.ExternalRange
	for _, r := range s.Pool {
		if r.Addr.Is6() == f.six {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b hnv.ExternalRange) int {
		if c := a.Addr.Compare(b.Addr); c != 0 {
			return c
		}
		return int(a.Lo) - int(b.Lo)
	})
	return out
}

func drop(counter string, match ...nft.Stmt) nft.Rule {
	return nft.R(append(match, nft.Count(counter), nft.Drop())...)
}

// Ruleset builds the table of a checked Spec.
func Ruleset(s Spec) nft.Table {
	b := builder{spec: s, in: nft.IIfName(s.Inside), out: nft.OIfName(s.Outside), families: families()}
	t := nft.Table{Family: nft.Inet, Name: TableName, Counters: counters}
	t.Sets = append(t.Sets, nft.Set{Name: "protocols", Key: []nft.Type{nft.InetProto}, Elements: []nft.Element{
		nft.E(nft.Proto(nft.ProtoICMP)), nft.E(nft.Proto(nft.ProtoTCP)), nft.E(nft.Proto(nft.ProtoUDP)), nft.E(nft.Proto(nft.ProtoICMPv6))}})
	for _, f := range b.families {
		t.Sets = append(t.Sets, b.sets(f)...)
	}
	t.Sets = append(t.Sets, b.shareSet()...)
	t.Chains = []nft.Chain{b.prerouting(), b.dstnat(), b.forward(), b.outbound(), b.hairpin(), b.admit(), b.connections(),
		b.input(), b.inputInside(), b.inputOutside(), b.output(), b.srcnat()}
	for _, f := range b.families {
		t.Chains = append(t.Chains, b.snat(f)...)
	}
	t.Chains = append(t.Chains, b.egress())
	return t
}

type builder struct {
	spec     Spec
	in, out  nft.Stmt // came from inside; leaves outside
	families [2]family
}

func (b builder) sets(f family) []nft.Set {
	inside := nft.Set{Name: "inside" + f.digit, Key: []nft.Type{f.addr}, Interval: true}
	for _, p := range merge(b.spec.InsidePrefixes, f.six) {
		inside.Elements = append(inside.Elements, nft.E(nft.Prefix(p)))
	}
	own := nft.Set{Name: "own" + f.digit, Key: []nft.Type{f.addr}}
	for _, a := range b.spec.InsideAddrs {
		if a.Is6() == f.six {
			own.Elements = append(own.Elements, nft.E(nft.Addr(a)))
		}
	}
	external := nft.Set{Name: "external" + f.digit, Key: []nft.Type{f.addr}}
	whole := nft.Set{Name: "whole" + f.digit, Key: []nft.Type{f.addr}}
	ports := nft.Set{Name: "ports" + f.digit, Key: []nft.Type{f.addr, nft.InetProto, nft.InetService}, Interval: true}
	var last netip.Addr
	for _, r := range f.pool(b.spec) {
		if r.Addr != last {
			external.Elements = append(external.Elements, nft.E(nft.Addr(r.Addr)))
			last = r.Addr
		}
		if r.Whole() {
			whole.Elements = append(whole.Elements, nft.E(nft.Addr(r.Addr)))
			continue
		}
		for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP} {
			ports.Elements = append(ports.Elements, nft.E(nft.Addr(r.Addr), nft.Proto(p), nft.Ports(r.Lo, r.Hi)))
		}
	}
	mappings := nft.Set{Name: "mappings" + f.digit,
		Key: []nft.Type{f.addr, nft.InetProto, nft.InetService}, Value: []nft.Type{f.addr, nft.InetService}}
	for _, m := range b.spec.Mappings {
		if m.External.Addr().Is6() != f.six {
			continue
		}
		p := nft.ProtoTCP
		if m.Proto == hnv.UDP {
			p = nft.ProtoUDP
		}
		mappings.Elements = append(mappings.Elements,
			nft.E(nft.Addr(m.External.Addr()), nft.Proto(p), nft.Port(m.External.Port())).
				To(nft.Addr(m.Internal.Addr()), nft.Port(m.Internal.Port())))
	}
	return []nft.Set{inside, own, external, whole, ports, f.icmpErrors, mappings}
}

func (b builder) prerouting() nft.Chain {
	c := nft.Chain{Name: "prerouting", Hook: &nft.Hook{Type: nft.Filter, At: nft.Prerouting, Priority: nft.PriorityMangle}}
	c.Rules = append(c.Rules, drop(DropInvalid, nft.CTState(nft.StateInvalid)))
	for _, f := range b.families {
		c.Rules = append(c.Rules,
			drop(DropSpoofed, nft.IIfName(b.spec.Outside), nft.In("inside"+f.digit, f.src)),
			drop(DropSpoofed, nft.IIfName(b.spec.Outside), nft.In("external"+f.digit, f.src)))
	}
	return c
}

// dstnat serves both sides: from inside it is one half of a hairpin.
func (b builder) dstnat() nft.Chain {
	c := nft.Chain{Name: "dstnat", Hook: &nft.Hook{Type: nft.NAT, At: nft.Prerouting, Priority: nft.PriorityDstNAT}}
	for _, f := range b.families {
		c.Rules = append(c.Rules, nft.R(nft.DNAT(f.nft, "mappings"+f.digit, f.dst, nft.ProtoField, nft.DPortField)))
	}
	return c
}

func (b builder) forward() nft.Chain {
	c := nft.Chain{Name: "forward", Hook: &nft.Hook{Type: nft.Filter, At: nft.Forward, Priority: nft.PriorityFilter, Drop: true}}
	for _, f := range b.families {
		c.Rules = append(c.Rules, nft.R(nft.NFProto(f.nft), nft.TCPFlags(nft.SYN|nft.RST, nft.SYN),
			nft.ClampMSS(uint16(b.spec.InsideMTU)-f.mss)))
	}
	c.Rules = append(c.Rules,
		nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()),
		drop(DropForward, nft.CTState(nft.StateUntracked)),
		nft.R(b.in, b.out, nft.Goto("outbound")),
		nft.R(nft.IIfName(b.spec.Outside), nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.Goto("admit")).Note("static mappings"),
		nft.R(b.in, nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.Goto("hairpin")),
		drop(DropForward))
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

func (b builder) input() nft.Chain {
	c := nft.Chain{Name: "input", Hook: &nft.Hook{Type: nft.Filter, At: nft.Input, Priority: nft.PriorityFilter, Drop: true}}
	c.Rules = append(c.Rules, nft.R(nft.IIfName("lo"), nft.Accept()))
	for _, f := range b.families {
		// Before connections are looked at: a ping goes on within one.
		c.Rules = append(c.Rules,
			nft.R(nft.IIfName(b.spec.Outside), nft.In("external"+f.digit, f.dst), f.echo, nft.Limit(echoRate, echoBurst), nft.Accept()),
			drop(DropEchoRate, nft.IIfName(b.spec.Outside), nft.NFProto(f.nft), f.echo))
	}
	c.Rules = append(c.Rules,
		nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()),
		nft.R(nft.IIfName(b.spec.Inside), nft.Jump("input-inside")),
		nft.R(nft.IIfName(b.spec.Outside), nft.Jump("input-outside")))
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
	c.Rules = append(c.Rules,
		nft.R(nft.OIfName("lo"), nft.Accept()),
		nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept()))
	c.Rules = append(c.Rules, neighbours()...)
	c.Rules = append(c.Rules, multicast()...)
	c.Rules = append(c.Rules, drop(DropOutput))
	return c
}

// srcnat translates what leaves, and the other half of a hairpin: its answers
// must come back through here.
func (b builder) srcnat() nft.Chain {
	c := nft.Chain{Name: "srcnat", Hook: &nft.Hook{Type: nft.NAT, At: nft.Postrouting, Priority: nft.PrioritySrcNAT}}
	for _, f := range b.families {
		if len(f.pool(b.spec)) == 0 {
			continue
		}
		c.Rules = append(c.Rules,
			nft.R(b.out, nft.In("inside"+f.digit, f.src), nft.Goto("snat"+f.digit)),
			nft.R(nft.OIfName(b.spec.Inside), nft.CTStatusDNAT(), nft.In("inside"+f.digit, f.src), nft.Goto("snat"+f.digit)))
	}
	return c
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
		lo, hi := r.Ports()
		to := nft.Chain{Name: name}
		for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP, f.icmp} {
			to.Rules = append(to.Rules, nft.R(nft.L4Proto(p), nft.SNAT(r.Addr, lo, hi)))
		}
		chains = append(chains, to)
	}
	return chains
}

func size(r hnv.ExternalRange) uint32 {
	lo, hi := r.Ports()
	return uint32(hi) - uint32(lo) + 1
}

// egress is the last look at what leaves: whatever the rules before it did, only
// the tenant's external addresses and ports get out.
func (b builder) egress() nft.Chain {
	c := nft.Chain{Name: "egress", Hook: &nft.Hook{Type: nft.Filter, At: nft.Postrouting, Priority: guardPriority}}
	c.Rules = append(c.Rules, nft.R(nft.NotOIfName(b.spec.Outside), nft.Accept()))
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

// Closed is the table of a compartment that translates nothing: nothing passes.
func Closed() nft.Table {
	echo4, echo6 := nft.ICMPTypeIs(nft.ICMPEchoRequest), nft.ICMPv6TypeIs(nft.ICMPv6EchoRequest)
	known := nft.R(nft.CTState(nft.StateEstablished|nft.StateRelated), nft.Accept())
	hook := func(at nft.HookPoint) *nft.Hook {
		return &nft.Hook{Type: nft.Filter, At: at, Priority: nft.PriorityFilter, Drop: true}
	}
	input := []nft.Rule{nft.R(nft.IIfName("lo"), nft.Accept()), known, nft.R(echo4, nft.Limit(echoRate, echoBurst), nft.Accept()), nft.R(echo6, nft.Limit(echoRate, echoBurst), nft.Accept())}
	output := []nft.Rule{nft.R(nft.OIfName("lo"), nft.Accept()), known}
	return nft.Table{Family: nft.Inet, Name: TableName, Counters: counters, Chains: []nft.Chain{
		{Name: "forward", Hook: hook(nft.Forward), Rules: []nft.Rule{drop(DropForward)}},
		{Name: "input", Hook: hook(nft.Input), Rules: slices.Concat(input, neighbours(), multicast(), []nft.Rule{drop(DropInput)})},
		{Name: "output", Hook: hook(nft.Output), Rules: slices.Concat(output, neighbours(), multicast(), []nft.Rule{drop(DropOutput)})},
	}}
}

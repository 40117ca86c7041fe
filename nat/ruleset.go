package nat

import (
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
	DropSpoofed    = "drop-spoofed"     // from outside, an attachment or a tunnel with an address of the tenant's own
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
	// From an attachment, and its source is not routed back there; see ReversePath. Or
	// from a tunnel, and its source is not behind one; or a new connection from outside,
	// whose source is.
	DropReversePath = "drop-reverse-path"
	DropNoRoute     = "drop-no-route"    // to where no route leads; the kernel says so to the sender
	DropHops        = "drop-hops"        // to the compartment's BFD, and not from the next hop
	DropTunnelRate  = "drop-tunnel-rate" // handshakes of tunnels over the rate
	DropNeighbours  = "drop-neighbours"  // to one host more on the links than the kernel's table has room for
)

var counters = []string{
	DropInvalid, DropSpoofed, DropSource, DropNoExternal, DropProtocol, DropNotSYN,
	DropLimit, DropForward, DropInput, DropEchoRate, DropOutput, DropMulticast, DropEgress,
	DropReversePath, DropNoRoute, DropHops, DropTunnelRate, DropNeighbours,
}

const (
	// echoRate and echoBurst bound, in packets a second, what the compartment
	// answers to pings from outside.
	echoRate, echoBurst = 50, 100
	// hashSeed keeps an inside address with its external one across restarts.
	hashSeed = 0x686e7667
	// nearRate bounds it for pings over attachments and tunnels, which peers probe.
	nearRate = 1000
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
	b := builder{spec: s, in: nft.IIfName(s.Inside), out: nft.OIfName(s.Outside), families: families(), ways: s.ways()}
	b.attached, b.isAttached = s.attached()
	t := nft.Table{Family: nft.Inet, Name: TableName, Counters: counters}
	t.Sets = append(t.Sets, nft.Set{Name: "protocols", Key: []nft.Type{nft.InetProto}, Elements: []nft.Element{
		nft.E(nft.Proto(nft.ProtoICMP)), nft.E(nft.Proto(nft.ProtoTCP)), nft.E(nft.Proto(nft.ProtoUDP)), nft.E(nft.Proto(nft.ProtoICMPv6))}})
	for _, f := range b.families {
		t.Sets = append(t.Sets, b.sets(f)...)
	}
	t.Sets = append(t.Sets, b.waySets()...)
	t.Sets = append(t.Sets, b.shareSet()...)
	t.Sets = append(t.Sets, b.neighbourSets()...)
	t.Chains = slices.Concat(b.raw(), b.tunnelCalls(), b.errors(), b.rawOutput(),
		[]nft.Chain{b.prerouting(), b.dstnat()}, b.unrouted(),
		[]nft.Chain{b.forward(), b.outbound(), b.hairpin(), b.admit(), b.connections()}, b.carry(),
		[]nft.Chain{b.input(), b.inputInside(), b.inputOutside()}, b.service(), []nft.Chain{b.output(), b.srcnat()})
	for _, f := range b.families {
		t.Chains = append(t.Chains, b.snat(f)...)
	}
	t.Chains = append(t.Chains, b.neighbourChains()...)
	t.Chains = append(t.Chains, b.egress())
	return t
}

type builder struct {
	spec     Spec
	in, out  nft.Stmt // came from inside; leaves outside
	families [2]family
	ways     []string // the links beside inside and outside
	// attached is what is forwarded over outside.
	attached   Link
	isAttached bool
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

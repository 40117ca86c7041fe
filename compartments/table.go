package compartments

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nft"
)

// The reasons that a fast path past these rules has as well.
const (
	DropSpoofed  = "spoofed"
	DropFragment = "fragment"
)

// The counters of what is dropped in the gateway's namespace, with what they
// mean. The inet table has the first ones, the netdev table the last four.
const (
	dropSpoofed    = DropSpoofed   // from a compartment, not from an external address (or port) of its own, nor from a forwarded prefix
	dropFragment   = DropFragment  // from a compartment that has only a part of an address: a fragment has no port
	dropAstray     = "astray"      // from a compartment, neither to its uplink nor to another's external address
	dropToGateway  = "to-gateway"  // from a compartment to the gateway itself
	dropToPA       = "to-pa"       // from outside to a provider address, or from anywhere but the fabric to one that stands for a CA
	dropToOther    = "to-other"    // from the fabric or from outside to an address of another interface of the gateway
	dropAway       = "tunnel-away" // packets of the dataplane, which are those with a provider address as source, that would have left by another way than the fabric
	dropAsVM       = "as-vm"       // from a provider address that stands for a CA, by the gateway's own stack
	dropFabric     = "fabric"      // would have been forwarded from or to the fabric
	dropUnknown    = "unknown"     // from outside, to nobody's external address or forwarded prefix
	dropIntruder   = "intruder"    // from another interface into an uplink or a compartment
	dropOverlay    = "overlay"     // of the dataplane's links, for the gateway's own stack
	dropIPv6       = "ipv6"        // would have been forwarded only because uplinks need IPv6 forwarding
	dropTunnel     = "tunnel"      // tunnel packets of known virtual subnets, and fragments that may be of some: the dataplane has seen them, the stack must not answer
	dropRewrite    = "rewrite"     // to a provider address that stands for a CA: the dataplane has seen them, the stack must not
	dropPort       = "port"        // from a VM's port: the dataplane has seen them, the stack must not
	dropUnsteered  = "unsteered"   // to a shared address, a fragment or to a port that no compartment has
	setUplinks     = "uplinks"     // static: the uplinks' interfaces
	setPorts       = "ports"       // static: the protocols that have ports
	setPortsNetdev = "steer-ports" // the same for the other table
	setNeighbour   = "nd"          // static: neighbor solicitation and advertisement
)

var (
	inetDrops   = []string{dropSpoofed, dropFragment, dropAstray, dropToGateway, dropToPA, dropToOther, dropAway, dropAsVM, dropFabric, dropUnknown, dropIntruder, dropOverlay, dropIPv6}
	netdevDrops = []string{dropTunnel, dropRewrite, dropPort, dropUnsteered}
)

// Ours run a little before those that the operator may have.
const priority = nft.PriorityFilter - 10

// sets gives the sets of one table with the elements that entries say.
func sets(f nft.Family, entries []entry) []nft.Set {
	var out []nft.Set
	for _, spec := range setSpecs {
		if spec.family != f {
			continue
		}
		s := spec.empty()
		for _, e := range entries {
			if e.set == spec.name {
				s.Elements = append(s.Elements, spec.element(e))
			}
		}
		out = append(out, s)
	}
	return out
}

// inetTable is the rules round forwarding and delivery in the gateway's
// namespace. Interfaces of the gateway that are neither uplinks nor of the
// fabric nor ours are left to the operator's own rules.
func inetTable(n names, uplinks []string, entries []entry) nft.Table {
	w, x, h := n.overlayPeers(), n.uplinkPeers(), n.steerIn()
	drop := func(counter string, match ...nft.Stmt) nft.Rule {
		return nft.R(append(match, nft.Count(counter), nft.Drop())...)
	}
	up := nft.Set{Name: setUplinks, Key: []nft.Type{nft.IfName}}
	for _, u := range uplinks {
		up.Elements = append(up.Elements, nft.E(nft.Name(u)))
	}
	t := nft.Table{
		Family: nft.Inet, Name: n.table(), Counters: inetDrops,
		Sets: append(sets(nft.Inet, entries), up, portsSet(setPorts), nft.ICMPErrors(), neighbourSet()),
		Chains: []nft.Chain{{
			Name: "deaf", Hook: &nft.Hook{Type: nft.Filter, At: nft.Prerouting, Priority: nft.PriorityRaw},
			Rules: []nft.Rule{
				drop(dropOverlay, nft.IIfPrefix(w)),
				drop(dropOverlay, nft.In(setDeaf, nft.IIfField)),
			},
		}, {
			Name: "input", Hook: &nft.Hook{Type: nft.Filter, At: nft.Input, Priority: priority},
			Rules: []nft.Rule{
				drop(dropToGateway, nft.IIfPrefix(x)),
				drop(dropToPA, nft.In(setUplinks, nft.IIfField), nft.In(setPA4, nft.DAddr4)),
				drop(dropToPA, nft.In(setUplinks, nft.IIfField), nft.In(setPA6, nft.DAddr6)),
				drop(dropToOther, nft.In(setPALinks, nft.IIfField), nft.NotHere()),
				drop(dropToOther, nft.In(setUplinks, nft.IIfField), nft.NotHere()),
				nft.R(nft.In(setPALinks, nft.IIfField), nft.In(setVM6, nft.DAddr6), nft.In(setNeighbour, nft.ICMPv6Field), nft.Accept()),
				drop(dropToPA, nft.In(setVM4, nft.DAddr4)),
				drop(dropToPA, nft.In(setVM6, nft.DAddr6)),
			},
		}, {
			Name: "output", Hook: &nft.Hook{Type: nft.Filter, At: nft.Output, Priority: priority},
			Rules: tunnelRules(drop),
		}, {
			Name: "forward", Hook: &nft.Hook{Type: nft.Filter, At: nft.Forward, Priority: priority},
			Rules: []nft.Rule{
				drop(dropFabric, nft.In(setPALinks, nft.IIfField)),
				drop(dropFabric, nft.In(setPALinks, nft.OIfField)),
				drop(dropOverlay, nft.OIfPrefix(w)),
				drop(dropOverlay, nft.In(setDeaf, nft.OIfField)),
				nft.R(nft.IIfPrefix(x), nft.Goto("from-compartment")),
				nft.R(nft.In(setUplinks, nft.IIfField), nft.Goto("from-uplink")),
				drop(dropIntruder, nft.OIfPrefix(x)),
				drop(dropIntruder, nft.OIfName(h)),
				drop(dropIntruder, nft.In(setUplinks, nft.OIfField)),
			},
		}, {
			Name:  "from-compartment",
			Rules: append(sourceRules(), drop(dropSpoofed)),
		}, {
			Name: "leave",
			Rules: []nft.Rule{
				nft.R(nft.In(setExits, nft.IIfField, nft.OIfField), nft.Accept()),
				nft.R(nft.In(setWhole4, nft.OIfField, nft.DAddr4), nft.Accept()),
				nft.R(nft.In(setWhole6, nft.OIfField, nft.DAddr6), nft.Accept()),
				nft.R(nft.OIfName(h), nft.Accept()),
				// What another forwards too: between the two there is no router of the
				// network, which could say no.
				drop(dropAstray),
			},
		}, {
			Name: "from-uplink",
			Rules: []nft.Rule{
				nft.R(nft.In(setExits, nft.OIfField, nft.IIfField), nft.In(setWhole4, nft.OIfField, nft.DAddr4), nft.Accept()),
				nft.R(nft.In(setExits, nft.OIfField, nft.IIfField), nft.In(setWhole6, nft.OIfField, nft.DAddr6), nft.Accept()),
				nft.R(nft.In(setExits, nft.OIfField, nft.IIfField), nft.In(setForward4, nft.OIfField, nft.DAddr4), nft.Accept()),
				nft.R(nft.In(setExits, nft.OIfField, nft.IIfField), nft.In(setForward6, nft.OIfField, nft.DAddr6), nft.Accept()),
				nft.R(nft.OIfName(h), nft.Accept()),
				drop(dropUnknown),
			},
		}},
	}
	if slices.Contains(entries, entry{set: setNotes, link: noteIPv6}) {
		f := &t.Chains[slices.IndexFunc(t.Chains, func(c nft.Chain) bool { return c.Name == "forward" })]
		f.Rules = append(f.Rules, drop(dropIPv6, nft.NFProto(nft.IPv6)))
	}
	return t
}

// DataplaneMark is the mark of the dataplane's packets to the fabric: only they
// may have a provider address that stands for a CA as their source.
const DataplaneMark = 0x484e56 // "HNV"

// tunnelRules keep the dataplane's packets on the fabric, where they are in
// clear: without the fabric's routes, as when its interface is down, the default
// route would lead them outside.
func tunnelRules(drop func(string, ...nft.Stmt) nft.Rule) []nft.Rule {
	elsewhere := nft.NotIn(setPALinks, nft.OIfField)
	var out []nft.Rule
	for _, from := range []nft.Stmt{nft.In(setPA4, nft.SAddr4), nft.In(setPA6, nft.SAddr6)} {
		out = append(out,
			drop(dropAway, from, nft.L4Proto(nft.ProtoGRE), elsewhere),
			drop(dropAway, from, nft.DPort(nft.ProtoUDP, vxlanPort), elsewhere))
	}
	out = append(out, nft.R(nft.In(setVM6, nft.SAddr6), nft.In(setNeighbour, nft.ICMPv6Field), nft.Accept()))
	for _, from := range []nft.Stmt{nft.In(setVM4, nft.SAddr4), nft.In(setVM6, nft.SAddr6)} {
		out = append(out,
			drop(dropAsVM, from, nft.NotMark(DataplaneMark)),
			drop(dropAway, from, elsewhere))
	}
	return out
}

// sourceRules let pass what a compartment may say it is: its whole addresses, what
// it forwards, and of shared ones its ports, its echo identifiers, and errors about packets
// to these.
func sourceRules() []nft.Rule {
	leave := nft.Goto("leave")
	out := []nft.Rule{
		nft.R(nft.In(setWhole4, nft.IIfField, nft.SAddr4), leave),
		nft.R(nft.In(setWhole6, nft.IIfField, nft.SAddr6), leave),
		nft.R(nft.In(setForward4, nft.IIfField, nft.SAddr4), leave),
		nft.R(nft.In(setForward6, nft.IIfField, nft.SAddr6), leave),
		nft.R(nft.Fragment(nft.IPv4), nft.Count(dropFragment), nft.Drop()),
		nft.R(nft.Fragment(nft.IPv6), nft.Count(dropFragment), nft.Drop()),
	}
	for _, f := range []shareFields{share4, share6} {
		quoted := append(nft.ICMPError(f.family), f.quotes...)
		quoted = append(quoted, nft.In(f.partial, nft.IIfField, f.src))
		out = append(out,
			nft.R(nft.In(setPorts, nft.ProtoField), nft.In(f.shared, nft.IIfField, f.src, nft.ProtoField, nft.SPortField), leave),
			nft.R(nft.Echo(f.family), nft.In(f.shared, nft.IIfField, f.src, nft.ProtoField, f.id), leave),
			nft.R(append(slices.Clone(quoted), nft.In(setPorts, f.qProto),
				nft.In(f.shared, nft.IIfField, f.qDst, f.qProto, f.qDPort), leave)...),
			nft.R(append(slices.Clone(quoted), nft.QuotedIs(f.family, f.echo),
				nft.In(f.shared, nft.IIfField, f.qDst, f.qProto, f.qID), leave)...),
		)
	}
	return out
}

// shareFields are the words of one family in the rules about shared addresses.
type shareFields struct {
	family                             nft.Family
	shared, partial, steer             string
	echo                               nft.Protocol
	src, dst, id                       nft.Field
	qSrc, qDst, qProto, qSPort, qDPort nft.Field
	qID                                nft.Field
	quotes                             []nft.Stmt
}

var (
	share4 = shareFields{
		family: nft.IPv4, shared: setShared4, partial: setPartial4, steer: setSteer4, echo: nft.ProtoICMP,
		src: nft.SAddr4, dst: nft.DAddr4, id: nft.ICMPIDField,
		qSrc: nft.QuotedSAddr4, qDst: nft.QuotedDAddr4, qProto: nft.QuotedProto4,
		qSPort: nft.QuotedSPort4, qDPort: nft.QuotedDPort4, qID: nft.QuotedID4,
		quotes: []nft.Stmt{nft.Quoted4()},
	}
	share6 = shareFields{
		family: nft.IPv6, shared: setShared6, partial: setPartial6, steer: setSteer6, echo: nft.ProtoICMPv6,
		src: nft.SAddr6, dst: nft.DAddr6, id: nft.ICMP6IDField,
		qSrc: nft.QuotedSAddr6, qDst: nft.QuotedDAddr6, qProto: nft.QuotedProto6,
		qSPort: nft.QuotedSPort6, qDPort: nft.QuotedDPort6, qID: nft.QuotedID6,
	}
)

func portsSet(name string) nft.Set {
	return nft.Set{Name: name, Key: []nft.Type{nft.InetProto}, Elements: []nft.Element{
		nft.E(nft.Proto(nft.ProtoTCP)), nft.E(nft.Proto(nft.ProtoUDP))}}
}

// netdevTable sits on the devices themselves: it keeps the dataplane's packets
// from the stack, behind the packet sockets that serve them, and steers packets
// to shared addresses. fabric and ports are the links of the fabric and of VMs,
// as far as they exist.
func netdevTable(n names, fabric, ports []string, entries []entry) nft.Table {
	t := nft.Table{
		Family: nft.NetDev, Name: n.table(), Counters: netdevDrops,
		Sets: append(sets(nft.NetDev, entries), portsSet(setPortsNetdev), nft.ICMPErrors(), neighbourSet()),
	}
	for _, l := range fabric {
		t.Chains = append(t.Chains, nft.Chain{
			Name: "guard-" + l, Rules: guardRules(),
			Hook: &nft.Hook{Type: nft.Filter, At: nft.Ingress, Priority: nft.PriorityFilter, Device: l},
		})
	}
	for _, l := range ports {
		t.Chains = append(t.Chains, nft.Chain{
			Name: "port-" + l, Rules: []nft.Rule{nft.R(nft.Count(dropPort), nft.Drop())},
			Hook: &nft.Hook{Type: nft.Filter, At: nft.Ingress, Priority: nft.PriorityFilter, Device: l},
		})
	}
	// What the link's own IPv6 says to multicast groups is not worth counting.
	rules := []nft.Rule{
		nft.R(nft.DAddr(multicast6), nft.Drop()),
		nft.R(nft.Fragment(nft.IPv4), nft.Count(dropUnsteered), nft.Drop()),
		nft.R(nft.Fragment(nft.IPv6), nft.Count(dropUnsteered), nft.Drop()),
	}
	for _, f := range []shareFields{share4, share6} {
		to := compartmentHop4
		if f.family == nft.IPv6 {
			to = compartmentHop6
		}
		quoted := append(nft.ICMPError(f.family), f.quotes...)
		rules = append(rules,
			nft.R(nft.In(setPortsNetdev, nft.ProtoField), nft.FwdTo(f.family, to, f.steer, f.dst, nft.ProtoField, nft.DPortField)),
			nft.R(nft.Echo(f.family), nft.FwdTo(f.family, to, f.steer, f.dst, nft.ProtoField, f.id)),
			nft.R(append(slices.Clone(quoted), nft.In(setPortsNetdev, f.qProto),
				nft.FwdTo(f.family, to, f.steer, f.qSrc, f.qProto, f.qSPort))...),
			nft.R(append(slices.Clone(quoted), nft.QuotedIs(f.family, f.echo),
				nft.FwdTo(f.family, to, f.steer, f.qSrc, f.qProto, f.qID))...),
		)
	}
	t.Chains = append(t.Chains, nft.Chain{
		Name: "steer", Hook: &nft.Hook{Type: nft.Filter, At: nft.Ingress, Priority: nft.PriorityFilter, Device: n.steerOut()},
		Rules: append(rules, nft.R(nft.Count(dropUnsteered), nft.Drop())),
	})
	return t
}

// guardRules tell what of the fabric's packets is the dataplane's. The rest is
// for the stack, as on a machine without a gateway: its own VXLAN devices, GRE
// tunnels, and everything else that is no tunnel packet of a known virtual
// subnet.
func guardRules() []nft.Rule {
	count := func(counter string, match ...nft.Stmt) nft.Rule {
		return nft.R(append(match, nft.Count(counter), nft.Drop())...)
	}
	// A VLAN's packets come by here on their way to its link, which has a chain
	// of its own, behind its own packet socket.
	rules := []nft.Rule{nft.R(nft.Tagged(), nft.Accept())}
	for _, to := range []struct {
		mine, vm nft.Stmt
		nft.Family
	}{
		{nft.In(setGuard4, nft.DAddr4), nft.In(setVMGuard4, nft.DAddr4), nft.IPv4},
		{nft.In(setGuard6, nft.DAddr6), nft.In(setVMGuard6, nft.DAddr6), nft.IPv6},
	} {
		if to.Family == nft.IPv6 { // as ARP, which does not come here, it is the kernel's
			rules = append(rules, nft.R(to.vm, nft.In(setNeighbour, nft.ICMPv6Field), nft.Accept()))
		}
		rules = append(rules,
			count(dropRewrite, to.vm),
			// Only the first fragment shows the virtual subnet, and none tells
			// whose the others are: all of them go, lest those that the stack is
			// given wait there for the ones that it is not, fill its memory, and
			// are complained of to the sender. Tunnels do not fragment: who sends
			// fragments to a provider address loses nothing else by it than GRE
			// and UDP.
			count(dropTunnel, to.mine, nft.Fragment(to.Family), nft.L4Proto(nft.ProtoGRE)),
			count(dropTunnel, to.mine, nft.Fragment(to.Family), nft.L4Proto(nft.ProtoUDP)),
			count(dropTunnel, to.mine, nft.NVGRE(setVSIDs)),
			count(dropTunnel, to.mine, nft.VXLAN(setVSIDs)))
	}
	return rules
}

func neighbourSet() nft.Set {
	return nft.Set{Name: setNeighbour, Key: []nft.Type{nft.ICMPv6Type}, Elements: []nft.Element{
		nft.E(nft.ICMPv6(nft.ICMPv6NeighSolicit)), nft.E(nft.ICMPv6(nft.ICMPv6NeighAdvert))}}
}

const vxlanPort = 4789

var multicast6 = netip.MustParsePrefix("ff00::/8")

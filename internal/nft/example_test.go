package nft

import (
	"net/netip"
	"time"
)

// everything is a table that uses each statement, type and field at least once.
func everything() Table {
	a4, a6 := netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("2001:db8::10")
	in4, in6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/64")
	return Table{
		Family:   Inet,
		Name:     "example",
		Counters: []string{"drop-invalid", "drop-rest"},
		Sets: []Set{
			{Name: "inside4", Key: []Type{IPv4Addr}, Interval: true, Elements: []Element{
				E(Prefix(in4)), E(Prefix(netip.MustParsePrefix("255.255.255.0/24"))), E(Prefix(netip.MustParsePrefix("10.3.0.1/32")))}},
			{Name: "inside6", Key: []Type{IPv6Addr}, Interval: true, Elements: []Element{E(Prefix(in6))}},
			{Name: "external4", Key: []Type{IPv4Addr}, Elements: []Element{E(Addr(a4))}},
			{Name: "ports4", Key: []Type{IPv4Addr, InetProto, InetService}, Interval: true, Elements: []Element{
				E(Addr(a4), Proto(ProtoTCP), Ports(1024, 65535)), E(Addr(a4), Proto(ProtoUDP), Port(53))}},
			{Name: "map4", Key: []Type{IPv4Addr, InetProto, InetService}, Value: []Type{IPv4Addr, InetService}, Elements: []Element{
				E(Addr(a4), Proto(ProtoTCP), Port(443)).To(Addr(netip.MustParseAddr("10.1.1.12")), Port(8443)),
				E(Addr(a4), Proto(ProtoUDP), Port(53)).To(Addr(netip.MustParseAddr("10.1.1.13")), Port(53))}},
			{Name: "map6", Key: []Type{IPv6Addr, InetProto, InetService}, Value: []Type{IPv6Addr, InetService}, Elements: []Element{
				E(Addr(a6), Proto(ProtoTCP), Port(443)).To(Addr(netip.MustParseAddr("fd00:1::12")), Port(443))}},
			{Name: "errors", Key: []Type{ICMPType}, Elements: []Element{E(ICMP(ICMPUnreachable)), E(ICMP(ICMPTimeExceeded)), E(ICMP(ICMPParameter))}},
			{Name: "errors6", Key: []Type{ICMPv6Type}, Elements: []Element{E(ICMPv6(ICMPv6TooBig)), E(ICMPv6(ICMPv6NeighSolicit))}},
			{Name: "protocols", Key: []Type{InetProto}, Elements: []Element{E(Proto(ProtoTCP)), E(Proto(ProtoICMPv6))}},
			{Name: "links", Key: []Type{IfName}, Elements: []Element{E(Name("wnv5000"))}},
			{Name: "shares", Key: []Type{Mark}, Dynamic: true, Size: 128},
			{Name: "seen4", Key: []Type{IPv4Addr}, Dynamic: true, Size: 256, Timeout: time.Minute},
			{Name: "seen6", Key: []Type{IPv6Addr}, Dynamic: true, Size: 256, Timeout: 90 * time.Second},
		},
		Chains: []Chain{
			{Name: "early", Hook: &Hook{Type: Filter, At: Prerouting, Priority: PriorityMangle}, Rules: []Rule{
				R(CTState(StateInvalid), Count("drop-invalid"), Drop()),
				R(IIfName("ext"), In("inside4", SAddr4), Drop()).Note("nobody outside has an inside address"),
				R(NotIIfName("ext"), NotIn("inside6", SAddr6), Drop()),
			}},
			{Name: "dstnat", Hook: &Hook{Type: NAT, At: Prerouting, Priority: PriorityDstNAT}, Rules: []Rule{
				R(DNAT(IPv4, "map4", DAddr4, ProtoField, DPortField)),
				R(DNAT(IPv6, "map6", DAddr6, ProtoField, DPortField)),
			}},
			{Name: "forward", Hook: &Hook{Type: Filter, At: Forward, Priority: PriorityFilter, Drop: true}, Rules: []Rule{
				R(NFProto(IPv4), TCPFlags(SYN|RST, SYN), ClampMSS(1418)),
				R(CTState(StateEstablished|StateRelated), Accept()),
				R(CTState(StateNew), NotTCPFlags(FIN|SYN|RST|ACK, SYN), Drop()),
				R(In("protocols", ProtoField), Jump("bounds")),
				R(CTStatusDNAT(), Accept()),
				R(OIfName("ext"), Goto("bounds")),
				R(NotOIfName("ext"), L4Proto(ProtoGRE), Count("drop-rest"), Drop()),
			}},
			{Name: "bounds", Rules: []Rule{
				R(CountOver(100), Drop()),
				R(CountSharesOver("shares", 64, 1024), Drop()),
				R(Remember("seen4", DAddr4), Accept()),
				R(Remember("seen6", DAddr6), Accept()),
				R(Limit(50, 20), Return()),
				R(SAddr(in4), DAddr(netip.MustParsePrefix("192.0.2.1/32")), Drop()),
				R(NotSAddr(in6), NotDAddr(netip.MustParsePrefix("2001:db8::/32")), Drop()),
				R(DPort(ProtoTCP, 53), Drop()),
				R(ICMPTypeIs(ICMPEchoRequest), ICMPID(1024, 2047), Drop()),
				R(ICMPv6TypeIs(ICMPv6EchoRequest), ICMPv6ID(7, 7), Drop()),
				R(In("errors", ICMPField), Drop()),
				R(In("errors6", ICMPv6Field), Drop()),
				R(ICMPv6TypeIs(ICMPv6NeighAdvert), Drop()),
				R(In("ports4", SAddr4, ProtoField, SPortField), Drop()),
				R(NotIn("external4", DAddr4), Drop()),
			}},
			{Name: "ways", Hook: &Hook{Type: Filter, At: Prerouting, Priority: PriorityRaw}, Rules: []Rule{
				R(append(RoutedElsewhere("ext"), SetZone(1))...),
				R(append(NoRoute(), Drop())...),
				R(NoReversePath(true), Drop()),
				R(NoReversePath(false), Drop()),
				R(SourceOver("ext"), Drop()),
				R(Quoted4(), QuotedIs(IPv4, ProtoUDP), QuotedSPort(IPv4, 51820), Accept()),
				R(QuotedIs(IPv6, ProtoUDP), QuotedSPort(IPv6, 9), Accept()),
				R(L4Proto(ProtoUDP), NotHandshake(), Notrack(), Accept()),
				R(NotHops(IPv4, 255), DPort(ProtoUDP, 3784), Drop()),
				R(NotHops(IPv6, 255), DPort(ProtoUDP, 3784), Drop()),
			}},
			{Name: "sources", Hook: &Hook{Type: Filter, At: Output, Priority: PriorityRaw}, Rules: []Rule{
				R(SPorts(ProtoUDP, 51820, 51820), SetSource(a4)),
				R(SPorts(ProtoUDP, 1024, 51819), SetSource(a6)),
			}},
			{Name: "marking", Hook: &Hook{Type: Filter, At: Output, Priority: PriorityMangle}, Rules: []Rule{
				R(SPort(ProtoUDP, 51820), SetDSCP(IPv4, 46)),
				R(SPort(ProtoUDP, 51820), SetDSCP(IPv6, 10)),
				R(SPort(ProtoUDP, 51820), SetDF()),
				R(OIfName("ext"), BytesOver(1000000, 65536), Drop()),
				R(OIfName("ext"), BytesOver(12500000000, 1), Drop()),
			}},
			{Name: "srcnat", Hook: &Hook{Type: NAT, At: Postrouting, Priority: PrioritySrcNAT}, Rules: []Rule{
				R(L4Proto(ProtoTCP), HashBelow(SAddr4, 3, 7, 1), SNAT(a4, 1024, 65535)),
				R(L4Proto(ProtoUDP), HashBelow(SAddr6, 3, 7, 2), SNAT(a6, 2000, 2000)),
			}},
		},
	}
}

// steering is a table of a device's ingress, with what steers packets there.
func steering() Table {
	a := netip.MustParseAddr("203.0.113.10")
	index := func(name string, key ...Type) Set { return Set{Name: name, Key: key, Value: []Type{IfIndex}} }
	whole := index("whole4", IPv4Addr)
	whole.Elements = []Element{E(Addr(a)).To(Index(1))}
	ids := Set{Name: "ids4", Key: []Type{IfName, IPv4Addr}, Elements: []Element{E(Name("ext"), Addr(a))}}
	rules := []Rule{
		R(In("ids4", IIfField, DAddr4), Accept()),
		R(IIfPrefix("x12ab"), Drop()),
		R(IIfPrefix("x12ab"), NotHere(), Drop()),
		R(Fragment(IPv4), Drop()),
		R(Fragment(IPv6), Drop()),
		R(Echo(IPv4), Accept()),
		R(Echo(IPv6), Accept()),
		R(Quoted4(), QuotedIs(IPv4, ProtoTCP), Accept()),
		R(QuotedIs(IPv6, ProtoUDP), Accept()),
		R(append(ICMPError(IPv4), Accept())...),
		R(append(ICMPError(IPv6), Accept())...),
		R(FwdTo(IPv4, netip.MustParseAddr("169.254.1.1"), "whole4", DAddr4)),
		R(Tagged(), Accept()),
		R(DAddr(netip.MustParsePrefix("192.0.2.1/32")), NVGRE("vsids"), Drop()),
		R(DAddr(netip.MustParsePrefix("2001:db8::1/128")), VXLAN("vsids"), NotMark(0x484e56), Drop()),
	}
	vsids := Set{Name: "vsids", Key: []Type{VSID}, Elements: []Element{E(Subnet(5001)), E(Subnet(0xfffffe))}}
	return Table{Family: NetDev, Name: "steering", Sets: []Set{whole, ids, ICMPErrors(), vsids}, Chains: []Chain{
		{Name: "ingress", Hook: &Hook{Type: Filter, At: Ingress, Priority: -10, Device: "lo"}, Rules: rules}}}
}

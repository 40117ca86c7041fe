package vfp

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// Direction is the way of a packet as the port's owner sees it.
type Direction uint8

// The directions.
const (
	Outbound Direction = 1 // from the port into the switch: the VM sent it
	Inbound  Direction = 2 // from the switch to the port
)

func (d Direction) valid() bool { return d == Outbound || d == Inbound }

func (d Direction) String() string {
	switch d {
	case Outbound:
		return "outbound"
	case Inbound:
		return "inbound"
	}
	return "unknown"
}

// Family is the kind of frames that a group has a say in.
type Family uint8

// The families. AnyFamily includes frames that hold no IP packet.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

func (f Family) String() string {
	switch f {
	case AnyFamily:
		return "any"
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return "unknown"
}

// Layer is one stage that every packet of a port goes through. Priorities and
// names are unique in a port.
type Layer struct {
	Name     string
	Priority int // ascending outbound, descending inbound
	Groups   []Group
}

// Group is a list of rules of which at most one matches a packet: the first by
// Priority, and in the order given where that is equal. Where none does, the
// group has no say. Names and priorities are unique among the groups of a layer
// that a packet can meet together.
type Group struct {
	Name      string
	Priority  int // ascending in both directions
	Direction Direction
	Family    Family
	Rules     []Rule
}

// Rule says what happens to the packets that it matches. Counters go by its ID,
// which is unique in its group.
type Rule struct {
	ID       string
	Priority uint16 // lowest first
	Match    Match
	Action   Action
}

// Match is the N-tuple of a rule: a packet must meet every condition that is
// set, and an empty field is no condition. Conditions on addresses, protocol and
// what follows only ever match IP packets.
type Match struct {
	SrcMAC, DstMAC *[6]byte
	Group          bool   // only frames to a multicast or broadcast MAC address
	EtherType      uint16 // 0: any

	Proto    *uint8 // of the transport header
	Src, Dst []netip.Prefix
	// Ports only ever match TCP and UDP.
	SrcPorts, DstPorts []PortRange
	ICMPTypes          []uint8   // only ever match ICMP and ICMPv6
	TCPFlags           FlagMatch // only ever matches TCP
}

// PortRange is a range of ports with both its ends.
type PortRange struct{ Lo, Hi uint16 }

// FlagMatch matches TCP headers by their flags: those of Mask must be as in
// Want. The zero FlagMatch is no condition.
type FlagMatch struct{ Mask, Want uint8 }

// Kind is what an action does.
type Kind uint8

// The kinds of actions. Every one ends its group. Block ends everything; the
// others are taken note of in Composed, and the packet goes on.
const (
	Allow   Kind = iota + 1
	Block        // Reason is counted
	Encap        // into Tunnel, or as the mapping in Space says
	Decap        // take the tunnel header off
	Rewrite      // Transposition, and the source from Pool
	Route        // find the way in Space
	Meter        // Bucket must have room for the packet
	Punt         // hand it over to whoever reads Queue
)

var kindNames = [...]string{"none", "allow", "block", "encap", "decap", "rewrite", "route", "meter", "punt"}

func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// Action is what a rule does. The fields that its Kind does not name are unset.
type Action struct {
	Kind          Kind
	Reason        drop.Reason   // Block
	Transposition Transposition // Rewrite
	Pool          *NATPool      // Rewrite: address and port of the source
	Space         string        // Route, Encap: the mapping space to look in
	Tunnel        Tunnel        // Encap: a fixed one, where there is no Space
	Bucket        *Bucket       // Meter
	Queue         PuntQueue     // Punt
}

// Tunnel is a fixed way to encapsulate, whatever the mapping space says.
type Tunnel struct {
	Protocol TunnelProtocol
	Dst      netip.Addr // PA of the other end
	VSID     uint32
}

// TunnelProtocol is the encapsulation of a Tunnel.
type TunnelProtocol uint8

// The encapsulations.
const (
	NVGRE TunnelProtocol = iota + 1 // RFC 7637
	VXLAN                           // RFC 7348
)

// PuntQueue names who takes what the layers cannot decide. Numbers from
// PuntCustom on are free for whoever makes the rules.
type PuntQueue uint8

// The queues.
const (
	PuntARP    PuntQueue = iota + 1 // ARP and neighbor discovery
	PuntDHCP                        // DHCP and DHCPv6
	PuntRouter                      // packets to the distributed router itself
	PuntFlood                       // broadcast and multicast
	PuntCustom
)

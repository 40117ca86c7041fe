package forwarder

import "net/netip"

// Query is a packet of which Explain tells the way.
type Query struct {
	Dst netip.Addr
	// Src is the packet's source. Unset, or an address of the compartment: the
	// packet is the compartment's own.
	Src netip.Addr
	// In is the link on which a packet of another source comes; "": the one that
	// leads to Src.
	In   string
	Mark uint32
}

// Path is the way of a packet.
type Path struct {
	// Found is false where no route matches, or the kernel refuses the packet.
	Found bool `json:"found"`
	// Refused says why the kernel takes no such packet at all, as where the
	// reverse path check does not let its source in.
	Refused string `json:"refused,omitempty"`
	Route   Match  `json:"route"`
	// Source is the address that a packet of the compartment's own would get.
	Source netip.Addr `json:"source,omitzero"`
	// In is the link on which the packet was taken to come; "": it is the
	// compartment's own.
	In string `json:"in,omitempty"`
	// Others match too, and would be taken in this order if those before were not
	// there. (Policy rules apart, which a compartment has none of.)
	Others []Match `json:"others,omitempty"`
}

// Types of routes.
const (
	TypeUnicast     = "unicast"
	TypeLocal       = "local"       // an address of the compartment
	TypeUnreachable = "unreachable" // refused, and said so
	TypeBlackhole   = "blackhole"   // dropped
	TypeProhibit    = "prohibit"    // refused, and said so
)

// Match is a route that a packet matches.
type Match struct {
	Prefix netip.Prefix `json:"prefix"`
	Type   string       `json:"type"`
	// Protocol says who made it: 2 the kernel (of an address), 4 somebody by hand,
	// 201 package compartments, 202 s2s, 203 BGP, 204 this one.
	Protocol uint8  `json:"protocol"`
	Metric   uint32 `json:"metric"`
	Table    uint32 `json:"table"`
	Hops     []Hop  `json:"hops,omitempty"` // by link; several share the flows
}

// Hop is a next hop of a route.
type Hop struct {
	Link   string     `json:"link"`
	Via    netip.Addr `json:"via,omitzero"` // unset: on the link itself
	Weight int        `json:"weight"`       // its share, from 1
	// Down: the link is down or has no carrier, and the kernel may leave it out.
	Down bool `json:"down,omitempty"`
}

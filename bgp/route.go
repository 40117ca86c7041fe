package bgp

import (
	"net/netip"
	"time"
)

// Route is a destination and how the compartment is to reach it.
type Route struct {
	Prefix netip.Prefix `json:"prefix"`
	// NextHops in ascending order of address; none: the route is withdrawn, or
	// Unreachable.
	NextHops []NextHop `json:"nextHops,omitempty"`
	// Unreachable refuses packets; an aggregate's.
	Unreachable bool `json:"unreachable,omitempty"`
	// Internal: learned by iBGP, which goes after eBGP (RFC 4271, 9.1.2.2).
	Internal bool `json:"internal,omitempty"`
}

// NextHop is one way.
type NextHop struct {
	Address netip.Addr `json:"address"`
	// Peer is the neighbour that told of it.
	Peer netip.Addr `json:"peer"`
	// Direct: it must be on a link of the compartment, as an eBGP neighbour one hop
	// away is. Otherwise a route that BGP did not make may lead to it.
	Direct bool `json:"direct,omitempty"`
	// Weight is its share of the traffic; 0 is 1.
	Weight uint8 `json:"weight,omitempty"`
}

// Path is one neighbour's word, or the speaker's own, about a prefix.
type Path struct {
	Prefix netip.Prefix `json:"prefix"`
	// Peer is the neighbour's address; unset: own.
	Peer netip.Addr `json:"peer,omitzero"`
	Best bool       `json:"best,omitempty"`
	// Rejected: received, but not taken: by policy, or as the own AS is in its path.
	Rejected bool `json:"rejected,omitempty"`
	// Stale: kept over the neighbour's restart.
	Stale   bool       `json:"stale,omitempty"`
	Since   time.Time  `json:"since,omitzero"`
	NextHop netip.Addr `json:"nextHop,omitzero"`
	// ASPath as text, sets in braces, as in "65001 65002 {65003,65004}".
	ASPath           string           `json:"asPath"`
	Origin           string           `json:"origin"` // igp, egp, incomplete
	MED              *uint32          `json:"med,omitempty"`
	LocalPref        *uint32          `json:"localPref,omitempty"`
	Communities      []Community      `json:"communities,omitempty"`
	LargeCommunities []LargeCommunity `json:"largeCommunities,omitempty"`
	Aggregator       string           `json:"aggregator,omitempty"` // AS and router ID
	AtomicAggregate  bool             `json:"atomicAggregate,omitempty"`
}

// State is what a speaker tells about itself.
type State struct {
	ASN      uint32      `json:"asn"`
	RouterID netip.Addr  `json:"routerID,omitzero"`
	Peers    []PeerState `json:"peers,omitempty"`
	FIB      FIBState    `json:"fib"`
	// Restarting: routes of an earlier process are still in use.
	Restarting bool `json:"restarting,omitempty"`
	// Generation changes with the routes that are in use.
	Generation uint64 `json:"generation,omitempty"`
	// Aggregates that are advertised now.
	Aggregates []netip.Prefix `json:"aggregates,omitempty"`
}

// PeerState is that of one neighbour.
type PeerState struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	// Dynamic: it connected by a peer's Prefix.
	Dynamic bool   `json:"dynamic,omitempty"`
	ASN     uint32 `json:"asn"`
	Session string `json:"session"` // idle, connect, active, opensent, openconfirm, established
	// Reason is why it is not established, as far as known.
	Reason   string     `json:"reason,omitempty"`
	Since    time.Time  `json:"since,omitzero"` // of the present state of up or down
	RouterID netip.Addr `json:"routerID,omitzero"`
	Local    netip.Addr `json:"local,omitzero"`
	// Hold and Keepalive as negotiated.
	Hold      time.Duration `json:"hold,omitempty"`
	Keepalive time.Duration `json:"keepalive,omitempty"`
	// OverLimit: it sent too many prefixes; Retry is when it may try again.
	OverLimit bool      `json:"overLimit,omitempty"`
	Retry     time.Time `json:"retry,omitzero"`
	// BFD is "up", "down", "init" or "admin-down"; "" where there is none.
	BFD string `json:"bfd,omitempty"`
	// Flaps counts sessions that ended soon after they came up.
	Flaps    uint32                 `json:"flaps,omitempty"`
	Families map[Family]FamilyState `json:"families,omitempty"`
	Received Messages               `json:"received"`
	Sent     Messages               `json:"sent"`
}

// FamilyState counts one family's prefixes.
type FamilyState struct {
	Received uint64 `json:"received"`
	Accepted uint64 `json:"accepted"` // by the protocol's own checks, before policy
	// Advertised is left out where there are more than CountAdvertised routes, as
	// counting would apply policies to all of them.
	Advertised *uint64 `json:"advertised,omitempty"`
	Limit      uint32  `json:"limit"`
}

// CountAdvertised is how many routes there may be for Advertised to be counted.
const CountAdvertised = 10_000

// Messages counts messages of one direction.
type Messages struct {
	Updates       uint64 `json:"updates"`
	Keepalives    uint64 `json:"keepalives"`
	Notifications uint64 `json:"notifications"`
	Refreshes     uint64 `json:"refreshes"`
}

// FIBState counts routes in the compartment's table.
type FIBState struct {
	Installed int `json:"installed"`
	// Unresolved: no usable next hop now; tried again.
	Unresolved int `json:"unresolved,omitempty"`
	// Stale: of an earlier process, not told anew yet.
	Stale int `json:"stale,omitempty"`
	// Conflicts: a route that is not ours has the place.
	Conflicts int `json:"conflicts,omitempty"`
	// Repaired counts routes that somebody else had changed or removed.
	Repaired uint64 `json:"repaired,omitempty"`
	// LastError is the last thing that the kernel refused.
	LastError string `json:"lastError,omitempty"`
}

package peering

import (
	"net/netip"
)

// Action is what a rule does with a route that it matches.
type Action string

// The actions. The zero Action is Accept for a rule and for a policy's default.
const (
	Accept Action = "accept"
	Reject Action = "reject"
	Next   Action = "next" // the following rules decide, on what this one changed
)

// Policy decides which routes are taken from a peer or sent to it, and changes
// them. The first rule that matches and does not say Next decides; the zero Policy
// accepts all.
type Policy struct {
	Rules []Rule `json:"rules,omitempty"`
	// Default is for what no rule decided.
	Default Action `json:"default,omitempty"`
}

// Rule is one step of a policy.
type Rule struct {
	Name   string `json:"name,omitempty"` // for people
	Match  Match  `json:"match,omitzero"`
	Set    Set    `json:"set,omitzero"`
	Action Action `json:"action,omitempty"`
}

// Match holds for a route when each of its parts that is set does. Of a list, one
// element is enough.
type Match struct {
	Prefixes []PrefixRange `json:"prefixes,omitempty"`
	// ASPath are patterns. "^65001_", "_65001$", "_65001_" and "^65001$" are AS 65001
	// as neighbour, as origin, anywhere, alone; any other is a regular expression over
	// the AS numbers with spaces between them, in which "_" is where a number begins
	// or ends. "^$" is a path of this AS.
	ASPath           []string         `json:"asPath,omitempty"`
	Communities      []Community      `json:"communities,omitempty"`
	LargeCommunities []LargeCommunity `json:"largeCommunities,omitempty"`
	// NextHops are as told by whoever sent the route, not this speaker where it put
	// itself there.
	NextHops []netip.Addr `json:"nextHops,omitempty"`
	// Origin is whose routes: of this speaker or learned ones; "" is both.
	Origin Origin `json:"origin,omitempty"`
}

// Origin tells own routes from learned ones.
type Origin string

// The origins of a route.
const (
	OriginAny     Origin = ""
	OriginLocal   Origin = "local"
	OriginLearned Origin = "learned"
)

// PrefixRange is the prefixes inside Prefix whose length is Min to Max. Both 0:
// Prefix itself. Max 0: up to the longest.
type PrefixRange struct {
	Prefix netip.Prefix `json:"prefix"`
	Min    int          `json:"min,omitempty"`
	Max    int          `json:"max,omitempty"`
}

// Lengths gives the lengths meant.
func (r PrefixRange) Lengths() (shortest, longest int) {
	switch {
	case r.Min == 0 && r.Max == 0:
		return r.Prefix.Bits(), r.Prefix.Bits()
	case r.Max == 0:
		return r.Min, r.Prefix.Addr().BitLen()
	case r.Min == 0:
		return r.Prefix.Bits(), r.Max
	default:
		return r.Min, r.Max
	}
}

// Set changes a route. What is not set stays.
type Set struct {
	MED       *uint32 `json:"med,omitempty"`
	LocalPref *uint32 `json:"localPref,omitempty"`
	// Prepend puts the own AS so many times more in front of the path.
	Prepend          uint8                 `json:"prepend,omitempty"`
	Communities      *Edit[Community]      `json:"communities,omitempty"`
	LargeCommunities *Edit[LargeCommunity] `json:"largeCommunities,omitempty"`
	// NextHop is for routes of its family; others keep theirs.
	NextHop netip.Addr `json:"nextHop,omitzero"`
	// NextHopSelf names this speaker; of export policies only.
	NextHopSelf bool `json:"nextHopSelf,omitempty"`
}

// Edit changes a route's communities.
type Edit[T any] struct {
	Mode Mode `json:"mode"`
	List []T  `json:"list"`
}

// Mode is how an Edit changes a list.
type Mode string

// The modes of an Edit.
const (
	Add     Mode = "add"
	Remove  Mode = "remove"
	Replace Mode = "replace"
)

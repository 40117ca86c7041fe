package bgp

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// The words of desired state are package peering's, which the store and the API
// share with the speaker.
type (
	Spec            = peering.Spec
	Peer            = peering.Peer
	Family          = peering.Family
	RemovePrivateAS = peering.RemovePrivateAS
	BFD             = peering.BFD
	GracefulRestart = peering.GracefulRestart
	Network         = peering.Network
	Aggregate       = peering.Aggregate
	Attributes      = peering.Attributes
	Community       = peering.Community
	LargeCommunity  = peering.LargeCommunity
	Policy          = peering.Policy
	Rule            = peering.Rule
	Match           = peering.Match
	Set             = peering.Set
	Edit[T any]     = peering.Edit[T]
	Mode            = peering.Mode
	PrefixRange     = peering.PrefixRange
	Origin          = peering.Origin
	Action          = peering.Action
	Secret          = peering.Secret
)

// Their values.
const (
	IPv4 = peering.IPv4
	IPv6 = peering.IPv6

	Accept = peering.Accept
	Reject = peering.Reject
	Next   = peering.Next

	OriginAny     = peering.OriginAny
	OriginLocal   = peering.OriginLocal
	OriginLearned = peering.OriginLearned

	Add     = peering.Add
	Remove  = peering.Remove
	Replace = peering.Replace

	KeepPrivateAS    = peering.KeepPrivateAS
	RemovePrivate    = peering.RemovePrivate
	ReplacePrivateAS = peering.ReplacePrivateAS

	NoExport    = peering.NoExport
	NoAdvertise = peering.NoAdvertise

	NoExportSubconfed = peering.NoExportSubconfed
	LLGRStale         = peering.LLGRStale
	Blackhole         = peering.Blackhole

	DefaultMaxPrefixes  = peering.DefaultMaxPrefixes
	DefaultDynamicLimit = peering.DefaultDynamicLimit
	DefaultHold         = peering.DefaultHold
	DefaultConnectRetry = peering.DefaultConnectRetry
	DefaultReEnable     = peering.DefaultReEnable
	DefaultRestartTime  = peering.DefaultRestartTime

	// Boundary is what "_" in a pattern of an AS path stands for.
	Boundary = peering.Boundary
)

// FamilyOf tells the family of an address.
func FamilyOf(a netip.Addr) Family { return peering.FamilyOf(a) }

// DefaultBFD is what the zero BFD means.
func DefaultBFD() BFD { return peering.DefaultBFD() }

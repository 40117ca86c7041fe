package peering

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"
)

// Family is an address family; only its unicast routes are exchanged.
type Family string

// The families of AFI 1 and 2 with SAFI 1 (RFC 4760).
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// FamilyOf tells the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Spec is what one compartment's speaker should do.
type Spec struct {
	// ASN is the speaker's AS number, which it has towards all peers.
	ASN uint32 `json:"asn"`
	// RouterID is an IPv4 address, unique among the speakers of the AS; it need
	// not be an address of the compartment.
	RouterID netip.Addr `json:"routerID"`
	// Port is where peers connect to; 0 is 179.
	Port uint16 `json:"port,omitempty"`
	// Listen are the addresses peers may connect to; none: all of the compartment.
	Listen []netip.Addr `json:"listen,omitempty"`
	Peers  []Peer       `json:"peers,omitempty"`
	// Networks are advertised to all peers whose policy does not say otherwise.
	Networks   []Network   `json:"networks,omitempty"`
	Aggregates []Aggregate `json:"aggregates,omitempty"`
	// ECMP is how many next hops of equally good paths are used at once; 0 and 1
	// are one.
	ECMP int `json:"ecmp,omitempty"`
	// Withhold takes back all that was advertised and advertises nothing, for a
	// compartment that cannot forward. Sessions stay.
	Withhold bool `json:"withhold,omitempty"`
}

// Peer is a neighbour, or with Prefix any number of them.
type Peer struct {
	Name string `json:"name"`
	// Address is the neighbour's; of one with Prefix it is unset.
	Address netip.Addr `json:"address,omitzero"`
	// Prefix: whoever connects from it is this peer (dynamic neighbours). The
	// speaker does not connect to them by itself.
	Prefix netip.Prefix `json:"prefix,omitzero"`
	// Limit is how many neighbours of Prefix there may be at once; 0 is
	// DefaultDynamicLimit.
	Limit int    `json:"limit,omitempty"`
	ASN   uint32 `json:"asn"`
	// Local is the own address of the session; unset: by route.
	Local netip.Addr `json:"local,omitzero"`
	Port  uint16     `json:"port,omitempty"` // of the neighbour; 0 is 179
	// Passive waits for the neighbour to connect.
	Passive bool `json:"passive,omitempty"`
	// Disabled keeps the session down.
	Disabled bool `json:"disabled,omitempty"`
	// Password is the key of TCP MD5 signatures (RFC 2385), 1 to 80 octets.
	Password Secret `json:"password,omitempty"`
	// TTLSecurity is how many hops away the neighbour is at most (GTSM, RFC 5082);
	// 0 is no check. It must be set on both sides.
	TTLSecurity uint8 `json:"ttlSecurity,omitempty"`
	// MultihopTTL lets an eBGP neighbour be farther away than one hop.
	MultihopTTL uint8 `json:"multihopTTL,omitempty"`
	// Hold is the hold time offered, whole seconds; 0 is 90 s. Keepalive 0 is a third
	// of it.
	Hold      time.Duration `json:"hold,omitempty"`
	Keepalive time.Duration `json:"keepalive,omitempty"`
	// ConnectRetry is the pause between attempts to connect, and after a reset; 0
	// is 10 s.
	ConnectRetry time.Duration `json:"connectRetry,omitempty"`
	// Families are what is exchanged; none: the family of the session. Both can be
	// exchanged over a session over IPv6 (IPv4 by RFC 8950), over one over IPv4 only
	// IPv4.
	Families []Family `json:"families,omitempty"`
	BFD      *BFD     `json:"bfd,omitempty"`
	// GracefulRestart: neither side's restart stops traffic (RFC 4724).
	GracefulRestart *GracefulRestart `json:"gracefulRestart,omitempty"`
	// MaxPrefixes are the most prefixes taken per family; where nothing is said,
	// DefaultMaxPrefixes. One more ends the session: at once, or where the limit is
	// above a thousand, when they are counted next, in a second or two.
	MaxPrefixes map[Family]uint32 `json:"maxPrefixes,omitempty"`
	// ReEnable is how long after that the session is tried again; 0 is 5 min.
	ReEnable time.Duration `json:"reEnable,omitempty"`
	// ASOverride puts the own AS in place of the neighbour's in paths sent to it, so
	// that two sites of one AS hear of each other.
	ASOverride bool `json:"asOverride,omitempty"`
	// RemovePrivateAS is what becomes of private AS numbers in paths sent.
	RemovePrivateAS RemovePrivateAS `json:"removePrivateAS,omitempty"`
	// AllowOwnAS is how many times the own AS may be in a path received.
	AllowOwnAS uint8 `json:"allowOwnAS,omitempty"`
	// NextHopSelf names this speaker as next hop to an iBGP neighbour too.
	NextHopSelf bool `json:"nextHopSelf,omitempty"`
	// DefaultOriginate advertises a default route. One that is learned from elsewhere
	// goes before it.
	DefaultOriginate bool   `json:"defaultOriginate,omitempty"`
	Import           Policy `json:"import,omitzero"`
	Export           Policy `json:"export,omitzero"`
}

// What holds where a Peer does not say otherwise.
const (
	DefaultMaxPrefixes  = 100_000
	DefaultDynamicLimit = 64
	DefaultHold         = 90 * time.Second
	DefaultConnectRetry = 10 * time.Second
	DefaultReEnable     = 5 * time.Minute
	DefaultRestartTime  = 2 * time.Minute
)

// RemovePrivateAS is what becomes of private AS numbers (RFC 6996) in paths sent.
type RemovePrivateAS string

// The ways to treat private AS numbers.
const (
	KeepPrivateAS    RemovePrivateAS = ""
	RemovePrivate    RemovePrivateAS = "remove"
	ReplacePrivateAS RemovePrivateAS = "replace" // by the own AS
)

// BFD watches the way to a neighbour (RFC 5880, single hop of RFC 5881) and ends
// the session when it fails.
type BFD struct {
	// Interval is between packets, both ways; 0 is 200 ms.
	Interval time.Duration `json:"interval,omitempty"`
	// Multiplier is how many packets may be missing; 0 is 3.
	Multiplier uint8 `json:"multiplier,omitempty"`
}

// DefaultBFD is what the zero BFD means: detection in 600 ms. TCP sends again 0.2, 0.6
// and 1.4 s after a loss, so 900 ms would stop connections for 1.4 s.
func DefaultBFD() BFD { return BFD{Interval: 200 * time.Millisecond, Multiplier: 3} }

// GracefulRestart lets routes stay while a speaker restarts.
type GracefulRestart struct {
	// Time is how long the neighbour keeps our routes while we restart, and we ours
	// until all have been told anew; whole seconds, at most 4095; 0 is 120 s.
	Time time.Duration `json:"time,omitempty"`
	// LongLived, when not 0, keeps routes for that much longer, as the last choice
	// (RFC 9494).
	LongLived time.Duration `json:"longLived,omitempty"`
	// Notification keeps routes also when the session ends by a notification that is
	// not a hard reset (RFC 8538).
	Notification bool `json:"notification,omitempty"`
}

// Network is a prefix that the speaker originates.
type Network struct {
	Prefix netip.Prefix `json:"prefix"`
	Attributes
}

// Aggregate is originated while a more specific route is known: a Network or a
// learned one. What matches the aggregate and no such route is unreachable, so that
// it cannot loop (RFC 4632, 5.1).
type Aggregate struct {
	Prefix netip.Prefix `json:"prefix"`
	// SummaryOnly keeps the more specific routes from being advertised.
	SummaryOnly bool `json:"summaryOnly,omitempty"`
	Attributes
}

// Attributes are those of an originated route.
type Attributes struct {
	MED              *uint32          `json:"med,omitempty"`
	LocalPref        *uint32          `json:"localPref,omitempty"` // to iBGP neighbours
	Communities      []Community      `json:"communities,omitempty"`
	LargeCommunities []LargeCommunity `json:"largeCommunities,omitempty"`
}

// Secret is a password. It shows itself only in JSON, which carries a Spec to the
// speaker's process.
type Secret string

const hidden = "(secret)"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// Format keeps any verb of package fmt from showing the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps it out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

package s2s

import (
	"net/netip"
	"time"
)

// State is what is.
type State struct{ Tunnels []TunnelState }

// TunnelState is the state of one tunnel.
type TunnelState struct {
	Name           string
	Interface      string
	Implementation Implementation // "" where it does not run
	// Reason says in words why it is that one.
	Reason string
	// Error says why the tunnel is not as wanted; "" if it is.
	Error      string
	PublicKey  Key
	ListenPort uint16
	MTU        int
	// InboundDrops and OutboundDrops count packets over the limits.
	InboundDrops, OutboundDrops uint64
	Peers                       []PeerState
}

// PeerState is the state of one peer.
type PeerState struct {
	Name      string
	PublicKey Key
	// Endpoint is where the peer was last heard, or is expected.
	Endpoint      netip.AddrPort
	LastHandshake time.Time // zero: never
	// RxBytes and TxBytes count what went through the tunnel, encrypted.
	RxBytes, TxBytes uint64
	Prefixes         []netip.Prefix
	Liveness         Liveness
	// Since is when Liveness became what it is.
	Since time.Time
	// Loss is the share of the last probes that were not answered, 0 to 1.
	Loss float64
	// RTT is the smoothed round-trip time of probes.
	RTT time.Duration
	// Passes is the largest packet, in bytes, that probes found to get through to the
	// peer, where its path drops larger ones and says nothing; 0: it does not.
	Passes int
	// Active: packets to at least one of the prefixes go this way.
	Active bool
}

// Liveness is what probes have found.
type Liveness string

// The findings.
const (
	Unprobed Liveness = "unprobed" // no target, or no address to probe from
	Unknown  Liveness = "unknown"  // no answer yet, and not yet given up
	Up       Liveness = "up"
	Down     Liveness = "down"
)

// usable tells whether packets may be sent that way.
func (l Liveness) usable() bool { return l != Down }

package s2s

import (
	"net/netip"
	"time"
)

// Spec is the whole wanted state of one compartment's tunnels.
type Spec struct {
	Tunnels []Tunnel
	// Implementation that all must be of; "" chooses for each.
	Implementation Implementation `json:",omitempty"`
}

// Implementation is what encrypts.
type Implementation string

// The implementations.
const (
	Kernel   Implementation = "kernel"   // the kernel's own WireGuard
	Embedded Implementation = "embedded" // wireguard-go in this process
)

// Tunnel is one WireGuard link and the peers behind it.
type Tunnel struct {
	Name       string // the connection's, unique in the compartment
	Interface  string // the link's name, unique in the compartment
	PrivateKey Secret
	// ListenPort is the UDP port for both families; 0 lets the kernel choose,
	// anew with each start.
	ListenPort uint16
	// Addresses of the link, each with the length of its prefix.
	Addresses []netip.Prefix
	// MTU of the link, in bytes; 0 derives it from the links and paths to the
	// peers.
	MTU   int
	Peers []Peer
	// InboundKbps and OutboundKbps limit what the tunnel carries, in 1000 bits a
	// second of packets before encryption; 0 is no limit. What is over is dropped.
	InboundKbps, OutboundKbps uint64
	// DSCP of the packets outside, 0 to 63.
	DSCP uint8
	// LocalMaps translate the tenant's prefixes into what the site sees,
	// RemoteMaps the site's prefixes into what the tenant sees.
	LocalMaps, RemoteMaps []Map
}

// Map translates a prefix one to one into another of the same length.
type Map struct{ Real, Mapped netip.Prefix }

// Peer is the other end of a tunnel.
type Peer struct {
	Name         string // unique in the tunnel
	PublicKey    Key
	PresharedKey Secret // unset: none
	// Endpoint is where the peer is; unset: it is known once the peer calls. A
	// peer that calls from elsewhere is followed.
	Endpoint netip.AddrPort
	// Prefixes behind the peer, as it has them. Each gets a route.
	Prefixes []netip.Prefix
	// FromBGP: what else is behind the peer, BGP says, and makes the routes. Such
	// a peer is the only one of its tunnel.
	FromBGP bool
	// Keepalive in seconds; 0 is none.
	Keepalive uint16
	// Priority of this way to its prefixes: the lowest that is alive is taken.
	Priority uint32
	// Weight is the share of the flows among ways of one priority, 1 to 256;
	// 0 is 1.
	Weight int
	Probe  Probe
}

// Probe says how forwarding to a peer is watched.
type Probe struct {
	// Target answers echo requests behind the peer; unset: the first prefix of
	// the peer that is a single address, or the peer is not probed.
	Target netip.Addr
	// IntervalMS is the time between probes, 10 to 60000 ms; 0 is
	// DefaultIntervalMS where another peer offers one of the prefixes too, or both
	// have them from BGP, and else AloneIntervalMS.
	IntervalMS int
	// Fall is how many probes without an answer make the peer down, Rise how many
	// answers in a row make it up again; 0 is the default.
	Fall, Rise int
}

// What a Probe has where nothing is said: a peer is found dead within 0.5 s, so
// that TCP's second retransmission (0.6 s) goes the new way, and is used again
// after 2 s of answers.
const (
	DefaultIntervalMS = 100
	DefaultFall       = 4
	DefaultRise       = 20
	// AloneIntervalMS is enough where there is nothing to fail over to: it costs
	// an idle tenant a tenth of the processor time.
	AloneIntervalMS = 1000
	aloneRise       = 3
)

func (p Probe) interval() time.Duration {
	return time.Duration(orDefault(p.IntervalMS, DefaultIntervalMS)) * time.Millisecond
}

// probe is how the peer is to be probed; redundant tells whether its packets
// could go another way.
func (p Peer) probe(redundant bool) Probe {
	w := p.Probe
	if w.IntervalMS == 0 && !redundant {
		w.IntervalMS, w.Rise = AloneIntervalMS, orDefault(w.Rise, aloneRise)
	}
	return w
}

// redundant tells, by "tunnel/peer", which peers share a prefix with another, or may by
// what BGP says of both.
func (s Spec) redundant() map[string]bool {
	ways := s.ways()
	count := map[netip.Prefix]int{}
	for _, w := range ways {
		count[w.dst]++
	}
	out := map[string]bool{}
	for _, w := range ways {
		if count[w.dst] > 1 {
			out[w.tunnel+"/"+w.peer] = true
		}
	}
	var byBGP []string
	for _, t := range s.Tunnels {
		for _, p := range t.Peers {
			if p.FromBGP {
				byBGP = append(byBGP, t.Name+"/"+p.Name)
			}
		}
	}
	if len(byBGP) > 1 {
		for _, k := range byBGP {
			out[k] = true
		}
	}
	return out
}

func (p Probe) fall() int { return orDefault(p.Fall, DefaultFall) }
func (p Probe) rise() int { return orDefault(p.Rise, DefaultRise) }

func orDefault(n, d int) int {
	if n == 0 {
		return d
	}
	return n
}

// probeTarget is the address that the peer's probes go to; unset: none.
func (p Peer) probeTarget() netip.Addr {
	if p.Probe.Target.IsValid() {
		return p.Probe.Target
	}
	for _, q := range p.Prefixes {
		if q.IsSingleIP() {
			return q.Addr()
		}
	}
	return netip.Addr{}
}

func (p Peer) weight() int { return orDefault(p.Weight, 1) }

// source is the link's address of the family; unset: it has none.
func (t Tunnel) source(six bool) netip.Addr {
	for _, a := range t.Addresses {
		if a.Addr().Is6() == six {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

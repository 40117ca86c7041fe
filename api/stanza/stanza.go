package stanza

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// Router is a kind of router.
type Router string

// The kinds of router.
const (
	FRR  Router = "frr"
	BIRD Router = "bird"
	VyOS Router = "vyos"
)

// Routers lists them.
func Routers() []Router { return []Router{FRR, BIRD, VyOS} }

// Site is a session as the router of the site has it.
type Site struct {
	Tenant, Connection, Peer string // what the gateway calls them

	ASN, NeighborASN uint32     // of the site's router, and of the gateway
	Local, Neighbor  netip.Addr // its own address of the session, and the gateway's
	// Networks are the site's prefixes; none: they are for its operator to name.
	Networks []netip.Prefix
	Families []peering.Family

	Password        bool // there is one
	Hold, Keepalive time.Duration
	TTLSecurity     uint8 // hops
	MultihopTTL     uint8
	Passive         bool // the gateway calls, this end waits
	BFD             *peering.BFD
	GracefulRestart *peering.GracefulRestart

	Tunnel Tunnel
}

// Tunnel is the WireGuard link at the site, for routers that make it themselves.
type Tunnel struct {
	PublicKey    string // of the gateway
	Endpoint     netip.AddrPort
	Addresses    []netip.Prefix
	ListenPort   uint16
	AllowedIPs   []netip.Prefix
	Keepalive    uint16
	MTU          int
	PresharedKey bool
}

// SiteOf turns a session of the gateway round. local is the gateway's address of it,
// remote the site's: a peer by prefix has none of its own.
func SiteOf(gateway uint32, p *peering.Peer, local, remote netip.Addr) Site {
	s := Site{
		ASN: p.ASN, NeighborASN: gateway, Local: remote, Neighbor: local, Families: p.Exchanged(),
		TTLSecurity: p.TTLSecurity, MultihopTTL: p.MultihopTTL, BFD: p.BFD, GracefulRestart: p.GracefulRestart,
		Hold: p.Hold, Keepalive: p.Keepalive,
	}
	if s.Hold == 0 {
		s.Hold = peering.DefaultHold
	}
	if s.Keepalive == 0 {
		s.Keepalive = s.Hold / 3
	}
	if b := s.BFD; b != nil {
		full, d := *b, peering.DefaultBFD()
		if full.Interval == 0 {
			full.Interval = d.Interval
		}
		if full.Multiplier == 0 {
			full.Multiplier = d.Multiplier
		}
		s.BFD = &full
	}
	if g := s.GracefulRestart; g != nil && g.Time == 0 {
		full := *g
		full.Time = peering.DefaultRestartTime
		s.GracefulRestart = &full
	}
	return s
}

// Write gives the configuration for the router.
func (s Site) Write(r Router) (string, error) {
	switch r {
	case FRR:
		return s.frr(), nil
	case BIRD:
		return s.bird(), nil
	case VyOS:
		return s.vyos(), nil
	}
	return "", fmt.Errorf("router %q is unknown: use frr, bird or vyos", r)
}

func (s Site) internal() bool { return s.ASN == s.NeighborASN }

// what says whose session it is.
func (s Site) what() string {
	return fmt.Sprintf("tenant %s of the gateway, connection %s, peer %s", s.Tenant, s.Connection, s.Peer)
}

// label is a name that all routers take, for what is made for the session.
func (s Site) label(sep string) string {
	clean := func(name string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return rune(sep[0])
		}, name)
	}
	return "hnvgate" + sep + clean(s.Connection) + sep + clean(s.Peer)
}

// networks are the site's of one family.
func (s Site) networks(f peering.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Networks {
		if peering.FamilyOf(p.Addr()) == f {
			out = append(out, p)
		}
	}
	return out
}

func seconds(d time.Duration) int { return int(d / time.Second) }
func millis(d time.Duration) int  { return int(d / time.Millisecond) }

// lines collects text.
type lines struct{ strings.Builder }

func (l *lines) add(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

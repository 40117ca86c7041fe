package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// Link is a way to a physical network over which packets go as they are. Who may
// open connections is not asked for: hosts on both sides may.
type Link struct {
	// Name of the link. An attachment on the uplink itself has no link of its own:
	// it has the name of Outside.
	Name string
	// Addresses are the compartment's own there. On Outside they are external, whole,
	// and not translated to.
	Addresses []netip.Addr
	// Sources are the tenant's prefixes that go over Outside as they are, and
	// Destinations what they may reach so, as the attachment's routes have it; all
	// else over Outside is translated. Other links have neither: routes decide.
	Sources, Destinations []netip.Prefix
	// MTU of the link, in bytes; 0 is no less than inside.
	MTU int
	// ReversePath tells which sources are let in from the link: ReversePathStrict,
	// also "", those that are routed over the link; ReversePathLoose those that are
	// routed at all; ReversePathOff all. Over Outside only Destinations come in.
	ReversePath string
}

// The reverse path checks.
const (
	ReversePathStrict = "strict"
	ReversePathLoose  = "loose"
	ReversePathOff    = "off"
)

// Tunnel is a WireGuard link. From it comes in what is routed back over any link of
// Forward or Tunnels; what carries it is let in at one address and port, untracked.
type Tunnel struct {
	Link      string         // its name
	Addresses []netip.Prefix // of the link, with the lengths of their prefixes
	// ListenPort is the UDP port at At, an external address or that of an attachment.
	// No connection is translated to it.
	ListenPort uint16
	At         netip.Addr
	// Endpoints are the addresses of peers, as far as they are known: a flood of
	// handshakes from elsewhere does not keep theirs out.
	Endpoints []netip.Addr
}

// Service is something that the compartment itself speaks with configured peers,
// whoever begins, as BGP (TCP 179) and BFD (UDP 3784).
type Service struct {
	Proto hnv.Proto
	Port  uint16 // of whoever is called
	// Peers may call, and be called.
	Peers []netip.Prefix
	// At are the compartment's own addresses that are spoken with.
	At []netip.Addr
	// Links over which: Inside, Outside, and those of Forward and Tunnels.
	Links []string
	// Near: nothing to the port passes that has crossed a router, as it must be for BFD
	// over one hop (RFC 5881, 5).
	Near bool
}

// ways are the links, beside inside and outside, over which packets go as they
// are; sorted.
func (s Spec) ways() []string {
	var out []string
	for _, l := range s.Forward {
		if l.Name != s.Outside {
			out = append(out, l.Name)
		}
	}
	for _, t := range s.Tunnels {
		out = append(out, t.Link)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// attached gives what is said of Outside as an attachment.
func (s Spec) attached() (l Link, ok bool) {
	for _, f := range s.Forward {
		if f.Name == s.Outside {
			ok = true
			l.Addresses = append(l.Addresses, f.Addresses...)
			l.Sources = append(l.Sources, f.Sources...)
			l.Destinations = append(l.Destinations, f.Destinations...)
		}
	}
	return l, ok
}

// linkOf gives the link that has the address on which a tunnel listens.
func (s Spec) linkOf(t Tunnel) string {
	for _, l := range s.Forward {
		if slices.Contains(l.Addresses, t.At) {
			return l.Name
		}
	}
	return s.Outside
}

// own are the compartment's addresses that are not external.
func (s Spec) own() []netip.Addr {
	out := slices.Clone(s.InsideAddrs)
	for _, l := range s.Forward {
		if l.Name != s.Outside {
			out = append(out, l.Addresses...)
		}
	}
	for _, t := range s.Tunnels {
		for _, a := range t.Addresses {
			out = append(out, a.Addr())
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// checkWays tells what cannot be programmed of what is not translated.
func (s Spec) checkWays() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	links := map[string]bool{s.Inside: true, s.Outside: true}
	for i, l := range s.Forward {
		switch {
		case l.Name == "" || len(l.Name) > 15:
			bad("name %q of an attachment's link is not an interface's", l.Name)
		case l.Name != s.Outside && links[l.Name]:
			bad("link %s is given twice", l.Name)
		case l.MTU != 0 && (l.MTU < MinMTU || l.MTU > 65535):
			bad("link %s: MTU %d is out of range: use %d to 65535", l.Name, l.MTU, MinMTU)
		}
		links[l.Name] = true
		errs = append(errs, s.checkLink(l, s.Forward[:i])...)
	}
	ports := map[uint16]string{}
	for _, t := range s.Tunnels {
		switch other, taken := ports[t.ListenPort]; {
		case t.Link == "" || len(t.Link) > 15:
			bad("name %q of a tunnel's link is not an interface's", t.Link)
		case links[t.Link]:
			bad("link %s is given twice", t.Link)
		case taken:
			bad("tunnels %s and %s listen on the same port %d: give one another", other, t.Link, t.ListenPort)
		}
		links[t.Link], ports[t.ListenPort] = true, t.Link
		errs = append(errs, s.checkTunnel(t)...)
	}
	for _, v := range s.Services {
		name := fmt.Sprintf("service %s %d", v.Proto, v.Port)
		if v.Proto != hnv.TCP && v.Proto != hnv.UDP || v.Port == 0 {
			bad("%s: use tcp or udp and a port", name)
		}
		if len(v.Peers) == 0 || len(v.At) == 0 || len(v.Links) == 0 {
			bad("%s needs peers, own addresses and links", name)
		}
		for _, p := range v.Peers {
			if !p.IsValid() || p.Addr().Is4In6() {
				bad("%s: peer %s is malformed", name, p)
			}
		}
		for _, a := range v.At {
			if !plain(a) {
				bad("%s: address %s is malformed", name, a)
			}
		}
		for _, l := range v.Links {
			if !links[l] {
				bad("%s: link %q is none of the compartment's", name, l)
			}
		}
	}
	return errs
}

func plain(a netip.Addr) bool { return a.IsValid() && !a.Is4In6() && a.Zone() == "" }

func (s Spec) checkLink(l Link, before []Link) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range l.Addresses {
		switch {
		case !plain(a):
			bad("link %s: address %s is malformed", l.Name, a)
		case slices.ContainsFunc(s.Pool, func(r hnv.ExternalRange) bool { return r.Addr == a && (!r.Whole() || l.Name != s.Outside) }):
			bad("link %s: address %s is one to translate to as well", l.Name, a)
		case slices.Contains(s.InsideAddrs, a) || slices.ContainsFunc(before, func(o Link) bool { return o.Name != l.Name && slices.Contains(o.Addresses, a) }):
			bad("link %s: address %s is on another link too", l.Name, a)
		}
	}
	for _, p := range slices.Concat(l.Sources, l.Destinations) {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("link %s: prefix %s is malformed", l.Name, p)
		}
		if l.Name != s.Outside {
			bad("link %s: prefix %s: only over %s it matters what is forwarded; elsewhere routes decide", l.Name, p, s.Outside)
		}
	}
	switch l.ReversePath {
	case "", ReversePathStrict, ReversePathLoose, ReversePathOff:
	default:
		bad("link %s: reverse path check %q is unknown: use strict, loose or off", l.Name, l.ReversePath)
	}
	return errs
}

func (s Spec) checkTunnel(t Tunnel) []error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("tunnel %s: "+format, append([]any{t.Link}, args...)...))
	}
	for _, a := range t.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() {
			bad("address %s is malformed", a)
		}
	}
	for _, a := range t.Endpoints {
		if !plain(a) {
			bad("endpoint %s is malformed", a)
		}
	}
	at := netip.AddrPortFrom(t.At, t.ListenPort)
	switch {
	case !plain(t.At) || t.ListenPort == 0:
		bad("it needs an address and a port to listen at")
	case !s.reachable(at):
		bad("%s is neither within the external addresses nor an attachment's", at)
	case slices.ContainsFunc(s.Mappings, func(m hnv.NATMapping) bool { return m.Proto == hnv.UDP && m.External == at }):
		bad("it listens at %s, and a NAT mapping leads the same port inside: change one of them", at)
	}
	return errs
}

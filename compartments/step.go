package compartments

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// side says in which namespace a step works.
type side uint8

const (
	inside  side = iota // the compartment's
	outward             // the gateway's
)

// A step is one change. Its String says to a person what it did.
type step interface{ String() string }

type (
	makeNamespace struct{ name, marker string }

	setSysctl struct {
		side
		setting
	}

	addPair struct{ pair }

	delLink struct {
		side
		name string
	}

	changeLink struct {
		side
		name   string
		change nl.LinkChange
		what   []string
	}

	setOffloads struct {
		link string
		to   nl.Offloads
	}

	addAddr struct {
		side
		link     string
		prefix   netip.Prefix
		noSource bool
	}

	delAddr struct {
		side
		link   string
		prefix netip.Prefix
	}

	addRoute struct {
		side
		route
	}

	delRoute struct {
		side
		route
	}

	setHop struct {
		side
		hop
	}

	delHop struct {
		side
		link string
		addr netip.Addr
	}

	addProxy struct {
		link string
		addr netip.Addr
	}

	delProxy struct {
		link string
		addr netip.Addr
	}

	// announce tells the outside's neighbours where the addresses are now.
	announce struct {
		link  string
		addrs []netip.Addr
	}

	changeEntries struct{ put, del []entry }

	addVLAN struct {
		parent, name, alias string
		vlan                uint16
	}
)

func (s makeNamespace) String() string { return "namespace " + s.name + " made" }

func (s setSysctl) String() string { return fmt.Sprintf("net/%s set to %s", s.key, s.value) }

func (s addPair) String() string {
	return fmt.Sprintf("link %s made, with %s on the gateway's side", s.inner.name, s.outer.name)
}

func (s delLink) String() string { return "link " + s.name + " removed" }

func (s changeLink) String() string {
	return fmt.Sprintf("link %s: %s set", s.name, strings.Join(s.what, ", "))
}

func (s setOffloads) String() string {
	if s.to == (nl.Offloads{}) {
		return "link " + s.link + ": transmit offloads switched off"
	}
	return "link " + s.link + ": transmit offloads switched on"
}

func (s addAddr) String() string { return fmt.Sprintf("address %s put on %s", s.prefix, s.link) }

func (s delAddr) String() string { return fmt.Sprintf("address %s taken off %s", s.prefix, s.link) }

func (r route) String() string {
	s := r.dst.String()
	if r.via.IsValid() {
		s += " via " + r.via.String()
	}
	s += " on " + r.link
	if r.src.IsValid() {
		s += " with source " + r.src.String()
	}
	if r.table != 0 {
		s += fmt.Sprintf(" in table %d", r.table)
	}
	return s
}

func (s addRoute) String() string { return "route " + s.route.String() + " added" }

func (s delRoute) String() string { return "route " + s.route.String() + " removed" }

func (s setHop) String() string { return fmt.Sprintf("neighbour %s on %s set", s.addr, s.link) }

func (s delHop) String() string { return fmt.Sprintf("neighbour %s on %s removed", s.addr, s.link) }

func (s addProxy) String() string { return fmt.Sprintf("%s answered for on %s", s.addr, s.link) }

func (s delProxy) String() string {
	return fmt.Sprintf("%s no longer answered for on %s", s.addr, s.link)
}

func (s announce) String() string {
	words := make([]string, len(s.addrs))
	for i, a := range s.addrs {
		words[i] = a.String()
	}
	return fmt.Sprintf("%s announced on %s", strings.Join(words, ", "), s.link)
}

func (s changeEntries) String() string {
	const most = 24 // of many more, as of all virtual subnets, nobody reads
	var words []string
	for _, e := range s.put[:min(len(s.put), most)] {
		words = append(words, "put "+e.String())
	}
	for _, e := range s.del[:min(len(s.del), most)] {
		words = append(words, "took "+e.String())
	}
	if n := len(s.put) + len(s.del) - len(words); n > 0 {
		words = append(words, fmt.Sprintf("and %d more", n))
	}
	return "nftables: " + strings.Join(words, "; ")
}

func (s addVLAN) String() string { return fmt.Sprintf("VLAN link %s made on %s", s.name, s.parent) }

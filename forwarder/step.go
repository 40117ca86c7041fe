package forwarder

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
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
	setSysctl struct{ setting }

	addLink struct{ link }

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

	// isolate keeps a port of a bridge from others of ours.
	isolate struct{ port string }

	addAddr struct {
		link   string
		prefix netip.Prefix
	}

	delAddr struct {
		link   string
		prefix netip.Prefix
	}

	// announce tells the physical network where the addresses are now.
	announce struct {
		link  string
		addrs []netip.Addr
	}

	addRoute struct {
		route
		kernel nl.Route
	}

	// replaceRoute has no moment without a route.
	replaceRoute struct {
		route
		kernel nl.Route
	}

	delRoute struct{ kernel nl.Route }
)

// group is steps of which each needs those before it.
type group struct {
	// attachments that are not as they should be where a step fails; none: all.
	attachments []hnv.Name
	steps       []step
}

// words says what the group did. That a new link has all that belongs to it goes
// without saying.
func (g group) words() []string {
	var out []string
	made := false
	for _, s := range g.steps {
		_, isNew := s.(addLink)
		made = made || isNew
		if _, quiet := s.(announce); isNew || !made && !quiet {
			out = append(out, s.String())
		}
	}
	return out
}

func (s setSysctl) String() string { return fmt.Sprintf("net/%s set to %s", s.key, s.value) }

func (s addLink) String() string {
	on := s.parent
	if s.kind == KindVLAN {
		on = fmt.Sprintf("VLAN %d of %s", s.vlan, s.parent)
	}
	return fmt.Sprintf("link %s made, of kind %s on %s", s.name, s.kind, on)
}

func (s delLink) String() string { return "link " + s.name + " removed" }

func (s changeLink) String() string {
	return fmt.Sprintf("link %s: %s set", s.name, strings.Join(s.what, ", "))
}

func (s isolate) String() string { return "link " + s.port + ": isolation set" }

func (s addAddr) String() string { return fmt.Sprintf("address %s put on %s", s.prefix, s.link) }

func (s delAddr) String() string { return fmt.Sprintf("address %s taken off %s", s.prefix, s.link) }

func (s announce) String() string {
	words := make([]string, len(s.addrs))
	for i, a := range s.addrs {
		words[i] = a.String()
	}
	return fmt.Sprintf("%s announced on %s", strings.Join(words, ", "), s.link)
}

func (r route) String() string {
	words := make([]string, len(r.hops))
	for i, h := range r.hops {
		words[i] = fmt.Sprintf("via %s on %s", h.via, h.link)
	}
	return fmt.Sprintf("%s metric %d %s", r.dst, r.metric, strings.Join(words, ", "))
}

func (s addRoute) String() string { return "route " + s.route.String() + " added" }

func (s replaceRoute) String() string { return "route " + s.route.String() + " set" }

func (s delRoute) String() string {
	return fmt.Sprintf("route %s metric %d removed", s.kernel.Dst, s.kernel.Metric)
}

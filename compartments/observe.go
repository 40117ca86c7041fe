//go:build linux

package compartments

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// seeInside reads a compartment. in is nil if there is none.
func (e *Engine) seeInside(w want, in *nl.Handle) (seen, error) {
	s := seen{exists: in != nil, sysctls: map[string]string{}, links: map[string]nl.Link{}, outer: map[string]nl.Link{},
		offloads: map[string]nl.Offloads{}, addrs: map[string][]nl.Addr{}}
	for _, p := range w.pairs {
		l, err := e.out.Link(p.outer.name)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return s, err
		}
		if l.Kind != "veth" || l.Alias != "" && l.Alias != p.outer.alias {
			t, _, ours := e.names.tenant(l.Alias)
			if l.Kind != "veth" || !ours {
				return s, fmt.Errorf("link %s is in the way and not ours (alias %q): remove or rename it, or choose another instance name", l.Name, l.Alias)
			}
			e.log.Warn("a link is left over from another compartment", "link", l.Name, "tenant", t)
		}
		s.outer[p.outer.name] = l
	}
	if in == nil {
		return s, nil
	}
	for _, k := range w.sysctls {
		v, err := in.Sysctl(k.key)
		if err == nil {
			s.sysctls[k.key] = v
		} else if !errors.Is(err, nl.ErrNotFound) {
			return s, err
		}
	}
	links, err := in.Links()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		s.links[l.Name] = l
	}
	if got := s.links["lo"].Alias; got != w.marker {
		return s, fmt.Errorf("namespace %s exists and is not ours (alias of its lo is %q, not %q): delete it with `ip netns delete %s`, or choose another tenant or instance name",
			w.namespace, got, w.marker, w.namespace)
	}
	addrs, err := in.Addrs(0)
	if err != nil {
		return s, err
	}
	for _, a := range addrs {
		name := s.linkName(a.Link)
		s.addrs[name] = append(s.addrs[name], a)
	}
	if s.routes, err = in.Routes(nl.Protocol, 0); err != nil {
		return s, err
	}
	if s.hops, err = in.Neighbours(0, false); err != nil {
		return s, err
	}
	for _, p := range w.pairs {
		l, ok := s.links[p.inner.name]
		if !ok {
			continue
		}
		if p.inner.offloads != nil {
			if s.offloads[l.Name], err = in.LinkOffloads(l.Name); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// openCompartment opens a compartment's namespace; nil if there is none.
func (e *Engine) openCompartment(name string) (*nl.Handle, error) {
	if !netns.Exists(name) {
		return nil, nil
	}
	return e.out.Into(netns.Path(name))
}

// seeOutside reads the gateway's namespace as far as one compartment goes. The
// image must be fresh.
func (g *gateway) seeOutside(o outside) (seenOutside, error) {
	s := seenOutside{proxied: map[string]map[netip.Addr]bool{}, steered: map[netip.Addr]netip.Addr{}}
	var err error
	s.peer, err = g.out.Link(o.peer)
	if err != nil {
		return s, err
	}
	if s.routes, err = g.routes.over(s.peer.Index); err != nil {
		return s, err
	}
	for _, h := range o.hops {
		n, ok, err := g.out.Neighbour(s.peer.Index, h.addr)
		if err != nil {
			return s, err
		}
		if ok {
			s.hops = append(s.hops, n)
		}
	}
	s.entries = g.nearby.of(o.peer, s.peer.Index, o.proxied)
	withdrawn := o.withdrawn(&s)
	s.entries = g.nearby.of(o.peer, s.peer.Index, append(withdrawn, o.proxied...))
	if err := g.seeProxied(&s, append(withdrawn, o.proxied...)); err != nil {
		return s, err
	}
	return s, g.seeSteered(&s, len(withdrawn)+len(o.proxied) > 0)
}

func (g *gateway) seeProxied(s *seenOutside, addrs []netip.Addr) error {
	for _, u := range g.uplinks {
		l, err := g.out.Link(u)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		s.proxied[u] = map[netip.Addr]bool{}
		for _, a := range addrs {
			proto, ok, err := g.out.Proxied(l.Index, a)
			if err != nil {
				return err
			}
			if ok {
				s.proxied[u][a] = proto == nl.Protocol
			}
		}
	}
	return nil
}

func (g *gateway) seeSteered(s *seenOutside, needed bool) error {
	if !needed {
		return nil
	}
	l, err := g.out.Link(g.names.steerIn())
	if errors.Is(err, nl.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	routes, err := g.routes.over(l.Index)
	for _, r := range routes {
		s.steered[r.Dst.Addr()] = r.Src
	}
	return err
}

//go:build linux

package compartments

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// remains is what the gateway's namespace holds for compartments that go.
type remains struct {
	doomed map[string]int // links that go, with their indexes
	// alive are the other ext peers; nil where only the doomed ones matter.
	alive   map[string]int
	entries []entry
	routes  []route                 // ours, over doomed links
	steered []netip.Addr            // addresses whose route leads to the steering
	proxied map[string][]netip.Addr // ours, by uplink
	foreign []netip.Addr            // addresses that another gateway here routes
}

// sweep removes from the gateway's namespace what belongs to the links given;
// if everything is set also what belongs to links that are gone.
func (e *Engine) sweep(ctx context.Context, links []string, everything bool) ([]string, error) {
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	x := &executor{ctx: ctx, e: e}
	if _, err := e.ensureSteer(x); err != nil {
		return nil, err
	}
	if _, err := g.sync(false); err != nil {
		return nil, err
	}
	s := remains{doomed: map[string]int{}, proxied: map[string][]netip.Addr{}}
	for e := range g.entries {
		s.entries = append(s.entries, e)
	}
	see := g.seeDoomed
	if everything {
		see = g.seeAll
	}
	if err := see(&s, links); err != nil {
		return nil, err
	}
	steps := planSweep(e.names, s)
	if err := x.run(steps); err != nil {
		return nil, err
	}
	return words(steps), nil
}

// seeDoomed looks at the links given, at a cost that does not depend on how
// many others there are.
func (g *gateway) seeDoomed(s *remains, links []string) error {
	var addrs []netip.Addr
	for _, name := range links {
		l, err := g.out.Link(name)
		if errors.Is(err, nl.ErrNotFound) {
			s.doomed[name] = -1
			continue
		}
		if err != nil {
			return err
		}
		s.doomed[name] = l.Index
		routes, err := g.out.Routes(nl.Protocol, l.Index)
		if err != nil {
			return err
		}
		for _, r := range routes {
			s.routes = append(s.routes, routeOf(r, name))
			if r.Dst.IsSingleIP() {
				addrs = append(addrs, r.Dst.Addr())
			}
		}
	}
	for _, e := range s.entries {
		if _, ok := s.doomed[e.link]; ok && e.external() {
			addrs = append(addrs, e.addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	seen := seenOutside{proxied: map[string]map[netip.Addr]bool{}, steered: map[netip.Addr]netip.Addr{}}
	if err := errors.Join(g.seeProxied(&seen, slices.Compact(addrs)), g.seeSteered(&seen, len(addrs) > 0)); err != nil {
		return err
	}
	for up, as := range seen.proxied {
		for a, ours := range as {
			if ours {
				s.proxied[up] = append(s.proxied[up], a)
			}
		}
	}
	for a := range seen.steered {
		s.steered = append(s.steered, a)
	}
	return nil
}

// seeAll looks at everything that carries our marks.
func (g *gateway) seeAll(s *remains, doomed []string) error {
	links, err := g.out.Links()
	if err != nil {
		return err
	}
	s.alive = map[string]int{}
	byIndex := map[int]string{}
	for _, l := range links {
		byIndex[l.Index] = l.Name
		switch {
		case slices.Contains(doomed, l.Name):
			s.doomed[l.Name] = l.Index
		case strings.HasPrefix(l.Name, g.names.uplinkPeers()):
			s.alive[l.Name] = l.Index
		}
	}
	routes, err := g.out.Routes(nl.Protocol, 0)
	if err != nil {
		return err
	}
	for _, r := range routes {
		name := byIndex[r.Link]
		_, goes := s.doomed[name]
		_, stays := s.alive[name]
		switch {
		case goes:
			s.routes = append(s.routes, routeOf(r, name))
		case name == g.names.steerIn():
			s.steered = append(s.steered, r.Dst.Addr())
		case !stays:
			s.foreign = append(s.foreign, r.Dst.Addr())
		}
	}
	for _, u := range g.uplinks {
		i := slices.IndexFunc(links, func(l nl.Link) bool { return l.Name == u })
		if i < 0 {
			continue
		}
		proxied, err := g.out.Neighbours(links[i].Index, true)
		if err != nil {
			return err
		}
		for _, p := range proxied {
			if p.Protocol == nl.Protocol {
				s.proxied[u] = append(s.proxied[u], p.Addr)
			}
		}
	}
	return nil
}

func (s *remains) dead(link string) bool {
	_, doomed := s.doomed[link]
	_, alive := s.alive[link]
	return doomed || s.alive != nil && !alive
}

func (s *remains) deadIndex(index int) bool {
	for _, i := range s.doomed {
		if i == index {
			return true
		}
	}
	if s.alive == nil {
		return false
	}
	for _, i := range s.alive {
		if i == index {
			return false
		}
	}
	return true
}

// planSweep keeps what an ext peer that stays has an entry for. The entries go
// last: as long as they are there the rest can be found again.
func planSweep(n names, s remains) []step {
	kept := map[netip.Addr]bool{}
	for _, a := range s.foreign {
		kept[a] = true
	}
	var c changeEntries
	for _, e := range s.entries {
		switch {
		case e.owned() && s.dead(e.link) || e.steers() && s.deadIndex(e.index):
			c.del = append(c.del, e)
		case e.external():
			kept[e.addr] = true
		}
	}
	slices.SortFunc(c.del, entry.compare)
	var out []step
	for _, up := range sortedKeys(s.proxied) {
		slices.SortFunc(s.proxied[up], netip.Addr.Compare)
		for _, a := range s.proxied[up] {
			if !kept[a] {
				out = append(out, delProxy{up, a})
			}
		}
	}
	for _, r := range s.routes {
		out = append(out, delRoute{outward, r})
	}
	slices.SortFunc(s.steered, netip.Addr.Compare)
	for _, a := range s.steered {
		if !kept[a] {
			out = append(out, delRoute{outward, steerRoute(n, a, netip.Addr{})})
		}
	}
	if len(c.del) > 0 {
		out = append(out, c)
	}
	return out
}

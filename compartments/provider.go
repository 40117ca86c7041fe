//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// seenProvider is the provider side as it is.
type seenProvider struct {
	links   map[string]nl.Link // PA interfaces, and VLAN links on them that are ours or wanted
	addrs   map[string][]nl.Addr
	routes  []nl.Route // anybody's
	sysctls map[string]string
	entries []entry
}

// unresolved is how many bytes of packets the kernel keeps for a neighbour of
// the fabric that has not answered yet: always one packet, seldom more. What it
// keeps is charged to the dataplane's sockets, which all tenants share, and some
// tenants' hosts may be dead; so hundreds of those must leave room for others.
const unresolved = "4096"

// unresolvedKeys names the settings for a link.
func unresolvedKeys(link string) []string {
	return []string{"ipv4/neigh/" + link + "/unres_qlen_bytes", "ipv6/neigh/" + link + "/unres_qlen_bytes"}
}

// providerAlias marks a VLAN link as ours.
func (n names) providerAlias() string { return n.alias("", "pa") }

// ApplyProvider makes the provider side what the spec says: addresses on the PA
// interfaces, VLAN links, routes to PAs elsewhere, and rules by which the
// gateway's own stack neither answers tunnel packets nor forwards between the
// fabric and anything else. An address that was there before is used and never
// removed.
func (e *Engine) ApplyProvider(ctx context.Context, s ProviderSpec) ([]string, error) {
	repaired, err := e.applyProvider(ctx, s)
	if err != nil {
		return repaired, fmt.Errorf("apply provider side: %w", err)
	}
	return repaired, nil
}

func (e *Engine) applyProvider(ctx context.Context, s ProviderSpec) ([]string, error) {
	if err := e.checkProvider(s); err != nil {
		return nil, err
	}
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	x := &executor{ctx: ctx, e: e}
	s, err := e.present(s)
	if err != nil {
		return nil, err
	}
	repaired, err := e.ensureSteer(x)
	if err != nil {
		return nil, err
	}
	more, err := g.sync(true)
	repaired = append(repaired, more...)
	if err != nil {
		return repaired, err
	}
	var steps []step
	for range settle {
		seen, err := e.seeProvider(s)
		if err != nil {
			return repaired, err
		}
		if steps, err = planProvider(e.names, e.cfg.PAInterfaces, s, seen); err != nil {
			return repaired, err
		}
		if len(steps) == 0 {
			g.provider = stateOf(s)
			_, err = g.sync(true)
			return repaired, err
		}
		repaired = append(repaired, words(steps)...)
		if err := x.run(steps); err != nil {
			return repaired, err
		}
		// A new PA link has a chain of its own.
		if _, err := g.sync(true); err != nil {
			return repaired, err
		}
	}
	return repaired, fmt.Errorf("it does not settle: %s is undone each time it is done; does somebody else change it?", steps[0])
}

// present leaves out what stands for VMs that are not here.
func (e *Engine) present(s ProviderSpec) (ProviderSpec, error) {
	var here []RewriteAddress
	for _, r := range s.Rewrite {
		if r.Port != "" {
			_, err := e.out.Link(r.Port)
			if errors.Is(err, nl.ErrNotFound) {
				continue
			}
			if err != nil {
				return s, err
			}
		}
		here = append(here, r)
	}
	s.Rewrite = here
	return s, nil
}

func (e *Engine) checkProvider(s ProviderSpec) error {
	var errs []error
	for _, r := range s.Rewrite {
		if slices.ContainsFunc(s.Addresses, func(p hnv.ProviderAddress) bool { return p.Addr.Addr() == r.Addr }) {
			errs = append(errs, fmt.Errorf("provider address %s: it cannot carry tunnels and stand for one CA at once", r.Addr))
		}
	}
	for _, g := range s.Groups {
		if !g.IsMulticast() {
			errs = append(errs, fmt.Errorf("multicast group %s: it is no multicast address", g))
		}
	}
	for _, a := range s.Addresses {
		if !slices.Contains(e.cfg.PAInterfaces, a.Interface) {
			errs = append(errs, fmt.Errorf("provider address %s: interface %s is not one of this gateway's PA interfaces %v", a.Addr, a.Interface, e.cfg.PAInterfaces))
		}
	}
	for _, r := range s.Routes {
		if _, ok := linkTo(s, r.NextHop); !ok {
			errs = append(errs, fmt.Errorf("provider route %s: next hop %s is not on-link of any provider address", r.Prefix, r.NextHop))
		}
	}
	return errors.Join(errs...)
}

// linkTo finds the link over which an address of the fabric is reached.
func linkTo(s ProviderSpec, hop netip.Addr) (string, bool) {
	best, bits := "", -1
	for _, a := range s.Addresses {
		if a.Addr.Masked().Contains(hop) && a.Addr.Bits() > bits {
			best, bits = ProviderLink(a), a.Addr.Bits()
		}
	}
	return best, bits >= 0
}

func (e *Engine) seeProvider(s ProviderSpec) (seenProvider, error) {
	seen := seenProvider{links: map[string]nl.Link{}, addrs: map[string][]nl.Addr{}, sysctls: map[string]string{}}
	for en := range e.gw.entries {
		seen.entries = append(seen.entries, en)
	}
	links, err := e.out.Links()
	if err != nil {
		return seen, err
	}
	wanted := providerLinks(e.cfg.PAInterfaces, s)
	for _, l := range links {
		if slices.Contains(wanted, l.Name) || l.Kind == "vlan" && l.Alias == e.names.providerAlias() {
			seen.links[l.Name] = l
			if seen.addrs[l.Name], err = e.out.Addrs(l.Index); err != nil {
				return seen, err
			}
		}
	}
	for _, p := range e.cfg.PAInterfaces {
		if _, ok := seen.links[p]; !ok {
			return seen, fmt.Errorf("PA interface %s: %w: is it plugged in?", p, nl.ErrNotFound)
		}
	}
	for _, l := range seen.links {
		for _, key := range unresolvedKeys(l.Name) {
			v, err := e.out.Sysctl(key)
			if err == nil {
				seen.sysctls[key] = v
			} else if !errors.Is(err, nl.ErrNotFound) { // as without IPv6
				return seen, err
			}
		}
		routes, err := e.out.Routes(0, l.Index)
		if err != nil {
			return seen, err
		}
		seen.routes = append(seen.routes, routes...)
	}
	return seen, nil
}

// providerLinks are all links that carry the fabric.
func providerLinks(interfaces []string, s ProviderSpec) []string {
	out := slices.Clone(interfaces)
	for _, a := range s.Addresses {
		if l := ProviderLink(a); !slices.Contains(out, l) {
			out = append(out, l)
		}
	}
	return out
}

// planProvider gives the steps. Before an address is there the guard is: the
// stack must not answer even one tunnel packet.
func planProvider(n names, interfaces []string, s ProviderSpec, seen seenProvider) ([]step, error) {
	var out []step
	links := providerLinks(interfaces, s)
	for _, name := range sortedKeys(seen.links) {
		if !slices.Contains(links, name) {
			out = append(out, delLink{outward, name})
		}
	}
	for _, a := range s.Addresses {
		name := ProviderLink(a)
		l, have := seen.links[name]
		switch made := slices.ContainsFunc(out, func(s step) bool { v, ok := s.(addVLAN); return ok && v.name == name }); {
		case a.VLAN == 0 || made:
		case !have:
			out = append(out, addVLAN{parent: a.Interface, name: name, alias: n.providerAlias(), vlan: a.VLAN})
		case l.Kind != "vlan" || l.VLAN != a.VLAN || l.Parent != seen.links[a.Interface].Index:
			return nil, fmt.Errorf("provider address %s: link %s is there and is not VLAN %d of %s: rename or remove it", a.Addr, name, a.VLAN, a.Interface)
		}
	}
	if c := planGuard(links, s, seen.entries); len(c.put)+len(c.del) > 0 {
		out = append(out, c)
	}
	for _, name := range links {
		l, have := seen.links[name]
		if !have {
			continue // it is just being made: the next look sees to it
		}
		for _, key := range unresolvedKeys(name) {
			if v, known := seen.sysctls[key]; known && v != unresolved {
				out = append(out, setSysctl{outward, setting{key, unresolved}})
			}
		}
		out = append(out, planProviderLink(name, l, s, seen.addrs[name])...)
	}
	return append(out, planProviderRoutes(links, s, seen)...), nil
}

func planProviderLink(name string, l nl.Link, s ProviderSpec, have []nl.Addr) []step {
	var out []step
	var want []netip.Prefix
	var rewrite []netip.Prefix
	for _, h := range held(s) {
		if h.home == name {
			want = append(want, h.prefix)
			if h.rewrite {
				rewrite = append(rewrite, h.prefix)
			}
		}
	}
	if v, ok := l.Conf4(nl.Forwarding4); !ok || v != 0 {
		out = append(out, changeLink{outward, name, nl.LinkChange{Conf4: map[nl.Conf4]int{nl.Forwarding4: 0}}, []string{"no forwarding"}})
	}
	if !l.Up && len(want) > 0 {
		out = append(out, changeLink{outward, name, nl.LinkChange{Up: true}, []string{"up"}})
	}
	for _, a := range have {
		// An address of ours with another prefix length is in the way of the
		// right one only on our own account.
		if a.Protocol == nl.Protocol && !slices.Contains(want, a.Prefix) {
			out = append(out, delAddr{outward, name, a.Prefix})
		}
	}
	var fresh []netip.Addr
	for _, p := range want {
		if !slices.ContainsFunc(have, func(a nl.Addr) bool { return a.Prefix == p }) {
			out = append(out, addAddr{outward, name, p, slices.Contains(rewrite, p)})
			fresh = append(fresh, p.Addr())
		}
	}
	if len(fresh) > 0 { // it may have been another machine's
		out = append(out, announce{name, fresh})
	}
	return out
}

// planProviderRoutes is content with a route that somebody else made.
func planProviderRoutes(links []string, s ProviderSpec, seen seenProvider) []step {
	var have, theirs []route
	for _, r := range seen.routes {
		for name, l := range seen.links {
			switch {
			case l.Index != r.Link || !slices.Contains(links, name):
			case r.Protocol == nl.Protocol:
				have = append(have, routeOf(r, name))
			default:
				theirs = append(theirs, routeOf(r, name))
			}
		}
	}
	var want []route
	for _, r := range s.Routes {
		l, _ := linkTo(s, r.NextHop)
		m := r.Metric
		if m == 0 {
			m = metric(r.NextHop)
		}
		w := route{link: l, dst: r.Prefix, via: r.NextHop, metric: m}
		if !slices.ContainsFunc(theirs, func(t route) bool { return t.link == w.link && t.dst == w.dst && t.via == w.via }) {
			want = append(want, w)
		}
	}
	return diffRoutes(outward, want, have)
}

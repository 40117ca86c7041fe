//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// seenProvider is the provider side as it is.
type seenProvider struct {
	links   map[string]nl.Link // PA interfaces, and VLAN links on them that are ours or wanted
	addrs   map[string][]nl.Addr
	routes  []nl.Route // anybody's, of all tables
	rules   []nl.Rule  // ours
	sysctls map[string]string
	entries []entry
	health  map[string]linkHealth
	placed  placement
	// leave are the links that are as they are, though they are down: somebody
	// took them down, and no more than their absence is to be dealt with yet.
	leave  map[string]bool
	barred barred
}

// ApplyProvider makes the provider side what the spec says: addresses on the PA
// interfaces, VLAN links, routes to PAs elsewhere, and rules by which the
// gateway's own stack neither answers tunnel packets of the dataplane nor
// forwards between the fabric and anything else. An address that was there before
// is used and never removed. An interface that is missing or does not work, and an
// interface or address that cannot be had, is no error, and no hindrance to others:
// ProviderState tells of it.
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
	g.wanted = &s
	e.watch(s)
	x := &executor{ctx: ctx, e: e}
	repaired, err := e.ensureSteer(x)
	if err != nil {
		return nil, err
	}
	more, err := g.sync(true)
	repaired = append(repaired, more...)
	if err != nil {
		return repaired, err
	}
	more, err = e.settleProvider(x, s, true)
	return append(repaired, more...), err
}

// Failover brings the addresses on the fabric to links that work, and back, as
// far as it differs from what the last ApplyProvider or Failover left: it is
// quick where nothing is to be done, and changes nothing else. It says what it
// changed.
func (e *Engine) Failover(ctx context.Context) ([]string, error) {
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wanted == nil {
		return nil, nil
	}
	_, err := g.sync(false)
	if err == nil {
		var changed []string
		if changed, err = e.settleProvider(&executor{ctx: ctx, e: e}, *g.wanted, false); err == nil {
			return changed, nil
		}
	}
	return nil, fmt.Errorf("move provider addresses: %w", err)
}

// settleProvider works until nothing is left to do.
func (e *Engine) settleProvider(x *executor, s ProviderSpec, all bool) (changed []string, err error) {
	g := e.gw
	if s, err = e.present(s); err != nil {
		return nil, err
	}
	var steps []step
	not := barred{links: map[string]string{}, addrs: map[netip.Addr]string{}}
	for range settle {
		seen, err := e.seeProvider(s, all, not)
		if err != nil {
			return changed, err
		}
		// A new PA link has a chain of its own, before it has an address.
		if !maps.Equal(g.fabric, indexes(seen.links)) {
			if _, err := g.sync(true); err != nil {
				return changed, err
			}
			g.fabric = indexes(seen.links)
		}
		steps = planProvider(e.names, e.cfg.PAInterfaces, s, seen)
		if len(steps) == 0 {
			g.provider = e.providerState(s, seen)
			return changed, e.announceAgain(seen)
		}
		done, err := x.runBarring(steps, not)
		changed = append(changed, words(done)...)
		if err != nil {
			return changed, err
		}
		if slices.ContainsFunc(done, func(s step) bool { _, is := s.(changeEntries); return is }) {
			g.fabric = nil
		}
	}
	return changed, fmt.Errorf("it does not settle: %s is undone each time it is done; does somebody else change it?", steps[0])
}

func indexes(links map[string]nl.Link) map[string]int {
	out := map[string]int{}
	for n, l := range links {
		out[n] = l.Index
	}
	return out
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
		if _, ok := onLink(s, r.NextHop); !ok {
			errs = append(errs, fmt.Errorf("provider route %s: next hop %s is not on-link of any provider address", r.Prefix, r.NextHop))
		}
	}
	return errors.Join(errs...)
}

// seeProvider reads the provider side. All VLAN links of ours are looked for only
// where that is asked: it takes a list of all links.
func (e *Engine) seeProvider(s ProviderSpec, all bool, not barred) (seen seenProvider, err error) {
	seen = seenProvider{links: map[string]nl.Link{}, addrs: map[string][]nl.Addr{}, sysctls: map[string]string{}, leave: map[string]bool{}, barred: not}
	for en := range e.gw.entries {
		seen.entries = append(seen.entries, en)
	}
	wanted := providerLinks(e.cfg.PAInterfaces, s)
	if err := e.seeProviderLinks(wanted, all, &seen); err != nil {
		return seen, err
	}
	barStrangers(s, &seen)
	for _, l := range seen.links {
		if seen.addrs[l.Name], err = e.out.Addrs(l.Index); err != nil {
			return seen, err
		}
		keys := unresolvedKeys(l.Name)
		if slices.Contains(teamed(held(s)), l.Name) {
			keys = append(keys, linkdown6(l.Name))
		}
		for _, key := range keys {
			v, err := e.out.Sysctl(key)
			if err == nil {
				seen.sysctls[key] = v
			} else if !errors.Is(err, nl.ErrNotFound) { // as without IPv6
				return seen, err
			}
		}
		routes, err := e.out.LinkRoutes(0, l.Index)
		if err != nil {
			return seen, err
		}
		seen.routes = append(seen.routes, routes...)
	}
	if seen.rules, err = e.out.Rules(nl.Protocol); err != nil {
		return seen, err
	}
	e.placeAll(s, wanted, all, &seen)
	return seen, nil
}

func (e *Engine) seeProviderLinks(wanted []string, all bool, seen *seenProvider) error {
	if !all {
		for _, name := range wanted {
			l, err := e.out.Link(name)
			if err == nil {
				seen.links[name] = l
			} else if !errors.Is(err, nl.ErrNotFound) {
				return err
			}
		}
		return nil
	}
	links, err := e.out.Links()
	for _, l := range links {
		if slices.Contains(wanted, l.Name) || l.Kind == "vlan" && l.Alias == e.names.providerAlias() {
			seen.links[l.Name] = l
		}
	}
	return err
}

// placeAll takes in how the links are and decides where the addresses are to be.
func (e *Engine) placeAll(s ProviderSpec, wanted []string, all bool, seen *seenProvider) {
	g := e.gw
	now := e.now()
	seen.health = map[string]linkHealth{}
	for _, name := range wanted {
		l, there := seen.links[name]
		f := FaultNone
		switch {
		case !there:
			f = FaultMissing
		case !l.Up:
			f = FaultDown
		case !l.Carrier:
			f = FaultNoCarrier
		}
		before, known := g.health[name]
		seen.health[name] = before.look(l.Index, f, now)
		if f == FaultDown && !all && known && before.index == l.Index {
			seen.leave[name] = true
		}
	}
	g.health = seen.health
	g.again = 0
	seen.placed = placement{}
	for _, h := range held(s) {
		to, valid := h.place(whereIs(h, seen.addrs), seen.health, now)
		seen.placed[h.prefix.Addr()] = to
		g.lookAgain(valid)
	}
	up, next := missed(held(s), seen.placed, seen.leave, seen.health, now)
	for _, l := range up {
		delete(seen.leave, l)
		delete(seen.leave, under(s, l))
	}
	g.lookAgain(next)
}

// lookAgain asks for another look after a time; the shortest counts, and 0 is no
// wish.
func (g *gateway) lookAgain(after time.Duration) {
	if after > 0 && (g.again == 0 || after < g.again) {
		g.again = after
	}
}

// whereIs finds the link that an address of ours is on now. Away from home is
// what counts, as somebody else may have put it there.
func whereIs(h holding, addrs map[string][]nl.Addr) string {
	for _, l := range append(slices.Clone(h.refuges), h.home) {
		if slices.ContainsFunc(addrs[l], func(a nl.Addr) bool { return a.Prefix == h.prefix }) {
			return l
		}
	}
	return ""
}

func (e *Engine) providerState(s ProviderSpec, seen seenProvider) ProviderState {
	var out ProviderState
	for _, h := range held(s) {
		l := seen.placed.of(h)
		p := PAState{Addr: h.prefix.Addr(), Home: h.home, Link: l, Fault: seen.health[h.home].fault, Why: seen.barred.links[h.home], Refused: seen.barred.addrs[h.prefix.Addr()], Down: seen.health[l].fault != FaultNone}
		if h.home == "" || p.Refused != "" {
			p.Down = true
		}
		if h.rewrite {
			out.Rewrite = append(out.Rewrite, p)
		} else {
			out.Addresses = append(out.Addresses, p)
		}
	}
	return out
}

// ProviderState tells of all addresses on the fabric, as they were after the last
// change.
type ProviderState struct {
	Addresses []PAState
	Rewrite   []PAState // those that are on this machine now
	// Again is after how long Failover may have something to do though no link
	// changes; 0 is never.
	Again time.Duration
}

// ProviderState tells how the provider side is.
func (e *Engine) ProviderState() ProviderState {
	e.gw.mu.Lock()
	defer e.gw.mu.Unlock()
	out := e.gw.provider
	out.Again = e.gw.again
	return out
}

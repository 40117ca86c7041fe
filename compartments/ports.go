//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// ApplyPorts makes exactly these interfaces the ports of VMs: up, and their
// packets out of reach of the gateway's own network stack, which packet sockets
// are in front of. The interfaces themselves keep no mark of it, so that one
// that moves to another host is as it was. It tells which ones cannot be ports,
// and why; those that are not there yet are guarded as soon as they are.
func (e *Engine) ApplyPorts(ctx context.Context, ifnames []string) map[string]error {
	refused := map[string]error{}
	links := map[string]nl.Link{}
	var want []string
	for _, n := range ifnames {
		l, err := e.port(n)
		switch {
		case err == nil:
			links[n] = l
			want = append(want, n)
		case errors.Is(err, nl.ErrNotFound):
			want = append(want, n)
			refused[n] = fmt.Errorf("%w in the gateway's network namespace", err)
		default:
			refused[n] = err
		}
	}
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	x := &executor{ctx: ctx, e: e}
	if err := e.guardPorts(x, want, links); err != nil {
		for n := range links {
			refused[n] = err
		}
	}
	for n, l := range links {
		if refused[n] == nil {
			if err := x.run(planPort(l)); err != nil {
				refused[n] = err
			}
		}
	}
	for n, err := range refused {
		refused[n] = fmt.Errorf("port %s: %w", n, err)
	}
	return refused
}

// port finds the interface and tells whether it may be a VM's.
func (e *Engine) port(ifname string) (nl.Link, error) {
	if slices.Contains(e.cfg.PAInterfaces, ifname) || slices.Contains(e.gw.uplinks, ifname) {
		return nl.Link{}, errors.New("the interface is an uplink or carries the fabric: a VM's cannot be")
	}
	if e.names.reserved(ifname) {
		return nl.Link{}, errors.New("the name is kept for the gateway's own links: name the interface that the VM is on, or rename that")
	}
	l, err := e.out.Link(ifname)
	if err != nil {
		return nl.Link{}, err
	}
	if e.names.marks(l.Alias) {
		return nl.Link{}, fmt.Errorf("the interface is one of the gateway's own links (its alias is %q): name the interface that the VM is on", l.Alias)
	}
	addrs, err := e.out.Addrs(l.Index)
	if err != nil {
		return nl.Link{}, err
	}
	for _, a := range addrs {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			return nl.Link{}, fmt.Errorf("the gateway itself has address %s there: a VM's interface has none on this side; take it off", a.Prefix)
		}
	}
	return l, nil
}

// guardPorts brings the rules in line before a port is set up.
func (e *Engine) guardPorts(x *executor, want []string, links map[string]nl.Link) error {
	g := e.gw
	if len(want) == 0 && g.known && !slices.ContainsFunc(slices.Collect(maps.Keys(g.entries)), func(en entry) bool { return en.set == setDeaf }) {
		return nil // a gateway that hosts no VM
	}
	if _, err := e.ensureSteer(x); err != nil {
		return err
	}
	if _, err := g.sync(false); err != nil {
		return err
	}
	var c changeEntries
	for _, n := range want {
		if en := (entry{set: setDeaf, link: n}); !g.entries[en] {
			c.put = append(c.put, en)
		}
	}
	for en := range g.entries {
		if en.set == setDeaf && !slices.Contains(want, en.link) {
			c.del = append(c.del, en)
		}
	}
	// A chain goes with its device: one that came anew has none.
	now := map[string]int{}
	stale := len(links) != len(g.guarded)
	for n, l := range links {
		now[n] = l.Index
		stale = stale || g.guarded[n] != l.Index
	}
	if len(c.put)+len(c.del) > 0 {
		if err := x.run([]step{c}); err != nil {
			return err
		}
		stale = true
	}
	if stale {
		g.guarded = nil
		if _, err := g.sync(true); err != nil {
			return err
		}
		g.guarded = now
	}
	return nil
}

func planPort(l nl.Link) []step {
	var out []step
	if v, known := l.Conf6(nl.DisableIPv6); known && v != 1 {
		out = append(out, setSysctl{outward, setting{"ipv6/conf/" + l.Name + "/disable_ipv6", "1"}})
	}
	if v, ok := l.Conf4(nl.Forwarding4); !ok || v != 0 {
		out = append(out, changeLink{outward, l.Name, nl.LinkChange{Conf4: map[nl.Conf4]int{nl.Forwarding4: 0}}, []string{"no forwarding"}})
	}
	if !l.Up {
		out = append(out, changeLink{outward, l.Name, nl.LinkChange{Up: true}, []string{"up"}})
	}
	return out
}

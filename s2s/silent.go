//go:build linux

package s2s

import (
	"net/netip"
	"slices"
)

// Silent gives the prefixes, as the tenant sees them, that only peers which are down
// offer: what has a next hop in there had better go another way, whoever made its
// route. A peer counts that has answered before, or whose target was named: of the
// others it is not known that they answer at all. It waits for an Apply under way.
func (e *Engine) Silent() []netip.Prefix {
	e.mu.Lock()
	defer e.mu.Unlock()
	return silent(e.spec, func(link string, p Peer) bool {
		t := e.tunnels[link]
		if t == nil || t.probers[p.Name] == nil {
			return false
		}
		d := t.probers[p.Name].look()
		return !d.state.usable() && (d.rtt != 0 || p.Probe.Target.IsValid())
	})
}

// silent also counts the prefix of the link where its only peer is down.
func silent(s Spec, down func(link string, p Peer) bool) []netip.Prefix {
	var dead, live []netip.Prefix
	for _, t := range s.Tunnels {
		for _, p := range t.Peers {
			list := t.Seen(p.Prefixes)
			if len(t.Peers) == 1 {
				for _, a := range t.Addresses {
					list = append(list, a.Masked())
				}
			}
			if down(t.Interface, p) {
				dead = append(dead, list...)
			} else {
				live = append(live, list...)
			}
		}
	}
	dead = slices.DeleteFunc(dead, func(d netip.Prefix) bool {
		return slices.ContainsFunc(live, func(l netip.Prefix) bool { return l.Bits() >= d.Bits() && l.Overlaps(d) })
	})
	slices.SortFunc(dead, comparePrefix)
	return slices.Compact(dead)
}

//go:build linux

package compartments

import (
	"net/netip"
	"time"
)

// A herald announces an address again: what announces only once may not be heard
// by all, as where a switch is still learning where the interface is.
type herald struct {
	left int
	next time.Time
}

const (
	heralds     = 2 // how often more
	heraldPause = time.Second
)

// herald remembers the addresses, which are announced now.
func (g *gateway) herald(addrs []netip.Addr, now time.Time) {
	if g.heralds == nil {
		g.heralds = map[netip.Addr]herald{}
	}
	for _, a := range addrs {
		g.heralds[a] = herald{heralds, now.Add(heraldPause)}
	}
}

// announceAgain does what is due, on links that work.
func (e *Engine) announceAgain(seen seenProvider) error {
	g := e.gw
	now := e.now()
	due := map[string][]netip.Addr{}
	for a, h := range g.heralds {
		name, ours := seen.placed[a]
		l, there := seen.links[name]
		if !ours || !there {
			delete(g.heralds, a)
			continue
		}
		if seen.health[name].fault != FaultNone {
			continue // when it works again is told by an event
		}
		if !h.next.After(now) {
			due[l.Name] = append(due[l.Name], a)
			h = herald{h.left - 1, now.Add(heraldPause)}
		}
		if g.heralds[a] = h; h.left == 0 {
			delete(g.heralds, a)
			continue
		}
		g.lookAgain(h.next.Sub(now))
	}
	for name, addrs := range due {
		if err := e.out.Announce(seen.links[name].Index, addrs); err != nil {
			return err
		}
	}
	return nil
}

//go:build privileged && linux

package s2s

import (
	"strings"
	"testing"
)

// What an engine left for the next process can be removed without one, and nothing
// else goes.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	apply(t, e, b.with(func(t *Tunnel) { t.DSCP = 46 }))
	must(t, e.Close(true))
	b.comp.ip("route add unreachable 10.99.0.0/16")
	others, err := b.comp.nl.Links()
	must(t, err)
	removed, err := Sweep(b.comp.path())
	must(t, err)
	if text := strings.Join(removed, ", "); !strings.Contains(text, "link ") || !strings.Contains(text, "route ") || !strings.Contains(text, "marking") {
		t.Errorf("removed %s", text)
	}
	links, err := b.comp.nl.Links()
	must(t, err)
	for _, l := range links {
		if isOurs(l) {
			t.Errorf("link %s is left", l.Name)
		}
	}
	if len(links) == 0 || len(links) >= len(others) {
		t.Errorf("of %d links there are %d left", len(others), len(links))
	}
	if routes, err := b.comp.nl.Routes(RouteProtocol, 0); err != nil || len(routes) != 0 {
		t.Errorf("routes %v are left, %v", routes, err)
	}
	if routes, err := b.comp.nl.Routes(0, 0); err != nil || len(routes) == 0 {
		t.Errorf("routes are %v, %v", routes, err)
	}
	if removed, err := Sweep(b.comp.path()); err != nil || len(removed) != 0 {
		t.Errorf("once more: %v, %v", removed, err)
	}
}

//go:build privileged && linux

package nl

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestRulesAndTables(t *testing.T) {
	h, _ := namespace(t)
	_, bPath := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "a", Up: true}, LinkEnd{Name: "b", Namespace: bPath}))
	l := link(t, h, "a")
	const table = 201000007
	same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	sameAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	for _, c := range []struct{ addr, net, other, via string }{
		{"192.168.1.10/24", "192.168.1.0/24", "192.168.2.0/24", "192.168.1.1"},
		{"fd00::10/64", "fd00::/64", "fd00:2::/64", "fd00::1"},
	} {
		a := netip.MustParsePrefix(c.addr)
		must(t, h.AddAddr(Addr{Prefix: a, Link: l.Index, Protocol: Protocol}))
		r := Rule{Priority: 20100, From: netip.PrefixFrom(a.Addr(), a.Addr().BitLen()), Table: table, Protocol: Protocol}
		must(t, h.AddRule(r))
		if err := h.AddRule(r); !errors.Is(err, unix.EEXIST) {
			t.Errorf("the same rule again: %v", err)
		}
		foreign := r
		foreign.Protocol, foreign.Table = 3, 100
		must(t, h.AddRule(foreign))
		rules, err := h.Rules(Protocol)
		must(t, err)
		if d := cmp.Diff([]Rule{r}, rules, same); d != "" {
			t.Error(d)
		}

		routes := []Route{
			{Table: table, Dst: netip.MustParsePrefix(c.net), Link: l.Index, Metric: 1024, Protocol: Protocol},
			{Table: table, Dst: netip.MustParsePrefix(c.other), Via: netip.MustParseAddr(c.via), Link: l.Index, Metric: 1024, Protocol: Protocol},
		}
		for _, rt := range routes {
			must(t, h.AddRoute(rt))
		}
		got, err := h.LinkRoutes(Protocol, l.Index)
		must(t, err)
		if d := cmp.Diff(routes, got, same, sameAddr); d != "" {
			t.Error(d)
		}
		main, err := h.Routes(Protocol, 0)
		must(t, err)
		if len(main) > 0 {
			t.Errorf("the main table has %v", main)
		}
		for _, rt := range routes {
			must(t, h.DelRoute(rt))
		}
		for range 2 {
			must(t, h.DelRule(r))
		}
		if rules, err := h.Rules(Protocol); err != nil || len(rules) > 0 {
			t.Errorf("left: %v, %v", rules, err)
		}
	}
}

func TestWatchLinks(t *testing.T) {
	h, _ := namespace(t)
	b, bPath := namespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := h.WatchLinks(ctx)
	must(t, err)
	until := func(what string, is func(LinkEvent) bool) {
		t.Helper()
		for deadline := time.After(time.Minute); ; {
			select {
			case e, open := <-events:
				if !open {
					t.Fatalf("%s: the events have ended", what)
				}
				if is(e) {
					return
				}
			case <-deadline:
				t.Fatalf("not told: %s", what)
			}
		}
	}
	must(t, h.AddVeth(LinkEnd{Name: "a", Up: true}, LinkEnd{Name: "b", Namespace: bPath}))
	until("a is there", func(e LinkEvent) bool { return e.Link.Name == "a" && e.Link.Up && !e.Link.Carrier })
	peer := link(t, b, "b")
	must(t, b.SetLink(peer.Index, LinkChange{Up: true}))
	until("carrier", func(e LinkEvent) bool { return e.Link.Name == "a" && e.Link.Carrier })
	must(t, b.SetLink(peer.Index, LinkChange{Down: true}))
	until("no carrier", func(e LinkEvent) bool { return e.Link.Name == "a" && e.Link.Up && !e.Link.Carrier })
	must(t, h.SetLink(link(t, h, "a").Index, LinkChange{Down: true}))
	until("down", func(e LinkEvent) bool { return e.Link.Name == "a" && !e.Link.Up })
	must(t, h.DelLink("a"))
	until("gone", func(e LinkEvent) bool { return e.Link.Name == "a" && e.Gone })

	// A reader that sleeps is told that it has missed something.
	lo := link(t, h, "lo")
	for i := range 4000 {
		must(t, h.SetLink(lo.Index, LinkChange{MTU: 1500 + i%2}))
	}
	until("events missed", func(e LinkEvent) bool { return e.Missed })
	cancel()
	for deadline := time.After(time.Minute); ; {
		select {
		case _, open := <-events:
			if !open {
				return
			}
		case <-deadline:
			t.Fatal("the events do not end")
		}
	}
}

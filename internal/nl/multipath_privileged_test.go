//go:build privileged && linux

package nl

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A route changes between one next hop and several, and back, in its place.
func TestReplaceRoute(t *testing.T) {
	h, _ := namespace(t)
	_, bPath := namespace(t)
	var links []int
	for _, n := range []string{"a", "b"} {
		must(t, h.AddVeth(LinkEnd{Name: n, Up: true}, LinkEnd{Name: n, Namespace: bPath}))
		links = append(links, link(t, h, n).Index)
	}
	must(t, h.AddAddr(Addr{Prefix: netip.MustParsePrefix("192.168.1.10/24"), Link: links[0]}))
	must(t, h.AddAddr(Addr{Prefix: netip.MustParsePrefix("192.168.2.10/24"), Link: links[1]}))
	same := []cmp.Option{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	for _, c := range []struct{ dst, hop1, hop2 string }{
		{"10.9.0.0/16", "192.168.1.1", "192.168.2.1"},
		{"10.8.0.0/16", "", ""},
		{"fd09::/48", "fe80::1", "fe80::2"},
	} {
		hops := []NextHop{{Link: links[0], Weight: 3}, {Link: links[1], Weight: 1}}
		if c.hop1 != "" {
			hops[0].Via, hops[1].Via = netip.MustParseAddr(c.hop1), netip.MustParseAddr(c.hop2)
		}
		base := Route{Dst: netip.MustParsePrefix(c.dst), Metric: 77, Protocol: 203}
		one, two := base, base
		one.Via, one.Link = hops[0].Via, hops[0].Link
		two.NextHops = hops
		other := base
		other.Via, other.Link = hops[1].Via, hops[1].Link
		for step, r := range []Route{one, two, two, other, two, one} {
			must(t, h.ReplaceRoute(r))
			got, err := h.Routes(203, 0)
			must(t, err)
			want := r
			if len(r.NextHops) > 0 {
				want.Multipath, want.Link = true, links[0]
				for _, n := range hops {
					if n.Via.IsValid() {
						want.Hops = append(want.Hops, n.Via)
					}
				}
			}
			if d := cmp.Diff([]Route{want}, got, same...); d != "" {
				t.Errorf("%s, step %d: %s", c.dst, step, d)
			}
		}
		must(t, h.DelRoute(one))
		if got, _ := h.Routes(203, 0); len(got) > 0 {
			t.Errorf("left: %v", got)
		}
	}
}

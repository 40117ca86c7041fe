//go:build privileged && linux

package nl

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// routeTown is a namespace with two links and addresses on both.
func routeTown(t *testing.T) (*Handle, *RouteWriter) {
	t.Helper()
	h, err := Open(netns.Path(nstest.New(t, "routes")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if err := h.AddVeth(LinkEnd{Name: "a0", Up: true}, LinkEnd{Name: "a1"}); err != nil {
		t.Fatal(err)
	}
	for name, addrs := range map[string][]string{"a0": {"10.0.0.1/24", "fd00::1/64"}, "a1": {"10.0.1.1/24", "fd00:1::1/64"}} {
		l, err := h.Link(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.SetLink(l.Index, LinkChange{Up: true}); err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if err := h.AddAddr(Addr{Prefix: netip.MustParsePrefix(a), Link: l.Index}); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := h.NewRouteWriter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return h, w
}

// Each operation does what it says in both families, with one next hop, several,
// one of the other family and none, and leaves other people's routes alone.
func TestRouteWriter(t *testing.T) {
	h, w := routeTown(t)
	change := func(want error, op RouteOp, r Route) {
		t.Helper()
		var got error
		r.Protocol = ProtocolBGP
		if err := w.ChangeRoutes([]RouteChange{{op, r}}, func(_ int, err error) { got = err }); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("%d of %v: %v, want %v", op, r, got, want)
		}
	}
	shows := func(dst netip.Prefix, ways int, unreachable bool) {
		t.Helper()
		list, err := h.Routes(ProtocolBGP, 0)
		if err != nil {
			t.Fatal(err)
		}
		list = slices.DeleteFunc(list, func(r Route) bool { return r.Dst != dst })
		if ways < 0 {
			if len(list) != 0 {
				t.Errorf("%s is there: %+v", dst, list)
			}
			return
		}
		if len(list) != 1 || list[0].Unreachable != unreachable || max(len(list[0].NextHops), 1) != max(ways, 1) || list[0].Multipath != (ways > 1) {
			t.Errorf("%s: %+v; want %d ways, unreachable %v", dst, list, ways, unreachable)
		}
	}
	l, err := h.Link("a0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Link("a1")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []struct {
		dst, foreign, via, via2, nowhere string
		metric                           uint32
	}{
		{"172.16.0.0/16", "172.17.0.0/16", "10.0.0.2", "10.0.1.2", "192.0.2.1", 20},
		{"fd02::/48", "fd03::/48", "fd00::2", "fd00:1::2", "fd99::1", 1044},
	} {
		dst := netip.MustParsePrefix(f.dst)
		one := Route{Dst: dst, Metric: f.metric, Via: netip.MustParseAddr(f.via), Link: l.Index}
		two := Route{Dst: dst, Metric: f.metric, NextHops: []NextHop{{Via: one.Via, Link: l.Index, Weight: 1}, {Via: netip.MustParseAddr(f.via2), Link: m.Index, Weight: 3}}}
		change(nil, RouteAdd, one)
		shows(dst, 1, false)
		change(unix.EEXIST, RouteAdd, one)
		change(nil, RouteReplace, two)
		shows(dst, 2, false)
		change(nil, RouteReplace, one)
		shows(dst, 1, false)
		change(nil, RouteDelete, one)
		shows(dst, -1, false)
		change(nil, RouteDelete, one)
		change(nil, RouteReplace, two)
		change(nil, RouteDelete, two)
		shows(dst, -1, false)
		change(nil, RouteAdd, Route{Dst: dst, Metric: f.metric, Unreachable: true})
		shows(dst, 0, true)
		change(nil, RouteDelete, Route{Dst: dst, Metric: f.metric})
		shows(dst, -1, false)

		foreign := Route{Dst: netip.MustParsePrefix(f.foreign), Metric: f.metric, Via: one.Via, Link: l.Index, Protocol: 4}
		if err := h.AddRoute(foreign); err != nil {
			t.Fatal(err)
		}
		change(unix.EEXIST, RouteAdd, Route{Dst: foreign.Dst, Metric: f.metric, Via: one.Via, Link: l.Index})
		change(nil, RouteDelete, Route{Dst: foreign.Dst, Metric: f.metric})
		if list, err := h.Routes(4, 0); err != nil || !slices.ContainsFunc(list, func(r Route) bool { return r.Dst == foreign.Dst }) {
			t.Errorf("somebody else's route went: %v, %v", list, err)
		}
		if _, err := h.RouteTo(netip.MustParseAddr(f.nowhere)); !errors.Is(err, ErrNoRoute) {
			t.Errorf("way to %s: %v", f.nowhere, err)
		}
		if r, err := h.RouteTo(one.Via); err != nil || r.Link != l.Index || r.Via.IsValid() {
			t.Errorf("way to %s: %+v, %v", f.via, r, err)
		}
	}
	dst := netip.MustParsePrefix("172.16.9.0/24")
	change(nil, RouteAdd, Route{Dst: dst, Metric: 20, Via: netip.MustParseAddr("fd00::2"), Link: l.Index})
	if list, err := h.Routes(ProtocolBGP, l.Index); err != nil || len(list) != 1 || len(list[0].Hops) != 1 || list[0].Hops[0] != netip.MustParseAddr("fd00::2") {
		t.Errorf("IPv4 by IPv6: %+v, %v", list, err)
	}
}

// Thousands of routes at once arrive all, and each that the kernel refuses is told
// by its place.
func TestRouteWriterMany(t *testing.T) {
	h, w := routeTown(t)
	l, err := h.Link("a0")
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	var list []RouteChange
	refused := map[int]bool{}
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 20<<24|uint32(i)<<4)
		r := Route{Dst: netip.PrefixFrom(netip.AddrFrom4(b), 28), Metric: 20, Protocol: ProtocolBGP, Via: netip.MustParseAddr("10.0.0.2"), Link: l.Index}
		if i%7 == 3 {
			r.Via, refused[i] = netip.MustParseAddr("192.0.2.1"), true
		}
		list = append(list, RouteChange{RouteAdd, r})
	}
	told := 0
	err = w.ChangeRoutes(list, func(i int, err error) {
		if told++; !refused[i] {
			t.Errorf("%v: %v", list[i].Route, err)
		}
	})
	if err != nil || told != len(refused) {
		t.Errorf("%d refused, want %d: %v", told, len(refused), err)
	}
	if there, err := h.Routes(ProtocolBGP, 0); err != nil || len(there) != n-len(refused) {
		t.Errorf("%d routes are there, want %d: %v", len(there), n-len(refused), err)
	}
	for i := range list {
		list[i].Op = RouteDelete
	}
	if err := w.ChangeRoutes(list, func(i int, err error) { t.Errorf("remove %v: %v", list[i].Route, err) }); err != nil {
		t.Fatal(err)
	}
	if there, err := h.Routes(ProtocolBGP, 0); err != nil || len(there) != 0 {
		t.Errorf("%d routes are left: %v", len(there), err)
	}
}

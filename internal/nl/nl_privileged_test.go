//go:build privileged && linux

package nl

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		println("privileged tests need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func namespace(t *testing.T) (*Handle, string) {
	t.Helper()
	var b [5]byte
	_, _ = rand.Read(b[:])
	name := "hnvt-nl-" + hex.EncodeToString(b[:])
	must(t, netns.Create(name))
	t.Cleanup(func() { must(t, netns.Delete(name)) })
	h, err := Open(netns.Path(name))
	must(t, err)
	t.Cleanup(h.Close)
	return h, netns.Path(name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, h *Handle, name string) Link {
	t.Helper()
	l, err := h.Link(name)
	must(t, err)
	return l
}

func TestVethInPlace(t *testing.T) {
	a, _ := namespace(t)
	b, bPath := namespace(t)
	macA, macB := [6]byte{2, 1, 1, 1, 1, 1}, [6]byte{2, 2, 2, 2, 2, 2}
	must(t, a.AddVeth(
		LinkEnd{Name: "outer", MAC: macA, MTU: 1500, Up: true, NoARP: true},
		LinkEnd{Name: "inner", Namespace: bPath, MAC: macB, MTU: 1458, Up: true}))
	inner := link(t, b, "inner")
	must(t, b.SetLink(inner.Index, LinkChange{Up: true}))
	outer, inner := link(t, a, "outer"), link(t, b, "inner")
	if outer.MAC != macA || outer.MTU != 1500 || !outer.Up || !outer.NoARP || outer.Kind != "veth" || outer.Queues != 1 || !outer.ParentElsewhere {
		t.Errorf("outer: %+v", outer)
	}
	if inner.MAC != macB || inner.MTU != 1458 || !inner.Up || inner.NoARP || inner.Parent != outer.Index || inner.Queues != 1 {
		t.Errorf("inner: %+v", inner)
	}
	if got, err := a.LinkByIndex(outer.Index); err != nil || got.Name != "outer" {
		t.Errorf("by index: %v, %v", got, err)
	}
	err := a.AddVeth(LinkEnd{Name: "outer"}, LinkEnd{Name: "other", Namespace: bPath})
	if !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second link of the name: %v", err)
	}
	must(t, a.DelLink("outer"))
	must(t, a.DelLink("outer"))
	if _, err := a.Link("outer"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
	if _, err := a.LinkByIndex(outer.Index); !errors.Is(err, ErrNotFound) {
		t.Errorf("after deletion, by index: %v", err)
	}
}

func TestSetLinkInOneStep(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "d0"}, LinkEnd{Name: "p0"}))
	l := link(t, h, "d0")
	must(t, h.SetLink(l.Index, LinkChange{
		Alias: "hnv:x:y:wnv", MAC: [6]byte{2, 9, 9, 9, 9, 9}, MTU: 1400, Backlog: 700, Up: true, NoARP: true, AddrGenNone: true,
		Conf4: map[Conf4]int{Forwarding4: 1, RPFilter: 2, SendRedirects: 0},
	}))
	l = link(t, h, "d0")
	if l.Alias != "hnv:x:y:wnv" || l.MAC[1] != 9 || l.MTU != 1400 || l.Backlog != 700 || !l.Up || !l.NoARP || !l.AddrGenNone {
		t.Errorf("%+v", l)
	}
	for c, want := range map[Conf4]int{Forwarding4: 1, RPFilter: 2, SendRedirects: 0} {
		if v, ok := l.Conf4(c); !ok || v != want {
			t.Errorf("setting %d: %d, %v; want %d", c, v, ok, want)
		}
	}
	if addrs, err := h.Addrs(l.Index); err != nil || len(addrs) != 0 {
		t.Errorf("a link-local address was made: %v, %v", addrs, err)
	}
	must(t, h.SetSysctl("ipv6/conf/d0/accept_ra", "0"))
	must(t, h.SetSysctl("ipv6/conf/d0/proxy_ndp", "1"))
	l = link(t, h, "d0")
	for c, want := range map[Conf6]int{AcceptRA: 0, ProxyNDP: 1, DisableIPv6: 0} {
		if v, ok := l.Conf6(c); !ok || v != want {
			t.Errorf("IPv6 setting %d: %d, %v; want %d", c, v, ok, want)
		}
	}
	must(t, h.SetLink(l.Index, LinkChange{Down: true, ARP: true}))
	must(t, h.SetLink(l.Index, LinkChange{Name: "d1"}))
	if l := link(t, h, "d1"); l.Up || l.NoARP {
		t.Errorf("%+v", l)
	}
}

func TestAddressesRoutesNeighbours(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "d0", Up: true}, LinkEnd{Name: "d1"}))
	d0, d1 := link(t, h, "d0"), link(t, h, "d1")
	must(t, h.SetLink(d1.Index, LinkChange{Up: true}))

	for _, p := range []string{"10.1.1.1/24", "2001:db8::1/64"} {
		a := Addr{Prefix: netip.MustParsePrefix(p), Link: d0.Index, Protocol: Protocol}
		must(t, h.AddAddr(a))
		if err := h.AddAddr(a); !errors.Is(err, unix.EEXIST) {
			t.Errorf("added twice: %v", err)
		}
		got, err := h.Addrs(d0.Index)
		must(t, err)
		if !slices.Contains(got, a) {
			t.Errorf("%v is not among %v", a, got)
		}
	}
	if got, err := h.Addrs(d1.Index); err != nil || slices.ContainsFunc(got, func(a Addr) bool { return a.Prefix.Addr().Is4() }) {
		t.Errorf("the other link has %v, %v", got, err)
	}

	routes := []Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("169.254.0.1"), Link: d0.Index, OnLink: true, Protocol: Protocol},
		{Dst: netip.MustParsePrefix("203.0.113.10/32"), Link: d0.Index, Protocol: Protocol, Metric: 7},
		{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fe80::1"), Link: d0.Index, OnLink: true, Protocol: Protocol, Metric: 1024},
	}
	for _, r := range routes {
		must(t, h.AddRoute(r))
		if err := h.AddRoute(r); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%v added twice: %v", r, err)
		}
	}
	must(t, h.AddRoute(Route{Dst: netip.MustParsePrefix("198.51.100.0/24"), Link: d1.Index, Protocol: Protocol}))
	must(t, h.AddRoute(Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Link: d0.Index, Protocol: 4}))
	got, err := h.Routes(Protocol, d0.Index)
	must(t, err)
	byDst := func(a, b Route) int { return a.Dst.Addr().Compare(b.Dst.Addr()) }
	slices.SortFunc(got, byDst)
	slices.SortFunc(routes, byDst)
	if d := cmp.Diff(routes, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
	for _, r := range routes {
		must(t, h.DelRoute(r))
		must(t, h.DelRoute(r))
	}
	if got, err := h.Routes(Protocol, 0); err != nil || len(got) != 1 || got[0].Link != d1.Index {
		t.Errorf("left: %v, %v", got, err)
	}

	for _, a := range []string{"169.254.0.1", "fe80::1"} {
		n := Neighbour{Addr: netip.MustParseAddr(a), Link: d0.Index, MAC: [6]byte{2, 3, 4, 5, 6, 7}, Protocol: Protocol}
		p := Neighbour{Addr: n.Addr, Link: d0.Index, Proxy: true, Protocol: Protocol}
		must(t, h.SetNeighbour(n))
		must(t, h.SetNeighbour(n))
		must(t, h.SetNeighbour(p))
		if got, err := h.Neighbours(d0.Index, false); err != nil || !slices.Contains(got, n) || slices.Contains(got, p) {
			t.Errorf("permanent: %v, %v", got, err)
		}
		if got, err := h.Neighbours(0, false); err != nil || !slices.Contains(got, n) || slices.Contains(got, p) {
			t.Errorf("neighbours of all links: %+v, %v", got, err)
		}
		if got, ok, err := h.Neighbour(d0.Index, n.Addr); err != nil || !ok || got != n {
			t.Errorf("neighbour %s: %+v, %v, %v", n.Addr, got, ok, err)
		}
		if got, ok, err := h.Neighbour(d0.Index, n.Addr.Next()); err != nil || ok {
			t.Errorf("neighbour that is not there: %+v, %v", got, err)
		}
		if got, err := h.Neighbours(d0.Index, true); err != nil || !slices.Contains(got, p) || slices.Contains(got, n) {
			t.Errorf("proxied: %v, %v", got, err)
		}
		if proto, ok, err := h.Proxied(d0.Index, n.Addr); proto != Protocol || !ok || err != nil {
			t.Errorf("Proxied: %v, %v, %v", proto, ok, err)
		}
		if _, ok, err := h.Proxied(d1.Index, n.Addr); ok || err != nil {
			t.Errorf("Proxied elsewhere: %v, %v", ok, err)
		}
		for range 2 {
			must(t, h.DelNeighbour(n))
			must(t, h.DelNeighbour(p))
		}
		if _, ok, err := h.Proxied(d0.Index, n.Addr); ok || err != nil {
			t.Errorf("Proxied after removal: %v, %v", ok, err)
		}
	}
	for _, a := range []string{"10.1.1.1/24", "2001:db8::1/64"} {
		p := Addr{Prefix: netip.MustParsePrefix(a), Link: d0.Index}
		must(t, h.DelAddr(p))
		must(t, h.DelAddr(p))
	}
}

func TestOffloads(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "a"}, LinkEnd{Name: "b"}))
	o, err := h.LinkOffloads("a")
	must(t, err)
	if o != (Offloads{TxChecksum: true, TSO: true, GSO: true}) {
		t.Errorf("a veth starts with %+v", o)
	}
	must(t, h.SetLinkOffloads("a", Offloads{}))
	if o, err = h.LinkOffloads("a"); err != nil || o != (Offloads{}) {
		t.Errorf("after switching off: %+v, %v", o, err)
	}
	if o, err = h.LinkOffloads("b"); err != nil || !o.TxChecksum {
		t.Errorf("the peer: %+v, %v", o, err)
	}
	must(t, h.SetFeatures("b", map[string]bool{"tx-tcp-segmentation": false, "tx-udp_tnl-segmentation": false, "no-such": true}))
	if o, err = h.LinkOffloads("b"); err != nil || o != (Offloads{TxChecksum: true, TSO: true, GSO: true}) { // of TSO, there is IPv6's yet
		t.Errorf("without one feature: %+v, %v", o, err)
	}
	must(t, h.SetFeatures("b", map[string]bool{"tx-tcp6-segmentation": false, "tx-tcp-ecn-segmentation": false, "tx-tcp-mangleid-segmentation": false}))
	if o, err = h.LinkOffloads("b"); err != nil || o != (Offloads{TxChecksum: true, GSO: true}) {
		t.Errorf("without TSO: %+v, %v", o, err)
	}
	if err = h.SetFeatures("c", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("features of no link: %v", err)
	}
	if _, err = h.LinkOffloads("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such link: %v", err)
	}
}

func TestSysctl(t *testing.T) {
	a, _ := namespace(t)
	b, _ := namespace(t)
	must(t, a.SetSysctl("ipv4/ip_forward", "1"))
	for h, want := range map[*Handle]string{a: "1", b: "0"} {
		if v, err := h.Sysctl("ipv4/ip_forward"); err != nil || v != want {
			t.Errorf("ip_forward: %q, %v; want %s", v, err, want)
		}
	}
	if _, err := a.Sysctl("ipv4/no_such_setting"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such setting: %v", err)
	}
	if err := a.SetSysctl("nosuchtree/x", "1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such tree: %v", err)
	}
}

func TestLabLinks(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.AddBridge(LinkEnd{Name: "br0", Up: true}))
	must(t, h.AddVXLAN(LinkEnd{Name: "vx0", Up: true}, VXLAN{VNI: 6001, Local: netip.MustParseAddr("192.168.1.20")}))
	br, vx := link(t, h, "br0"), link(t, h, "vx0")
	must(t, h.SetLink(vx.Index, LinkChange{Master: br.Index}))
	if l := link(t, h, "vx0"); l.Master != br.Index || l.Kind != "vxlan" {
		t.Errorf("%+v", l)
	}
	must(t, h.SetLink(vx.Index, LinkChange{Master: -1}))
	if l := link(t, h, "vx0"); l.Master != 0 {
		t.Errorf("%+v", l)
	}
	must(t, h.AddVXLAN(LinkEnd{Name: "vx1"}, VXLAN{External: true, Port: 4790}))
	vx1 := link(t, h, "vx1")
	must(t, h.SetLink(vx1.Index, LinkChange{Up: true}))
	must(t, h.AddFDB(vx.Index, [6]byte{}, netip.MustParseAddr("192.168.1.10")))
	must(t, h.DelFDB(vx.Index, [6]byte{}, netip.MustParseAddr("192.168.1.10")))
	must(t, h.DelFDB(vx.Index, [6]byte{}, netip.MustParseAddr("192.168.1.10")))
}

func TestSendFrame(t *testing.T) {
	h, path := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "a", Up: true}, LinkEnd{Name: "b"}))
	b := link(t, h, "b")
	must(t, h.SetLink(b.Index, LinkChange{Up: true}))
	fd := -1
	must(t, netns.Do(path, func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		tv := unix.Timeval{Sec: 5}
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0xb588, Ifindex: b.Index})) // 0x88b5, for experiments
	}))
	defer unix.Close(fd)
	frame := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, "hello there, other end of the link"...)
	must(t, h.SendFrame(link(t, h, "a").Index, frame))
	var buf [100]byte
	n, _, err := unix.Recvfrom(fd, buf[:], 0)
	if err != nil || string(buf[:n]) != string(frame) {
		t.Errorf("received %q, %v", buf[:n], err)
	}
	if err := h.SendFrame(1, nil); err == nil {
		t.Error("a frame of nothing was sent")
	}
}

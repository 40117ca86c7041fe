//go:build privileged && linux

package s2s

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// branches is a compartment whose one tunnel has two peers, neither of which is
// ours.
type branches struct {
	comp  *place
	sites [2]*debianPeer
	keys  [2]Secret
	spec  Spec
}

func newBranches(t *testing.T) *branches {
	t.Helper()
	b := &branches{comp: newPlace(t, "comp")}
	b.comp.ip("addr add 10.1.1.1/32 dev lo")
	ours := NewPrivateKey()
	tun := Tunnel{Name: "branches", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820, Addresses: prefixes("169.254.1.1/24")}
	for i, n := range []string{"1", "2"} {
		site := newPlace(t, "site"+n)
		connect(t, b.comp, "ext"+n, "203.0."+n+".10/24", site, "wan", "203.0."+n+".20/24")
		site.ip("addr add 192.168." + n + ".1/32 dev lo")
		site.echo("192.168." + n + ".1:7")
		b.keys[i] = NewPrivateKey()
		b.sites[i] = site.debian(b.keys[i], 51820, "169.254.1.1"+n+"/24")
		b.sites[i].peer(ours.Public(), "203.0."+n+".10:51820", "169.254.1.1/32,10.1.1.0/24")
		tun.Peers = append(tun.Peers, Peer{Name: "site" + n, PublicKey: b.keys[i].Public(), Endpoint: addrPort("203.0." + n + ".20:51820"),
			Prefixes: prefixes("169.254.1.1" + n + "/32 192.168." + n + ".0/24"), Probe: quick})
	}
	b.spec = Spec{Tunnels: []Tunnel{tun}}
	return b
}

// with gives a changed copy of the spec.
func (b *branches) with(change func(*Tunnel)) Spec {
	t := b.spec.Tunnels[0]
	t.Peers = slices.Clone(t.Peers)
	change(&t)
	return Spec{Tunnels: []Tunnel{t}}
}

// Whatever happens to one peer, the other one's session and connections go on.
func TestChangesDisturbNobodyElse(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	apply(t, e, b.spec)
	c1, c2 := b.comp.dial("10.1.1.1", "192.168.1.1:7"), b.comp.dial("10.1.1.1", "192.168.2.1:7")
	must(t, say(c1, "hello"))
	must(t, say(c2, "hello"))
	first, err := peerState(e, "branches", "site1")
	must(t, err)
	psk := NewPresharedKey()
	for _, step := range []struct {
		what   string
		change func(*Tunnel)
		reach2 bool
	}{
		{"prefix added", func(t *Tunnel) {
			t.Peers[1].Prefixes = append(t.Peers[1].Prefixes, netip.MustParsePrefix("192.168.99.0/24"))
		}, true},
		{"keepalive", func(t *Tunnel) { t.Peers[1].Keepalive = 7 }, true},
		{"limits", func(t *Tunnel) { t.InboundKbps, t.OutboundKbps = 1e6, 1e6 }, true},
		{"MTU", func(t *Tunnel) { t.MTU = 1300 }, true},
		{"peer removed", func(t *Tunnel) { t.Peers = t.Peers[:1] }, false},
		{"peer added", func(*Tunnel) {}, true},
		{"key of a peer", func(t *Tunnel) { t.Peers[1].PublicKey = NewPrivateKey().Public() }, false},
		{"pre-shared key", func(t *Tunnel) { t.Peers[1].PresharedKey = psk }, true},
	} {
		if step.what == "pre-shared key" {
			link := b.sites[1].link
			b.sites[1].wg(psk.Reveal(), "set", link, "peer", b.spec.Tunnels[0].PrivateKey.Public().String(), "preshared-key", "/dev/stdin")
		}
		if r := apply(t, e, b.with(step.change)); len(r.Changed) == 0 {
			t.Errorf("%s: nothing changed", step.what)
		}
		must(t, say(c1, step.what))
		if step.reach2 {
			must(t, say(c2, step.what))
		}
		now, err := peerState(e, "branches", "site1")
		must(t, err)
		if now.LastHandshake != first.LastHandshake {
			t.Errorf("%s: the other peer had to shake hands again", step.what)
		}
	}

	// A refused Spec changes nothing.
	bad := b.with(func(t *Tunnel) { t.Peers[0].PublicKey = t.PrivateKey.Public() })
	if _, err := e.Apply(context.Background(), bad); err == nil {
		t.Error("a peer with the tunnel's own key is accepted")
	}
	must(t, say(c1, "still there"))

	// The tunnel's own key rotates: the sites are told, and connections go on.
	apply(t, e, b.spec)
	old, fresh := b.spec.Tunnels[0].PrivateKey.Public(), NewPrivateKey()
	for i, s := range b.sites {
		s.wg("", "set", s.link, "peer", old.String(), "remove")
		s.peer(fresh.Public(), []string{"203.0.1.10:51820", "203.0.2.10:51820"}[i], "169.254.1.1/32,10.1.1.0/24")
	}
	apply(t, e, b.with(func(t *Tunnel) { t.PrivateKey = fresh }))
	must(t, say(c1, "with a new key"))
	must(t, say(c2, "with a new key"))
}

// The process ends, keeping the links, and another takes over: addresses and
// routes were there all the time, and connections go on. What is not wanted any
// more goes, what is somebody else's stays.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e, err := New(Options{Namespace: b.comp.path()})
	must(t, err)
	extra := b.with(func(t *Tunnel) {})
	extra.Tunnels = append(extra.Tunnels, Tunnel{Name: "old", Interface: "s2s9", PrivateKey: NewPrivateKey(), Addresses: prefixes("169.254.9.1/30"),
		Peers: []Peer{{Name: "x", PublicKey: NewPrivateKey().Public(), Prefixes: prefixes("192.168.9.0/24 fd09::/64")}}})
	apply(t, e, extra)
	c := b.comp.dial("10.1.1.1", "192.168.1.1:7")
	must(t, say(c, "before"))
	b.comp.ip("tuntap add foreign mode tun")
	before, err := b.comp.nl.Routes(RouteProtocol, 0)
	must(t, err)
	link, err := b.comp.nl.Link("s2s0")
	must(t, err)
	must(t, e.Close(true))
	if got, err := b.comp.nl.Routes(RouteProtocol, 0); err != nil || len(got) != len(before) || len(got) == 0 {
		t.Errorf("without a process there are routes %v, %v; there were %v", got, err, before)
	}
	e = b.comp.engine()
	apply(t, e, b.spec)
	must(t, say(c, "after"))
	again, err := b.comp.nl.Link("s2s0")
	must(t, err)
	if again.Index != link.Index {
		t.Error("the link was made anew")
	}
	if _, err := b.comp.nl.Link("s2s9"); !errors.Is(err, nl.ErrNotFound) {
		t.Errorf("the tunnel that is not wanted any more: %v", err)
	}
	if _, err := b.comp.nl.Link("foreign"); err != nil {
		t.Errorf("somebody else's link: %v", err)
	}
	must(t, e.Close(false))
	if _, err := b.comp.nl.Link("s2s0"); !errors.Is(err, nl.ErrNotFound) {
		t.Errorf("after the end: %v", err)
	}
	if got, err := b.comp.nl.Routes(RouteProtocol, 0); err != nil || len(got) > 0 {
		t.Errorf("after the end there are %v, %v", got, err)
	}
}

// Somebody deletes what was made: the next Apply makes it again, and says so.
func TestDriftIsRepaired(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	apply(t, e, b.spec)
	for _, damage := range []string{"link del s2s0", "addr del 169.254.1.1/24 dev s2s0", "link set s2s0 down", "link set s2s0 mtu 1280",
		"route del 192.168.1.0/24 metric 2000", "route flush proto 202"} {
		b.comp.ip(damage)
		if r := apply(t, e, b.spec); len(r.Changed) == 0 {
			t.Errorf("after %q nothing was repaired", damage)
		}
		if r := apply(t, e, b.spec); len(r.Changed) > 0 {
			t.Errorf("after %q there was more to repair: %v", damage, r.Changed)
		}
		must(t, say(b.comp.dial("10.1.1.1", "192.168.1.1:7"), damage))
	}
	// A port that is taken is told, and the tunnel comes once it is free.
	var taken net.PacketConn
	must(t, netns.Do(b.comp.path(), func() (err error) {
		taken, err = net.ListenPacket("udp4", ":51999")
		return err
	}))
	other := b.with(func(t *Tunnel) { t.ListenPort = 51999 })
	if _, err := e.Apply(context.Background(), demanded(other)); err == nil || !strings.Contains(e.Snapshot().Tunnels[0].Error, "tunnel branches") {
		t.Errorf("a port that is taken: %v, state %q", err, e.Snapshot().Tunnels[0].Error)
	}
	must(t, taken.Close())
	apply(t, e, other)
	if s := e.Snapshot().Tunnels[0]; s.Error != "" || s.ListenPort != 51999 {
		t.Errorf("state is %+v", s)
	}
}

// Tenant and site have the same prefix; each sees the other by another one.
func TestOverlappingPrefixes(t *testing.T) {
	t.Parallel()
	comp, site := newPlace(t, "comp"), newPlace(t, "site")
	connect(t, comp, "ext", "203.0.113.10/24", site, "wan", "203.0.113.20/24")
	comp.ip("addr add 10.1.1.1/32 dev lo")
	site.ip("addr add 10.1.1.1/32 dev lo")
	comp.echo("10.1.1.1:8")
	site.echo("10.1.1.1:7")
	ours, theirs := NewPrivateKey(), NewPrivateKey()
	wg := site.debian(theirs, 51820, "169.254.1.2/30")
	wg.peer(ours.Public(), "203.0.113.10:51820", "169.254.1.1/32,100.64.1.0/24")
	e := comp.engine()
	apply(t, e, Spec{Tunnels: []Tunnel{{Name: "hq", Interface: "s2s0", PrivateKey: ours, ListenPort: 51820, Addresses: prefixes("169.254.1.1/30"),
		LocalMaps:  []Map{{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("100.64.1.0/24")}},
		RemoteMaps: []Map{{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("100.65.1.0/24")}},
		Peers: []Peer{{Name: "hq", PublicKey: theirs.Public(), Endpoint: addrPort("203.0.113.20:51820"),
			Prefixes: prefixes("169.254.1.2/32 10.1.1.0/24"), Probe: Probe{Target: netip.MustParseAddr("100.65.1.1"), IntervalMS: 20}}},
	}}})
	c := comp.dial("10.1.1.1", "100.65.1.1:7")
	must(t, say(c, strings.Repeat("to the site", 10000)))
	if got := c.RemoteAddr().String(); got != "100.65.1.1:7" {
		t.Errorf("the tenant sees %s", got)
	}
	back := site.dial("10.1.1.1", "100.64.1.1:8")
	must(t, say(back, strings.Repeat("to the tenant", 10000)))
	awaitLiveness(t, e, "hq", "hq", Up)

	// What an ICMP error quotes is translated too, or nobody would know it.
	var u *net.UDPConn
	must(t, netns.Do(comp.path(), func() (err error) {
		u, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP("10.1.1.1")}, &net.UDPAddr{IP: net.ParseIP("100.65.1.1"), Port: 9})
		return err
	}))
	defer u.Close()
	await(t, "port unreachable", func() error {
		_ = u.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := io.WriteString(u, "x"); errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		_, err := u.Read(make([]byte, 1))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		return err
	})
}

// A limit drops what is over it, and counts; a change of it does not need the
// tunnel to be made anew.
func TestLimits(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	const kbps, size = 20000, 4 << 20
	least := (size - 2*kbps/8*burst.Milliseconds()) * 8 / kbps // ms, after what may pass at once
	apply(t, e, b.spec)
	for _, set := range []func(*Tunnel){func(t *Tunnel) { t.OutboundKbps = kbps }, func(t *Tunnel) { t.InboundKbps = kbps }} {
		apply(t, e, b.with(set))
		c := b.comp.dial("10.1.1.1", "192.168.1.1:7")
		start := time.Now()
		must(t, say(c, string(make([]byte, size))))
		if took := time.Since(start).Milliseconds(); took < least {
			t.Errorf("%d bytes took %d ms at %d kbps, which takes at least %d", size, took, kbps, least)
		}
	}
	// Datagrams are sent as fast as can be: most are over the least limit.
	apply(t, e, b.with(func(t *Tunnel) { t.OutboundKbps, t.InboundKbps = MinKbps, MinKbps }))
	b.comp.datagrams("10.1.1.1", "192.168.1.1:9", 500)
	b.sites[0].datagrams("192.168.1.1", "10.1.1.1:9", 500)
	await(t, "drops", func() error {
		if s := e.Snapshot().Tunnels[0]; s.OutboundDrops < 100 || s.InboundDrops < 100 {
			return fmt.Errorf("%d out, %d in", s.OutboundDrops, s.InboundDrops)
		}
		return nil
	})
	apply(t, e, b.spec)
	before := e.Snapshot().Tunnels[0]
	must(t, say(b.comp.dial("10.1.1.1", "192.168.1.1:7"), string(make([]byte, size))))
	after := e.Snapshot().Tunnels[0]
	if after.OutboundDrops != before.OutboundDrops || after.InboundDrops != before.InboundDrops {
		t.Error("without limits there are drops")
	}
}

// The MTU follows the path's, and a TCP segment announced by either side fits.
func TestMTU(t *testing.T) {
	t.Parallel()
	b := newBranches(t)
	e := b.comp.engine()
	apply(t, e, b.spec)
	mtu := func() int { return e.Snapshot().Tunnels[0].MTU }
	if mtu() != 1420 {
		t.Errorf("MTU is %d over Ethernet", mtu())
	}
	b.comp.ip("link set ext2 mtu 1400")
	apply(t, e, b.spec)
	if mtu() != 1340 {
		t.Errorf("MTU is %d over a path of 1400 bytes", mtu())
	}
	l, err := b.comp.nl.Link("s2s0")
	must(t, err)
	if l.MTU != 1340 {
		t.Errorf("the link's MTU is %d", l.MTU)
	}
	c := b.comp.dial("10.1.1.1", "192.168.1.1:7")
	must(t, say(c, strings.Repeat("x", 1<<20)))
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		mss, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG)
		if err != nil || mss > 1300 {
			t.Errorf("segments of %d bytes, %v", mss, err)
		}
	}))
}

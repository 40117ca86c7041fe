//go:build privileged && linux

package nat

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
)

// Inside, attachments and sites reach each other as they are, whoever begins, and
// the rest of the world is still translated to.
func TestWaysBothWays(t *testing.T) {
	l := newWayLab(t, ext1, "2001:db8::10")
	for ns, hosts := range map[string][]string{l.inside: {vm1, "[" + vm16 + "]"}, l.dc: {dcHost, "[" + dcHost6 + "]"}, l.hq: {hqHost, "[" + hqHost6 + "]"}, l.branch: {branchHost}, l.outside: {remote}} {
		for _, h := range hosts {
			serve(t, ns, "tcp", h+":80")
			serve(t, ns, "udp", h+":53")
		}
	}
	for _, c := range []struct{ from, addr, to string }{
		{l.inside, vm1, dcHost}, {l.dc, dcHost, vm1}, {l.inside, vm1, hqHost}, {l.hq, hqHost, vm1}, {l.inside, vm1, branchHost},
		{l.hq, hqHost, branchHost}, {l.branch, branchHost, hqHost}, {l.hq, hqHost, dcHost}, {l.dc, dcHost, branchHost},
		{l.inside, vm16, dcHost6}, {l.dc, dcHost6, vm16}, {l.inside, vm16, hqHost6}, {l.hq, hqHost6, dcHost6},
	} {
		l.wantSeen(c.from, "tcp", c.addr, net.JoinHostPort(c.to, "80"), c.addr)
		l.wantSeen(c.from, "udp", c.addr, net.JoinHostPort(c.to, "53"), c.addr)
		run(t, "ip", "netns", "exec", c.from, "ping", "-c", "1", "-W", "30", "-I", c.addr, c.to)
	}
	l.wantSeen(l.inside, "tcp", vm1, remote+":80", ext1)
	// Any protocol goes.
	seen := watch(t, l.hq, "wg0")
	inject(t, l.inside, ip4(vm1, hqHost, layers.IPProtocolGRE), &layers.GRE{Protocol: layers.EthernetTypeIPv4}, gopacket.Payload("x"))
	eventually(t, "GRE arrives at the site", func() bool {
		for _, p := range seen.all() {
			if p.Layer(layers.LayerTypeGRE) != nil {
				return true
			}
		}
		return false
	})
	// Its own addresses answer pings, its near ends' probes and its own.
	for _, to := range []string{hqOwn, dcOwn, ext1} {
		run(t, "ip", "netns", "exec", l.hq, "ping", "-c", "1", "-W", "30", "-I", hqPeer, to)
	}
	run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "1", "-W", "30", "-I", vm1, hqOwn)
	run(t, "ip", "netns", "exec", l.comp, "ping", "-c", "1", "-W", "30", "-I", hqOwn, hqPeer)
	if d := l.drops(); len(d) != 0 {
		t.Errorf("dropped: %v", d)
	}
	for _, s := range l.sessions() {
		if s.Kind != Outbound && s.Kind != Local {
			t.Errorf("listed with the translated: %+v", s)
		}
	}
	if got := l.apply(); len(got) != 0 {
		t.Errorf("the second apply changed %q", got)
	}
}

// Nobody gives himself out for somebody else.
func TestWaysSpoofed(t *testing.T) {
	l := newWayLab(t, ext1)
	seen, dc := watch(t, l.inside, "w"), watch(t, l.dc, "dc0")
	syn := func() *layers.TCP { return &layers.TCP{SrcPort: 5000, DstPort: 80, SYN: true, Window: 1000} }
	run(t, "sh", "-c", "for n in "+l.dc+" "+l.hq+"; do ip netns exec $n sysctl -qw net.ipv4.ip_nonlocal_bind=1; done")
	want := uint64(0)
	for _, ns := range []string{l.dc, l.hq} {
		for _, src := range []string{vm2, ext1, hqOwn, dcOwn, gateway} {
			inject(t, ns, ip4(src, vm1, layers.IPProtocolTCP), syn())
			want++
		}
	}
	eventually(t, "spoofed sources are counted", func() bool { return l.drops()[DropSpoofed] == want })
	inject(t, l.inside, ip4("10.9.9.9", dcHost, layers.IPProtocolTCP), syn())
	inject(t, l.inside, ip4("10.9.9.9", hqHost, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 6})
	eventually(t, "sources not of the inside are counted", func() bool { return l.drops()[DropSource] == 2 })
	// Routed elsewhere: strictly not let in, loosely only if not routed at all.
	inject(t, l.dc, ip4(remote, vm1, layers.IPProtocolTCP), syn())
	eventually(t, "another way's source is counted", func() bool { return l.drops()[DropReversePath] == 1 })
	for _, p := range append(seen.all(), dc.all()...) {
		if p.Layer(layers.LayerTypeTCP) != nil || p.Layer(layers.LayerTypeUDP) != nil {
			t.Errorf("went through: %v", p)
		}
	}
	l.spec.Forward[0].ReversePath = ReversePathLoose
	l.apply()
	inject(t, l.dc, ip4(remote, vm1, layers.IPProtocolTCP), syn())
	eventually(t, "it comes in loosely", func() bool {
		for _, p := range seen.all() {
			if p.Layer(layers.LayerTypeTCP) != nil {
				return true
			}
		}
		return false
	})
	l.route("del", "default")
	inject(t, l.dc, ip4(remote, vm1, layers.IPProtocolTCP), syn())
	eventually(t, "what is not routed at all does not", func() bool { return l.drops()[DropReversePath] == 2 })
	l.spec.Forward[0].ReversePath = ReversePathOff
	l.apply()
	before := len(seen.all())
	inject(t, l.dc, ip4(remote, vm1, layers.IPProtocolTCP), syn())
	eventually(t, "without a check it does", func() bool { return len(seen.all()) > before })
}

// A packet goes by its route, whatever its like did before, and never over outside
// as it is.
func TestWaysPrecedence(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newWayLab(t, ext1)
	out := watch(t, l.outside, "x")
	serve(t, l.outside, "udp", remote+":53")
	serve(t, l.hq, "tcp", hqHost+":80")
	run(t, "ip", "-n", l.hq, "addr", "add", remote+"/32", "dev", "lo")
	serve(t, l.hq, "udp", remote+":53")
	c := mustDial(t, l.inside, "tcp", vm1, hqHost+":80")
	u := mustDial(t, l.inside, "udp", vm1, remote+":53")
	seenAs := func(want string) {
		t.Helper()
		if got := mustAsk(t, u); got.Addr().String() != want {
			t.Errorf("seen as %s, want %s", got, want)
		}
	}
	mustAsk(t, c)
	seenAs(ext1)
	l.route("add", remote+"/32", "via", hqPeer)
	seenAs(vm1)
	l.route("del", remote+"/32")
	seenAs(ext1)
	l.route("add", remote+"/32", "via", hqPeer)
	seenAs(vm1)
	// The site is gone: TCP waits, nothing leaks.
	l.route("del", "10.50.0.0/16")
	if _, err := ask(c); err == nil {
		t.Error("an answer without a route")
	}
	eventually(t, "what lost its way is counted", func() bool { return l.drops()[DropNotSYN] > 0 })
	l.route("add", "10.50.0.0/16", "via", hqPeer)
	buf := make([]byte, 100)
	if n, err := c.Read(buf); err != nil || n == 0 { // what was asked is sent again
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err = c.Read(buf); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
	}
	out.wantSources(t, ext1)
}

// What outside carries as it is, is exactly what an attachment there says.
func TestPlainOverOutside(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1)
	run(t, "sh", "-c", "ip -n "+l.outside+" addr add 172.20.1.1/32 dev lo; ip -n "+l.outside+" route add 10.1.1.0/24 via "+ext1)
	l.spec.Forward = []Link{{Name: "ext", Addresses: addrs("203.0.113.99"), Sources: prefixes("10.1.1.0/28"), Destinations: prefixes("172.20.0.0/16")}}
	run(t, "ip", "-n", l.comp, "addr", "add", "203.0.113.99/32", "dev", "ext")
	l.addMapping(hnv.TCP, "203.0.113.99:443", vm1+":443")
	l.apply()
	w := &wayLab{lab: l}
	out := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", "172.20.1.1:80")
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.inside, "tcp", vm1+":443")
	serve(t, l.inside, "tcp", "10.1.1.17:443")
	w.wantSeen(l.inside, "tcp", vm1, "172.20.1.1:80", vm1)
	w.wantSeen(l.inside, "tcp", vm1, remote+":80", ext1)
	w.wantSeen(l.outside, "tcp", "172.20.1.1", vm1+":443", "172.20.1.1")
	w.wantSeen(l.outside, "tcp", "172.20.1.1", "203.0.113.99:443", "172.20.1.1")
	w.wantSeen(l.outside, "tcp", remote, "203.0.113.99:443", remote)
	run(t, "ip", "netns", "exec", l.outside, "ping", "-c", "1", "-W", "30", "203.0.113.99")
	if d := l.drops(); len(d) != 0 {
		t.Errorf("dropped: %v", d)
	}
	w.wantSilence(l.inside, "tcp", "10.1.1.17", "172.20.1.1:80") // not one of the sources
	w.wantSilence(l.outside, "tcp", remote, vm1+":443")          // not one of the destinations
	w.wantSilence(l.outside, "tcp", "172.20.1.1", "10.1.1.17:443")
	out.wantSources(t, ext1, vm1, "203.0.113.99")
	if d := l.drops(); d[DropSource] == 0 || d[DropForward] == 0 {
		t.Errorf("drops are %v", d)
	}
}

// A tenant without NAT can forward, listen and map; nothing of it leaves.
func TestWaysWithoutNAT(t *testing.T) {
	l := newWayLab(t)
	l.addMapping(hnv.TCP, dcOwn+":443", vm2+":8443")
	l.apply()
	out := watch(t, l.outside, "x")
	serve(t, l.dc, "tcp", dcHost+":80")
	serve(t, l.inside, "tcp", vm2+":8443")
	serve(t, l.outside, "tcp", remote+":80")
	l.wantSeen(l.inside, "tcp", vm1, dcHost+":80", vm1)
	l.wantSeen(l.dc, "tcp", dcHost, dcOwn+":443", dcHost)
	l.wantSeen(l.hq, "tcp", hqHost, dcOwn+":443", hqHost)
	l.wantSeen(l.inside, "tcp", vm1, dcOwn+":443", gateway) // a hairpin
	if d := l.drops(); len(d) != 0 {
		t.Errorf("dropped: %v", d)
	}
	l.wantSilence(l.inside, "tcp", vm1, remote+":80")
	if d := l.drops(); d[DropNoExternal] == 0 {
		t.Errorf("drops are %v", d)
	}
	for _, p := range out.all() {
		if ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok {
			t.Errorf("left: %v", ip)
		}
	}
	// What leads nowhere is counted, and said.
	l.route("add", "unreachable", "10.70.0.0/16")
	l.route("add", "unreachable", "fd70::/64")
	for i, c := range [][2]string{{vm1, "10.70.0.1:80"}, {vm16, "[fd70::1]:80"}} {
		_, err := dialFor(t, patience, l.inside, "tcp", c[0], c[1])
		if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) || l.drops()[DropNoRoute] <= uint64(i) {
			t.Errorf("to nowhere: %v, drops %v", err, l.drops())
		}
	}
	before := l.drops()[DropNoRoute]
	run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "1", "-W", "30", "-I", vm16, "fd00:fe::2")
	if n := l.drops()[DropNoRoute]; n > before {
		t.Errorf("%d packets without a route after %d: what is for the compartment is counted too", n, before)
	}
}

// New connections over the ways count against the tenant's limit.
func TestWaysLimit(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newWayLab(t, ext1)
	serve(t, l.dc, "tcp", dcHost+":80")
	serve(t, l.inside, "tcp", vm1+":80")
	l.spec.ConnectionLimit = 5
	l.apply()
	made := 0
	for range 4 {
		if _, err := dial(t, l.inside, "tcp", vm1, dcHost+":80"); err == nil {
			made++
		}
		if _, err := dial(t, l.dc, "tcp", dcHost, vm1+":80"); err == nil {
			made++
		}
	}
	if made != 5 || l.drops()[DropLimit] == 0 {
		t.Errorf("%d connections with a limit of 5, drops %v", made, l.drops())
	}
}

// Segments are told to be no larger than the narrower of the links.
func TestWaysMSS(t *testing.T) {
	l := newWayLab(t, ext1)
	l.spec.Forward[0].MTU = 1400
	l.apply()
	in, dc := watch(t, l.inside, "w"), watch(t, l.dc, "dc0")
	serve(t, l.dc, "tcp", dcHost+":80")
	mustAsk(t, mustDial(t, l.inside, "tcp", vm1, dcHost+":80"))
	for what, c := range map[string]*capture{"the attachment": dc, "the inside": in} {
		found := false
		for _, p := range c.all() {
			tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			if !ok || !tcp.SYN {
				continue
			}
			for _, o := range tcp.Options {
				if o.OptionType == layers.TCPOptionKindMSS {
					found = true
					if mss := int(o.OptionData[0])<<8 | int(o.OptionData[1]); mss > 1360 {
						t.Errorf("%s was told %d", what, mss)
					}
				}
			}
		}
		if !found {
			t.Errorf("%s was told nothing", what)
		}
	}
}

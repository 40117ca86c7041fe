//go:build privileged && linux

package nat

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

func TestOutboundIsTranslated(t *testing.T) {
	l := newLab(t, ext1)
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.outside, "udp", remote+":53")
	tcp := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	if got := mustAsk(t, tcp); got.Addr().String() != ext1 {
		t.Errorf("the server saw %s", got)
	}
	udp := mustDial(t, l.inside, "udp", vm2, remote+":53")
	if got := mustAsk(t, udp); got.Addr().String() != ext1 {
		t.Errorf("the server saw %s", got)
	}
	run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "2", "-i", "0.2", "-W", "30", "-I", vm1, remote)
	seen.wantSources(t, ext1)
	if len(l.drops()) != 0 {
		t.Errorf("dropped: %v", l.drops())
	}

	kinds := map[string]Session{}
	for _, s := range l.sessions() {
		kinds[s.Proto] = s
	}
	s := kinds["tcp"]
	if s.Kind != Outbound || s.Inside.String() != tcp.LocalAddr().String() || s.External.Addr().String() != ext1 ||
		s.Remote.String() != remote+":80" || s.State != "ESTABLISHED" || !s.Assured || s.Timeout <= 0 || s.Sent.Packets == 0 || s.Received.Bytes == 0 {
		t.Errorf("TCP session is %+v", s)
	}
	if s := kinds["udp"]; s.Kind != Outbound || s.Inside.String() != udp.LocalAddr().String() || s.State != "" {
		t.Errorf("UDP session is %+v", s)
	}
	if s := kinds["icmp"]; s.Kind != Outbound || s.Inside.Addr().String() != vm1 || s.Remote.Addr().String() != remote || s.External.Port() == 0 {
		t.Errorf("ICMP session is %+v", s)
	}
	list, total, err := l.engine.Sessions(t.Context(), l.spec.Namespace, 1)
	if err != nil || len(list) != 1 || total != 3 {
		t.Errorf("one session of three: %d of %d, %v", len(list), total, err)
	}
}

// Every protocol stays within the range of ports, and an inside address with
// one external range.
func TestPoolOfRanges(t *testing.T) {
	l := newLab(t, ext1+":20000-20099", ext2+":30000-30199")
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.outside, "udp", remote+":53")
	used := map[netip.Addr]bool{}
	for _, vm := range []string{"10.1.1.11", "10.1.1.12", "10.1.1.13", "10.1.1.14", "10.1.1.15", "10.1.1.16", "10.1.1.17", "10.1.1.18"} {
		mine := map[netip.Addr]bool{}
		for range 3 {
			for _, to := range []string{"tcp " + remote + ":80", "udp " + remote + ":53"} {
				network, to, _ := strings.Cut(to, " ")
				got := mustAsk(t, mustDial(t, l.inside, network, vm, to))
				if !l.spec.external(got) {
					t.Errorf("%s of %s left as %s, which is not in the pool", network, vm, got)
				}
				mine[got.Addr()], used[got.Addr()] = true, true
			}
		}
		run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "1", "-W", "30", "-I", vm, remote)
		if len(mine) != 1 {
			t.Errorf("%s left as %v", vm, mine)
		}
	}
	if len(used) != 2 {
		t.Errorf("only %v of the pool was used", used)
	}
	for _, p := range seen.all() {
		icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if !ok {
			continue
		}
		ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		src, _ := netip.AddrFromSlice(ip.SrcIP.To4())
		if !l.spec.external(netip.AddrPortFrom(src, icmp.Id)) {
			t.Errorf("ping left as %s with identifier %d", src, icmp.Id)
		}
	}
	seen.wantSources(t, ext1, ext2)
	if len(l.drops()) != 0 {
		t.Errorf("dropped: %v", l.drops())
	}
}

// When all ports towards one remote are taken, further connections wait or
// fail; none leaves with a port of someone else.
func TestPortsRunOut(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1+":20000-20009")
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.outside, "udp", remote+":53")
	made := 0
	var last net.Conn
	for range 13 {
		if c, err := dial(t, l.inside, "tcp", vm1, remote+":80"); err == nil {
			made++
			last = c
		}
	}
	if made != 10 {
		t.Errorf("%d connections over 10 ports", made)
	}
	for range 13 {
		_, _ = ask(mustDial(t, l.inside, "udp", vm2, remote+":53"))
	}
	for _, p := range seen.all() {
		ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		if !ok {
			continue
		}
		src, _ := netip.AddrFromSlice(ip.SrcIP.To4())
		port := uint16(0)
		switch l4 := p.TransportLayer().(type) {
		case *layers.TCP:
			port = uint16(l4.SrcPort)
		case *layers.UDP:
			port = uint16(l4.SrcPort)
		}
		if !l.spec.external(netip.AddrPortFrom(src, port)) {
			t.Errorf("left as %s port %d", src, port)
		}
	}
	// Ports are counted for each remote: another one is not affected.
	serve(t, l.outside, "tcp", "203.0.113.1:80")
	mustAsk(t, mustDial(t, l.inside, "tcp", vm1, "203.0.113.1:80"))
	// A port that comes free is used again.
	_ = last.(*net.TCPConn).SetLinger(0)
	_ = last.Close()
	eventually(t, "a free port is used again", func() bool {
		c, err := dial(t, l.inside, "tcp", vm2, remote+":80")
		if err != nil {
			return false
		}
		_, err = ask(c)
		return err == nil
	})
}

func TestFragmentsAreTranslated(t *testing.T) {
	l := newLab(t, ext1+":20000-29999")
	l.addMapping(hnv.UDP, ext1+":20053", vm2+":53")
	l.apply()
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "udp", remote+":53")
	serve(t, l.inside, "udp", vm2+":53")
	for _, c := range []net.Conn{
		mustDial(t, l.inside, "udp", vm1, remote+":53"),
		mustDial(t, l.outside, "udp", remote, ext1+":20053"),
	} {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Errorf("%s -> %s: %v", c.LocalAddr(), c.RemoteAddr(), err)
		}
	}
	fragments := 0
	for _, p := range seen.all() {
		if ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && ip.FragOffset > 0 {
			fragments++
		}
	}
	if fragments == 0 {
		t.Error("no fragment was seen")
	}
	seen.wantSources(t, ext1)
	if len(l.drops()) != 0 {
		t.Errorf("dropped: %v", l.drops())
	}
}

func TestStaticMapping(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1, ext2+":20000-29999")
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.addMapping(hnv.UDP, ext2+":20053", vm1+":53")
	if got := l.apply(); len(got) != 1 || !strings.Contains(got[0], "mappings4") {
		t.Errorf("adding mappings changed %q", got)
	}
	seen := watch(t, l.outside, "x")
	serve(t, l.inside, "tcp", vm2+":8443")
	serve(t, l.inside, "tcp", vm2+":22")
	serve(t, l.inside, "udp", vm1+":53")
	tcp := mustDial(t, l.outside, "tcp", remote, ext1+":443")
	if got := mustAsk(t, tcp); got.String() != tcp.LocalAddr().String() {
		t.Errorf("the VM saw %s instead of %s", got, tcp.LocalAddr())
	}
	udp := mustDial(t, l.outside, "udp", remote, ext2+":20053")
	if got := mustAsk(t, udp); got.String() != udp.LocalAddr().String() {
		t.Errorf("the VM saw %s instead of %s", got, udp.LocalAddr())
	}
	for _, to := range []string{ext1 + ":22", ext2 + ":443"} {
		if _, err := dial(t, l.outside, "tcp", remote, to); err == nil {
			t.Errorf("%s answered without a mapping", to)
		}
	}
	if l.drops()[DropInput] == 0 {
		t.Error("what hit no mapping was not counted")
	}
	// Straight to the inside address, as a neighbour of the uplink could try.
	run(t, "ip", "-n", l.outside, "route", "add", "10.1.1.0/24", "via", ext1)
	if _, err := dial(t, l.outside, "tcp", remote, vm2+":8443"); err == nil {
		t.Error("a VM was reached by its inside address")
	}
	if l.drops()[DropForward] == 0 {
		t.Error("what went round the mapping was not counted")
	}
	seen.wantSources(t, ext1, ext2)
	for _, s := range l.sessions() {
		if s.Proto == "tcp" && (s.Kind != Inbound || s.Inside.String() != vm2+":8443" || s.External.String() != ext1+":443" ||
			s.Remote.String() != tcp.LocalAddr().String()) {
			t.Errorf("session is %+v", s)
		}
	}
}

func TestHairpin(t *testing.T) {
	l := newLab(t, ext1, ext2)
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.addMapping(hnv.UDP, ext1+":53", vm2+":5353")
	l.apply()
	serve(t, l.inside, "tcp", vm2+":8443")
	serve(t, l.inside, "udp", vm2+":5353")
	outside := watch(t, l.outside, "x")
	for _, via := range []string{"tcp " + ext1 + ":443", "udp " + ext1 + ":53"} {
		network, to, _ := strings.Cut(via, " ")
		for _, vm := range []string{vm1, vm2} { // also the VM that is mapped, to itself
			got := mustAsk(t, mustDial(t, l.inside, network, vm, to))
			if !l.spec.external(got) {
				t.Errorf("%s: the VM saw %s: its answers would go round the compartment", network, got)
			}
		}
	}
	for _, p := range outside.all() {
		if p.Layer(layers.LayerTypeIPv4) != nil {
			t.Errorf("a packet of a hairpin went outside: %v", p)
		}
	}
	if len(l.drops()) != 0 {
		t.Errorf("dropped: %v", l.drops())
	}
	if _, err := ask(mustDial(t, l.inside, "udp", "10.9.9.9", ext1+":53")); err == nil {
		t.Error("a source that is not the tenant's used the mapping")
	}
	l.wantDrop(DropSource, 1)
	for _, s := range l.sessions() {
		if s.Kind != Hairpin || s.Remote.Addr().String() != ext1 || s.Mapped.Addr().String() != vm2 {
			t.Errorf("session is %+v", s)
		}
	}
}

// Even where the kernel is set to, it tells no VM of a shorter way: within the
// overlay the distributed router knows better.
func TestNoRedirects(t *testing.T) {
	l := newLab(t, ext1)
	run(t, "ip", "netns", "exec", l.comp, "sysctl", "-qw", "net.ipv4.conf.all.send_redirects=1", "net.ipv4.conf.wnv5000.send_redirects=1")
	inside := watch(t, l.inside, "w")
	// The kernel tells only who is on the link; its own NAT holds that back.
	inject(t, l.inside, ip4(router, "10.1.1.200", layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}, gopacket.Payload("x"))
	for _, p := range inside.all() {
		if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
			t.Errorf("a VM got %v", icmp.TypeCode)
		}
	}
	l.wantDrop(DropForward, 1)
}

// Two tenants use the same addresses and ports at once.
func TestTwoTenantsWithTheSameAddresses(t *testing.T) {
	a, b := newLab(t, ext1), newLab(t, ext2)
	for i, l := range []*lab{a, b} {
		want := []string{ext1, ext2}[i]
		l.addMapping(hnv.TCP, want+":443", vm2+":8443")
		l.apply()
		serve(t, l.outside, "tcp", remote+":80")
		serve(t, l.inside, "tcp", vm2+":8443")
	}
	var conns []string
	for i, l := range []*lab{a, b} {
		want := []string{ext1, ext2}[i]
		c := mustDial(t, l.inside, "tcp", vm1+":40000", remote+":80")
		got := mustAsk(t, c)
		if got.Addr().String() != want {
			t.Errorf("tenant %d left as %s, want %s", i, got, want)
		}
		conns = append(conns, got.String())
		mustAsk(t, mustDial(t, l.outside, "tcp", remote, want+":443"))
	}
	for i, l := range []*lab{a, b} {
		for _, s := range l.sessions() {
			if s.Kind == Outbound && s.External.String() != conns[i] {
				t.Errorf("tenant %d has a session of another: %+v", i, s)
			}
		}
	}
	// What one loses, the other keeps.
	other := mustDial(t, b.outside, "tcp", remote, ext2+":443")
	mustAsk(t, other)
	a.spec.Mappings = nil
	a.apply()
	mustAsk(t, other)
}

func TestIPv6(t *testing.T) {
	l := newLab(t, ext1)
	serve(t, l.outside, "tcp6", "[2001:db8:7::7]:80")
	seen := watch(t, l.outside, "x")
	if _, err := dial(t, l.inside, "tcp6", "fd00:1::11", "[2001:db8:7::7]:80"); err == nil {
		t.Error("IPv6 left although the pool has none")
	}
	if l.drops()[DropNoExternal] == 0 {
		t.Errorf("not counted: %v", l.drops())
	}
	l.setPool(ext1, "2001:db8::10")
	l.addMapping(hnv.TCP, "[2001:db8::10]:443", "[fd00:1::12]:8443")
	l.apply()
	serve(t, l.inside, "tcp6", "[fd00:1::12]:8443")
	if got := mustAsk(t, mustDial(t, l.inside, "tcp6", "fd00:1::11", "[2001:db8:7::7]:80")); got.Addr().String() != "2001:db8::10" {
		t.Errorf("left as %s", got)
	}
	mustAsk(t, mustDial(t, l.outside, "tcp6", "2001:db8:7::7", "[2001:db8::10]:443"))
	if got := mustAsk(t, mustDial(t, l.inside, "tcp6", "fd00:1::11", "[2001:db8::10]:443")); got.Addr().String() != "2001:db8::10" {
		t.Errorf("hairpin came from %s", got)
	}
	run(t, "ip", "netns", "exec", l.inside, "ping", "-6", "-c", "1", "-W", "30", "-I", "fd00:1::11", "2001:db8:7::7")
	run(t, "ip", "netns", "exec", l.inside, "ping", "-6", "-c", "1", "-W", "30", "fd00:fe::2")
	run(t, "ip", "netns", "exec", l.outside, "ping", "-6", "-c", "1", "-W", "30", "2001:db8::10")
	mustAsk(t, mustDial(t, l.inside, "tcp6", "fd00:1::12", "[2001:db8:7::7]:80"))
	for _, p := range seen.all() {
		ip, ok := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
		if ok && ip.SrcIP.IsPrivate() {
			t.Errorf("left untranslated: %v", p)
		}
	}
}

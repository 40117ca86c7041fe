//go:build privileged && linux

package uplink

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/nat"
)

// What a compartment forwards over the uplink passes beside what is translated, both
// ways, and nothing else of the compartment does; what carries tunnels comes to their
// port of a shared address.
func TestWaysBesideNAT(t *testing.T) {
	contoso, fabrikam := contoso(), fabrikam()
	r := newRig(t, contoso, fabrikam)
	const listen = "203.0.113.20:29999"
	tunnel := netip.MustParseAddrPort(listen)
	fabrikam.nat.Tunnels = []nat.Tunnel{{Link: "wg-hq", ListenPort: tunnel.Port(), At: tunnel.Addr()}}
	r.translate(fabrikam)

	to := netip.MustParsePrefix("192.0.2.0/24")
	forwarded := []netip.Prefix{netip.MustParsePrefix("10.1.1.0/24"), netip.MustParsePrefix("fd00:1::/64")}
	r.forward(contoso, forwarded, to, netip.MustParsePrefix("2001:db8:7::/48"))
	run(t, r.outside, "ip route add 10.1.1.0/24 via 198.51.100.1")
	run(t, r.outside, "ip -6 route add fd00:1::/64 via 2001:db8:e::1")
	who := func(c net.Conn) {
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		_, _ = c.Write([]byte(host))
	}
	for _, a := range []string{remote4, remote6, out4} {
		serve(t, r.outside, net.JoinHostPort(a, "80"), who)
	}
	for _, n := range []*tenant{contoso, fabrikam} {
		serve(t, n.vm, net.JoinHostPort(vm4, "80"), echo)
		serve(t, n.vm, net.JoinHostPort(vm6, "80"), echo)
	}
	seenAs := func(ns, to string) string {
		t.Helper()
		b := make([]byte, 100)
		n, err := dial(t, ns, net.JoinHostPort(to, "80")).Read(b)
		must(t, err)
		return string(b[:n])
	}
	for _, c := range [][2]string{{remote4, vm4}, {remote6, vm6}, {out4, "203.0.113.10"}} {
		if got := seenAs(contoso.vm, c[0]); got != c[1] {
			t.Errorf("to %s contoso is seen as %s, want %s", c[0], got, c[1])
		}
	}
	if got := seenAs(fabrikam.vm, remote4); got != "203.0.113.20" {
		t.Errorf("fabrikam is seen as %s", got)
	}
	// Whole segments, both ways, and whoever begins.
	exchange(t, dialFrom(t, r.outside, remote4, vm4), 4<<20)
	exchange(t, dialFrom(t, r.outside, remote6, vm6), 1<<20)

	// The tunnel's port: what WireGuard would hear and say.
	var hears *net.UDPConn
	must(t, netns.Do(netns.Path(fabrikam.comp), func() (err error) {
		hears, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(tunnel.Port())})
		return err
	}))
	defer hears.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := hears.ReadFromUDP(b)
			if err != nil {
				return
			}
			_, _ = hears.WriteToUDP(b[:n], from)
		}
	}()
	var peer net.Conn
	must(t, netns.Do(netns.Path(r.outside), func() (err error) { peer, err = net.Dial("udp", listen); return err }))
	defer peer.Close()
	b := make([]byte, 2048)
	for _, size := range []int{148, 1400} {
		must(t, peer.SetDeadline(time.Now().Add(time.Minute)))
		packet := make([]byte, size)
		packet[0] = 1
		_, err := peer.Write(packet)
		must(t, err)
		n, err := peer.Read(b)
		if err != nil || n != size {
			t.Errorf("the tunnel's answer has %d bytes, not %d: %v", n, size, err)
		}
	}

	// Nobody else may say so: without the rules in the compartment the programs and
	// the gateway's rules are what is left.
	before := r.counters(contoso).Spoofed
	for _, n := range []*tenant{contoso, fabrikam} {
		run(t, n.comp, "nft delete table inet hnv")
		run(t, n.comp, "ip addr add 10.1.1.77/32 dev ext")
		run(t, n.comp, "ip addr add 10.2.2.77/32 dev ext")
	}
	stop := capture(t, r.outside, "eth0", "udp and dst port 9")
	say := func(n *tenant, from string, port int) {
		must(t, netns.Do(netns.Path(n.comp), func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(remote4), Port: port})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		}))
	}
	say(contoso, "10.1.1.77", 9)
	say(contoso, "10.2.2.77", 9)
	say(fabrikam, "10.1.1.77", 9)
	got := fields(t, stop(), "udp", "ip.src")
	if len(got) != 1 || got[0][0] != "10.1.1.77" {
		t.Errorf("there left: %v", got)
	}
	if n := r.counters(contoso).Spoofed - before; n != 1 {
		t.Errorf("%d packets of contoso were stopped, not 1", n)
	}
	if n := r.counters(fabrikam).Spoofed; n == 0 {
		t.Error("fabrikam's was not stopped")
	}
	// What it forwards no more it says no more.
	r.forward(contoso, nil)
	before = r.counters(contoso).Spoofed
	run(t, contoso.comp, "nft delete table inet hnv")
	run(t, contoso.comp, "ip addr add 10.1.1.77/32 dev ext")
	say(contoso, "10.1.1.77", 9)
	if n := r.counters(contoso).Spoofed - before; n != 1 {
		t.Errorf("%d packets of contoso were stopped, not 1", n)
	}
}

// forward has the tenant forward its prefixes to the destinations.
func (r *rig) forward(n *tenant, from []netip.Prefix, to ...netip.Prefix) {
	r.t.Helper()
	n.spec.Forwarded = from
	_, err := r.compartments.Apply(r.t.Context(), n.spec)
	must(r.t, err)
	n.nat.Forward = nil
	if len(from) > 0 {
		n.nat.Forward = []nat.Link{{Name: n.nat.Outside, Sources: from, Destinations: to}}
	}
	r.translate(n)
	n.exit.Forwarded = from
	must(r.t, r.uplink.Set(n.exit))
}

func dialFrom(t *testing.T, ns, from, to string) net.Conn {
	t.Helper()
	var c net.Conn
	must(t, netns.Do(netns.Path(ns), func() (err error) {
		d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err = d.Dial("tcp", net.JoinHostPort(to, "80"))
		return err
	}))
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

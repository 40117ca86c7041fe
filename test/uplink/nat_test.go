//go:build privileged && linux

package uplink

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/offload"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		println("privileged tests need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A connection's data goes past the compartment, as it would have come out of it.
func TestTCP(t *testing.T) {
	r := newRig(t, contoso(), fabrikam())
	serve(t, r.outside, ":7000", echo)
	outside := capture(t, r.outside, "eth0", "tcp")
	wire := capture(t, r.wire, "to-pb0", "")
	for _, n := range r.tenants {
		run(t, n.vm, "ping -c1 -W30 %s", remote4)
		run(t, n.vm, "ping -c1 -W30 %s", remote6)
		for _, to := range []string{remote4 + ":7000", "[" + remote6 + "]:7000"} {
			before := r.counters(n)
			c := dial(t, n.vm, to)
			exchange(t, c, 4<<20)
			now := r.counters(n)
			in, out := now.NATIn.Bytes-before.NATIn.Bytes, now.NATOut.Bytes-before.NATOut.Bytes
			if in < 4<<20 || out < 4<<20 {
				t.Errorf("%s to %s: %d bytes in and %d out were translated in eBPF", n.name, to, in, out)
			}
			if slow := now.Out.Packets - before.Out.Packets; slow > 20 {
				t.Errorf("%s to %s: %d packets went through the compartment", n.name, to, slow)
			}
			must(t, c.CloseWrite())
			closed(t, r, n)
		}
	}
	file := outside()
	if n := sound(t, file); n < 1000 {
		t.Errorf("%d packets outside", n)
	}
	// Before and after it was translated in eBPF, all is alike but for what must not be.
	hops := map[string]bool{}
	for _, f := range fields(t, file, "tcp.dstport==7000", "ip.src", "ipv6.src", "ip.ttl", "ipv6.hlim") {
		hops[strings.Join(f, " ")] = true
	}
	want := []string{"203.0.113.10  61 ", "203.0.113.20  61 ", " 2001:db8:f::10  61", " 2001:db8:f::20  61"}
	for h := range hops {
		if !slices.Contains(want, strings.ReplaceAll(h, "\t", " ")) {
			t.Errorf("outside: %q", h)
		}
	}
	if len(hops) != len(want) {
		t.Errorf("outside: %v", hops)
	}
	file = wire()
	if n := sound(t, file); n < 1000 {
		t.Errorf("%d packets on the fabric", n)
	}
	hops = map[string]bool{}
	for _, f := range fields(t, file, "tcp.srcport==7000", "ip.ttl", "ipv6.hlim") {
		hops[strings.Join(f, " ")] = true
	}
	for h := range hops {
		if h != "64,61 " && h != "64 61" {
			t.Errorf("on the fabric: %q", h)
		}
	}
}

// ended waits until conntrack does not expect connections to go on: it may not be
// sure of a reset, and gives the connection ten seconds more.
func ended(t *testing.T, r *rig, n *tenant) {
	t.Helper()
	var all []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		all = r.connections(n, "-p tcp")
		if !slices.ContainsFunc(all, func(c string) bool {
			var left int
			_, err := fmt.Sscanf(c, "tcp 6 %d", &left)
			return err != nil || left > 10
		}) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s: still there: %v", n.name, all)
}

// closed waits until no connection is established in the compartment.
func closed(t *testing.T, r *rig, n *tenant) {
	t.Helper()
	var all []string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		all = r.connections(n, "-p tcp")
		if !slices.ContainsFunc(all, func(c string) bool { return strings.Contains(c, "ESTABLISHED") }) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("%s: still established: %v", n.name, all)
}

// talk has a datagram go each way, and tells whether both arrived.
func talk(a, b *net.UDPConn, to netip.AddrPort) bool { return talkFor(time.Minute, a, b, to) }

// talkFor waits as long as is said for each: talk where they must arrive.
func talkFor(long time.Duration, a, b *net.UDPConn, to netip.AddrPort) bool {
	buf := make([]byte, 2000)
	if _, err := a.WriteToUDPAddrPort([]byte("to"), to); err != nil {
		return false
	}
	_ = b.SetReadDeadline(time.Now().Add(long))
	_, from, err := b.ReadFromUDPAddrPort(buf)
	if err != nil {
		return false
	}
	if _, err := b.WriteToUDPAddrPort([]byte("fro"), from); err != nil {
		return false
	}
	_ = a.SetReadDeadline(time.Now().Add(long))
	_, _, err = a.ReadFromUDPAddrPort(buf)
	return err == nil
}

// Datagrams are translated in eBPF from the first answer on, and conntrack goes on
// learning of them: it comes to know the flow as assured, and remembers it as long
// as it lives.
func TestUDP(t *testing.T) {
	r := newRig(t, contoso(), fabrikam())
	outside := capture(t, r.outside, "eth0", "udp port 7001")
	// The same ports at the same addresses, by both tenants at once.
	type pair struct {
		n    *tenant
		a, b *net.UDPConn
		to   netip.AddrPort
	}
	var pairs []pair
	for _, to := range []string{remote4, remote6} {
		b := udpPeer(t, r.outside, netip.AddrPortFrom(netip.MustParseAddr(to), 7001).String())
		for _, n := range r.tenants {
			from := netip.AddrPortFrom(netip.MustParseAddr(map[bool]string{true: vm6, false: vm4}[strings.Contains(to, ":")]), 5555)
			run(t, n.vm, "ping -c1 -W30 %s", to)
			pairs = append(pairs, pair{n, udpPeer(t, n.vm, from.String()), b, netip.AddrPortFrom(netip.MustParseAddr(to), 7001)})
		}
	}
	for range 60 {
		for _, p := range pairs {
			if !talk(p.a, p.b, p.to) {
				t.Fatalf("%s: a datagram to %s, or its answer, was lost", p.n.name, p.to)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, n := range r.tenants {
		c := r.counters(n)
		if c.NATIn.Packets < 80 || c.NATOut.Packets < 80 {
			t.Errorf("%s: %d datagrams in and %d out were translated in eBPF, of 120", n.name, c.NATIn.Packets, c.NATOut.Packets)
		}
		tracked := r.connections(n, "-p udp --dport 7001")
		for _, c := range tracked {
			var left int
			if _, err := fmt.Sscanf(c, "udp 17 %d", &left); err != nil || left < 115 || !strings.Contains(c, "ASSURED") {
				t.Errorf("%s: conntrack has %s", n.name, c)
			}
		}
		if len(tracked) != 2 {
			t.Errorf("%s: conntrack has %v", n.name, tracked)
		}
	}
	if n := sound(t, outside()); n < 240 {
		t.Errorf("%d datagrams outside", n)
	}
}

// A short frame that Ethernet has filled up is translated without what it was filled
// up with.
func TestFilledUpFrames(t *testing.T) {
	n := contoso()
	r := newRig(t, n)
	run(t, n.vm, "ping -c1 -W30 %s", remote4)
	at := netip.MustParseAddrPort(remote4 + ":7004")
	a, b := udpPeer(t, n.vm, vm4+":5558"), udpPeer(t, r.outside, at.String())
	for range 3 {
		if !talk(a, b, at) {
			t.Fatal("a datagram was lost")
		}
	}
	h, err := nl.Open(netns.Path(r.outside))
	must(t, err)
	defer h.Close()
	eth, err := h.Link("eth0")
	must(t, err)
	wire := capture(t, r.host, "pb0", "ip proto 47")
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(remote4).To4(), DstIP: net.IPv4(203, 0, 113, 10).To4()}
	u := &layers.UDP{SrcPort: 7004, DstPort: 5558}
	must(t, u.SetNetworkLayerForChecksum(ip))
	f := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(f, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: eth.MAC[:], DstMAC: r.up0.MAC[:], EthernetType: layers.EthernetTypeIPv4}, ip, u, gopacket.Payload("short")))
	if len(f.Bytes()) != 60 {
		t.Fatalf("the frame has %d bytes", len(f.Bytes()))
	}
	before := r.counters(n)
	must(t, h.SendFrame(eth.Index, f.Bytes()))
	_ = a.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, 100)
	m, err := a.Read(got)
	if err != nil || string(got[:m]) != "short" {
		t.Errorf("the VM got %q: %v", got[:m], err)
	}
	if now := r.counters(n); now.NATIn.Packets != before.NATIn.Packets+1 {
		t.Errorf("it was not translated in eBPF: %+v", now)
	}
	for _, row := range fields(t, wire(), "udp.srcport==7004 and udp.length==13", "frame.len", "ip.len") {
		if row[0] != "89" || row[1] != "75,33" { // Ethernet, IPv4, GRE, Ethernet, IPv4, UDP, five bytes
			t.Errorf("on the fabric: %v", row)
		}
	}
}

// A static mapping's connections are translated in eBPF too; when the mapping goes,
// they end at once.
func TestMapping(t *testing.T) {
	n := contoso()
	r := newRig(t, n)
	for _, m := range [][2]string{{"203.0.113.10:80", vm4 + ":8080"}, {"[2001:db8:f::10]:80", "[" + vm6 + "]:8080"}} {
		n.nat.Mappings = append(n.nat.Mappings, hnv.NATMapping{Tenant: n.nat.Name, Proto: hnv.TCP,
			External: netip.MustParseAddrPort(m[0]), Internal: netip.MustParseAddrPort(m[1])})
	}
	r.translate(n)
	serve(t, n.vm, ":8080", echo)
	run(t, n.vm, "ping -c1 -W30 %s", remote4)
	run(t, n.vm, "ping -c1 -W30 %s", remote6)
	var open []net.Conn
	for _, to := range []string{"203.0.113.10:80", "[2001:db8:f::10]:80"} {
		before := r.counters(n)
		c := dial(t, r.outside, to)
		exchange(t, c, 1<<20)
		now := r.counters(n)
		if in, out := now.NATIn.Bytes-before.NATIn.Bytes, now.NATOut.Bytes-before.NATOut.Bytes; in < 1<<20 || out < 1<<20 {
			t.Errorf("%s: %d bytes in and %d out were translated in eBPF", to, in, out)
		}
		open = append(open, c)
	}
	n.nat.Mappings = n.nat.Mappings[:1]
	r.translate(n)
	must(t, r.uplink.Renew(n.exit.Link))
	exchange(t, open[0], 1<<16)
	before := r.counters(n)
	_, _ = open[1].Write([]byte("still there?"))
	_ = open[1].SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if m, err := open[1].Read(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes came back over a mapping that is gone", m)
	}
	if now := r.counters(n); now.NATIn.Packets != before.NATIn.Packets || now.NATOut.Packets != before.NATOut.Packets {
		t.Errorf("a mapping that is gone was translated: %+v, then %+v", before, now)
	}
}

// What closes or breaks a connection goes through the compartment: conntrack knows
// of it, and the flow ends.
func TestReset(t *testing.T) {
	n := fabrikam()
	r := newRig(t, n)
	var server net.Conn
	accepted := make(chan net.Conn, 1)
	serve(t, r.outside, ":7000", func(c net.Conn) {
		accepted <- c
		echo(c)
	})
	run(t, n.vm, "ping -c1 -W30 %s", remote4)
	for _, byServer := range []bool{false, true} {
		c := dial(t, n.vm, remote4+":7000")
		server = <-accepted
		exchange(t, c, 1<<18)
		end := c
		if byServer {
			end = server.(*net.TCPConn)
		}
		must(t, end.SetLinger(0))
		must(t, end.Close())
		ended(t, r, n)
	}
}

// Errors about a flow that is translated in eBPF reach whom they are for: they go
// through the compartment.
func TestErrorsAboutFlows(t *testing.T) {
	n := contoso()
	r := newRig(t, n)
	for _, to := range []string{remote4, remote6} {
		run(t, n.vm, "ping -c1 -W30 %s", to)
		from := netip.AddrPortFrom(netip.MustParseAddr(map[bool]string{true: vm6, false: vm4}[strings.Contains(to, ":")]), 5556)
		a := udpPeer(t, n.vm, from.String())
		b := udpPeer(t, r.outside, netip.AddrPortFrom(netip.MustParseAddr(to), 7002).String())
		at := netip.AddrPortFrom(netip.MustParseAddr(to), 7002)
		for range 5 {
			if !talk(a, b, at) {
				t.Fatalf("a datagram to %s was lost", to)
			}
		}
		before := r.counters(n)
		// Greater than the tunnel takes: the outside is told of the compartment's MTU.
		_, err := b.WriteToUDPAddrPort(make([]byte, 1440), external(n, to))
		must(t, err)
		var out string
		for end := time.Now().Add(time.Minute); !strings.Contains(out, "mtu 1458") && time.Now().Before(end); {
			out = run(t, r.outside, "ip route get %s", external(n, to).Addr())
		}
		if !strings.Contains(out, "mtu 1458") {
			t.Errorf("the outside does not know the compartment's MTU: %s", out)
		}
		// The port is closed: the VM is told. What leaves the compartment for it is
		// user space's, which is not there.
		b.Close()
		heard := capture(t, n.comp, n.nat.Inside, "icmp[0]==3 or icmp6[0]==1")
		_, err = a.WriteToUDPAddrPort([]byte("anyone?"), at)
		must(t, err)
		rows := fields(t, heard(), "", "ip.src", "ipv6.src", "udp.srcport", "udp.dstport")
		if len(rows) != 1 || !strings.HasPrefix(strings.Join(rows[0], " "), map[bool]string{true: " " + remote6, false: remote4 + "," + vm4}[strings.Contains(to, ":")]) || rows[0][2] != "5556" {
			t.Errorf("the VM was told: %q", rows)
		}
		if now := r.counters(n); now.NATOut.Packets == before.NATOut.Packets && now.Out.Packets == before.Out.Packets {
			t.Error("nothing left")
		}
	}
}

// external is the end of the flow with source port 5556 that the outside sees.
func external(n *tenant, to string) netip.AddrPort {
	for _, e := range n.spec.External {
		if e.Addr.Is6() == strings.Contains(to, ":") {
			return netip.AddrPortFrom(e.Addr, 5556)
		}
	}
	return netip.AddrPort{}
}

// A change takes effect on flows that are translated in eBPF at once.
func TestChanges(t *testing.T) {
	n := contoso()
	r := newRig(t, n)
	run(t, n.vm, "ping -c1 -W30 %s", remote4)
	at := netip.MustParseAddrPort(remote4 + ":7003")
	a, b := udpPeer(t, n.vm, vm4+":5557"), udpPeer(t, r.outside, at.String())
	flows := func(fast bool) {
		t.Helper()
		for range 3 {
			if !talk(a, b, at) {
				t.Fatal("a datagram was lost")
			}
		}
		before := r.counters(n)
		if !talk(a, b, at) {
			t.Fatal("a datagram was lost")
		}
		now := r.counters(n)
		if got := now.NATOut.Packets > before.NATOut.Packets && now.NATIn.Packets > before.NATIn.Packets; got != fast {
			t.Errorf("translated in eBPF: %v, not %v", got, fast)
		}
	}
	stops := func(what string) {
		t.Helper()
		before := r.counters(n)
		if talkFor(time.Second, a, b, at) {
			t.Errorf("%s: the flow goes on", what)
		}
		if now := r.counters(n); now.NATOut.Packets != before.NATOut.Packets {
			t.Errorf("%s: it was translated in eBPF", what)
		}
	}
	flows(true)

	exit := n.exit
	exit.NAT = nil
	must(t, r.uplink.Set(exit)) // the tenant's switch
	flows(false)
	must(t, r.uplink.Set(n.exit))
	flows(true)

	// The VM's record is gone: it may not send, and is not sent to.
	d := n.dataplane
	d.Records = slices.DeleteFunc(slices.Clone(d.Records), func(r hnv.Record) bool { return r.CA == netip.MustParseAddr(vm4) })
	must(t, r.sw.Apply(d))
	stops("without the VM's record")
	must(t, r.sw.Apply(n.dataplane))
	flows(true)

	// It is said to be at another host: this one may not send for it any more.
	d.Records = slices.Clone(n.dataplane.Records)
	for i, r := range d.Records {
		if r.CA == netip.MustParseAddr(vm4) {
			d.Records[i].PA = netip.MustParseAddr("192.168.1.99")
		}
	}
	must(t, r.sw.Apply(d))
	stops("with the VM elsewhere")
	must(t, r.sw.Apply(n.dataplane))
	flows(true)

	// The external address is gone.
	exit = n.exit
	exit.External = exit.External[1:]
	must(t, r.uplink.Set(exit))
	stops("without the external address")
	if c := r.counters(n); c.Spoofed == 0 {
		t.Error("what the compartment still sent from it was not dropped")
	}
	must(t, r.uplink.Set(n.exit))
	flows(true)

	// Conntrack forgets it: within the time for which flows are believed.
	run(t, n.comp, "conntrack -D -p udp --dport 7003")
	time.Sleep(300 * time.Millisecond)
	before := r.counters(n)
	_, err := b.WriteToUDPAddrPort([]byte("late"), netip.MustParseAddrPort("203.0.113.10:5557"))
	must(t, err)
	time.Sleep(100 * time.Millisecond)
	if now := r.counters(n); now.NATIn.Packets != before.NATIn.Packets {
		t.Error("a connection that conntrack forgot is still translated")
	}
	flows(true)

	// The exit goes.
	must(t, r.uplink.Remove(n.exit.Link))
	if talkFor(time.Second, a, b, at); r.counters(n) != (offload.ExitCounters{}) {
		t.Errorf("an exit that is gone has %+v", r.counters(n))
	}
}

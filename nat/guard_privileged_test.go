//go:build privileged && linux

package nat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// Whatever a VM sends, nothing leaves with a source that is not external.
func TestUntranslatedNeverLeaves(t *testing.T) {
	l := newLab(t, ext1)
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "udp", remote+":53")
	mustAsk(t, mustDial(t, l.inside, "udp", vm1, remote+":53")) // so that the capture sees something

	tcp := func(flags string) *layers.TCP {
		return &layers.TCP{SrcPort: 40000, DstPort: 80, Window: 1000,
			SYN: strings.Contains(flags, "S"), ACK: strings.Contains(flags, "A"), FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R")}
	}
	payload := gopacket.Payload("xxxxxxxxxxxxxxxx")
	cases := []struct {
		what    string
		counter string
		packet  []gopacket.SerializableLayer
	}{
		{"a protocol that cannot be translated", DropProtocol, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolGRE), payload}},
		{"an ICMP request other than echo", DropProtocol, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(13, 0), Id: 7}, gopacket.Payload("123456789012")}},
		{"an ICMP error that belongs to nothing", DropInvalid, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, gopacket.Payload("E\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x00\x35\x00\x35\x00\x08\x00\x00")}},
		{"a source that is not the tenant's", DropSource, []gopacket.SerializableLayer{ip4("10.9.9.9", remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}, payload}},
		{"a source that another tenant could have outside", DropSource, []gopacket.SerializableLayer{ip4("203.0.113.77", remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}, payload}},
		{"the middle of an unknown connection", DropNotSYN, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolTCP), tcp("A"), payload}},
		{"the end of an unknown connection", DropInvalid, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolTCP), tcp("FA")}},
		{"a segment with impossible flags", DropInvalid, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolTCP), tcp("SF")}},
		{"a reset of an unknown connection", DropInvalid, []gopacket.SerializableLayer{ip4(vm1, remote, layers.IPProtocolTCP), tcp("R")}},
		{"a connection to another VM by way of the compartment", DropForward, []gopacket.SerializableLayer{ip4(vm1, "10.1.1.200", layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}, payload}},
		{"a datagram to the compartment", DropInput, []gopacket.SerializableLayer{ip4(vm1, gateway, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 53}, payload}},
	}
	for _, c := range cases {
		before := l.drops()[c.counter]
		inject(t, l.inside, c.packet...)
		eventually(t, fmt.Sprintf("%s counted as %s (now %v)", c.what, c.counter, l.drops()), func() bool { return l.drops()[c.counter] == before+1 })
	}
	if l.drops()[DropEgress] != 0 {
		t.Errorf("something got as far as the last guard: %v", l.drops())
	}
	seen.wantSources(t, ext1)
}

// Should translation itself be missing, the last guard holds.
func TestGuardHoldsWithoutTranslation(t *testing.T) {
	l := newLab(t, ext1, ext2+":20000-20999")
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "udp", remote+":53")
	mustAsk(t, mustDial(t, l.inside, "udp", vm1, remote+":53"))
	l.nft("flush", "chain", "inet", "hnv", "srcnat")
	l.nft("flush", "chain", "inet", "hnv", "forward")
	l.nft("chain", "inet", "hnv", "forward", "{ policy accept; }")
	if _, err := ask(mustDial(t, l.inside, "udp", vm2, remote+":53")); err == nil {
		t.Error("an untranslated datagram was answered")
	}
	if _, err := dial(t, l.inside, "tcp", vm2, remote+":80"); err == nil {
		t.Error("an untranslated connection was made")
	}
	// The right address with a port that is another tenant's, from whatever it
	// is that the compartment could come to run.
	l.nft("flush", "chain", "inet", "hnv", "output")
	l.nft("chain", "inet", "hnv", "output", "{ policy accept; }")
	before := l.drops()[DropEgress]
	if before == 0 {
		t.Error("the guard did not count")
	}
	inject(t, l.comp, ip4(ext2, remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: 19999, DstPort: 53}, gopacket.Payload("x"))
	inject(t, l.comp, ip4(ext2, remote, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 21000}, gopacket.Payload("x"))
	inject(t, l.comp, ip4(gateway, remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: 20000, DstPort: 53}, gopacket.Payload("x"))
	if n := l.drops()[DropEgress] - before; n != 3 {
		t.Errorf("the guard counted %d of 3", n)
	}
	left := len(seen.all())
	inject(t, l.comp, ip4(ext2, remote, layers.IPProtocolUDP), &layers.UDP{SrcPort: 20999, DstPort: 9}, gopacket.Payload("x"))
	inject(t, l.comp, ip4(ext2, remote, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 20000}, gopacket.Payload("x"))
	if n := len(seen.all()) - left; n != 2 {
		t.Errorf("%d of 2 packets from the right ports left", n)
	}
	seen.wantSources(t, ext1, ext2)
}

func TestSpoofedFromOutside(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1)
	l.addMapping(hnv.UDP, ext1+":53", vm1+":53")
	l.apply()
	inside := watch(t, l.inside, "w")
	for _, src := range []string{vm2, ext1} {
		inject(t, l.outside, ip4(src, ext1, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1000, DstPort: 53}, gopacket.Payload("x"))
	}
	time.Sleep(50 * time.Millisecond)
	for _, p := range inside.all() {
		if p.Layer(layers.LayerTypeIPv4) != nil {
			t.Errorf("a spoofed packet came in: %v", p)
		}
	}
	if l.drops()[DropSpoofed] == 0 {
		t.Errorf("not counted: %v", l.drops())
	}
}

func TestPing(t *testing.T) {
	l := newLab(t, ext1, ext2+":20000-20999")
	for _, to := range []string{gateway, ext1} {
		run(t, "ip", "netns", "exec", l.inside, "ping", "-c", "1", "-W", "30", "-I", vm1, to)
	}
	for _, to := range []string{ext1, ext2} {
		run(t, "ip", "netns", "exec", l.outside, "ping", "-c", "1", "-W", "30", "-I", remote, to)
	}
	if len(l.drops()) != 0 {
		t.Errorf("dropped: %v", l.drops())
	}
	// Within one connection as well as in many, only so many are answered.
	seen := watch(t, l.outside, "x")
	for i := range 400 {
		inject(t, l.outside, ip4(remote, ext1, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: uint16(i % 2), Seq: uint16(i)}, gopacket.Payload("x"))
	}
	answers := 0
	for _, p := range seen.all() {
		if p.Layer(layers.LayerTypeICMPv4) != nil {
			answers++
		}
	}
	if answers == 0 || answers > 250 || l.drops()[DropEchoRate] != uint64(400-answers) {
		t.Errorf("%d of 400 pings answered, %v", answers, l.drops())
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel() // it waits for what must not come
	l := newLab(t, ext1)
	l.spec.ConnectionLimit = 5
	l.apply()
	serve(t, l.outside, "tcp", remote+":80")
	var conns []net.Conn
	for range 5 {
		c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
		mustAsk(t, c)
		conns = append(conns, c)
	}
	if _, err := dial(t, l.inside, "tcp", vm2, remote+":80"); err == nil {
		t.Error("a sixth connection was made")
	}
	if l.drops()[DropLimit] == 0 {
		t.Error("the sixth connection was not counted")
	}
	for _, c := range conns {
		mustAsk(t, c)
	}
	// A change elsewhere does not forget how many there are.
	l.setPool(ext1, ext2)
	l.apply()
	if _, err := dial(t, l.inside, "tcp", vm2, remote+":80"); err == nil {
		t.Error("after a change of the pool a sixth connection was made")
	}
	_ = conns[0].(*net.TCPConn).SetLinger(0)
	_ = conns[0].Close()
	eventually(t, "a closed connection makes room", func() bool {
		c, err := dial(t, l.inside, "tcp", vm2, remote+":80")
		if err != nil {
			return false
		}
		_, err = ask(c)
		return err == nil
	})
}

// A large limit is kept in shares; together they never let more in.
func TestLargeConnectionLimit(t *testing.T) {
	const limit = 4096
	l := newLab(t, ext1)
	l.spec.ConnectionLimit = limit
	l.apply()
	var conn net.PacketConn
	do(t, l.inside, func() (err error) { conn, err = net.ListenPacket("udp4", vm1+":0"); return err })
	defer conn.Close()
	for i := range 2 * limit {
		if _, err := conn.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(remote), Port: 1000 + i}); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	s, err := l.engine.Snapshot(t.Context(), l.spec.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if s.Connections > limit || s.Connections < limit*85/100 {
		t.Errorf("a limit of %d let %d in", limit, s.Connections)
	}
	if got := s.Drops[DropLimit].Packets; got+uint64(s.Connections) != 2*limit {
		t.Errorf("%d were let in and %d counted, of %d", s.Connections, got, 2*limit)
	}
}

// A connection that nobody answers yet counts once, however many packets it has.
func TestLargeLimitCountsConnections(t *testing.T) {
	const limit = 4096
	l := newLab(t, ext1)
	l.spec.ConnectionLimit = limit
	l.apply()
	var conn net.PacketConn
	do(t, l.inside, func() (err error) { conn, err = net.ListenPacket("udp4", vm1+":0"); return err })
	defer conn.Close()
	send := func(port int) {
		if _, err := conn.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP(remote), Port: port}); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	for range 2 * limit {
		send(999)
	}
	for i := range limit / 2 {
		send(1000 + i)
	}
	s, err := l.engine.Snapshot(t.Context(), l.spec.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	if s.Connections != limit/2+1 || s.Drops[DropLimit].Packets != 0 {
		t.Errorf("%d connections and %d drops, of %d connections", s.Connections, s.Drops[DropLimit].Packets, limit/2+1)
	}
}

func TestSegmentSizeIsClamped(t *testing.T) {
	l := newLab(t, ext1, "2001:db8::10")
	l.addMapping(hnv.TCP, ext1+":443", vm2+":8443")
	l.addMapping(hnv.TCP, "[2001:db8::10]:443", "[fd00:1::12]:8443")
	l.apply()
	// The VMs believe in more than the overlay carries.
	run(t, "ip", "-n", l.inside, "link", "set", "w", "mtu", "9000")
	run(t, "ip", "-n", l.outside, "link", "set", "x", "mtu", "9000")
	inside, outside := watch(t, l.inside, "w"), watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	serve(t, l.inside, "tcp", vm2+":8443")
	serve(t, l.outside, "tcp6", "[2001:db8:7::7]:80")
	serve(t, l.inside, "tcp6", "[fd00:1::12]:8443")
	mustAsk(t, mustDial(t, l.inside, "tcp", vm1, remote+":80"))
	mustAsk(t, mustDial(t, l.outside, "tcp", remote, ext1+":443"))
	mustAsk(t, mustDial(t, l.inside, "tcp6", "fd00:1::11", "[2001:db8:7::7]:80"))
	mustAsk(t, mustDial(t, l.outside, "tcp6", "2001:db8:7::7", "[2001:db8::10]:443"))
	for where, c := range map[string]*capture{"inside": inside, "outside": outside} {
		syns := 0
		for _, p := range c.all() {
			tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
			if !ok || !tcp.SYN {
				continue
			}
			syns++
			want := insideMTU - 40
			if p.Layer(layers.LayerTypeIPv6) != nil {
				want = insideMTU - 60
			}
			for _, o := range tcp.Options {
				if o.OptionType != layers.TCPOptionKindMSS {
					continue
				}
				if got := int(o.OptionData[0])<<8 | int(o.OptionData[1]); got != want {
					t.Errorf("%s: a SYN (ack %v) announces %d, want %d", where, tcp.ACK, got, want)
				}
			}
		}
		if syns != 4 { // two SYN and two SYN-ACK arrive on each side
			t.Errorf("%s saw %d SYNs", where, syns)
		}
	}
}

// icmpErrors gives the ICMP errors seen, with the packet each one quotes.
func (c *capture) icmpErrors(typ uint8) (outer []*layers.IPv4, quoted []*layers.IPv4, all []*layers.ICMPv4) {
	for _, p := range c.all() {
		icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		if !ok || icmp.TypeCode.Type() != typ {
			continue
		}
		var q layers.IPv4
		if q.DecodeFromBytes(icmp.Payload, gopacket.NilDecodeFeedback) != nil {
			continue
		}
		outer, quoted, all = append(outer, p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)), append(quoted, &q), append(all, icmp)
	}
	return outer, quoted, all
}

// Errors about translated packets are translated themselves, in both directions,
// whoever makes them.
func TestICMPErrorsAreTranslated(t *testing.T) {
	l := newLab(t, ext1)
	l.addMapping(hnv.UDP, ext1+":53", vm1+":53")
	l.apply()
	outside := watch(t, l.outside, "x")

	refused := func(c net.Conn) bool {
		_, err := askFor(c, patience)
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	if !refused(mustDial(t, l.inside, "udp", vm1, remote+":9")) {
		t.Error("the VM was not told that the port outside is closed")
	}
	if !refused(mustDial(t, l.outside, "udp", remote, ext1+":53")) {
		t.Error("the outside was not told that the VM's port is closed")
	}
	check := func(what string, typ uint8) {
		t.Helper()
		outer, quoted, all := outside.icmpErrors(typ)
		if len(all) == 0 {
			t.Errorf("%s: no ICMP error of type %d came", what, typ)
		}
		for i := range all {
			if outer[i].SrcIP.String() != ext1 || quoted[i].DstIP.String() != ext1 {
				t.Errorf("%s: the error comes from %s and quotes a packet to %s", what, outer[i].SrcIP, quoted[i].DstIP)
			}
		}
	}
	check("port unreachable from the VM", 3)

	// The compartment's own errors: hop limit reached, and too big for the overlay.
	probe := ip4(remote, ext1, layers.IPProtocolUDP)
	probe.TTL = 1
	inject(t, l.outside, probe, &layers.UDP{SrcPort: 1000, DstPort: 53}, gopacket.Payload("x"))
	check("time exceeded", 11)
	big := ip4(remote, ext1, layers.IPProtocolUDP)
	big.Flags = layers.IPv4DontFragment
	inject(t, l.outside, big, &layers.UDP{SrcPort: 1001, DstPort: 53}, gopacket.Payload(make([]byte, 1472)))
	outer, quoted, all := outside.icmpErrors(3)
	found := false
	for i, e := range all {
		if e.TypeCode.Code() == 4 {
			found = true
			if mtu := e.Seq; mtu != insideMTU {
				t.Errorf("fragmentation needed says MTU %d, want %d", mtu, insideMTU)
			}
			if outer[i].SrcIP.String() != ext1 || quoted[i].DstIP.String() != ext1 {
				t.Errorf("fragmentation needed from %s quotes a packet to %s", outer[i].SrcIP, quoted[i].DstIP)
			}
		}
	}
	if !found {
		t.Error("no fragmentation needed came")
	}
	// The distributed router's errors come from an inside address that has no
	// session of its own.
	run(t, "ip", "-n", l.inside, "addr", "del", vm1+"/32", "dev", "lo")
	run(t, "ip", "-n", l.inside, "route", "add", "unreachable", vm1+"/32")
	run(t, "ip", "netns", "exec", l.inside, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	eventually(t, "an error of the distributed router comes through", func() bool {
		inject(t, l.outside, ip4(remote, ext1, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1002, DstPort: 53}, gopacket.Payload("x"))
		_, _, all := outside.icmpErrors(3)
		for _, e := range all {
			if e.TypeCode.Code() == 1 {
				return true
			}
		}
		return false
	})
	outside.wantSources(t, ext1)
}

// Segments that end a connection, in whatever state it is, leave translated or
// not at all.
func TestEndsOfConnectionsDoNotLeak(t *testing.T) {
	l := newLab(t, ext1)
	seen := watch(t, l.outside, "x")
	serve(t, l.outside, "tcp", remote+":80")
	for i := range 40 {
		c := mustDial(t, l.inside, "tcp", vm1, remote+":80").(*net.TCPConn)
		mustAsk(t, c)
		local := netip.MustParseAddrPort(c.LocalAddr().String())
		end := &layers.TCP{SrcPort: layers.TCPPort(local.Port()), DstPort: 80, Seq: uint32(i) * 1e8, Ack: uint32(i) * 2e8, ACK: true, Window: 1000}
		if i%2 == 0 {
			end.RST = true // far outside the window
		} else {
			end.FIN = true
		}
		inject(t, l.inside, ip4(vm1, remote, layers.IPProtocolTCP), end)
		if i%3 == 0 {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
		inject(t, l.inside, ip4(vm1, remote, layers.IPProtocolTCP), end) // and once more after the end
	}
	seen.wantSources(t, ext1)
	if l.drops()[DropEgress] != 0 {
		t.Errorf("only the last guard held some back: %v", l.drops())
	}
}

// The end of one connection is seen as such: the entry does not stay.
func TestClosedConnectionsEnd(t *testing.T) {
	l := newLab(t, ext1)
	serve(t, l.outside, "tcp", remote+":80")
	c := mustDial(t, l.inside, "tcp", vm1, remote+":80")
	mustAsk(t, c)
	_ = c.Close()
	eventually(t, "the session leaves ESTABLISHED", func() bool {
		for _, s := range l.sessions() {
			if s.State == "ESTABLISHED" {
				return false
			}
		}
		return true
	})
}

//go:build privileged && linux

package offload

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// border is a gateway's namespace with an uplink up, by which all is reached, and
// the links a and b of two compartments.
type border struct {
	t        testing.TB
	ns       netns.NS
	k        *uplinkKernel
	up, a, b nl.Link
}

var (
	exitA = []string{"203.0.113.10", "2001:db8:f::10", "203.0.113.20:20000-29999", "[2001:db8:f::20]:20000-29999"}
	exitB = []string{"203.0.113.11", "2001:db8:f::11", "203.0.113.20:30000-39999", "[2001:db8:f::20]:30000-39999"}
)

func newBorder(t testing.TB) *border {
	t.Helper()
	b := &border{t: t}
	name := nstest.New(t, "border")
	h, err := nl.Open(netns.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	for i, l := range []*nl.Link{&b.up, &b.a, &b.b} {
		link := fmt.Sprintf("l%d", i)
		if err := h.AddVeth(nl.LinkEnd{Name: link}, nl.LinkEnd{Name: link + "p"}); err != nil {
			t.Fatal(err)
		}
		run(t, name, "sysctl -qw net.ipv4.conf.%s.forwarding=1", link)
		run(t, name, "ip link set %sp up", link)
		run(t, name, "ip link set %s up", link)
		if *l, err = h.Link(link); err != nil {
			t.Fatal(err)
		}
	}
	run(t, name, "sysctl -qw net.ipv6.conf.all.forwarding=1")
	run(t, name, "ip addr add 198.51.100.1/24 dev l0")
	run(t, name, "ip -6 addr add 2001:db8:e::1/64 dev l0 nodad")
	run(t, name, "ip route add default via 198.51.100.254")
	run(t, name, "ip -6 route add default via 2001:db8:e::fe")
	if b.ns, err = netns.Open(netns.Path(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.ns.Close() })
	if b.k, err = loadUplink(uplinkOptions{observed: true}); err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { b.k.close() })
	x, err := newExits(b.k.tables(), 64)
	if err != nil {
		t.Fatal(err)
	}
	for link, external := range map[int][]string{b.a.Index: exitA, b.b.Index: exitB} {
		set(t, x, Exit{Link: link, Uplink: b.up.Index, MTU: 1500, MAC: [6]byte{2, 0, 0, 0, 0, 0xe}, Peer: [6]byte{2, 0, 0, 0, 0, 0xa}, External: ranges(t, external...)})
	}
	return b
}

// run gives the frame to a program, as if it had arrived on the interface.
func (b *border) run(p *ebpf.Program, ifindex int, frame []byte) (outcome, []byte) {
	b.t.Helper()
	frame = slices.Clone(frame)
	for _, l := range []nl.Link{b.up, b.a, b.b} {
		if l.Index == ifindex {
			copy(frame, l.MAC[:])
		}
	}
	if err := b.k.collection.Maps["outcomes"].Put(uint32(0), outcome{}); err != nil {
		b.t.Fatal(err)
	}
	o := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: context{Ifindex: uint32(ifindex), IngressIfindex: uint32(ifindex)}}
	if err := b.ns.Do(func() error { _, err := p.Run(o); return err }); err != nil {
		b.t.Fatalf("run %s on %x: %v", p, frame, err)
	}
	var got outcome
	if err := b.k.collection.Maps["outcomes"].Lookup(uint32(0), &got); err != nil {
		b.t.Fatal(err)
	}
	return got, o.DataOut
}

// crossing draws a packet between two ends, as the kernel gives it to a program.
func crossing(src, dst string, l ...gopacket.SerializableLayer) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	proto := layers.IPProtocolUDP
	var first any
	if len(l) > 0 {
		first = l[0]
	}
	switch first.(type) {
	case *layers.TCP:
		proto = layers.IPProtocolTCP
	case *layers.ICMPv4:
		proto = layers.IPProtocolICMPv4
	case *layers.ICMPv6:
		proto = layers.IPProtocolICMPv6
	}
	eth := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	if s.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
		return serialize(append([]gopacket.SerializableLayer{eth, ip}, checksummed(ip, l)...)...)
	}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: s.AsSlice(), DstIP: d.AsSlice()}
	f := serialize(append([]gopacket.SerializableLayer{eth, ip}, checksummed(ip, l)...)...)
	return f[:etherLen+int(binary.BigEndian.Uint16(f[etherLen+2:]))] // not filled up to what Ethernet asks for
}

func checksummed(ip gopacket.NetworkLayer, l []gopacket.SerializableLayer) []gopacket.SerializableLayer {
	for _, l := range l {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			_ = c.SetNetworkLayerForChecksum(ip)
		}
	}
	return l
}

func udpOf(sport, dport uint16) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, gopacket.Payload("data")}
}

func tcpOf(sport, dport uint16) []gopacket.SerializableLayer {
	return []gopacket.SerializableLayer{&layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), ACK: true}, gopacket.Payload("data")}
}

func pingOf(six bool, id uint16) []gopacket.SerializableLayer {
	if six {
		return []gopacket.SerializableLayer{&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}, &layers.ICMPv6Echo{Identifier: id}}
	}
	return []gopacket.SerializableLayer{&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: id}}
}

// errorOf is a complaint about a packet: its frame's, without the Ethernet header.
func errorOf(about []byte) []gopacket.SerializableLayer {
	quote := gopacket.Payload(about[etherLen:])
	if about[etherLen]>>4 == 6 {
		return []gopacket.SerializableLayer{&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(1, 4)}, gopacket.Payload([]byte{0, 0, 0, 0}), quote}
	}
	return []gopacket.SerializableLayer{&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, quote}
}

func changed(frame []byte, change func(b []byte)) []byte {
	b := slices.Clone(frame)
	change(b)
	if b[etherLen]>>4 == 4 { // its own checksum is right
		ip := b[etherLen:]
		ip[10], ip[11] = 0, 0
		var sum uint32
		for i := 0; i < int(ip[0]&15)*4; i += 2 {
			sum += uint32(binary.BigEndian.Uint16(ip[i:]))
		}
		sum = sum&0xffff + sum>>16
		binary.BigEndian.PutUint16(ip[10:], ^uint16(sum&0xffff+sum>>16))
	}
	return b
}

const (
	world4, world6   = "192.0.2.99", "2001:db8:99::1"
	shared4, shared6 = "203.0.113.20", "2001:db8:f::20"
)

// oneHop checks that a packet was lowered in TTL and is otherwise, but for its
// Ethernet addresses, what it was.
func oneHop(t *testing.T, in, out []byte) {
	t.Helper()
	want := changed(in, func(b []byte) {
		if b[etherLen]>>4 == 6 {
			b[etherLen+7]--
		} else {
			b[etherLen+8]--
		}
	})
	if !slices.Equal(out[12:], want[12:]) {
		t.Errorf("%x became %x, not %x", in[12:], out[12:], want[12:])
	}
}

func TestWhatLeavesByTheUplink(t *testing.T) {
	b := newBorder(t)
	own := crossing("203.0.113.10", world4, udpOf(5, 53)...)
	own6 := crossing("2001:db8:f::10", world6, tcpOf(5, 53)...)
	part := crossing(shared4, world4, udpOf(25000, 53)...)
	for _, c := range []struct {
		name   string
		frame  []byte
		action action
		reason int32
	}{
		{"own", own, actionUplink, 0},
		{"own, TCP over IPv6", own6, actionUplink, 0},
		{"own, ping", crossing("203.0.113.10", world4, pingOf(false, 9)...), actionUplink, 0},
		{"part", part, actionUplink, 0},
		{"part, first port", crossing(shared4, world4, tcpOf(20000, 53)...), actionUplink, 0},
		{"part, last port", crossing(shared4, world4, tcpOf(29999, 53)...), actionUplink, 0},
		{"part, ping", crossing(shared4, world4, pingOf(false, 25000)...), actionUplink, 0},
		{"part, IPv6", crossing(shared6, world6, udpOf(25000, 53)...), actionUplink, 0},
		{"part, ping over IPv6", crossing(shared6, world6, pingOf(true, 25000)...), actionUplink, 0},
		{"part, error", crossing(shared4, world4, errorOf(crossing(world4, shared4, udpOf(53, 25000)...))...), actionUplink, 0},
		{"part, error about a ping", crossing(shared4, world4, errorOf(crossing(world4, shared4, pingOf(false, 25000)...))...), actionUplink, 0},
		{"part, error over IPv6", crossing(shared6, world6, errorOf(crossing(world6, shared6, udpOf(53, 25000)...))...), actionUplink, 0},

		{"TTL 1", changed(own, func(b []byte) { b[etherLen+8] = 1 }), actionPass, 0},
		{"hop limit 1", changed(own6, func(b []byte) { b[etherLen+7] = 1 }), actionPass, 0},
		{"own, a fragment", changed(own, func(b []byte) { b[etherLen+6] = 0x20 }), actionPass, 0},
		{"own, bad checksum", func() []byte { b := slices.Clone(own); b[etherLen+10]++; return b }(), actionPass, 0},
		{"own, to a group", crossing("203.0.113.10", "224.0.0.9", udpOf(5, 53)...), actionPass, 0},
		{"own, to the gateway", crossing("203.0.113.10", "198.51.100.1", udpOf(5, 53)...), actionPass, 0},
		{"own, to loopback", crossing("203.0.113.10", "127.0.0.1", udpOf(5, 53)...), actionPass, 0},
		{"own, too big", crossing("203.0.113.10", world4, append(udpOf(5, 53)[:1], gopacket.Payload(make([]byte, 1600)))...), actionPass, 0},
		{"of the link's own IPv6", crossing("fe80::1", "ff02::16", pingOf(true, 1)...), actionPass, 0},

		{"untranslated", crossing("10.1.1.11", world4, udpOf(5, 53)...), actionDrop, exitSpoofed},
		{"untranslated, IPv6", crossing("fd00::11", world6, udpOf(5, 53)...), actionDrop, exitSpoofed},
		{"the other's", crossing("203.0.113.11", world4, udpOf(5, 53)...), actionDrop, exitSpoofed},
		{"the other's, IPv6", crossing("2001:db8:f::11", world6, udpOf(5, 53)...), actionDrop, exitSpoofed},
		{"the gateway's", crossing("198.51.100.1", world4, udpOf(5, 53)...), actionDrop, exitSpoofed},
		{"nobody's port", crossing(shared4, world4, udpOf(19999, 53)...), actionDrop, exitSpoofed},
		{"the other's port", crossing(shared4, world4, udpOf(30000, 53)...), actionDrop, exitSpoofed},
		{"the other's port, with options", changed(slices.Insert(slices.Clone(crossing(shared4, world4, udpOf(30000, 53)...)), etherLen+20, 1, 1, 1, 0),
			func(b []byte) { b[etherLen] = 0x46; b[etherLen+3] += 4 }), actionDrop, exitSpoofed},
		{"the other's identifier", crossing(shared4, world4, pingOf(false, 30000)...), actionDrop, exitSpoofed},
		{"the other's identifier, IPv6", crossing(shared6, world6, pingOf(true, 30000)...), actionDrop, exitSpoofed},
		{"error for the other", crossing(shared4, world4, errorOf(crossing(world4, shared4, udpOf(53, 35000)...))...), actionDrop, exitSpoofed},
		{"error about another address", crossing(shared4, world4, errorOf(crossing(world4, "203.0.113.10", udpOf(53, 25000)...))...), actionDrop, exitSpoofed},
		{"part, a fragment", changed(part, func(b []byte) { b[etherLen+6] = 0x20 }), actionDrop, exitFragment},
		{"part, a later fragment", changed(part, func(b []byte) { b[etherLen+7] = 9 }), actionDrop, exitFragment},
		{"part, SCTP", changed(part, func(b []byte) { b[etherLen+9] = 132 }), actionDrop, exitSpoofed},
	} {
		got, out := b.run(b.k.outward, b.a.Index, c.frame)
		if got.Action != c.action || got.Reason != c.reason {
			t.Errorf("%s: action %d, reason %d; not %d and %d", c.name, got.Action, got.Reason, c.action, c.reason)
		}
		if c.action == actionUplink {
			oneHop(t, c.frame, out)
		}
	}
	counters := uplinkCounters(t, b)
	if a := counters[b.a.Index]; a.Out.Packets != 12 || a.Spoofed != 13 || a.Fragment != 2 || a.In.Packets != 0 {
		t.Errorf("counted: %+v", a)
	}
	if o := counters[b.b.Index]; o != (ExitCounters{}) {
		t.Errorf("counted for the other: %+v", o)
	}
}

func uplinkCounters(t testing.TB, b *border) map[int]ExitCounters {
	t.Helper()
	x, err := newExits(b.k.tables(), 64)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatArrivesOnTheUplink(t *testing.T) {
	b := newBorder(t)
	for _, c := range []struct {
		name  string
		frame []byte
		to    int // a link; 0: to the stack
	}{
		{"a's", crossing(world4, "203.0.113.10", udpOf(53, 5)...), b.a.Index},
		{"a's, IPv6", crossing(world6, "2001:db8:f::10", tcpOf(53, 5)...), b.a.Index},
		{"b's", crossing(world4, "203.0.113.11", pingOf(false, 5)...), b.b.Index},
		{"a's port", crossing(world4, shared4, udpOf(53, 20000)...), b.a.Index},
		{"b's port", crossing(world4, shared4, tcpOf(53, 39999)...), b.b.Index},
		{"b's port, IPv6", crossing(world6, shared6, tcpOf(53, 30000)...), b.b.Index},
		{"b's ping", crossing(world4, shared4, pingOf(false, 31000)...), b.b.Index},
		{"a's ping, IPv6", crossing(world6, shared6, pingOf(true, 21000)...), b.a.Index},
		{"error for a", crossing(world4, shared4, errorOf(crossing(shared4, world4, udpOf(25000, 53)...))...), b.a.Index},
		{"error for b, IPv6", crossing(world6, shared6, errorOf(crossing(shared6, world6, tcpOf(35000, 53)...))...), b.b.Index},
		{"error about b's ping", crossing("192.0.2.7", shared4, errorOf(crossing(shared4, world4, pingOf(false, 35000)...))...), b.b.Index},
		{"with bytes behind", append(crossing(world4, "203.0.113.10", udpOf(53, 5)...), 0, 0, 0), b.a.Index},

		{"nobody's", crossing(world4, "203.0.113.12", udpOf(53, 5)...), 0},
		{"nobody's port", crossing(world4, shared4, udpOf(53, 40000)...), 0},
		{"a fragment", changed(crossing(world4, "203.0.113.10", udpOf(53, 5)...), func(b []byte) { b[etherLen+6] = 0x20 }), 0},
		{"TTL 1", changed(crossing(world4, "203.0.113.10", udpOf(53, 5)...), func(b []byte) { b[etherLen+8] = 1 }), 0},
		{"from the gateway's own address", crossing("198.51.100.1", "203.0.113.10", udpOf(53, 5)...), 0},
		{"from a group", crossing("224.0.0.1", "203.0.113.10", udpOf(53, 5)...), 0},
		{"too big", crossing(world4, "203.0.113.10", append(udpOf(53, 5)[:1], gopacket.Payload(make([]byte, 1600)))...), 0},
		{"for the gateway", crossing(world4, "198.51.100.1", udpOf(53, 5)...), 0},
	} {
		got, out := b.run(b.k.inward, b.up.Index, c.frame)
		want := outcome{Action: actionPass}
		if c.to != 0 {
			want = outcome{Action: actionPort, Ifindex: uint32(c.to)}
		}
		if got != want {
			t.Errorf("%s: %+v, not %+v", c.name, got, want)
		}
		if got.Action == actionPort {
			oneHop(t, c.frame, out)
			if !slices.Equal(out[:12], []byte{2, 0, 0, 0, 0, 0xe, 2, 0, 0, 0, 0, 0xa}) {
				t.Errorf("%s: Ethernet addresses %x", c.name, out[:12])
			}
		}
	}
	// On another interface than their uplink, they are the stack's.
	if got, _ := b.run(b.k.inward, b.b.Index, crossing(world4, "203.0.113.10", udpOf(53, 5)...)); got.Action != actionPass {
		t.Errorf("on another interface: %+v", got)
	}
}

// Whatever a compartment sends, nothing goes on that is not from an address, or
// port, of its own.
func TestNoForeignSourceGetsOut(t *testing.T) {
	b := newBorder(t)
	r := rand.New(rand.NewPCG(7, 7))
	sources4 := []string{"203.0.113.10", "203.0.113.11", shared4, shared4, "10.1.1.11", "198.51.100.1"}
	sources6 := []string{"2001:db8:f::10", "2001:db8:f::11", shared6, shared6, "fd00::11", "fe80::1"}
	n := map[action]int{}
	for range 30000 {
		src, dst, six := sources4[r.IntN(6)], world4, r.IntN(2) == 0
		if six {
			src, dst = sources6[r.IntN(6)], world6
		}
		port := []uint16{19999, 20000, 25000, 29999, 30000, 35000, 5}[r.IntN(7)]
		l := [][]gopacket.SerializableLayer{udpOf(port, 53), tcpOf(port, 53), pingOf(six, port), errorOf(crossing(dst, src, udpOf(53, port)...)), errorOf(crossing(dst, src, pingOf(six, port)...))}[r.IntN(5)]
		f := crossing(src, dst, l...)
		if six && r.IntN(4) == 0 { // extension headers
			next := f[etherLen+6]
			f[etherLen+6] = []byte{0, 43, 44, 60, 51}[r.IntN(5)]
			f[etherLen+5] += 8
			f = slices.Insert(f, etherLen+40, next, 0, 0, 0, 0, 0, 0, 0)
		}
		for range r.IntN(4) {
			f[etherLen+r.IntN(min(len(f)-etherLen, 80))] = byte(r.Uint32())
		}
		if ihl := int(f[etherLen]&15) * 4; r.IntN(2) == 0 && 20 <= ihl && ihl <= len(f)-etherLen {
			f = changed(f, func([]byte) {})
		}
		if !runnable(f) {
			continue
		}
		got, out := b.run(b.k.outward, b.a.Index, f)
		n[got.Action]++
		if got.Action == actionDrop {
			continue
		}
		if got.Action == actionUplink {
			f = out
		}
		if !says(f, exitA) {
			t.Fatalf("action %d: %x", got.Action, f)
		}
	}
	if n[actionDrop] < 5000 || n[actionUplink] < 2000 || n[actionPass] < 500 {
		t.Errorf("%d were dropped, %d sent, %d left to the stack: that tests nothing", n[actionDrop], n[actionUplink], n[actionPass])
	}
}

// says tells whether a frame is from one of the addresses or ranges; or of a kind
// that no kernel forwards.
func says(f []byte, external []string) bool {
	ip := f[etherLen:]
	var src netip.Addr
	var l4 int
	var proto byte
	if f[12] == 0x86 {
		src, proto, l4 = netip.AddrFrom16([16]byte(ip[8:])), ip[6], 40
		if src.IsLinkLocalUnicast() || src.IsLoopback() || src.IsUnspecified() {
			return true
		}
	} else {
		src, proto, l4 = netip.AddrFrom4([4]byte(ip[12:])), ip[9], int(ip[0]&15)*4
	}
	if slices.Contains(external, src.String()) {
		return true
	}
	port, whose := 0, src
	for proto == 0 || proto == 43 || proto == 60 || proto == 51 {
		if l4+2 > len(ip) || f[12] != 0x86 {
			return false
		}
		next, n := ip[l4], int(ip[l4+1])*8+8
		if proto == 51 {
			n = int(ip[l4+1])*4 + 8
		}
		proto, l4 = next, l4+n
	}
	if l4+8 > len(ip) {
		ip = append(slices.Clone(ip), make([]byte, 64)...)
	}
	if l4+8 > len(ip) {
		return false
	}
	m := ip[l4:]
	switch {
	case proto == 6 || proto == 17:
		port = int(binary.BigEndian.Uint16(m))
	case proto == 1 && (m[0] == 0 || m[0] == 8) || proto == 58 && (m[0] == 128 || m[0] == 129):
		port = int(binary.BigEndian.Uint16(m[4:]))
	case proto == 1 && len(m) >= 36:
		whose, port = netip.AddrFrom4([4]byte(m[24:])), quotedPort(m[17], m[28:])
	case proto == 58 && len(m) >= 56:
		whose, port = netip.AddrFrom16([16]byte(m[32:])), quotedPort(m[14], m[48:])
	}
	return whose == src && slices.ContainsFunc(external, func(s string) bool {
		a, rest, ok := strings.Cut(strings.Trim(s, "["), "]")
		if !ok {
			a, rest, _ = strings.Cut(s, ":2")
			rest = ":2" + rest
		}
		var lo, hi int
		_, err := fmt.Sscanf(rest, ":%d-%d", &lo, &hi)
		return err == nil && a == src.String() && lo <= port && port <= hi
	})
}

func quotedPort(proto byte, m []byte) int {
	if proto == 6 || proto == 17 {
		return int(binary.BigEndian.Uint16(m[2:]))
	}
	return int(binary.BigEndian.Uint16(m[4:]))
}

func TestNATLoads(t *testing.T) {
	k, err := load(loadOptions{sizes: Sizes{}.fill(), nat: true})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer k.close()
	u, err := loadUplink(uplinkOptions{with: k})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	u.close()
}

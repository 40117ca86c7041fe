//go:build privileged && linux

package control

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// Over IPv6 everything is as over IPv4, but for the room that it takes: tenants
// with the same addresses, both encapsulations, ND, the greatest packet.
func TestIPv6Fabric(t *testing.T) { byBothPaths(t, testIPv6Fabric) }

func testIPv6Fabric(t *testing.T, n *network) {
	a, b := n.host("a", pa("fd00:aa::a/64", "pa0")), n.host("b", pa("fd00:aa::b/64", "pa0"))
	for _, h := range []*hvHost{a, b} { // what is captured is as on a wire
		in(t, h.ns, "ethtool -K pa0 tx off tso off gso off")
	}
	heard := packetsOn(t, n.ns, "a-0")
	for i, e := range []hnv.Encap{hnv.NVGRE, hnv.VXLAN} {
		base, mtu := uint32(5000+1000*i), 1500-e.Overhead(true)
		d := tenantOf([]string{"contoso", "fabrikam"}[i], base, e)
		one, two := station(base, 11, "fd00:aa::a", hnv.Rule(e)), station(base, 12, "fd00:aa::b", hnv.Rule(e))
		d.Records = []hnv.Record{one, two}
		a.tenant(d)
		b.tenant(d)
		vm1 := a.vm(portOf(fmt.Sprintf("one%d", i), one, mtu), "10.1.1.11/24")
		vm2 := b.vm(portOf(fmt.Sprintf("two%d", i), two, mtu), "10.1.1.12/24")
		in(t, vm1, "ping -c2 -i0.1 -W30 10.1.1.12")
		heard()
		in(t, vm1, fmt.Sprintf("ping -c1 -W30 -M do -s %d 10.1.1.12", mtu-28))
		if out, err := try(vm1, fmt.Sprintf("ping -c1 -W1 -M do -s %d 10.1.1.12", mtu-27)); err == nil {
			t.Errorf("%s: more than the MTU of %d passes: %s", e, mtu, out)
		}
		longest := 0
		for _, p := range heard() {
			if p[0]>>4 != 6 || p[6] != 47 && p[6] != 17 {
				continue
			}
			longest = max(longest, len(p))
			if p[7] < 2 {
				t.Errorf("%s: hop limit %d", e, p[7])
			}
			if p[6] == 17 && binary.BigEndian.Uint16(p[46:]) == 0 {
				t.Errorf("%s: UDP over IPv6 without a checksum, which no receiver takes", e)
			}
		}
		if longest != 1500 {
			t.Errorf("%s: the greatest packet on the fabric has %d bytes", e, longest)
		}
		transfer(t, vm1, vm2, "10.1.1.12", 8<<20)
		transfer(t, vm2, vm1, "10.1.1.11", 8<<20)
		for _, p := range heard() {
			if p[0]>>4 == 6 && len(p) > 1500 {
				t.Fatalf("%s: a packet of %d bytes is on the fabric", e, len(p))
			}
		}
	}
	var got []compartments.PingReply
	if _, err := a.e.Ping(t.Context(), compartments.PingSpec{
		From: netip.MustParseAddr("fd00:aa::a"), To: netip.MustParseAddr("fd00:aa::b"), Count: 2, Interval: 10 * time.Millisecond, Size: 1452, DontFragment: true,
	}, func(r compartments.PingReply) { got = append(got, r) }); err != nil || len(got) != 2 || got[0].Err != nil {
		t.Errorf("ping between the provider addresses: %+v, %v", got, err)
	}
}

// A VXLAN device of the machine's own stack works on the same address and port,
// while the dataplane does its own.
func TestForeignVXLANBeside(t *testing.T) { byBothPaths(t, testForeignVXLANBeside) }

func testForeignVXLANBeside(t *testing.T, n *network) {
	a, b := n.host("a", pa("192.168.1.1/24", "pa0")), n.host("b", pa("192.168.1.2/24", "pa0"))
	d := tenantOf("contoso", 5000, hnv.VXLAN)
	one, two := station(5000, 11, "192.168.1.1", hnv.RuleVXLAN), station(5000, 12, "192.168.1.2", hnv.RuleVXLAN)
	d.Records = []hnv.Record{one, two}
	a.tenant(d)
	b.tenant(d)
	vm1 := a.vm(portOf("one", one, 1450), "10.1.1.11/24")
	vm2 := b.vm(portOf("two", two, 1450), "10.1.1.12/24")
	for i, h := range []*hvHost{a, b} {
		in(t, h.ns, fmt.Sprintf("ip link add vx type vxlan id 77 local 192.168.1.%d remote 192.168.1.%d dstport 4789", 1+i, 2-i))
		in(t, h.ns, "ip link set vx addrgenmode none mtu 1450 up")
		in(t, h.ns, fmt.Sprintf("ip addr add 10.77.0.%d/24 dev vx", 1+i))
	}
	var wg sync.WaitGroup
	wg.Go(func() { transfer(t, a.ns, b.ns, "10.77.0.2", 4<<20) })
	wg.Go(func() { transfer(t, vm1, vm2, "10.1.1.12", 4<<20) })
	wg.Go(func() { transfer(t, vm2, vm1, "10.1.1.11", 4<<20) })
	wg.Wait()
	in(t, a.ns, "ping -c2 -i0.1 -W30 -s 1400 10.77.0.2")
	in(t, vm1, "ping -c2 -i0.1 -W30 -s 1400 10.1.1.12")
}

// IP rewrite end to end: on the fabric there is no tunnel, only the machines' own
// stacks know nothing of it. Two tenants have the same addresses.
func TestRewriteOnTheFabric(t *testing.T) { byBothPaths(t, testRewriteOnTheFabric) }

func testRewriteOnTheFabric(t *testing.T, n *network) {
	a, b := n.host("a", pa("192.168.1.1/24", "pa0")), n.host("b", pa("192.168.1.2/24", "pa0"))
	heard := packetsOn(t, n.ns, "a-0")
	for i, name := range []string{"contoso", "fabrikam"} {
		base := uint32(5000 + 1000*i)
		d := tenantOf(name, base, hnv.NVGRE)
		one, two := station(base, 11, fmt.Sprintf("192.168.1.%d", 111+10*i), hnv.RuleRewrite), station(base, 12, fmt.Sprintf("192.168.1.%d", 112+10*i), hnv.RuleRewrite)
		d.Records = []hnv.Record{one, two}
		p1, p2 := portOf("one"+name[:1], one, 1458), portOf("two"+name[:1], two, 1458)
		a.spec.Rewrite = append(a.spec.Rewrite, compartments.RewriteAddress{Addr: one.PA, Port: p1.Name})
		b.spec.Rewrite = append(b.spec.Rewrite, compartments.RewriteAddress{Addr: two.PA, Port: p2.Name})
		a.tenant(d)
		b.tenant(d)
		vm1, vm2 := a.vm(p1, "10.1.1.11/24"), b.vm(p2, "10.1.1.12/24")
		a.provide() // the VMs are here now
		b.provide()
		heard()
		in(t, vm1, "ping -c2 -i0.1 -W30 -s 3000 10.1.1.12") // in fragments
		transfer(t, vm1, vm2, "10.1.1.12", 4<<20)
		transfer(t, vm2, vm1, "10.1.1.11", 4<<20)
		if out, err := try(vm1, "ping -c1 -W2 -M do -s 1431 10.1.1.12"); err == nil {
			t.Errorf("more than the port's MTU passes: %s", out)
		}
		seen := 0
		for _, p := range heard() {
			if p[0]>>4 != 4 {
				continue
			}
			src, dst := netip.AddrFrom4([4]byte(p[12:])), netip.AddrFrom4([4]byte(p[16:]))
			if src != one.PA || dst != two.PA || p[9] == 47 {
				t.Fatalf("%s to %s, protocol %d, on the fabric", src, dst, p[9])
			}
			seen++
		}
		if seen == 0 {
			t.Error("nothing was heard on the fabric")
		}
	}
	for _, h := range []*hvHost{a, b} {
		drops, err := h.e.Drops()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range drops {
			if d.Packets > 0 && !d.Routine() {
				t.Errorf("%s: the machine's rules dropped %d packets as %s", h.name, d.Packets, d.Reason)
			}
		}
	}
}

// A broadcast goes to the fabric once, to the group, and comes once to each host,
// however many interfaces it has there.
func TestGroupOnTheFabric(t *testing.T) {
	for _, fast := range []bool{false, true} {
		groupOnTheFabric(t, fast)
	}
}

func groupOnTheFabric(t *testing.T, fast bool) {
	for family, addr := range map[string]string{"IPv4": "192.168.1.%d/24", "IPv6": "fd00:aa::%d/64"} {
		t.Run(fmt.Sprintf("%s, fast %v", family, fast), func(t *testing.T) {
			n := newNetwork(t)
			n.fast = fast
			at := func(host, i int) hnv.ProviderAddress { return pa(fmt.Sprintf(addr, 10*host+i), fmt.Sprintf("pa%d", i)) }
			hosts := []*hvHost{n.host("a", at(1, 0), at(1, 1)), n.host("b", at(2, 0), at(2, 1)), n.host("c", at(3, 0))}
			group := netip.MustParseAddr(map[string]string{"IPv4": "239.1.1.1", "IPv6": "ff15::11"}[family])
			d := tenantOf("contoso", 5000, hnv.VXLAN)
			d.Subnets[0].MulticastGroup = group
			for i, h := range hosts {
				d.Records = append(d.Records, station(5000, 11+i, h.spec.Addresses[0].Addr.Addr().String(), hnv.RuleVXLAN))
			}
			var vms []string
			for i, h := range hosts {
				h.spec.Groups = []netip.Addr{group}
				h.tenant(d)
				vms = append(vms, h.vm(portOf(fmt.Sprintf("vm%d", i), d.Records[i], 1400), fmt.Sprintf("10.1.1.%d/24", 11+i)))
			}
			onFabric := packetsOn(t, n.ns, "a-0")
			other := packetsOn(t, n.ns, "a-1")
			var ears []*net.UDPConn
			for _, vm := range vms {
				if err := netns.Do(netns.Path(vm), func() error {
					c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 9999})
					ears = append(ears, c)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				defer ears[len(ears)-1].Close()
			}
			in(t, vms[0], "ping -c1 -W30 10.1.1.12") // the ways are known
			onFabric()
			if _, err := ears[0].WriteToUDP([]byte("broadcast"), &net.UDPAddr{IP: net.IPv4(10, 1, 1, 255), Port: 9999}); err != nil {
				t.Fatal(err)
			}
			for i, c := range ears[1:] {
				got := 0
				b := make([]byte, 100)
				for long := time.Minute; ; long = 500 * time.Millisecond { // another would be there by then
					_ = c.SetReadDeadline(time.Now().Add(long))
					k, _, err := c.ReadFromUDP(b)
					if err != nil {
						break
					}
					if string(b[:k]) == "broadcast" {
						got++
					}
				}
				if got != 1 {
					t.Errorf("VM %d got %d copies", i+1, got)
				}
			}
			count := func(packets [][]byte) (n int) {
				for _, p := range packets {
					if strings.Contains(string(p), "broadcast") {
						n++
					}
				}
				return n
			}
			if a, b := count(onFabric()), count(other()); a != 1 || b != 0 {
				t.Errorf("%d copies left by the source's interface, %d by the other", a, b)
			}
		})
	}
}

// Tunnels go on when an interface fails, over the address that moved as over the
// one that did not.
func TestTunnelsFailOver(t *testing.T) { byBothPaths(t, testTunnelsFailOver) }

func testTunnelsFailOver(t *testing.T, n *network) {
	a := n.host("a", pa("192.168.1.10/24", "pa0"), pa("192.168.1.11/24", "pa1"))
	b := n.host("b", pa("192.168.1.20/24", "pa0"))
	a.follow()
	type conversation struct {
		vm   string
		beat *heartbeat
	}
	var all []conversation
	for i, where := range []string{"192.168.1.10", "192.168.1.11"} {
		base := uint32(5000 + 1000*i)
		d := tenantOf([]string{"contoso", "fabrikam"}[i], base, hnv.NVGRE)
		one, two := station(base, 11, where, hnv.RuleNVGRE), station(base, 12, "192.168.1.20", hnv.RuleNVGRE)
		d.Records = []hnv.Record{one, two}
		a.tenant(d)
		b.tenant(d)
		b.vm(portOf(fmt.Sprintf("two%d", i), two, 1458), "10.1.1.12/24")
		vm := a.vm(portOf(fmt.Sprintf("one%d", i), one, 1458), "10.1.1.11/24")
		in(t, vm, "ping -c1 -W30 10.1.1.12")
		all = append(all, conversation{vm, beatBetween(t, vm, "10.1.1.11", "10.1.1.12")})
	}
	settled := func(link string, usable bool) func() bool {
		return func() bool {
			s := a.e.ProviderState().Addresses[0]
			return s.Link == link && s.Down != usable
		}
	}
	for _, c := range []struct{ ns, do, link string }{
		{n.ns, "ip link set a-0 down", "pa1"}, {n.ns, "ip link set a-0 up", "pa0"},
		{a.ns, "ip link set pa0 down", "pa1"}, {a.ns, "ip link set pa0 up", "pa0"},
	} {
		for _, x := range all {
			x.beat.pause()
		}
		in(t, c.ns, c.do)
		eventually(t, c.do, settled(c.link, true))
		moved := time.Now()
		var pauses []time.Duration
		for _, x := range all {
			eventually(t, c.do+": replies come", func() bool { return x.beat.since(moved) })
			pauses = append(pauses, x.beat.pause())
		}
		t.Logf("%s: between VMs nothing for %v (its address), %v (the other)", c.do, pauses[0], pauses[1])
	}
}

// heartbeat is UDP from one address to another's echo, all the time.
type heartbeat struct {
	mu    sync.Mutex
	last  time.Time
	worst time.Duration
}

func (h *heartbeat) pause() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := max(h.worst, time.Since(h.last))
	h.worst = 0
	return w
}

// since tells whether a reply came after the time.
func (h *heartbeat) since(at time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last.After(at)
}

// beatBetween pings all the time and remembers the longest pause between replies.
func beatBetween(t testing.TB, ns, from, to string) *heartbeat {
	t.Helper()
	h := &heartbeat{last: time.Now()}
	e, err := compartments.New(compartments.Config{Instance: "beat", Namespace: netns.Path(ns)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := e.Ping(ctx, compartments.PingSpec{
			From: netip.MustParseAddr(from), To: netip.MustParseAddr(to), Interval: 5 * time.Millisecond, Timeout: 300 * time.Millisecond,
		}, func(r compartments.PingReply) {
			if r.Err == nil {
				h.mu.Lock()
				h.worst = max(h.worst, time.Since(h.last))
				h.last = time.Now()
				h.mu.Unlock()
			}
		})
		if err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done; _ = e.Close() })
	return h
}

// The kernel's own VXLAN device over IPv6 is the other end: its checksums,
// super-packets and idea of the headers are another's.
func TestKernelVXLANOverIPv6(t *testing.T) { byBothPaths(t, testKernelVXLANOverIPv6) }

func testKernelVXLANOverIPv6(t *testing.T, n *network) {
	a := n.host("a", pa("fd00:aa::a/64", "pa0"))
	peer := nstest.New(t, "peer")
	h := must(nl.Open(netns.Path(n.ns)))
	defer h.Close()
	if err := h.AddVeth(nl.LinkEnd{Name: "peer"}, nl.LinkEnd{Name: "eth0", Namespace: netns.Path(peer)}); err != nil {
		t.Fatal(err)
	}
	in(t, n.ns, "ip link set peer addrgenmode none master br0 up")
	in(t, peer, "ip link set eth0 up")
	in(t, peer, "ip addr add fd00:aa::b/64 dev eth0 nodad")

	d := tenantOf("contoso", 5000, hnv.VXLAN)
	one, two := station(5000, 11, "fd00:aa::a", hnv.RuleVXLAN), station(5000, 12, "fd00:aa::b", hnv.RuleVXLAN)
	d.Records = []hnv.Record{one, two}
	a.tenant(d)
	vm := a.vm(portOf("one", one, 1430), "10.1.1.11/24")
	for _, command := range []string{
		"ip link add vx address " + two.MAC.String() + " type vxlan id 5001 local fd00:aa::b dstport 4789 nolearning",
		"ip link set vx addrgenmode none mtu 1430 up",
		"ip addr add 10.1.1.12/24 dev vx",
		"ip neigh add 10.1.1.11 lladdr " + one.MAC.String() + " dev vx",
		"bridge fdb add " + one.MAC.String() + " dev vx dst fd00:aa::a",
	} {
		in(t, peer, command)
	}
	in(t, vm, "ping -c2 -i0.1 -W30 10.1.1.12")
	in(t, peer, "ping -c2 -i0.1 -W30 -M do -s 1402 10.1.1.11")
	transfer(t, vm, peer, "10.1.1.12", 8<<20)
	transfer(t, peer, vm, "10.1.1.11", 8<<20)
}

// What the machine's packet filter keeps from the stack is what the dataplane
// says is its own: nothing is lost between the two, and nothing is both's.
func TestClaimedIsWhatTheRulesKeep(t *testing.T) {
	n := newNetwork(t)
	a := n.host("a", pa("192.168.1.10/24", "pa0"), pa("fd00:aa::10/64", "pa0"))
	a.tenant(tenantOf("contoso", 5000, hnv.NVGRE))
	from, to := must(nl.Open(netns.Path(n.ns))), must(a.nl.Link("pa0"))
	defer from.Close()
	br := must(from.Link("a-0"))
	in(t, a.ns, "sysctl -qw net.ipv4.icmp_ratelimit=1000 net.ipv4.icmp_msgs_per_sec=1")
	known := func(v uint32) bool { return v == 5001 || v == 5002 }
	var seeds [][]byte
	for _, p := range [][2]string{{"192.168.1.1", "192.168.1.10"}, {"fd00:aa::1", "fd00:aa::10"}} {
		for _, k := range []encap.Kind{encap.KindNVGRE, encap.KindVXLAN} {
			f := packet.NewFrame(200)
			f.Set(make([]byte, 40))
			h := encap.Header{Kind: k, Src: netip.MustParseAddr(p[0]), Dst: netip.MustParseAddr(p[1]), VSID: 5001, SrcPort: 50000}
			if !encap.Push(f, &h) {
				t.Fatal("cannot be made")
			}
			b := slices.Clone(f.Bytes())
			seeds = append(seeds, b)
			if b[0]>>4 == 6 { // behind options, as Linux sends GRE
				c := slices.Concat(b[:40], []byte{b[6], 0, 4, 1, 4, 1, 0, 0}, b[40:])
				binary.BigEndian.PutUint16(c[4:], uint16(len(c)-40))
				c[6] = 60
				seeds = append(seeds, c)
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 7))
	groups := map[bool][][]byte{}
	for range 3000 {
		b := slices.Clone(seeds[r.IntN(len(seeds))])
		end := len(b) - 40
		for range r.IntN(4) {
			at := r.IntN(end)
			if b[0]>>4 == 4 && at >= 12 && at < 20 || b[0]>>4 == 6 && at >= 8 && at < 40 || at == 0 {
				continue // to whom, and which IP
			}
			b[at] ^= 1 << r.IntN(8)
		}
		if r.IntN(4) == 0 {
			b = b[:20+r.IntN(len(b)-20)]
			if b[0]>>4 == 6 && len(b) < 40 {
				continue
			}
		}
		claimed := encap.Claimed(b, known)
		groups[claimed] = append(groups[claimed], b)
	}
	kept := func() uint64 {
		drops, err := a.e.Drops()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range drops {
			if d.Reason == "tunnel" {
				return d.Packets
			}
		}
		return 0
	}
	send := func(b []byte) {
		etherType := []byte{8, 0}
		if b[0]>>4 == 6 {
			etherType = []byte{0x86, 0xdd}
		}
		if err := from.SendFrame(br.Index, slices.Concat(to.MAC[:], br.MAC[:], etherType, b)); err != nil {
			t.Fatal(err)
		}
	}
	for claimed, packets := range groups {
		t.Logf("claimed %v: %d packets", claimed, len(packets))
		before := kept()
		for _, b := range packets {
			send(b)
		}
		want := uint64(0)
		if claimed {
			want = uint64(len(packets))
		}
		// What is sent is there a moment later.
		for end := time.Now().Add(time.Minute); kept()-before < want && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		if kept()-before == want {
			continue
		}
		for _, b := range packets { // which ones
			before := kept()
			send(b)
			time.Sleep(20 * time.Millisecond)
			if (kept() > before) != claimed {
				t.Errorf("claimed: %v, kept from the stack: %v: % x", claimed, kept() > before, b)
			}
		}
	}
}

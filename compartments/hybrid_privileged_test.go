//go:build privileged && linux

package compartments

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// gre is a GRE packet with these words behind the IP header, and a mark.
func gre(t testing.TB, mark, src, dst string, words ...uint32) packet {
	var b []byte
	for _, w := range words {
		b = append(b, byte(w>>24), byte(w>>16), byte(w>>8), byte(w))
	}
	var ip gopacket.SerializableLayer = ip4(src, dst, layers.IPProtocolGRE)
	if strings.Contains(src, ":") {
		ip = ip6(src, dst, layers.IPProtocolGRE)
	}
	return packet{mark, build(t, ip, gopacket.Payload(b), gopacket.Payload(mark))}
}

// vxlan is a UDP packet to VXLAN's port with these words as VXLAN header.
func vxlan(t testing.TB, mark, src, dst string, flags, vni uint32) packet {
	h := string([]byte{byte(flags), 0, 0, 0, byte(vni >> 16), byte(vni >> 8), byte(vni), 0})
	p := udp(t, h+mark, src, 50000, dst, 4789)
	p.mark = mark
	return p
}

// Only tunnel packets of virtual subnets that the dataplane knows are kept from
// the gateway's own stack, which answers the others as any machine does.
func TestForeignTunnelsAreForTheStack(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	gw := m.id + ".gw"
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.run(gw, "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=10000 net.ipv6.icmp.ratelimit=0")
	s := provider("192.168.1.10/24", "fd00:aa::10/64")
	s.VSIDs = []hnv.VSID{vsid(t, 5001), vsid(t, 0x10000)}
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	m.run(m.fabric, "ping -c1 -W30 fd00:aa::10")
	const plain, keyed = 0x00006558, 0x20006558
	var sent []packet
	var known, foreign []string
	for family, ends := range map[string][2]string{"four": {"192.168.1.1", "192.168.1.10"}, "six": {"fd00:aa::1", "fd00:aa::10"}} {
		src, dst := ends[0], ends[1]
		ours := []packet{
			gre(t, family+"-known-nvgre", src, dst, keyed, 5001<<8|0x42),
			gre(t, family+"-known-reserved-bits", src, dst, keyed|0x03f8<<16, 5001<<8),
			gre(t, family+"-known-with-sequence", src, dst, keyed|0x1000<<16, 5001<<8, 1),
			gre(t, family+"-known-high-nvgre", src, dst, keyed, 0x10000<<8),
			vxlan(t, family+"-known-vxlan", src, dst, 0x08, 5001),
			vxlan(t, family+"-known-vxlan-flags", src, dst, 0xff, 5001),
		}
		theirs := []packet{
			gre(t, family+"-gre-plain", src, dst, plain, 5001<<8),
			gre(t, family+"-gre-carries-ip", src, dst, 0x20000800, 5001<<8),
			gre(t, family+"-gre-foreign-vsid", src, dst, keyed, 5002<<8),
			gre(t, family+"-gre-key-of-5001", src, dst, keyed, 5001),
			gre(t, family+"-gre-small-key", src, dst, keyed, 7<<8),
			gre(t, family+"-gre-checksum", src, dst, keyed|0x8000<<16, 5001<<8, 5001<<8),
			gre(t, family+"-gre-version", src, dst, keyed|0x0001<<16, 5001<<8),
			vxlan(t, family+"-vxlan-foreign", src, dst, 0x08, 5002),
			vxlan(t, family+"-vxlan-no-vni", src, dst, 0xf7, 5001),
			udp(t, family+"-udp-elsewhere", src, 50000, dst, 4790),
		}
		sent = append(append(sent, ours...), theirs...)
		for _, p := range ours {
			known = append(known, p.mark)
		}
		for _, p := range theirs {
			foreign = append(foreign, p.mark)
		}
	}
	onFabric, tap := m.listen(m.fabric, "eth0"), m.listen(gw, "pa0")
	m.send(m.fabric, sent...)
	onFabric.expect(t, "answers (which quote the packet)", sent, foreign...)
	tap.expect(t, "packet socket", sent, append(foreign, known...)...)
	// One that ends before its key is nobody's.
	cut := gre(t, "", "192.168.1.1", "192.168.1.10", keyed)
	m.send(m.fabric, cut)
	if n := drops(t, e)[dropTunnel]; n != uint64(len(known)) {
		t.Errorf("%d packets counted as %s, want %d", n, dropTunnel, len(known))
	}

	// What the dataplane gets to know is its own from then on, and back.
	again := []packet{vxlan(t, "another-vxlan", "192.168.1.1", "192.168.1.10", 0x08, 5002)}
	onFabric = m.listen(m.fabric, "eth0")
	for range 2 {
		must(t, e.Claim(t.Context(), []hnv.VSID{vsid(t, 5002), vsid(t, 5001), vsid(t, 5002)}))
	}
	m.send(m.fabric, again...)
	onFabric.expect(t, "claimed", again)
	repaired, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	if len(repaired) != 1 || !strings.Contains(repaired[0], "took 5002 in set vsids") {
		t.Errorf("repaired %q", repaired)
	}
	m.send(m.fabric, again...)
	onFabric.expect(t, "given back", again, "another-vxlan")
}

// The machine's own VXLAN device works on the provider address, as long as its
// VNI is none of the dataplane's.
func TestOwnVXLANDevice(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	gw := m.id + ".gw"
	s := provider("192.168.1.10/24")
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	for vni, net := range map[string]string{"77": "10.77.0.", "5001": "10.50.0."} {
		for ns, ends := range map[string][3]string{gw: {"192.168.1.10", "192.168.1.1", "1"}, m.fabric: {"192.168.1.1", "192.168.1.10", "2"}} {
			m.ip(ns, fmt.Sprintf("link add vx%s type vxlan id %s local %s remote %s dstport 4789", vni, vni, ends[0], ends[1]))
			m.ip(ns, "link set vx"+vni+" addrgenmode none up")
			m.ip(ns, "addr add "+net+ends[2]+"/24 dev vx"+vni)
		}
	}
	m.run(m.fabric, "ping -c3 -i0.1 -W30 -s 1400 10.77.0.1")
	m.run(gw, "ping -c3 -i0.1 -W30 -s 1400 10.77.0.2")
	if out, err := m.try(m.fabric, "ping -c2 -i0.1 -W1 10.50.0.1"); err == nil {
		t.Errorf("the stack has a virtual subnet of the dataplane:\n%s", out)
	}
	_, rx, _ := strings.Cut(m.ip(gw, "-s link show dev vx5001"), "RX:")
	if _, rx, _ = strings.Cut(rx, "\n"); strings.Fields(rx)[1] != "0" { // bytes, packets, ...
		t.Errorf("a device of the stack got packets of the dataplane's virtual subnet: %s", rx)
	}
	if n := drops(t, e)[dropTunnel]; n == 0 {
		t.Error("nothing was kept from the stack")
	}
}

// Of an address that stands for a CA, the stack does ARP and ND and no more.
func TestRewriteAddresses(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	gw := m.id + ".gw"
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	s := provider("192.168.1.10/24", "fd00:aa::10/64")
	s.Rewrite = []RewriteAddress{{Addr: mustAddr("192.168.1.77")}, {Addr: mustAddr("fd00:aa::77"), Port: "mg0"}, {Addr: mustAddr("192.168.9.77")}, {Addr: mustAddr("192.168.1.78"), Port: "vm9"}}
	// The rules are there when the addresses come.
	e.beforeStep = func(s step) error {
		if a, ok := s.(addAddr); ok && a.noSource && !e.gw.entries[entry{set: ofFamily(setVMGuard4, a.prefix.Addr().Is6()), addr: a.prefix.Addr()}] {
			t.Errorf("%s before its rules", s)
		}
		return nil
	}
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	repaired, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	if len(repaired) > 0 {
		t.Errorf("not settled: %q", repaired)
	}
	if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.10/24", "192.168.1.77/32", "192.168.9.77/32", "fd00:aa::10/64", "fd00:aa::77/128"}) {
		t.Errorf("addresses %v", got)
	}
	l, err := m.gw.Link("pa0")
	must(t, err)
	// The kernel takes a while to find a new link ready for IPv6.
	m.run(m.fabric, "ping -c1 -W30 fd00:aa::10")
	onFabric, tap := m.listen(m.fabric, "eth0"), m.listen(gw, "pa0")
	sent := []packet{
		echo(t, "echo-four", "192.168.1.1", "192.168.1.77", false, 7), echo(t, "echo-six", "fd00:aa::1", "fd00:aa::77", false, 7),
		udp(t, "udp-four", "192.168.1.1", 5, "192.168.1.77", 53), udp(t, "udp-six", "fd00:aa::1", 5, "fd00:aa::77", 53),
		tcpSYN(t, "tcp-four", "192.168.1.1", 5, "192.168.1.77", 22),
		tail(t, "tail-four", "192.168.1.1", "192.168.1.77"), tail(t, "tail-six", "fd00:aa::1", "fd00:aa::77"),
		gre(t, "gre-four", "192.168.1.1", "192.168.1.77", 0, 0), vxlan(t, "vxlan-six", "fd00:aa::1", "fd00:aa::77", 8, 5001),
	}
	var marks []string
	for _, p := range sent {
		marks = append(marks, p.mark)
	}
	m.send(m.fabric, sent...)
	tap.expect(t, "packet socket", sent, marks...)
	onFabric.expect(t, "answers", sent)
	for _, a := range []string{"192.168.1.77", "fd00:aa::77"} {
		if got := m.neighbour(m.fabric, a); got != nl.MACString(l.MAC) {
			t.Errorf("%s is at %q for a neighbour", a, got)
		}
	}
	if n := drops(t, e)[dropRewrite]; n != uint64(len(sent)) {
		t.Errorf("%d packets counted as %s, want %d", n, dropRewrite, len(sent))
	}
	// Neighbours that doubt ask the address itself.
	m.ip(m.fabric, "neigh change fd00:aa::77 dev eth0 nud probe")
	m.ip(m.fabric, "neigh change 192.168.1.77 dev eth0 nud probe")
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out := m.ip(m.fabric, "neigh show 192.168.1.77") + m.ip(m.fabric, "neigh show fd00:aa::77")
		if strings.Count(out, "REACHABLE") == 2 {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("neighbours do not find them again:\n%s", out)
		}
	}

	// The stack says nothing from there, but for the dataplane.
	asVM := func(mark string) []packet {
		return []packet{udp(t, mark+"-four", "192.168.1.77", 50000, "192.168.1.1", 53), udp(t, mark+"-six", "fd00:aa::77", 50000, "fd00:aa::1", 53)}
	}
	unmarked, marked := asVM("unmarked"), asVM("marked")
	onFabric = m.listen(m.fabric, "eth0")
	m.send(gw, unmarked...)
	must(t, netns.Do(netns.Path(gw), func() error {
		for i, f := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, err := unix.Socket(f, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, DataplaneMark); err != nil {
				return err
			}
			if err := sendOn(fd, marked[i].ip); err != nil {
				return err
			}
		}
		return nil
	}))
	onFabric.expect(t, "fabric", append(unmarked, marked...), "marked-four", "marked-six")
	if n := drops(t, e)[dropAsVM]; n != 2 {
		t.Errorf("%d packets counted as %s, want 2", n, dropAsVM)
	}
	for to, want := range map[string]string{"192.168.1.1": "src 192.168.1.10", "fd00:aa::1": "src fd00:aa::10"} {
		if out := m.ip(gw, "route get "+to); !strings.Contains(out, want) {
			t.Errorf("the stack's own packets to %s: %s", to, out)
		}
	}
	before := drops(t, e)[dropToPA]
	if out, err := m.try(m.mgmt, "ping -c1 -W1 192.168.1.77"); err == nil {
		t.Errorf("answered from elsewhere:\n%s", out)
	}
	if n := drops(t, e)[dropToPA] - before; n != 1 {
		t.Errorf("%d packets counted as %s", n, dropToPA)
	}

	// One comes with its VM's interface.
	s.Rewrite = []RewriteAddress{s.Rewrite[0], s.Rewrite[3]}
	m.makeVM(m.id+".vm", "vm9")
	onFabric = m.listen(m.fabric, "eth0")
	_, err = e.ApplyProvider(t.Context(), s)
	must(t, err)
	if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.10/24", "192.168.1.77/32", "192.168.1.78/32", "fd00:aa::10/64"}) {
		t.Errorf("addresses %v", got)
	}
	announced := string(nl.Announcement(l.MAC, mustAddr("192.168.1.78")))
	if got := onFabric.marks([]string{announced}); len(got) == 0 {
		t.Error("its coming is not announced")
	}
	if st := e.ProviderState(); len(st.Addresses) != 2 || len(st.Rewrite) != 2 || st.Rewrite[1] != (PAState{Addr: mustAddr("192.168.1.78"), Home: "pa0", Link: "pa0"}) {
		t.Errorf("state %+v", st)
	}
	s.Rewrite = []RewriteAddress{{Addr: mustAddr("192.168.1.10")}}
	if _, err := e.ApplyProvider(t.Context(), s); err == nil || !strings.Contains(err.Error(), "192.168.1.10") {
		t.Errorf("an address for tunnels and a CA at once: %v", err)
	}
}

// A VLAN's packets are not the untagged interface's: they are for the VLAN's own
// link, if there is one.
func TestTaggedPacketsPassTheGuard(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), provider("192.168.1.10/24"))
	must(t, err)
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	l, err := m.gw.Link("pa0")
	must(t, err)
	p := gre(t, "known", "192.168.1.1", "192.168.1.10", 0x20006558, 5001<<8).ip
	p[10], p[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(p[i])<<8 | uint32(p[i+1])
	}
	sum = sum&0xffff + sum>>16
	p[10], p[11] = ^byte(sum>>8), ^byte(sum)
	h := m.open(m.fabric)
	eth0, err := h.Link("eth0")
	must(t, err)
	for vlan, want := range map[uint16]uint64{0: 1, 7: 0, 7 << 12: 1} { // the latter is a priority
		before := drops(t, e)[dropTunnel]
		frame := slices.Concat(l.MAC[:], eth0.MAC[:], []byte{0x81, 0, byte(vlan >> 8), byte(vlan), 8, 0}, p)
		must(t, h.SendFrame(eth0.Index, frame))
		time.Sleep(50 * time.Millisecond)
		for end := time.Now().Add(time.Minute); drops(t, e)[dropTunnel]-before < want && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
		if n := drops(t, e)[dropTunnel] - before; n != want {
			t.Errorf("tag %#x: %d packets counted as %s, want %d", vlan, n, dropTunnel, want)
		}
	}
}

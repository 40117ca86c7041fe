//go:build privileged && linux

package compartments

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// provider has the addresses on pa0 and knows virtual subnet 5001.
func provider(addrs ...string) ProviderSpec {
	v, err := hnv.NewVSID(5001)
	if err != nil {
		panic(err)
	}
	s := ProviderSpec{VSIDs: []hnv.VSID{v}}
	for _, a := range addrs {
		s.Addresses = append(s.Addresses, hnv.ProviderAddress{Addr: prefix(a), Interface: "pa0"})
	}
	return s
}

func (m *machine) addrs(link string) []string {
	m.t.Helper()
	l, err := m.gw.Link(link)
	must(m.t, err)
	all, err := m.gw.Addrs(l.Index)
	must(m.t, err)
	var out []string
	for _, a := range all {
		if !a.Prefix.Addr().IsLinkLocalUnicast() {
			out = append(out, a.Prefix.String())
		}
	}
	slices.Sort(out)
	return out
}

func TestProviderAddressesAndRoutes(t *testing.T) {
	m := newMachine(t)
	m.ip(m.id+".gw", "addr add 192.168.1.11/24 dev pa0") // the operator's own
	m.run(m.id+".gw", "sysctl -qw net.ipv4.ip_forward=1")
	e := m.engine()
	s := provider("192.168.1.10/24", "192.168.1.11/24")
	s.Routes = []hnv.ProviderRoute{{Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1")}}
	put := func(s ProviderSpec, want int) {
		t.Helper()
		repaired, err := e.ApplyProvider(t.Context(), s)
		must(t, err)
		if len(repaired) != want {
			t.Errorf("%d changes: %q", len(repaired), repaired)
		}
	}
	m.ip(m.id+".gw", "route add 192.168.3.0/24 via 192.168.1.1 metric 9")
	s.Routes = append(s.Routes, hnv.ProviderRoute{Prefix: prefix("192.168.3.0/24"), NextHop: mustAddr("192.168.1.1")}) // as the operator has it
	put(s, 7)                                                                                                          // rules know, no forwarding, address, announced, route, packets kept of either family
	put(s, 0)
	if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.10/24", "192.168.1.11/24"}) {
		t.Errorf("addresses %v", got)
	}
	if out := m.ip(m.id+".gw", "route get 192.168.2.7"); !strings.Contains(out, "via 192.168.1.1 dev pa0") {
		t.Error(out)
	}

	// Drift is repaired.
	m.ip(m.id+".gw", "addr del 192.168.1.10/24 dev pa0")
	m.ip(m.id+".gw", "route del 192.168.2.0/24")
	m.run(m.id+".gw", "nft delete chain netdev "+e.names.table()+" guard-pa0")
	m.run(m.id+".gw", "sysctl -qw net.ipv4.neigh.pa0.unres_qlen_bytes=212992")
	m.run(m.id+".gw", "sysctl -qw net.ipv6.neigh.pa0.unres_qlen_bytes=212992")
	put(s, 6)
	put(s, 0)

	// What is no longer wanted goes; what was there before us stays.
	put(ProviderSpec{}, 3)
	if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.11/24"}) {
		t.Errorf("addresses %v", got)
	}
	if out := m.ip(m.id+".gw", "route get 192.168.3.7"); !strings.Contains(out, "via 192.168.1.1 dev pa0") {
		t.Error(out)
	}

	for name, bad := range map[string]ProviderSpec{
		"not one of this gateway's PA interfaces": {Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "mg0"}}},
		"not on-link": {Routes: []hnv.ProviderRoute{{Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1")}}},
	} {
		if _, err := e.ApplyProvider(t.Context(), bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A VLAN link that cannot be made, or whose name something else has, is as good as
// missing, and no hindrance to other addresses.
func TestVLAN(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	i := slices.IndexFunc(e.Features(), func(f Feature) bool { return f.Name == "provider-vlan" })
	able := e.Features()[i].OK
	s := provider("192.168.1.10/24")
	s.Addresses = slices.Insert(s.Addresses, 0, hnv.ProviderAddress{Addr: prefix("192.168.7.10/24"), Interface: "pa0", VLAN: 7},
		hnv.ProviderAddress{Addr: prefix("192.168.8.10/24"), Interface: "pa0", VLAN: 8})
	s.Routes = []hnv.ProviderRoute{{Prefix: prefix("192.168.80.0/24"), NextHop: mustAddr("192.168.8.1")}, {Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1")}}
	m.ip(m.id+".gw", "link add pa0.8 type veth peer name other")
	trouble := func() map[string]string {
		t.Helper()
		_, err := e.ApplyProvider(t.Context(), s)
		must(t, err)
		out := map[string]string{}
		for _, a := range e.ProviderState().Addresses {
			out[a.Addr.String()] = a.Trouble()
			if a.Down != (a.Trouble() != "") {
				t.Errorf("%s is down: %v, for %q", a.Addr, a.Down, a.Trouble())
			}
		}
		return out
	}
	for range 2 {
		got := trouble()
		if why := got["192.168.1.10"]; why != "" {
			t.Errorf("the address without a VLAN: %q", why)
		}
		if why := got["192.168.7.10"]; able == (why != "") || !able && !strings.Contains(why, "8021q") {
			t.Errorf("VLANs are supported: %v, and the address in one has %q", able, why)
		}
		if why := got["192.168.8.10"]; !strings.Contains(why, "is not VLAN 8 of pa0") {
			t.Errorf("the address whose link's name another link has: %q", why)
		}
		if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.10/24"}) {
			t.Errorf("addresses %v", got)
		}
		if got := m.addrs("pa0.8"); len(got) != 0 {
			t.Errorf("somebody else's link got %v", got)
		}
		if got := m.ip(m.id+".gw", "route show 192.168.2.0/24"); !strings.Contains(got, "via 192.168.1.1") {
			t.Errorf("the route by another address is %q", got)
		}
	}
	if !able {
		return
	}
	if got := m.addrs("pa0.7"); !slices.Equal(got, []string{"192.168.7.10/24"}) {
		t.Errorf("addresses %v", got)
	}
	m.ip(m.id+".gw", "link del pa0.8")
	if why := trouble()["192.168.8.10"]; why != "" {
		t.Errorf("once the name is free: %q", why)
	}
	_, err := e.ApplyProvider(t.Context(), ProviderSpec{})
	must(t, err)
	for _, name := range []string{"pa0.7", "pa0.8"} {
		if l, err := m.gw.Link(name); err == nil {
			t.Errorf("still there: %+v", l)
		}
	}
}

// An address that the kernel refuses is no hindrance to the others; once it does not
// any more, all is there.
func TestRefusedAddress(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	gw := m.id + ".gw"
	m.run(gw, "sysctl -qw net.ipv6.conf.pa0.disable_ipv6=1")
	s := provider("fd00:aa::10/64", "192.168.1.10/24")
	s.Rewrite = []RewriteAddress{{Addr: mustAddr("fd00:aa::77")}, {Addr: mustAddr("192.168.1.77")}}
	s.Routes = []hnv.ProviderRoute{{Prefix: prefix("fd00:bb::/64"), NextHop: mustAddr("fd00:aa::1")}, {Prefix: prefix("192.168.2.0/24"), NextHop: mustAddr("192.168.1.1")}}
	refused := func() (out []string) {
		t.Helper()
		st := e.ProviderState()
		for _, a := range slices.Concat(st.Addresses, st.Rewrite) {
			if a.Down != (a.Trouble() != "") {
				t.Errorf("%s is down: %v, for %q", a.Addr, a.Down, a.Trouble())
			}
			if strings.Contains(a.Trouble(), "IPv6 is disabled") {
				out = append(out, a.Addr.String())
			}
		}
		return out
	}
	for i := range 2 {
		changed, err := e.ApplyProvider(t.Context(), s)
		must(t, err)
		if got := refused(); !slices.Equal(got, []string{"fd00:aa::10", "fd00:aa::77"}) {
			t.Errorf("refused are %v", got)
		}
		if got := m.addrs("pa0"); !slices.Equal(got, []string{"192.168.1.10/24", "192.168.1.77/32"}) {
			t.Errorf("addresses %v", got)
		}
		if got := m.ip(gw, "route show 192.168.2.0/24"); !strings.Contains(got, "via 192.168.1.1") {
			t.Errorf("the route by another address is %q", got)
		}
		if i > 0 && len(changed) > 0 {
			t.Errorf("it does not rest: %q", changed)
		}
	}
	m.run(gw, "sysctl -qw net.ipv6.conf.pa0.disable_ipv6=0")
	_, err := e.ApplyProvider(t.Context(), s)
	must(t, err)
	if got := refused(); len(got) != 0 {
		t.Errorf("refused are still %v", got)
	}
	if got := m.ip(gw, "-6 route show fd00:bb::/64"); !strings.Contains(got, "via fd00:aa::1") {
		t.Errorf("the route by the address that was refused is %q", got)
	}
}

// The stack must be silent about tunnel packets, and taps must see them.
func TestTunnelPacketsAreNotAnswered(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), provider("192.168.1.10/24"))
	must(t, err)
	onFabric, tap := m.listen(m.fabric, "eth0"), m.listen(m.id+".gw", "pa0")
	const src, dst = "192.168.1.1", "192.168.1.10"
	gre := packet{"gre-packet", build(t, ip4(src, dst, layers.IPProtocolGRE),
		&layers.GRE{Protocol: 0x6558, KeyPresent: true, Key: 5001 << 8}, gopacket.Payload("gre-packet"))}
	sent := []packet{
		gre,
		vxlan(t, "vxlan-packet", src, dst, 0x08, 5001),
		udp(t, "other-packet", src, 50000, dst, 4790),
	}
	m.send(m.fabric, sent...)
	tap.expect(t, "tap", sent, "gre-packet", "vxlan-packet", "other-packet")
	onFabric.expect(t, "answers (which quote the packet)", sent, "other-packet")
	if n := drops(t, e)[dropTunnel]; n != 2 {
		t.Errorf("%d packets counted as %s", n, dropTunnel)
	}
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
}

// What a fragment other than the first belongs to is not known: none of UDP and
// GRE comes to wait in the stack for the others.
func TestFragmentsOfTunnelPackets(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), provider("192.168.1.10/24", "fd00:aa::10/64"))
	must(t, err)
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	m.run(m.fabric, "ping -c1 -W30 fd00:aa::10")
	fragmentOf := func(b []byte, p layers.IPProtocol) packet {
		at := 9 // the kernel makes the checksum of the header anew
		if b[0]>>4 == 6 {
			at = 40
		}
		b[at] = byte(p)
		return packet{"fragment", b}
	}
	m.send(m.fabric,
		tail(t, "fragment", "192.168.1.1", "192.168.1.10"),
		tail(t, "fragment", "fd00:aa::1", "fd00:aa::10"),
		fragmentOf(tail(t, "fragment", "192.168.1.1", "192.168.1.10").ip, layers.IPProtocolGRE),
		fragmentOf(tail(t, "fragment", "fd00:aa::1", "fd00:aa::10").ip, layers.IPProtocolGRE))
	if n := drops(t, e)[dropTunnel]; n != 4 {
		t.Errorf("%d packets counted as %s, not 4", n, dropTunnel)
	}
	for _, f := range []string{"sockstat", "sockstat6"} {
		for line := range strings.Lines(m.run(m.id+".gw", "cat /proc/net/"+f)) {
			if strings.HasPrefix(line, "FRAG") && !strings.Contains(line, "inuse 0") {
				t.Errorf("fragments wait in the stack: %s", line)
			}
		}
	}
	m.run(m.fabric, "ping -c1 -W30 -s 4000 192.168.1.10")
	m.run(m.fabric, "ping -c1 -W30 -s 4000 fd00:aa::10")
}

// Packets for hosts of the fabric that do not answer stay charged to whoever
// sends them, the dataplane for all tenants: they leave room for other hosts.
func TestDeadHostsDoNotBlockOthers(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), provider("192.168.1.10/24", "fd00:aa::10/64"))
	must(t, err)
	gw := m.id + ".gw"
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.run(gw, "ping -c1 -W30 192.168.1.1")
	m.run(gw, "ping -c1 -W30 fd00:aa::1")
	fabric := m.listen(m.fabric, "eth0")
	alive := []packet{udp(t, "alive4", "192.168.1.10", 50000, "192.168.1.1", 4789), udp(t, "alive6", "fd00:aa::10", 50000, "fd00:aa::1", 4789)}
	payload := strings.Repeat("x", 1000)
	must(t, netns.Do(netns.Path(gw), func() error {
		for i, f := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, err := unix.Socket(f, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20); err != nil {
				return err
			}
			for host := range 100 {
				for range 50 {
					p := udp(t, payload, "192.168.1.10", 50000, fmt.Sprintf("192.168.1.%d", 20+host), 4789)
					if f == unix.AF_INET6 {
						p = udp(t, payload, "fd00:aa::10", 50000, fmt.Sprintf("fd00:aa::1:%d", host), 4789)
					}
					if err := sendOn(fd, p.ip); err != nil {
						return fmt.Errorf("dead host %d: %w", host, err)
					}
				}
			}
			if err := sendOn(fd, alive[i].ip); err != nil {
				return fmt.Errorf("host that answers: %w", err)
			}
		}
		return nil
	}))
	fabric.expect(t, "fabric", alive, "alive4", "alive6")
}

// Without the fabric's routes tunnel packets go nowhere, and not in clear to
// wherever the default route leads.
func TestTunnelPacketsStayOnTheFabric(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	spec := provider("192.168.1.10/24", "fd00:aa::10/64")
	_, err := e.ApplyProvider(t.Context(), spec)
	must(t, err)
	gw := m.id + ".gw"
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.run(gw, "ping -c1 -W30 "+outsideHost)
	m.run(gw, "ping -c1 -W30 "+outsideHost6)
	m.run(gw, "ping -c1 -W30 fd00:aa::1")
	m.run(gw, "ping -c1 -W30 192.168.1.1")
	outside, fabric := m.listen(m.outside, "eth0"), m.listen(m.fabric, "eth0")
	gre := func(mark, src, dst string) packet {
		var ip gopacket.SerializableLayer = ip4(src, dst, layers.IPProtocolGRE)
		if strings.Contains(src, ":") {
			ip = ip6(src, dst, layers.IPProtocolGRE)
		}
		return packet{mark, build(t, ip, &layers.GRE{Protocol: 0x6558, KeyPresent: true, Key: 5001 << 8}, gopacket.Payload(mark))}
	}
	tunnels := []packet{
		gre("nvgre", "192.168.1.10", "192.168.1.1"),
		udp(t, "vxlan", "192.168.1.10", 50000, "192.168.1.1", 4789),
		gre("nvgre6", "fd00:aa::10", "fd00:aa::1"),
		udp(t, "vxlan6", "fd00:aa::10", 50000, "fd00:aa::1", 4789),
	}
	m.send(gw, tunnels...)
	fabric.expect(t, "fabric", tunnels, "nvgre", "vxlan", "nvgre6", "vxlan6")

	m.ip(gw, "link set pa0 down")
	fabric = m.listen(m.fabric, "eth0")
	others := []packet{
		udp(t, "pa-other", "192.168.1.10", 50000, "192.168.1.1", 53),
		gre("not-from-pa", "203.0.113.1", "192.168.1.1"),
	}
	all := append(others, tunnels...)
	m.send(gw, all...)
	outside.expect(t, "outside", all, "pa-other", "not-from-pa")
	fabric.expect(t, "fabric", all)
	if n := drops(t, e)[dropAway]; n != uint64(len(tunnels)) {
		t.Errorf("%d packets counted as %s, not %d", n, dropAway, len(tunnels))
	}

	m.ip(gw, "link set pa0 up")
	_, err = e.ApplyProvider(t.Context(), spec)
	must(t, err)
	m.run(gw, "ping -c1 -W30 192.168.1.1")
	m.run(gw, "ping -c1 -W30 fd00:aa::1")
	fabric = m.listen(m.fabric, "eth0")
	m.send(gw, tunnels...)
	fabric.expect(t, "fabric again", tunnels, "nvgre", "vxlan", "nvgre6", "vxlan6")
}

// From the fabric nothing is routed, wherever it is addressed.
func TestFabricIsNotRouted(t *testing.T) {
	m, _ := town(t)
	outside, contoso, mgmt := m.listen(m.outside, "eth0"), m.listen(m.id+"-contoso", ExternalLink), m.listen(m.mgmt, "eth0")
	m.run(m.id+".gw", "ping -c1 -W30 172.16.0.2")
	m.run(m.id+".gw", "ping -c1 -W30 "+outsideHost)
	sent := []packet{
		udp(t, "to-contoso", "192.168.1.1", 5, "203.0.113.10", 53),
		udp(t, "to-outside", "192.168.1.1", 5, outsideHost, 53),
		udp(t, "to-mgmt", "192.168.1.1", 5, "172.16.0.2", 53),
	}
	m.send(m.fabric, sent...)
	for where, e := range map[string]*ear{"outside": outside, "contoso": contoso, "management side": mgmt} {
		e.expect(t, where, sent)
	}
}

func TestPortIsDeaf(t *testing.T) {
	m := newMachine(t)
	vm := m.id + ".vm"
	m.makeVM(vm, "vm0")
	e := m.engine()
	ports := func(names ...string) map[string]error { return e.ApplyPorts(t.Context(), names) }
	for range 2 {
		if refused := ports("vm0", "vm9"); len(refused) != 1 || !errors.Is(refused["vm9"], nl.ErrNotFound) {
			t.Errorf("refused %v, want vm9 for not being there", refused)
		}
	}
	m.ip(vm, "addr add 172.16.0.9/24 dev eth0")
	m.ip(vm, "link set eth0 up")
	deaf := func(when string) {
		t.Helper()
		ear := m.listen(vm, "eth0")
		l, err := m.gw.Link("vm0")
		must(t, err)
		for _, a := range []string{"172.16.0.1", "172.16.0.2"} {
			m.ip(vm, "neigh replace "+a+" lladdr "+nl.MACString(l.MAC)+" dev eth0")
		}
		if _, err := m.try(vm, "ping -c1 -W1 172.16.0.1"); err == nil {
			t.Errorf("%s: the gateway answers a VM", when)
		}
		if _, err := m.try(vm, "ping -c1 -W1 172.16.0.7"); err == nil {
			t.Errorf("%s: the gateway answers ARP of a VM", when)
		}
		if heard := ear.marks([]string{""}); len(heard) > 0 {
			t.Errorf("%s: the gateway said %d frames to a VM: % x", when, len(ear.frames), ear.frames[0])
		}
	}
	deaf("at first")

	// A VM that moves away and comes back brings a new interface of the old name.
	before, err := m.gw.Link("vm0")
	must(t, err)
	if before.NoARP {
		t.Error("the interface is marked: it would take NOARP along to another host")
	}
	must(t, m.gw.DelLink("vm0"))
	if refused := ports("vm0"); !errors.Is(refused["vm0"], nl.ErrNotFound) {
		t.Errorf("refused %v while the interface is away", refused)
	}
	vm = m.id + ".vm-again"
	m.makeVM(vm, "vm0")
	if refused := ports("vm0"); len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
	m.ip(vm, "addr add 172.16.0.9/24 dev eth0")
	m.ip(vm, "link set eth0 up")
	deaf("come back")

	ports()
	for en := range e.gw.entries {
		if en.set == setDeaf {
			t.Errorf("%s is still deaf although it is no port any more", en.link)
		}
	}
	refused := ports("mg0", "up0")
	if err := refused["mg0"]; err == nil || !strings.Contains(err.Error(), "172.16.0.1/24") {
		t.Errorf("an interface with an address of the gateway was taken: %v", err)
	}
	if refused["up0"] == nil {
		t.Error("an uplink was taken")
	}
}

// The gateway's own links are no VM's: made deaf, they would no longer carry a
// tenant's traffic.
func TestOwnLinksAreNoPorts(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	apply(t, e, specOf(t, "contoso", 5000, "203.0.113.10", "203.0.113.20:1024-2047"))
	n, v := e.names, vsid(t, 5000)
	m.makeVM(m.id+".vm", "vm0")
	m.ip(m.id+".gw", "link set vm0 alias "+n.providerAlias()) // as a VLAN link of the fabric has
	own := []string{n.overlayPeer(v), n.uplinkPeer(v), n.steerIn(), n.steerOut(), "vm0", n.uplinkPeer(vsid(t, 6000))}
	refused := e.ApplyPorts(t.Context(), own)
	for _, l := range own {
		if err := refused[l]; err == nil || !strings.Contains(err.Error(), "the gateway's own links") {
			t.Errorf("%s as a port: %v", l, err)
		}
	}
	for en := range e.gw.entries {
		if en.set == setDeaf {
			t.Errorf("%s is deaf", en.link)
		}
	}
	m.run(m.outside, "ping -c1 -W30 203.0.113.10")
	m.ip(m.id+".gw", "link set vm0 alias theirs")
	if refused := e.ApplyPorts(t.Context(), []string{"vm0"}); len(refused) > 0 {
		t.Errorf("refused %v", refused)
	}
}

func providerRoute(p, hop string) hnv.ProviderRoute {
	return hnv.ProviderRoute{Prefix: prefix(p), NextHop: mustAddr(hop)}
}

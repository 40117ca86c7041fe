//go:build privileged && linux

package compartments

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// Somebody else, as a container engine or the operator, makes the whole machine
// forward. Between the gateway's parts nothing passes all the same, and each
// packet is counted by the rule that is meant for it.
func TestForwardingEverywhere(t *testing.T) {
	m, e := town(t)
	gw, vm, contoso := m.id+".gw", m.id+".vm", m.id+"-contoso"
	m.makeVM(vm, "vm0")
	m.ip(vm, "addr add 10.77.0.1/24 dev eth0")
	m.ip(vm, "link set eth0 up")
	if refused := e.ApplyPorts(t.Context(), []string{"vm0"}); len(refused) > 0 {
		t.Fatal(refused)
	}
	w := e.names.overlayPeer(vsid(t, 5000))
	m.run(gw, "sysctl -qw net.ipv4.ip_forward=1")
	for _, l := range []string{"mg0", "pa0", "vm0", w, e.names.steerIn(), e.names.steerOut()} {
		m.run(gw, "sysctl -qw net.ipv4.conf."+l+".forwarding=1")
		m.run(gw, "sysctl -qw net.ipv4.conf."+l+".rp_filter=0")
	}
	m.ip(gw, "addr add fd00:bb::1/64 dev mg0 nodad")
	m.ip(m.mgmt, "addr add fd00:bb::2/64 dev eth0 nodad")
	m.ip(m.mgmt, "route add default via fd00:bb::1")

	// Every packet would find its way.
	mac := func(ns, link string) string {
		t.Helper()
		h := m.gw
		if ns != gw {
			h = m.open(ns)
		}
		l, err := h.Link(link)
		must(t, err)
		return nl.MACString(l.MAC)
	}
	m.ip(gw, "route add 10.66.0.0/24 dev "+w)
	m.ip(gw, "route add 10.77.0.0/24 dev vm0")
	m.ip(gw, "neigh replace 10.77.0.1 lladdr "+mac(vm, "eth0")+" dev vm0")
	m.ip(vm, "neigh replace 10.77.0.254 lladdr "+mac(gw, "vm0")+" dev eth0")
	m.ip(vm, "route add default via 10.77.0.254")
	m.ip(contoso, "neigh add 10.254.254.3 lladdr "+mac(gw, w)+" dev wnv5000")
	m.ip(contoso, "route add 172.16.0.0/24 via 10.254.254.3")
	for _, a := range []string{"172.16.0.2", "192.168.1.1", outsideHost, outsideHost6, "fd00:bb::2"} {
		m.run(gw, "ping -c1 -W30 "+a)
	}
	m.run(m.mgmt, "ping -c1 -W30 172.16.0.1")
	m.run(m.mgmt, "ping -c1 -W30 fd00:bb::1")
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")

	ears := map[string]*ear{
		"outside": m.listen(m.outside, "eth0"), "contoso, outer": m.listen(contoso, ExternalLink), "contoso, inner": m.listen(contoso, "wnv5000"),
		"tailspin": m.listen(m.id+"-tailspin", ExternalLink), "VM": m.listen(vm, "eth0"),
		"management side": m.listen(m.mgmt, "eth0"), "fabric": m.listen(m.fabric, "eth0"),
	}
	const host, host6, paHost = "172.16.0.2", "fd00:bb::2", "192.168.1.1"
	var sent []packet
	check := func(from string, p packet, reason string) {
		t.Helper()
		before := drops(t, e)
		m.send(from, p)
		sent = append(sent, p)
		for r, n := range drops(t, e) {
			want := uint64(0)
			if r == reason {
				want = 1
			}
			if n-before[r] != want {
				t.Errorf("%s: %d packets counted as %s, not %d", p.mark, n-before[r], r, want)
			}
		}
	}
	for _, c := range []struct{ from, mark, src, dst, reason string }{
		{m.mgmt, "management to outside", host, outsideHost, dropIntruder},
		{m.mgmt, "management to outside, IPv6", host6, outsideHost6, dropIntruder},
		{m.mgmt, "management to a compartment", host, "203.0.113.10", dropIntruder},
		{m.mgmt, "management to a compartment, IPv6", host6, "2001:db8:f::10", dropIntruder},
		{m.mgmt, "management to a shared address", host, "203.0.113.20", dropIntruder},
		{m.mgmt, "management to a shared address, IPv6", host6, "2001:db8:f::20", dropIntruder},
		{m.mgmt, "management to the overlay", host, "10.66.0.1", dropOverlay},
		{m.mgmt, "management to a VM", host, "10.77.0.1", dropOverlay},
		{m.mgmt, "management to the fabric", host, paHost, dropFabric},
		{m.fabric, "fabric to management", paHost, host, dropFabric},
		{m.fabric, "fabric to outside", paHost, outsideHost, dropFabric},
		{m.fabric, "fabric to a compartment", paHost, "203.0.113.10", dropFabric},
		{m.fabric, "fabric to a VM", paHost, "10.77.0.1", dropFabric},
		{contoso, "overlay to management", "203.0.113.10", host, dropOverlay},
		{vm, "VM to management", "10.77.0.1", host, dropPort},
		{vm, "VM to outside", "10.77.0.1", outsideHost, dropPort},
	} {
		check(c.from, udp(t, c.mark+".", c.src, 25000, c.dst, 25000), c.reason)
	}
	// Behind the chain on the VM's device there is another wall.
	m.run(gw, "nft delete chain netdev "+e.names.table()+" port-vm0")
	check(vm, udp(t, "VM to management, one wall less.", "10.77.0.1", 25000, host, 25000), dropOverlay)
	check(vm, udp(t, "VM to a compartment, one wall less.", "10.77.0.1", 25000, "203.0.113.10", 25000), dropOverlay)

	for where, ear := range ears {
		ear.expect(t, where, sent)
	}
	for from, to := range map[string]string{contoso: "-I 203.0.113.10 " + outsideHost, m.outside: "203.0.113.10", m.mgmt: "172.16.0.1"} {
		if out, err := m.try(from, "ping -c1 -W30 "+to); err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%s no longer reaches %s:\n%s", from, to, out)
		}
	}
}

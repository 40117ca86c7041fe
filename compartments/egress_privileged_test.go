//go:build privileged && linux

package compartments

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nl"
)

const outsideHost, outsideHost6 = "203.0.113.254", "2001:db8:f::254"

// town is a machine with four tenants: two with an address each, two that share
// one.
func town(t *testing.T) (*machine, *Engine) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), ProviderSpec{Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}}})
	must(t, err)
	for _, s := range []Spec{
		specOf(t, "contoso", 5000, "203.0.113.10", "2001:db8:f::10"),
		specOf(t, "fabrikam", 6000, "203.0.113.11", "2001:db8:f::11"),
		specOf(t, "tailspin", 7000, "203.0.113.20:20000-29999", "[2001:db8:f::20]:20000-29999"),
		specOf(t, "woodgrove", 8000, "203.0.113.20:30000-39999", "[2001:db8:f::20]:30000-39999"),
	} {
		apply(t, e, s)
		settled(t, e, s)
	}
	return m, e
}

func TestOnlyOwnAddressesLeave(t *testing.T) {
	m, e := town(t)
	ear := m.listen(m.outside, "eth0")
	d := outsideHost
	byTenant := map[string][]packet{
		"contoso": {
			udp(t, "yes:own", "203.0.113.10", 5, d, 53),
			tcpSYN(t, "yes:own-tcp", "203.0.113.10", 5, d, 53),
			echo(t, "yes:own-echo", "203.0.113.10", d, false, 77),
			tail(t, "yes:own-fragment", "203.0.113.10", d),
			udp(t, "no:fabrikam", "203.0.113.11", 5, d, 53),
			udp(t, "no:shared", "203.0.113.20", 25000, d, 53),
			udp(t, "no:untranslated", "10.1.1.11", 5, d, 53),
			udp(t, "no:ca", "10.254.254.2", 5, d, 53),
			udp(t, "no:gateway", "203.0.113.1", 5, d, 53),
			udp(t, "no:pa", "192.168.1.10", 5, d, 53),
			udp(t, "no:hop", "169.254.0.2", 5, d, 53),
			udp(t, "yes:own6", "2001:db8:f::10", 5, outsideHost6, 53),
			udp(t, "no:fabrikam6", "2001:db8:f::11", 5, outsideHost6, 53),
			udp(t, "no:ula6", "fd00::1", 5, outsideHost6, 53),
		},
		"tailspin": {
			udp(t, "yes:own-low", "203.0.113.20", 20000, d, 53),
			udp(t, "yes:own-high", "203.0.113.20", 29999, d, 53),
			tcpSYN(t, "yes:part-tcp", "203.0.113.20", 25000, d, 53),
			echo(t, "yes:part-echo", "203.0.113.20", d, false, 25001),
			echo(t, "yes:part-reply", "203.0.113.20", d, true, 25002),
			icmpError(t, "203.0.113.20", d, udp(t, "yes:error", d, 53, "203.0.113.20", 25003)),
			icmpError(t, "203.0.113.20", d, echo(t, "yes:error-echo", d, "203.0.113.20", false, 25004)),
			udp(t, "no:below", "203.0.113.20", 19999, d, 53),
			udp(t, "no:woodgrove", "203.0.113.20", 30000, d, 53),
			udp(t, "no:contoso", "203.0.113.10", 25000, d, 53),
			tcpSYN(t, "no:woodgrove-tcp", "203.0.113.20", 30001, d, 53),
			echo(t, "no:woodgrove-echo", "203.0.113.20", d, false, 30001),
			icmpError(t, "203.0.113.20", d, udp(t, "no:error-woodgrove", d, 53, "203.0.113.20", 30003)),
			icmpError(t, "203.0.113.20", d, udp(t, "no:error-elsewhere", d, 53, "203.0.113.10", 25003)),
			icmpError(t, "203.0.113.20", d, echo(t, "no:error-woodgrove-echo", d, "203.0.113.20", false, 30004)),
			icmpError(t, "203.0.113.10", d, udp(t, "no:error-contoso", d, 53, "203.0.113.20", 25003)),
			tail(t, "no:fragment", "203.0.113.20", d),
			udp(t, "yes:part6", "2001:db8:f::20", 25000, outsideHost6, 53),
			echo(t, "yes:echo6", "2001:db8:f::20", outsideHost6, false, 25001),
			icmpError(t, "2001:db8:f::20", outsideHost6, udp(t, "yes:error6", outsideHost6, 53, "2001:db8:f::20", 25003)),
			tail(t, "no:fragment6", "2001:db8:f::20", outsideHost6),
			udp(t, "no:woodgrove6", "2001:db8:f::20", 35000, outsideHost6, 53),
			echo(t, "no:woodgrove-echo6", "2001:db8:f::20", outsideHost6, false, 35001),
			icmpError(t, "2001:db8:f::20", outsideHost6, udp(t, "no:error-woodgrove6", outsideHost6, 53, "2001:db8:f::20", 35003)),
		},
	}
	spoofed := 0
	for tenant, packets := range byTenant {
		m.send(m.id+"-"+tenant, packets...)
		var want []string
		for _, p := range packets {
			if strings.HasPrefix(p.mark, "yes") {
				want = append(want, p.mark)
			} else if !slices.Contains([]string{"no:gateway", "no:pa", "no:fragment", "no:fragment6"}, p.mark) { // martians; counted elsewhere
				spoofed++
			}
		}
		ear.expect(t, tenant, packets, want...)
	}
	if n := drops(t, e)[dropFragment]; n != 2 {
		t.Errorf("%d packets counted as %s, not 2", n, dropFragment)
	}
	if n := drops(t, e)[dropSpoofed]; n != uint64(spoofed) {
		t.Errorf("%d packets counted as %s, not %d", n, dropSpoofed, spoofed)
	}
}

func drops(t *testing.T, e *Engine) map[string]uint64 {
	t.Helper()
	all, err := e.Drops()
	must(t, err)
	out := map[string]uint64{}
	for _, d := range all {
		out[d.Reason] = d.Packets
	}
	return out
}

func TestNothingElseIsReachedFromACompartment(t *testing.T) {
	m, e := town(t)
	onMgmt, onFabric := m.listen(m.mgmt, "eth0"), m.listen(m.fabric, "eth0")
	toFabrikam := m.listen(m.id+"-fabrikam", ExternalLink)
	toTailspin := m.listen(m.id+"-tailspin", ExternalLink)
	toWoodgrove := m.listen(m.id+"-woodgrove", ExternalLink)
	// The gateway must know its neighbours: a packet must not be lost for want
	// of an answer to ARP.
	m.run(m.id+".gw", "ping -c1 -W30 172.16.0.2")
	m.run(m.id+".gw", "ping -c1 -W30 192.168.1.1")
	const own = "203.0.113.10"
	packets := []packet{
		udp(t, "mgmt-host", own, 5, "172.16.0.2", 53),
		udp(t, "mgmt-address", own, 5, "172.16.0.1", 53),
		udp(t, "fabric-host", own, 5, "192.168.1.1", 53),
		udp(t, "pa", own, 5, "192.168.1.10", 4789),
		udp(t, "fabrikam", own, 5, "203.0.113.11", 53),
		udp(t, "tailspin", own, 5, "203.0.113.20", 25000),
		udp(t, "woodgrove", own, 5, "203.0.113.20", 35000),
		udp(t, "nobody", own, 5, "203.0.113.20", 45000),
		udp(t, "fabrikam6", "2001:db8:f::10", 5, "2001:db8:f::11", 53),
		udp(t, "woodgrove6", "2001:db8:f::10", 5, "2001:db8:f::20", 35000),
	}
	m.send(m.id+"-contoso", packets...)
	onMgmt.expect(t, "management side", packets)
	onFabric.expect(t, "fabric", packets)
	toFabrikam.expect(t, "fabrikam", packets, "fabrikam", "fabrikam6")
	toTailspin.expect(t, "tailspin", packets, "tailspin")
	toWoodgrove.expect(t, "woodgrove", packets, "woodgrove", "woodgrove6")
	got := drops(t, e)
	for reason, want := range map[string]uint64{dropAstray: 1, dropFabric: 1, dropToGateway: 2, dropUnsteered: 1, dropSpoofed: 0} {
		if got[reason] != want {
			t.Errorf("%d packets counted as %s, not %d", got[reason], reason, want)
		}
	}
	for _, a := range []string{"203.0.113.1", "172.16.0.1", "192.168.1.10", "172.16.0.2", "192.168.1.1"} {
		if out, err := m.try(m.id+"-contoso", "ping -c1 -W1 "+a); err == nil {
			t.Errorf("a compartment can ping %s:\n%s", a, out)
		}
	}
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)

	// Nor through the overlay link's other end, which only the dataplane reads.
	peer, err := m.gw.Link(e.names.overlayPeer(vsid(t, 5000)))
	must(t, err)
	m.ip(m.id+"-contoso", "neigh add 10.254.254.3 lladdr "+nl.MACString(peer.MAC)+" dev wnv5000")
	m.ip(m.id+"-contoso", "route add 172.16.0.0/24 via 10.254.254.3")
	if out, err := m.try(m.id+"-contoso", "ping -c1 -W1 172.16.0.1"); err == nil {
		t.Errorf("the gateway answers on the overlay link:\n%s", out)
	}
	if n := drops(t, e)[dropOverlay]; n != 1 {
		t.Errorf("%d packets counted as %s, not 1", n, dropOverlay)
	}
}

func TestFromOutside(t *testing.T) {
	m, e := town(t)
	ears := map[string]*ear{}
	for _, n := range []string{"contoso", "fabrikam", "tailspin", "woodgrove"} {
		ears[n] = m.listen(m.id+"-"+n, ExternalLink)
	}
	onFabric, onMgmt := m.listen(m.fabric, "eth0"), m.listen(m.mgmt, "eth0")
	m.run(m.id+".gw", "ping -c1 -W30 172.16.0.2")
	m.run(m.id+".gw", "ping -c1 -W30 192.168.1.1")
	for _, r := range []string{"192.168.1.0/24", "172.16.0.0/24", "203.0.113.99/32"} {
		m.ip(m.outside, "route add "+r+" via 203.0.113.1")
	}
	s, s6 := outsideHost, outsideHost6
	const shared, shared6 = "203.0.113.20", "2001:db8:f::20"
	packets := []packet{
		udp(t, "contoso", s, 53, "203.0.113.10", 5),
		udp(t, "contoso6", s6, 53, "2001:db8:f::10", 5),
		udp(t, "fabrikam", s, 53, "203.0.113.11", 5),
		udp(t, "tailspin-udp", s, 53, shared, 20000),
		tcpSYN(t, "tailspin-tcp", s, 53, shared, 29999),
		echo(t, "tailspin-echo", s, shared, true, 25000),
		icmpError(t, s, shared, udp(t, "tailspin-error", shared, 25001, s, 53)),
		icmpError(t, s, shared, echo(t, "tailspin-error-echo", shared, s, false, 25001)),
		udp(t, "tailspin-udp6", s6, 53, shared6, 20001),
		echo(t, "tailspin-echo6", s6, shared6, true, 25000),
		icmpError(t, s6, shared6, udp(t, "tailspin-error6", shared6, 25001, s6, 53)),
		udp(t, "woodgrove-udp", s, 53, shared, 30000),
		icmpError(t, s, shared, udp(t, "woodgrove-error", shared, 35001, s, 53)),
		udp(t, "woodgrove-udp6", s6, 53, shared6, 30001),
		udp(t, "no:port", s, 53, shared, 40000),
		echo(t, "no:id", s, shared, false, 40000),
		tail(t, "no:fragment", s, shared),
		tail(t, "no:fragment6", s6, shared6),
		udp(t, "no:pa", s, 53, "192.168.1.10", 53),
		udp(t, "no:fabric", s, 53, "192.168.1.1", 53),
		udp(t, "no:mgmt", s, 53, "172.16.0.2", 53),
		udp(t, "no:nobody", s, 53, "203.0.113.99", 53),
	}
	m.send(m.outside, packets...)
	for n, ear := range ears {
		var want []string
		for _, p := range packets {
			if strings.HasPrefix(p.mark, n) {
				want = append(want, p.mark)
			}
		}
		ear.expect(t, n, packets, want...)
	}
	onFabric.expect(t, "fabric", packets)
	onMgmt.expect(t, "management side", packets)
	got := drops(t, e)
	for reason, want := range map[string]uint64{dropUnsteered: 4, dropToPA: 1, dropFabric: 1, dropUnknown: 2} {
		if got[reason] != want {
			t.Errorf("%d packets counted as %s, not %d", got[reason], reason, want)
		}
	}
}

// The gateway answers on an uplink, and on the fabric, to the addresses that it
// has there and to no others.
func TestOtherAddressesAreNotReached(t *testing.T) {
	m, e := town(t)
	gw := m.id + ".gw"
	m.ip(gw, "addr add fd00:bb::1/64 dev mg0 nodad")
	m.ip(gw, "addr add fd00:aa::10/64 dev pa0 nodad")
	m.ip(m.fabric, "addr add fd00:aa::1/64 dev eth0 nodad")
	m.ip(m.fabric, "route add default via fd00:aa::10")
	m.ip(m.outside, "route add 172.16.0.0/24 via 203.0.113.1")
	m.ip(m.outside, "route add fd00:bb::/64 via 2001:db8:f::1")
	for _, side := range []string{m.outside, m.fabric} {
		before := drops(t, e)[dropToOther]
		for _, a := range []string{"172.16.0.1", "fd00:bb::1"} {
			if out, err := m.try(side, "ping -c1 -W1 "+a); err == nil {
				t.Errorf("%s: %s answers:\n%s", side, a, out)
			}
		}
		if n := drops(t, e)[dropToOther] - before; n != 2 {
			t.Errorf("%s: %d packets counted as %s, not 2", side, n, dropToOther)
		}
	}
	for _, side := range []string{m.outside, m.fabric, gw} {
		m.ip(side, "neigh flush all")
	}
	m.run(m.outside, "ping -c1 -W30 203.0.113.1")
	m.run(m.outside, "ping -c1 -W30 2001:db8:f::1")
	m.run(m.outside, "ping -c1 -W30 203.0.113.10")
	m.run(m.outside, "ping -c1 -W30 2001:db8:f::10")
	m.run(m.fabric, "ping -c1 -W30 192.168.1.10")
	m.run(m.fabric, "ping -c1 -W30 fd00:aa::10")
	m.run(m.mgmt, "ping -c1 -W30 172.16.0.1")
}

// What the gateway says for itself, as that a packet's time is exceeded, it says
// by the uplink's address: others tell who is outside, and tenants, of the
// networks behind.
func TestErrorsCarryTheUplinksAddress(t *testing.T) {
	m := newMachine(t)
	gw := m.id + ".gw"
	for _, a := range []string{"192.168.99.1/32", "2001:db8:f::12/128", "2001:db8:f::21/128", "2001:db8:f::fe/128"} {
		m.ip(gw, "addr add "+a+" dev lo") // what the kernel would choose
	}
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), provider("192.168.1.10/24"))
	must(t, err)
	contoso := specOf(t, "contoso", 5000, "203.0.113.10", "2001:db8:f::10")
	tailspin := specOf(t, "tailspin", 7000, "203.0.113.20:20000-29999", "[2001:db8:f::20]:20000-29999")
	for _, s := range []Spec{contoso, tailspin} {
		apply(t, e, s)
		settled(t, e, s)
	}
	dying := func(p packet) packet {
		if p.ip[0]>>4 == 6 {
			p.ip[7] = 1
		} else {
			p.ip[8] = 1
		}
		return p
	}
	// Routes take the time of neighbours that are not known yet.
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost6)
	for _, c := range []struct{ from, link, src, dst, want string }{
		{m.id + "-contoso", ExternalLink, "203.0.113.10", outsideHost, "203.0.113.1"},
		{m.id + "-contoso", ExternalLink, "2001:db8:f::10", outsideHost6, "2001:db8:f::1"},
		{m.id + "-tailspin", ExternalLink, "203.0.113.20", outsideHost, "203.0.113.1"},
		{m.id + "-tailspin", ExternalLink, "2001:db8:f::20", outsideHost6, "2001:db8:f::1"},
		{m.outside, "eth0", outsideHost, "203.0.113.10", "203.0.113.1"},
		{m.outside, "eth0", outsideHost6, "2001:db8:f::10", "2001:db8:f::1"},
		{m.outside, "eth0", outsideHost, "203.0.113.20", "203.0.113.1"},
		{m.outside, "eth0", outsideHost6, "2001:db8:f::20", "2001:db8:f::1"},
	} {
		mark := "dying " + c.src + " to " + c.dst
		ear := m.listen(c.from, c.link)
		m.send(c.from, dying(udp(t, mark, c.src, 25000, c.dst, 25000)))
		ear.marks(nil)
		var said []string
		for _, f := range ear.frames {
			p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
			if n := p.NetworkLayer(); n != nil && strings.Contains(string(f), mark) {
				said = append(said, n.NetworkFlow().Src().String())
			}
		}
		if !slices.Equal(said, []string{c.want}) {
			t.Errorf("%s: the error is from %q, not %s", mark, said, c.want)
		}
	}

	// The uplink gets another address.
	m.ip(gw, "addr add 203.0.113.3/24 dev up0")
	m.ip(gw, "addr add 2001:db8:f::3/64 dev up0 nodad")
	settled(t, e, contoso)
	settled(t, e, tailspin)
	m.ip(gw, "addr del 203.0.113.1/24 dev up0")
	m.ip(gw, "addr replace 203.0.113.3/24 dev up0") // it may have gone with the first
	m.ip(gw, "route replace default via 203.0.113.254")
	m.ip(gw, "addr del 2001:db8:f::1/64 dev up0")
	for _, s := range []Spec{contoso, tailspin} {
		if r := apply(t, e, s); len(r.Repaired) == 0 {
			t.Errorf("%s: the old address is still used", s.Name)
		}
		settled(t, e, s)
	}
	m.run(m.id+"-contoso", "ping -c1 -W30 "+outsideHost)
	if out, err := m.try(m.id+"-contoso", "ping -c1 -W1 -t1 "+outsideHost); err == nil || !strings.Contains(out, "From 203.0.113.3") {
		t.Errorf("with another address:\n%s", out)
	}
	// It loses its addresses: what remains is the kernel's choice.
	m.ip(gw, "addr flush dev up0 scope global")
	for _, s := range []Spec{contoso, tailspin} {
		apply(t, e, s)
		settled(t, e, s)
	}
}

func TestAddressesAreAnsweredFor(t *testing.T) {
	m := newMachine(t)
	ear := m.listen(m.outside, "eth0")
	e := m.engine()
	apply(t, e, specOf(t, "contoso", 5000, "203.0.113.10", "2001:db8:f::10"))
	apply(t, e, specOf(t, "tailspin", 7000, "203.0.113.20:20000-29999"))
	up0, err := m.gw.Link("up0")
	must(t, err)

	arp := string(nl.Announcement(up0.MAC, mustAddr("203.0.113.10")))
	nd := string(nl.Announcement(up0.MAC, mustAddr("2001:db8:f::10")))
	if heard := ear.marks([]string{arp, nd}); len(heard) != 2 {
		t.Errorf("%d of 2 announcements heard", len(heard))
	}
	m.ip(m.outside, "neigh flush all")
	m.run(m.outside, "ping -c1 -W30 203.0.113.10")
	m.run(m.outside, "ping -c1 -W30 2001:db8:f::10")
	_, _ = m.try(m.outside, "ping -c1 -W1 203.0.113.20") // of which only ports are someone's
	_, _ = m.try(m.outside, "ping -c1 -W1 203.0.113.30") // nobody's
	for a, want := range map[string]string{"203.0.113.10": nl.MACString(up0.MAC), "2001:db8:f::10": nl.MACString(up0.MAC), "203.0.113.20": nl.MACString(up0.MAC), "203.0.113.30": ""} {
		if got := m.neighbour(m.outside, a); got != want {
			t.Errorf("%s is at %q, not %q", a, got, want)
		}
	}
}

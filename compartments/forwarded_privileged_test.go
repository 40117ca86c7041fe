//go:build privileged && linux

package compartments

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// forwarding is contoso as in town, with prefixes that go over the uplink as they
// are, beside an address.
func forwarding(t *testing.T) Spec {
	s := specOf(t, "contoso", 5000, "203.0.113.10", "2001:db8:f::10")
	s.Forwarded = []netip.Prefix{prefix("10.1.1.0/24"), prefix("10.1.0.0/16"), prefix("10.3.3.3/32"), prefix("fd00:1::/64")}
	return s
}

// Prefixes that a compartment forwards go out and come in as they are, and nobody
// else has them.
func TestForwardedPasses(t *testing.T) {
	m, e := town(t)
	s := forwarding(t)
	apply(t, e, s)
	settled(t, e, s)
	d := outsideHost
	ear := m.listen(m.outside, "eth0")
	toFabrikam := m.listen(m.id+"-fabrikam", ExternalLink)
	fromContoso := []packet{
		udp(t, "yes:forwarded", "10.1.2.11", 5, d, 53),
		udp(t, "yes:single", "10.3.3.3", 5, d, 53),
		tail(t, "yes:fragment", "10.1.2.11", d),
		udp(t, "yes:forwarded6", "fd00:1::11", 5, outsideHost6, 53),
		udp(t, "yes:external", "203.0.113.10", 5, d, 53),
		udp(t, "no:beside", "10.2.0.1", 5, d, 53),
		udp(t, "no:beside-single", "10.3.3.4", 5, d, 53),
		udp(t, "no:beside6", "fd00:2::11", 5, outsideHost6, 53),
		udp(t, "no:fabrikam", "203.0.113.11", 5, d, 53),
	}
	m.send(m.id+"-contoso", fromContoso...)
	ear.expect(t, "outside", fromContoso, "yes:forwarded", "yes:single", "yes:fragment", "yes:forwarded6", "yes:external")
	if n := drops(t, e)[dropSpoofed]; n != 4 {
		t.Errorf("%d packets counted as %s, not 4", n, dropSpoofed)
	}
	// As from anywhere outside, one reaches another by what he has there.
	across := []packet{udp(t, "across", "10.1.2.11", 5, "203.0.113.11", 53)}
	m.send(m.id+"-contoso", across...)
	toFabrikam.expect(t, "fabrikam", across, "across")
	fromFabrikam := []packet{udp(t, "no:contoso's", "10.1.2.11", 5, d, 53), udp(t, "no:contoso's6", "fd00:1::11", 5, outsideHost6, 53)}
	m.send(m.id+"-fabrikam", fromFabrikam...)
	ear.expect(t, "outside", fromFabrikam)

	// What he forwards is behind the network's router, which can say no.
	past := m.listen(m.id+"-contoso", ExternalLink)
	before := drops(t, e)[dropAstray]
	toContoso := []packet{
		udp(t, "yes:external", "203.0.113.11", 5, "203.0.113.10", 53),
		udp(t, "no:forwarded", "203.0.113.11", 5, "10.1.2.11", 53),
		udp(t, "no:forwarded6", "2001:db8:f::11", 5, "fd00:1::11", 53),
	}
	m.send(m.id+"-fabrikam", toContoso...)
	past.expect(t, "contoso", toContoso, "yes:external")
	if n := drops(t, e)[dropAstray] - before; n != 2 {
		t.Errorf("%d packets counted as %s, not 2", n, dropAstray)
	}

	for _, r := range []string{"10.0.0.0/8", "fd00::/16"} {
		via := "203.0.113.1"
		if strings.Contains(r, ":") {
			via = "2001:db8:f::1"
		}
		m.ip(m.outside, "route add "+r+" via "+via)
	}
	in := m.listen(m.id+"-contoso", ExternalLink)
	toThem := []packet{
		udp(t, "yes:forwarded", d, 53, "10.1.2.11", 5),
		tail(t, "yes:fragment", d, "10.1.2.11"),
		udp(t, "yes:forwarded6", outsideHost6, 53, "fd00:1::11", 5),
		udp(t, "no:beside", d, 53, "10.2.0.1", 5),
		udp(t, "no:beside6", outsideHost6, 53, "fd00:2::11", 5),
	}
	m.send(m.outside, toThem...)
	in.expect(t, "contoso", toThem, "yes:forwarded", "yes:fragment", "yes:forwarded6")
	// Not from where the uplink is not, should that forward.
	m.run(m.id+".gw", "sysctl -qw net.ipv4.conf.mg0.forwarding=1")
	fromMgmt := []packet{udp(t, "mgmt", "172.16.0.2", 53, "10.1.2.11", 5)}
	m.send(m.mgmt, fromMgmt...)
	in.expect(t, "contoso", fromMgmt)
	if n := drops(t, e)[dropIntruder]; n != 1 {
		t.Errorf("%d packets counted as %s, not 1", n, dropIntruder)
	}

	s.Forwarded = nil
	apply(t, e, s)
	settled(t, e, s)
	gone := []packet{udp(t, "no:gone", "10.1.2.11", 5, d, 53), udp(t, "no:gone6", "fd00:1::11", 5, outsideHost6, 53)}
	m.send(m.id+"-contoso", gone...)
	ear.expect(t, "outside", gone)
}

// What is missing of it is put back, and said; what goes leaves nothing.
func TestForwardedDrift(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	s := forwarding(t)
	apply(t, e, s)
	must(t, e.Delete(t.Context(), s.Name))
	before := m.state() // IPv6 is forwarded from the first on
	apply(t, e, s)
	settled(t, e, s)
	gw, peer := m.id+".gw", e.names.uplinkPeer(s.VSID)
	for what, c := range map[string]struct{ command, says string }{
		"route":   {"ip route del 10.1.0.0/16", "route 10.1.0.0/16 via 169.254.0.2 on " + peer},
		"route6":  {"ip -6 route del fd00:1::/64", "route fd00:1::/64 via fe80::2 on " + peer},
		"element": {"nft delete element inet " + e.names.table() + " forward4 { \"" + peer + "\" . 10.1.0.0/16 }", "10.1.0.0/16 in set forward4"},
		"alien":   {"nft add element inet " + e.names.table() + " forward4 { \"" + peer + "\" . 10.9.0.0/16 }", "10.9.0.0/16 in set forward4"},
	} {
		m.run(gw, c.command)
		if r := apply(t, e, s); !slices.ContainsFunc(r.Repaired, func(w string) bool { return strings.Contains(w, c.says) }) {
			t.Errorf("%s: repaired %q, want %q", what, r.Repaired, c.says)
		}
		settled(t, e, s)
	}
	// Another process finds all as it should be.
	settled(t, m.engine(), s)
	s.Forwarded = []netip.Prefix{prefix("10.1.1.0/24"), prefix("10.1.2.0/24")}
	apply(t, e, s)
	settled(t, e, s)
	s.Forwarded = []netip.Prefix{prefix("10.1.0.0/16")}
	apply(t, e, s)
	settled(t, e, s)
	must(t, e.Delete(t.Context(), s.Name))
	m.unchanged(t, before, "after deletion")
}

func TestForwardedRefused(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.ApplyProvider(t.Context(), ProviderSpec{
		Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}},
		Routes:    []hnv.ProviderRoute{{Prefix: prefix("10.200.0.0/16"), NextHop: mustAddr("192.168.1.1")}}})
	must(t, err)
	apply(t, e, forwarding(t))
	m.ip(m.id+".gw", "route add 10.77.1.0/24 via 172.16.0.2")
	for p, want := range map[string]string{
		"203.0.113.0/29": "the gateway's own network 203.0.113.0/24 on up0",
		"172.16.0.0/28":  "the gateway's own network 172.16.0.0/24 on mg0",
		"192.168.1.8/29": "192.168.1.0/24",
		"10.200.7.0/24":  "10.200.0.0/16, which is on the provider side",
		"10.77.0.0/16":   "a route to 10.77.1.0/24 over mg0 already",
		"10.1.0.0/16":    "a route to 10.1.0.0/16 over " + e.names.uplinkPeer(vsid(t, 5000)) + " already",
		"0.0.0.0/0":      "cannot have all addresses",
		"203.0.113.8/29": "holds the external address 203.0.113.11",
		"fd00:9::/64":    "no external address of its family",
	} {
		s := specOf(t, "fabrikam", 6000, "203.0.113.11")
		s.Forwarded = []netip.Prefix{prefix(p)}
		if _, err := e.Apply(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", p, err, want)
		}
	}
	s := specOf(t, "fabrikam", 6000, "203.0.113.11") // within a wider route it may be
	s.Forwarded = []netip.Prefix{prefix("10.200.0.0/16")}
	_, err = e.ApplyProvider(t.Context(), ProviderSpec{Addresses: []hnv.ProviderAddress{{Addr: prefix("192.168.1.10/24"), Interface: "pa0"}}})
	must(t, err)
	m.ip(m.id+".gw", "route add 10.0.0.0/8 via 172.16.0.2")
	apply(t, e, s)
	settled(t, e, s)
}

// Links of attachments and of tunnels are not the engine's: it leaves them alone,
// and they go with the namespace.
func TestOthersLinksInside(t *testing.T) {
	m := newMachine(t)
	e := m.engine()
	_, err := e.Prune(t.Context(), nil)
	must(t, err)
	before := m.state()
	for round, remove := range []func() error{
		func() error { return e.Delete(t.Context(), tenantName(t, "contoso")) },
		func() error { _, err := e.Prune(t.Context(), nil); return err },
	} {
		s := specOf(t, "contoso", 5000, "203.0.113.10")
		apply(t, e, s)
		inside := m.id + "-contoso"
		must(t, m.gw.AddVeth(nl.LinkEnd{Name: "b1"}, nl.LinkEnd{Name: "fw-dc", Namespace: netns.Path(inside)}))
		m.ip(m.id+".gw", "link set b1 alias hnv:"+m.id+":contoso:fw")
		m.ip(inside, "link set fw-dc alias hnv:"+m.id+":contoso:fw")
		m.ip(inside, "tuntap add mode tun name wg-hq")
		for _, l := range []string{"fw-dc", "wg-hq"} {
			m.ip(inside, "link set "+l+" up")
		}
		m.ip(inside, "addr add 192.168.50.2/24 dev fw-dc")
		m.ip(inside, "addr add 169.254.10.1/30 dev wg-hq")
		m.ip(inside, "route add 172.20.0.0/16 via 192.168.50.1 proto 204")
		m.ip(inside, "route add 10.50.0.0/16 dev wg-hq proto 202")
		settled(t, e, s)
		settled(t, m.engine(), s)
		s.External = append(s.External, specOf(t, "x", 5000, "203.0.113.12").External...)
		apply(t, e, s) // changes beside them
		settled(t, e, s)
		routes := m.ip(inside, "route show")
		for _, want := range []string{"172.20.0.0/16", "10.50.0.0/16", "192.168.50.0/24", "169.254.10.0/30"} {
			if !strings.Contains(routes, want) {
				t.Errorf("round %d: the route to %s is gone:\n%s", round, want, routes)
			}
		}
		must(t, remove())
		if netns.Exists(inside) {
			t.Errorf("round %d: the compartment is still there", round)
		}
		m.unchanged(t, before, "after removal")
	}
}

package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// record changes those of the tenant that have the CA, on all hosts.
func (l *lab) changeRecord(s *site, ca string, change func(r *hnv.Record)) {
	l.t.Helper()
	l.apply(s, func(t *Tenant) {
		t.Records = slices.Clone(t.Records)
		found := false
		for i := range t.Records {
			if t.Records[i].CA == ip(ca) {
				change(&t.Records[i])
				found = true
			}
		}
		if !found {
			l.t.Fatalf("%s has no record of %s", t.Name, ca)
		}
	})
}

// wildcardLab is the example lab without a default route: the compartment's
// records are GatewayWildcard ones, at the second PA of the gateway.
func wildcardLab(t *testing.T) (l *lab, contoso, fabrikam *site) {
	const second = "192.168.1.2"
	l, contoso, fabrikam = exampleLab(t)
	l.byPA[ip(second)] = l.hosts[0]
	l.hosts[0].sw.SetProvider(Provider{Addrs: []netip.Addr{ip(paGate), ip(second)}, MTU: 1500})
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) { t.Routes = nil })
		for _, ca := range []string{"10.254.254.2", "fd00:fe::2"} {
			l.changeRecord(s, ca, func(r *hnv.Record) { r.Type, r.PA = hnv.GatewayWildcard, ip(second) })
		}
	}
	return l, contoso, fabrikam
}

// A GatewayWildcard record's station gets what no route covers, of its address
// family, and may speak for it, whatever kind of tunnel each end has.
func TestGatewayWildcard(t *testing.T) {
	l, contoso, fabrikam := wildcardLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, rule := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN} {
			l.changeRecord(s, "10.254.254.2", func(r *hnv.Record) { r.Rule = rule })
			l.changeRecord(s, "fd00:fe::2", func(r *hnv.Record) { r.Rule = rule })
			for _, tc := range []struct {
				from, to *nic
				src, dst string
			}{
				{s.vm11, s.gw, "10.1.1.11", "203.0.113.5"},
				{s.gw, s.vm11, "203.0.113.5", "10.1.1.11"},
				{s.v21, s.gw, "10.1.2.11", "198.51.100.1"},
				{s.gw, s.v21, "198.51.100.1", "10.1.2.11"},
				{s.vm11, s.gw, "fd00:1::11", "2001:db8::5"},
				{s.gw, s.vm11, "2001:db8::5", "fd00:1::11"},
				{s.vm12, s.gw, "10.1.1.12", "10.254.254.2"},
				{s.gw, s.vm12, "10.254.254.2", "10.1.1.12"},
			} {
				for range 2 { // decided, and replayed
					tc.from.send(udp(tc.from.mac, hnv.RouterMAC, tc.src, tc.dst, "x"))
					if d := expect(t, l, tc.to, "x", contoso, fabrikam); d.DstMAC != tc.to.mac.Bytes() || d.TTL != 63 {
						t.Errorf("%s: %s to %s arrives for %x with TTL %d", s.Name, tc.src, tc.dst, d.DstMAC, d.TTL)
					}
				}
			}
		}
		// What a subnet covers is not for it, and nobody else speaks for the outside.
		before := s.vm11.host.allDrops()
		s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.99", "x"))
		s.vm11.send(udp(mac11, hnv.RouterMAC, "203.0.113.5", "10.1.2.11", "x"))
		l.settle()
		s.vm11.drain() // host unreachable
		if d := s.vm11.host.since(before); d[drop.DestinationUnknown] != 1 || d[drop.SourceCASpoofed] != 1 {
			t.Errorf("%s: drops are %v", s.Name, d)
		}
		expect(t, l, nil, "", contoso, fabrikam)
		// From the fabric, too, only the wildcard's host speaks for the outside.
		h2 := s.vm12.host
		before = h2.allDrops()
		h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, udp(hnv.RouterMAC, mac12, "203.0.113.5", "10.1.1.12", "x")))
		h2.inject(outerPacket(s.Encap, paGate, paHost2, s.base+1, udp(hnv.RouterMAC, mac12, "203.0.113.5", "10.1.1.12", "x")))
		expect(t, l, nil, "", contoso, fabrikam)
		if d := h2.since(before); d[drop.SourcePAMismatch] != 1 || d[drop.SourcePAUnknown] != 1 {
			t.Errorf("%s: drops are %v", s.Name, d)
		}
	}
	// With the IPv6 one an ordinary record, IPv6 has no way out.
	l.changeRecord(contoso, "fd00:fe::2", func(r *hnv.Record) { r.Type = hnv.Static })
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "fd00:1::11", "2001:db8::5", "x"))
	if typ, code, _, _ := icmpBack(t, contoso.vm11); typ != 1 || code != 0 {
		t.Errorf("type %d code %d, want no route", typ, code)
	}
	fabrikam.vm11.send(udp(mac11, hnv.RouterMAC, "fd00:1::11", "2001:db8::5", "x"))
	expect(t, l, fabrikam.gw, "x", contoso, fabrikam)
}

// A VM may be the gateway; with several, flows to the outside are spread, and
// each may speak for it.
func TestWildcardVMs(t *testing.T) {
	l, contoso, fabrikam := wildcardLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.changeRecord(s, "10.1.1.12", func(r *hnv.Record) { r.Type = hnv.GatewayWildcard })
		hits := map[*nic]int{}
		for i := range 200 {
			s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", fmt.Sprintf("203.0.113.%d", i), "x"))
			l.settle()
			for _, n := range []*nic{s.gw, s.vm12} {
				hits[n] += len(n.drain())
			}
		}
		if hits[s.gw]+hits[s.vm12] != 200 || hits[s.gw] < 60 || hits[s.vm12] < 60 {
			t.Errorf("%s: of 200 flows %d went to the compartment, %d to the VM", s.Name, hits[s.gw], hits[s.vm12])
		}
		for _, n := range []*nic{s.gw, s.vm12} {
			n.send(udp(n.mac, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x"))
			expect(t, l, s.vm11, "x", contoso, fabrikam)
		}
		// With one gone, its flows go to the other.
		l.changeRecord(s, "10.1.1.12", func(r *hnv.Record) { r.Type = hnv.Static })
		for i := range 20 {
			s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", fmt.Sprintf("203.0.113.%d", i), "x"))
			expect(t, l, s.gw, "x", contoso, fabrikam)
		}
	}
}

// A Dynamic record is like a Static one, and gives way to it.
func TestDynamicRecords(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	dynamic := func(s *site, ca string, mac hnv.MAC, pa string) hnv.Record {
		r := record(s.base+1, ca, mac, pa, hnv.Rule(s.Encap))
		r.Type = hnv.Dynamic
		return r
	}
	for _, s := range []*site{contoso, fabrikam} {
		for _, h := range l.hosts {
			// A second address of vm12, and a claim of vm13's for vm11's address.
			if err := h.sw.UpdateRecords(s.RDID, []hnv.Record{dynamic(s, "10.1.1.50", mac12, paHost2), dynamic(s, "10.1.1.11", mac13, paHost1)}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range []*site{contoso, fabrikam} {
		s.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.50", "x"))
		expect(t, l, s.vm12, "x", contoso, fabrikam)
		s.vm12.send(udp(mac12, hnv.RouterMAC, "10.1.1.50", "10.1.2.11", "x"))
		expect(t, l, s.v21, "x", contoso, fabrikam)
		s.vm12.send(udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"))
		expect(t, l, s.vm11, "x", contoso, fabrikam)
	}
	// What is configured takes the learned one's place.
	for _, h := range l.hosts {
		if err := h.sw.UpdateRecords(contoso.RDID, []hnv.Record{record(5001, "10.1.1.50", mac13, paHost1, hnv.RuleNVGRE)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	contoso.vm12.send(udp(mac12, hnv.RouterMAC, "10.1.1.12", "10.1.1.50", "x"))
	expect(t, l, contoso.vm13, "x", contoso, fabrikam)
	fabrikam.vm13.send(udp(mac13, hnv.RouterMAC, "10.1.1.13", "10.1.1.50", "x"))
	expect(t, l, fabrikam.vm12, "x", contoso, fabrikam)
}

// An L2Only station gets frames for addresses that nobody has, by its MAC, inside
// its virtual subnet, whatever kind of tunnel leads to it; it sends none.
func TestL2OnlyRecords(t *testing.T) {
	for _, rule := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN} {
		l, contoso, fabrikam := exampleLab(t)
		station := map[*site]*nic{}
		for _, s := range []*site{contoso, fabrikam} {
			l.apply(s, func(t *Tenant) {
				t.Records = append(t.Records, hnv.Record{VSID: mustVSID(s.base + 1), MAC: mac14, PA: ip(paHost1), Rule: rule, Type: hnv.L2Only})
			})
			station[s] = l.hosts[1].plug(s.base+1, mac14, PortVM)
		}
		for _, s := range []*site{contoso, fabrikam} {
			for _, tc := range []struct {
				what  string
				from  *nic
				frame []byte
				want  bool
			}{
				{"from another host", s.vm12, udp(mac12, mac14, "10.1.1.12", "10.1.1.99", "x"), true},
				{"from this host", s.vm13, udp(mac13, mac14, "10.1.1.13", "10.1.1.99", "x"), true},
				{"IPv6", s.vm12, udp(mac12, mac14, "fd00:1::12", "fd00:1::99", "x"), true},
				{"an address of another subnet", s.vm12, udp(mac12, mac14, "10.1.1.12", "10.1.2.99", "x"), false},
				{"an address of somebody else", s.vm12, udp(mac12, mac14, "10.1.1.12", "10.1.1.11", "x"), false},
				{"the router's address", s.vm12, udp(mac12, mac14, "10.1.1.12", "10.1.1.1", "x"), false},
				{"by the router", s.vm12, udp(mac12, hnv.RouterMAC, "10.1.1.12", "10.1.1.99", "x"), false},
				{"from another subnet", s.v21, udp(mac21, mac14, "10.1.2.11", "10.1.1.99", "x"), false},
				{"in another's name", s.vm12, udp(mac12, mac14, "10.1.1.99", "10.1.1.98", "x"), false},
			} {
				for range 2 {
					tc.from.send(tc.frame)
					l.settle()
					for _, n := range s.nics() {
						for _, f := range n.drain() {
							if d := decode(t, f.bytes); d.Proto == 17 {
								t.Errorf("%s, %s: somebody else got it", s.Name, tc.what)
							}
						}
					}
					if got := len(station[s].drain()); (got == 1) != tc.want || got > 1 {
						t.Errorf("%s by %s, %s: the station got %d frames; drops %v %v", s.Name, rule, tc.what, got, l.hosts[1].allDrops(), l.hosts[2].allDrops())
					}
				}
			}
			before := l.hosts[1].allDrops()
			station[s].send(udp(mac14, mac12, "10.1.1.99", "10.1.1.12", "x"))
			expect(t, l, nil, "", contoso, fabrikam)
			if d := l.hosts[1].since(before); d[drop.SourceCAUnknown] != 1 {
				t.Errorf("%s: drops are %v", s.Name, d)
			}
		}
		for _, s := range []*site{contoso, fabrikam} {
			if n := len(station[s].drain()); n != 0 {
				t.Errorf("%s's station got %d frames of its neighbour", s.Name, n)
			}
		}
		// The station's record moves away: its old port gets no more of it.
		for _, h := range l.hosts[1:2] {
			if err := h.sw.UpdateRecords(contoso.RDID, []hnv.Record{{VSID: mustVSID(5001), MAC: mac14, PA: ip(paGate), Rule: rule, Type: hnv.L2Only}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		contoso.vm12.send(udp(mac12, mac14, "10.1.1.12", "10.1.1.99", "x"))
		l.settle()
		if n := len(station[contoso].drain()); n != 0 || l.hosts[1].drops("contoso")[drop.NotLocal] != 1 {
			t.Errorf("a station that has moved away gets %d frames; drops %v", n, l.hosts[1].drops("contoso"))
		}
	}
}

// Customer routes: the longest prefix counts, then the metric, among equals the
// flow chooses; a route may lie within a subnet, but never takes an address from
// a record or from the router; next hops without a record are passed over.
func TestCustomerRoutes(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		route := func(v uint32, prefix, hop string, metric uint32) hnv.CustomerRoute {
			return hnv.CustomerRoute{VSID: mustVSID(s.base + v), Prefix: netip.MustParsePrefix(prefix), NextHop: ip(hop), Metric: metric}
		}
		l.apply(s, func(t *Tenant) {
			t.Routes = append(slices.Clone(t.Routes),
				route(1, "172.16.0.0/12", "10.1.1.12", 0),
				route(2, "172.16.5.0/24", "10.1.2.11", 0),
				route(1, "172.16.6.0/24", "10.1.1.13", 10),
				route(2, "172.16.6.0/24", "10.1.2.11", 20),
				route(1, "172.16.7.0/24", "10.1.1.99", 0),
				route(2, "172.16.7.0/24", "10.1.2.11", 0),
				route(1, "172.16.8.0/24", "10.1.1.99", 0),
				route(1, "10.1.2.128/25", "10.1.1.13", 0),
				route(1, "10.1.1.8/29", "10.1.1.13", 0),
				route(1, "fd00:99::/64", "fd00:1::12", 0),
			)
		})
	}
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			dst string
			to  *nic
		}{
			{"172.16.1.1", s.vm12},
			{"172.16.5.1", s.v21},
			{"172.16.6.1", s.vm13},
			{"172.16.7.1", s.v21},
			{"172.16.8.1", nil},
			{"10.1.2.129", s.vm13}, // cut out of a subnet
			{"10.1.2.11", s.v21},
			{"10.1.1.9", s.vm13}, // likewise
			{"10.1.1.12", s.vm12},
			{"10.1.1.99", nil},
			{"172.32.0.1", s.gw},
			{"203.0.113.5", s.gw},
			{"fd00:99::1", s.vm12},
			{"fd00:98::1", s.gw},
		} {
			from := "10.1.1.11"
			if ip(tc.dst).Is6() {
				from = "fd00:1::11"
			}
			if got := arrives(t, l, s.vm11, udp(mac11, hnv.RouterMAC, from, tc.dst, tc.dst), tc.to, contoso, fabrikam); got != (tc.to != nil) {
				t.Errorf("%s: to %s: %v; drops %v", s.Name, tc.dst, got, l.hosts[1].allDrops())
			}
			// The way back: who gets what goes there may send in its name, and
			// nobody else.
			for _, n := range []*nic{s.vm12, s.vm13, s.v21} {
				want := tc.to == n
				if n.mac == mac13 && tc.dst == "172.16.6.1" || tc.dst == "172.16.7.1" && n == s.v21 {
					want = true
				}
				if got := arrives(t, l, n, udp(n.mac, hnv.RouterMAC, tc.dst, from, tc.dst), s.vm11, contoso, fabrikam); got != want {
					t.Errorf("%s: %s speaks for %s: %v; drops %v %v", s.Name, s.ca(n, false), tc.dst, got, l.hosts[1].allDrops(), l.hosts[2].allDrops())
				}
			}
		}
		// The router's address stays its own under a longer route.
		s.v21.send(ipFrame(mac21, hnv.RouterMAC, "10.1.2.11", "10.1.2.1", 64, echo(), "ping"))
		if typ, _, src, _ := icmpBack(t, s.v21); typ != 0 || src != "10.1.2.1" {
			t.Errorf("%s: type %d from %s", s.Name, typ, src)
		}
	}
}

// A star: the subnets of one routing domain reach each other by a VM in the
// middle where a route says so, and not at all where the next hop is gone.
func TestStarTopology(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		branch := func(n *nic, ca string) []byte {
			return ipFrame(n.mac, hnv.RouterMAC, s.ca(n, false), ca, 64, &layers.UDP{SrcPort: 1, DstPort: 2}, "x")
		}
		l.apply(s, func(t *Tenant) {
			t.Routes = nil
			for i, hub := range []string{"10.1.1.12", "10.1.1.12"} { // two branches behind the hub
				t.Routes = append(t.Routes, hnv.CustomerRoute{VSID: mustVSID(s.base + 1), Prefix: netip.MustParsePrefix(fmt.Sprintf("192.168.%d.0/24", i)), NextHop: ip(hub)})
			}
		})
		if !arrives(t, l, s.v21, branch(s.v21, "192.168.0.9"), s.vm12, contoso, fabrikam) || !arrives(t, l, s.vm13, branch(s.vm13, "192.168.1.9"), s.vm12, contoso, fabrikam) {
			t.Errorf("%s: the hub does not get what is for its branches", s.Name)
		}
		if !arrives(t, l, s.vm12, udp(mac12, hnv.RouterMAC, "192.168.1.9", "10.1.2.11", "x"), s.v21, contoso, fabrikam) {
			t.Errorf("%s: the hub cannot send for its branches", s.Name)
		}
		if arrives(t, l, s.vm13, udp(mac13, hnv.RouterMAC, "192.168.1.9", "10.1.2.11", "x"), s.v21, contoso, fabrikam) {
			t.Errorf("%s: another VM can send for the hub's branches", s.Name)
		}
		for _, h := range l.hosts {
			if err := h.sw.UpdateRecords(s.RDID, nil, []hnv.RecordKey{{VSID: mustVSID(s.base + 1), CA: ip("10.1.1.12")}}); err != nil {
				t.Fatal(err)
			}
		}
		if arrives(t, l, s.v21, branch(s.v21, "192.168.0.9"), s.vm12, contoso, fabrikam) {
			t.Errorf("%s: the hub gets packets without a record", s.Name)
		}
	}
}

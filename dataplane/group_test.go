package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// groupLab is the example lab with one more VM, .14, in the first subnet on the
// second host, and a VM of that subnet on the gateway's machine.
func groupLab(t *testing.T) (l *lab, contoso, fabrikam *site, more map[*site][]*nic) {
	l, contoso, fabrikam = exampleLab(t)
	more = map[*site][]*nic{}
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			rule := hnv.Rule(s.Encap)
			t.Records = append(slices.Clone(t.Records), record(s.base+1, "10.1.1.14", mac14, paHost2, rule), record(s.base+1, "10.1.1.15", mac15, paGate, rule))
		})
		more[s] = []*nic{l.hosts[2].plug(s.base+1, mac14, PortVM), l.hosts[0].plug(s.base+1, mac15, PortVM)}
	}
	return l, contoso, fabrikam, more
}

var mac15 = mustMAC("00:15:5d:00:00:15")

// copies counts what each NIC got.
func copies(l *lab, nics ...*nic) map[*nic]int {
	l.t.Helper()
	l.settle()
	out := map[*nic]int{}
	for _, n := range nics {
		if got := len(n.drain()); got != 0 {
			out[n] = got
		}
	}
	return out
}

// Broadcasts and multicasts of all sorts reach each other station of the virtual
// subnet once, over one packet for each other host, or over one for all where
// there is a PA group; nobody else, in this tenant or the other.
func TestGroups(t *testing.T) {
	for _, group := range []string{"", "239.1.1.1"} {
		l, contoso, fabrikam, more := groupLab(t)
		for i, s := range []*site{contoso, fabrikam} {
			if group != "" {
				g := ip(group).As4()
				g[3] += byte(i)
				l.apply(s, func(t *Tenant) {
					t.Subnets = slices.Clone(t.Subnets)
					t.Subnets[1].MulticastGroup = netip.AddrFrom4(g)
				})
			}
		}
		var all []*nic
		for _, s := range []*site{contoso, fabrikam} {
			all = slices.Concat(all, s.nics(), more[s])
		}
		for _, s := range []*site{contoso, fabrikam} {
			members := []*nic{s.vm11, s.vm12, s.vm13, more[s][0], more[s][1]}
			for _, from := range []struct {
				n    *nic
				v4   string
				v6   string
				away int // other hosts
			}{{s.vm11, "10.1.1.11", "fd00:1::11", 2}, {s.vm12, "10.1.1.12", "fd00:1::12", 2}, {more[s][1], "10.1.1.15", "fe80::15", 2}} {
				if group != "" {
					from.away = 1
				}
				m := from.n.mac
				for what, b := range map[string][]byte{
					"broadcast":            udp(m, macBroadcast, from.v4, "255.255.255.255", "x"),
					"directed broadcast":   udp(m, macBroadcast, from.v4, "10.1.1.255", "x"),
					"multicast":            udp(m, macMulticast, from.v4, "224.0.0.251", "x"),
					"multicast, broadcast": udp(m, macBroadcast, from.v4, "239.255.255.250", "x"),
					"IPv6 multicast":       udp(m, macMulticast6, from.v6, "ff02::fb", "x"),
					"IPv6, link-local":     udp(m, macMulticast6, "fe80::1", "ff02::fb", "x"),
					"MLD without address":  ipFrame(m, macMulticast6, "::", "ff02::16", 1, &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(143, 0)}, "report"),
					"first DHCP question":  ipFrame(m, macBroadcast, "0.0.0.0", "255.255.255.255", 64, udpPorts(68, 67), "discover"),
					"DHCPv6 question":      ipFrame(m, macMulticast6, "fe80::1", "ff02::1:2", 1, udpPorts(546, 547), "solicit"),
					"fragment of broadcast": func() []byte {
						f, _ := fragments(udp(m, macBroadcast, from.v4, "255.255.255.255", strings.Repeat("x", 64)), 1, 32)
						return f
					}(),
				} {
					l.tap = nil
					from.n.send(b)
					got := copies(l, all...)
					for _, n := range members {
						if want := map[bool]int{true: 0, false: 1}[n == from.n]; got[n] != want {
							t.Errorf("group %q, %s, %s from %s: %s got %d copies, want %d", group, s.Name, what, m, n.mac, got[n], want)
						}
						delete(got, n)
					}
					if len(got) != 0 {
						t.Errorf("group %q, %s, %s from %s: others got %v", group, s.Name, what, m, got)
					}
					if len(l.tap) != from.away {
						t.Errorf("group %q, %s, %s from %s: %d packets on the fabric, want %d", group, s.Name, what, m, len(l.tap), from.away)
					}
					if group == "" && len(l.tap) == 2 {
						a, _ := readOuter(l.tap[0].bytes)
						b, _ := readOuter(l.tap[1].bytes)
						if a.dst == b.dst || a.vsid != s.base+1 || b.vsid != s.base+1 {
							t.Errorf("%s, %s: copies to %s and %s in VSIDs %d and %d", s.Name, what, a.dst, b.dst, a.vsid, b.vsid)
						}
					}
				}
			}
			// What is for several stations on one layer only, or from somebody else,
			// is for nobody.
			before := s.vm11.host.allDrops()
			bad := [][]byte{
				udp(mac11, mac13, "10.1.1.11", "255.255.255.255", "x"),
				udp(mac11, mac13, "10.1.1.11", "224.0.0.251", "x"),
				udp(mac11, macBroadcast, "10.1.1.11", "10.1.1.13", "x"),
				udp(mac11, macBroadcast, "10.1.1.11", "10.1.2.255", "x"),
				udp(mac11, macMulticast6, "fd00:1::11", "fd00:1::12", "x"),
				udp(mac11, macBroadcast, "10.1.1.13", "255.255.255.255", "x"),
				udp(mac11, macBroadcast, "10.1.1.12", "255.255.255.255", "x"),
				udp(mac11, macBroadcast, "10.1.1.99", "255.255.255.255", "x"),
				udp(mac11, macBroadcast, "127.0.0.1", "255.255.255.255", "x"),
				udp(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", "x"),
				udp(mac11, macMulticast, "224.0.0.1", "224.0.0.251", "x"),
				asICMPv6(udp(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", "x")),
				udp(mac12, macBroadcast, "10.1.1.11", "255.255.255.255", "x"),
			}
			for _, b := range bad {
				s.vm11.send(b)
			}
			if got := copies(l, all...); len(got) != 0 {
				t.Errorf("%s: bad frames reach %v", s.Name, got)
			}
			n := uint64(0)
			for _, c := range s.vm11.host.since(before) {
				n += c
			}
			if n != uint64(len(bad)) {
				t.Errorf("%s: %d drops of %d bad frames: %v", s.Name, n, len(bad), s.vm11.host.since(before))
			}
		}
	}
}

// What comes out of a tunnel for several stations goes to ports alone, only if
// it comes from one of the virtual subnet's hosts, and never back.
func TestGroupsFromTheFabric(t *testing.T) {
	l, contoso, fabrikam, more := groupLab(t)
	h2 := l.hosts[2]
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			what  string
			pa    string
			vsid  uint32
			frame []byte
			want  bool
		}{
			{"good", paHost1, s.base + 1, udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x"), true},
			{"without an address", paHost1, s.base + 1, ipFrame(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", 64, udpPorts(68, 67), "x"), true},
			{"link-local", paHost1, s.base + 1, udp(mac11, macMulticast6, "fe80::11", "ff02::1", "x"), true},
			{"wrong host", paGate, s.base + 1, udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x"), false},
			{"wrong host, without an address", paGate, s.base + 1, ipFrame(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", 64, udpPorts(68, 67), "x"), false},
			{"stranger", "192.168.9.9", s.base + 1, udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x"), false},
			{"unknown MAC, link-local", paHost1, s.base + 1, udp(mac21, macMulticast6, "fe80::11", "ff02::1", "x"), false},
			{"another MAC", paHost1, s.base + 1, udp(mac13, macBroadcast, "10.1.1.11", "255.255.255.255", "x"), false},
			{"another subnet's", paHost1, s.base + 2, udp(mac11, macBroadcast, "10.1.1.11", "10.1.2.255", "x"), true}, // v21 hears whom it could hear by the router
			{"a unicast source that is none", paHost1, s.base + 1, udp(mac11, macBroadcast, "224.0.0.1", "255.255.255.255", "x"), false},
		} {
			l.tap = nil
			h2.inject(outerPacket(s.Encap, tc.pa, paHost2, tc.vsid, tc.frame))
			got := copies(l, append(append(contoso.nics(), fabrikam.nics()...), append(more[contoso], more[fabrikam]...)...)...)
			want := map[*nic]int{}
			switch {
			case tc.want && tc.vsid == s.base+1:
				want = map[*nic]int{s.vm12: 1, more[s][0]: 1}
			case tc.want:
				want = map[*nic]int{s.v21: 1}
			}
			if fmt.Sprint(len(got), got[s.vm12], got[more[s][0]], got[s.v21]) != fmt.Sprint(len(want), want[s.vm12], want[more[s][0]], want[s.v21]) {
				t.Errorf("%s, %s: %v got it; drops %v", s.Name, tc.what, got, h2.allDrops())
			}
			if len(l.tap) != 0 {
				t.Errorf("%s, %s: went back to the fabric", s.Name, tc.what)
			}
		}
	}
}

// In a fabric of both kinds of tunnel, and of addresses that stand for CAs, each
// host is sent broadcasts by its own kind, and takes them.
func TestGroupsInAMixedFabric(t *testing.T) {
	for _, group := range []bool{false, true} {
		for _, first := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN, hnv.RuleRewrite} {
			for _, second := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN} {
				l, contoso, fabrikam := exampleLab(t)
				if first == hnv.RuleRewrite {
					l, contoso, fabrikam = rewriteLab(t)
				}
				for i, s := range []*site{contoso, fabrikam} {
					l.apply(s, func(t *Tenant) {
						t.Records, t.Subnets = slices.Clone(t.Records), slices.Clone(t.Subnets)
						if group {
							t.Subnets[1].MulticastGroup = netip.AddrFrom4([4]byte{239, 1, 1, byte(i)})
						}
						for j := range t.Records {
							switch r := &t.Records[j]; {
							case r.PA == ip(paHost1) && first != hnv.RuleRewrite:
								r.Rule = first
							case r.PA == ip(paHost2) || r.CA == ip("10.1.1.12"):
								if r.CA == ip("10.1.1.12") {
									r.PA = ip(paHost2)
								}
								r.Rule = second
							}
						}
					})
				}
				for _, s := range []*site{contoso, fabrikam} {
					what := fmt.Sprintf("%s, %s and %s, group %v", s.Name, first, second, group)
					for _, from := range []*nic{s.vm11, s.vm12, s.vm13} {
						for _, six := range []bool{false, true} {
							b := udp(from.mac, macBroadcast, s.ca(from, false), "255.255.255.255", "x")
							if six {
								b = udp(from.mac, macMulticast6, "fe80::1", "ff02::1", "x")
							}
							from.send(b)
							got := copies(l, append(contoso.nics(), fabrikam.nics()...)...)
							for _, n := range []*nic{s.vm11, s.vm12, s.vm13} {
								if want := map[bool]int{true: 0, false: 1}[n == from]; got[n] != want {
									t.Errorf("%s: from %s, %s got %d copies, want %d; drops %v %v", what, from.mac, n.mac, got[n], want, l.hosts[1].allDrops(), l.hosts[2].allDrops())
								}
							}
						}
					}
				}
			}
		}
	}
}

// Broadcasts obey lists and rates of who sends and of who gets them, and are cut
// where they do not fit.
func TestGroupsUnderLists(t *testing.T) {
	l, contoso, fabrikam, more := groupLab(t)
	all := slices.Concat(contoso.nics(), fabrikam.nics(), more[contoso], more[fabrikam])
	s := contoso
	hello := func(from *nic, ca string, port layers.UDPPort) map[*nic]int {
		from.send(ipFrame(from.mac, macBroadcast, ca, "255.255.255.255", 64, udpPorts(1, port), "x"))
		return copies(l, all...)
	}
	l.setScope(s, scope{port: rules(aclRule(allowIn("udp")).dport(5, 5), aclRule(allowOut("udp")).dport(6, 6))})
	for _, tc := range []struct {
		from  *nic
		ca    string
		port  layers.UDPPort
		heard []*nic
	}{
		{s.vm12, "10.1.1.12", 5, []*nic{s.vm11, s.vm13, more[s][0], more[s][1]}},
		{s.vm12, "10.1.1.12", 6, []*nic{s.vm13, more[s][0], more[s][1]}},
		{s.vm11, "10.1.1.11", 6, []*nic{s.vm12, s.vm13, more[s][0], more[s][1]}},
		{s.vm11, "10.1.1.11", 5, nil},
	} {
		got := hello(tc.from, tc.ca, tc.port)
		for _, n := range tc.heard {
			if got[n] != 1 {
				t.Errorf("from %s to port %d: %s got %d copies", tc.ca, tc.port, n.mac, got[n])
			}
			delete(got, n)
		}
		if len(got) != 0 {
			t.Errorf("from %s to port %d: %v got copies", tc.ca, tc.port, got)
		}
	}
	if d := l.hosts[1].drops("contoso"); d[drop.ACLDenied] != 2 || len(d) != 1 {
		t.Errorf("drops are %v, want one copy and one frame denied", d)
	}
	// The neighbour's stations hear everything.
	if got := hello(fabrikam.vm11, "10.1.1.11", 5); len(got) != 4 {
		t.Errorf("%d stations of the neighbour heard it", len(got))
	}
	// Three fragments of one broadcast are as many copies, and make it again.
	l.clearScope(s)
	payload := strings.Repeat("0123456789", 400)
	s.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", payload))
	l.settle()
	for _, n := range []*nic{s.vm12, s.vm13, more[s][0], more[s][1]} {
		data := ""
		for _, f := range n.drain() {
			v, err := readIP(f.bytes[14:], false)
			if err != nil || v.length > 1458 || int(v.frag&0x1fff)*8 != len(data) {
				t.Fatalf("%s: a fragment at %d of %d bytes: %v", n.mac, int(v.frag&0x1fff)*8, v.length, err)
			}
			data += string(v.body)
		}
		if len(data) != 8+len(payload) || data[8:] != payload {
			t.Errorf("%s got %d bytes", n.mac, len(data))
		}
	}
}

// A subnet's DHCP server alone hears clients' questions, wherever it is, and it
// alone may answer; servers elsewhere, and those of other subnets, may not.
func TestDHCPServerAlone(t *testing.T) {
	l, contoso, fabrikam, more := groupLab(t)
	all := slices.Concat(contoso.nics(), fabrikam.nics(), more[contoso], more[fabrikam])
	for _, s := range []*site{contoso, fabrikam} {
		other := contoso
		if s == contoso {
			other = fabrikam
		}
		discover := func(from *nic) map[*nic]int {
			from.send(ipFrame(from.mac, macBroadcast, "0.0.0.0", "255.255.255.255", 64, udpPorts(68, 67), "discover"))
			return copies(l, all...)
		}
		offers := func(from *nic, ca, to string, dst hnv.MAC) map[*nic]int {
			from.send(ipFrame(from.mac, dst, ca, to, 64, udpPorts(67, 68), "offer"))
			return copies(l, all...)
		}
		for _, server := range []*nic{s.vm12, s.vm13, more[s][0], more[s][1]} {
			cas := map[*nic]string{s.vm11: "10.1.1.11", s.vm12: "10.1.1.12", s.vm13: "10.1.1.13", more[s][0]: "10.1.1.14", more[s][1]: "10.1.1.15"}
			l.apply(s, func(t *Tenant) {
				t.Subnets = slices.Clone(t.Subnets)
				t.Subnets[1].DHCP = ip(cas[server])
			})
			if got := discover(s.vm11); len(got) != 1 || got[server] != 1 {
				t.Errorf("%s: the server is %s, and %v heard the question", s.Name, cas[server], got)
			}
			for n, ca := range cas {
				if n == s.vm11 {
					continue
				}
				want := n == server
				if got := offers(n, ca, "255.255.255.255", macBroadcast); got[s.vm11] == 1 != want || !want && len(got) != 0 {
					t.Errorf("%s: the server is %s; a broadcast offer of %s reached %v", s.Name, cas[server], ca, got)
				}
				if got := offers(n, ca, "10.1.1.11", mac11); got[s.vm11] == 1 != want || len(got) > 1 {
					t.Errorf("%s: the server is %s; an offer of %s reached %v", s.Name, cas[server], ca, got)
				}
			}
			// From next door, where there is no server at all, on the same host and
			// on another one.
			if got := offers(s.v21, "10.1.2.11", "10.1.1.11", hnv.RouterMAC); len(got) != 0 {
				t.Errorf("%s: the server is %s; an offer from another subnet reached %v", s.Name, cas[server], got)
			}
			if got := offers(s.v21, "10.1.2.11", "10.1.1.12", hnv.RouterMAC); len(got) != 0 {
				t.Errorf("%s: the server is %s; an offer from another subnet on the same host reached %v", s.Name, cas[server], got)
			}
			// The neighbour has no server: everybody hears, and anybody may answer.
			if got := discover(other.vm11); len(got) != 4 {
				t.Errorf("%s: %d heard the question", other.Name, len(got))
			}
			if got := offers(other.vm13, "10.1.1.13", "10.1.1.11", mac11); got[other.vm11] != 1 {
				t.Errorf("%s: an offer reached %v", other.Name, got)
			}
		}
		l.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].DHCP = netip.Addr{}
		})
	}
	// A server of the one family is none of the other.
	s := contoso
	l.apply(s, func(t *Tenant) {
		t.Subnets = slices.Clone(t.Subnets)
		t.Subnets[1].DHCP = ip("fd00:1::12")
	})
	s.vm11.send(ipFrame(mac11, macMulticast6, "fe80::11", "ff02::1:2", 1, udpPorts(546, 547), "solicit"))
	if got := copies(l, all...); len(got) != 1 || got[s.vm12] != 1 {
		t.Errorf("%v heard the DHCPv6 question, want the server alone", got)
	}
	s.vm11.send(ipFrame(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", 64, udpPorts(68, 67), "discover"))
	if got := copies(l, all...); len(got) != 4 {
		t.Errorf("%v heard the DHCPv4 question, want all", got)
	}
	s.vm13.send(ipFrame(mac13, macMulticast6, "fe80::13", "ff02::1", 1, udpPorts(547, 546), "reply"))
	if got := copies(l, all...); len(got) != 0 {
		t.Errorf("a rogue's DHCPv6 answer reached %v", got)
	}
}

// asICMPv6 gives the IPv4 packet the protocol number of ICMPv6.
func asICMPv6(frame []byte) []byte {
	out := slices.Clone(frame)
	out[14+9] = 58
	mend(out, 14)
	return out
}

// Questions for unknown addresses that come from the fabric use up nothing of
// what this machine's own ports may send.
func TestStormsFromTheFabric(t *testing.T) {
	c := newSchooled(t, hnv.Learning{}, hnv.RuleNVGRE, hnv.RuleVXLAN)
	h1 := c.hosts[1]
	for _, s := range []*site{c.contoso, c.fabrikam} {
		c.apply(s, func(t *Tenant) { t.StormPPS = 10 })
		for range 50 {
			h1.inject(outerPacket(s.Encap, paHost2, paHost1, s.base+1, arpFrame(1, mac12, macBroadcast, mac12, "10.1.1.12", "10.1.1.77")))
		}
		if n := len(c.a[s].drain()); n != 10 {
			t.Errorf("%s: the station was asked %d times, want 10", s.Name, n)
		}
		s.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x"))
		if n := len(s.vm13.drain()); n != 1 {
			t.Errorf("%s: %d copies of a broadcast: %v", s.Name, n, h1.allDrops())
		}
	}
}

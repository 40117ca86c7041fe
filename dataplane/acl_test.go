package dataplane

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func ports(lo, hi uint16) []hnv.PortRange { return []hnv.PortRange{{Lo: lo, Hi: hi}} }

func allowIn(proto string) hnv.ACLRule {
	return hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: proto}
}

func denyIn(proto string) hnv.ACLRule {
	r := allowIn(proto)
	r.Action = hnv.Deny
	return r
}

func allowOut(proto string) hnv.ACLRule {
	r := allowIn(proto)
	r.Direction = hnv.Outbound
	return r
}

func (r aclRule) from(p ...string) aclRule { r.Src = prefixes(p...); return r }
func (r aclRule) to(p ...string) aclRule   { r.Dst = prefixes(p...); return r }
func (r aclRule) sport(lo, hi uint16) aclRule {
	r.SrcPorts = append(r.SrcPorts, ports(lo, hi)...)
	return r
}
func (r aclRule) dport(lo, hi uint16) aclRule {
	r.DstPorts = append(r.DstPorts, ports(lo, hi)...)
	return r
}

// aclRule is a rule in the making.
type aclRule hnv.ACLRule

func rules(list ...aclRule) (out []hnv.ACLRule) {
	for _, r := range list {
		out = append(out, hnv.ACLRule(r))
	}
	return out
}

// scope says where a list applies.
type scope struct{ port, subnet []hnv.ACLRule }

// setScope gives vm11's port, and its virtual subnet, their lists.
func (l *lab) setScope(s *site, sc scope) {
	l.t.Helper()
	l.apply(s, func(t *Tenant) {
		t.ACLs, t.Subnets[1].ACL = nil, hnv.Name{}
		if sc.port != nil {
			t.ACLs = append(t.ACLs, acl("of-port", sc.port...))
		}
		if sc.subnet != nil {
			t.ACLs = append(t.ACLs, acl("of-subnet", sc.subnet...))
			t.Subnets[1].ACL = mustName("of-subnet")
		}
	})
	name := hnv.Name{}
	if sc.port != nil {
		name = mustName("of-port")
	}
	if err := s.vm11.host.sw.SetPort(s.vm11.id, name, 0, 0); err != nil {
		l.t.Fatal(err)
	}
}

// clearScope takes them away again: the port's first, or the tenant could not be
// without it.
func (l *lab) clearScope(s *site) {
	l.t.Helper()
	if err := s.vm11.host.sw.SetPort(s.vm11.id, hnv.Name{}, 0, 0); err != nil {
		l.t.Fatal(err)
	}
	l.setScope(s, scope{})
}

// Lists by prefix, port, protocol and address family, of a port, of a virtual
// subnet and of both, from the same host, another one and another subnet. While
// one tenant has a list, the other one, with the same addresses, has none.
func TestLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	open := aclRule(allowOut("any"))
	for _, tc := range []struct {
		what     string
		scope    scope
		six      bool
		l4       gopacket.SerializableLayer
		from     string // a letter for each sender that gets through: 2 vm12, 3 vm13, v v21
		fromBare string // unset: all of them
	}{
		{what: "port of a range", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 89))}, l4: tcpFlags(5, 80, "S"), from: "23v"},
		{what: "last of a range", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 89))}, l4: tcpFlags(5, 89, "S"), from: "23v"},
		{what: "behind a range", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 89))}, l4: tcpFlags(5, 90, "S"), from: ""},
		{what: "before a range", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 89))}, l4: tcpFlags(5, 79, "S"), from: ""},
		{what: "another protocol's port", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 89))}, l4: udpPorts(5, 80), from: ""},
		{what: "one of two ranges", scope: scope{port: rules(open, aclRule(allowIn("udp")).dport(53, 53).dport(500, 4500))}, l4: udpPorts(5, 4500), from: "23v"},
		{what: "source port", scope: scope{port: rules(open, aclRule(allowIn("udp")).sport(123, 123))}, l4: udpPorts(123, 9), from: "23v"},
		{what: "wrong source port", scope: scope{port: rules(open, aclRule(allowIn("udp")).sport(123, 123))}, l4: udpPorts(124, 123), from: ""},
		{what: "source prefix", scope: scope{port: rules(open, aclRule(allowIn("any")).from("10.1.1.0/24"))}, l4: udpPorts(1, 2), from: "23"},
		{what: "host prefix", scope: scope{port: rules(open, aclRule(allowIn("any")).from("10.1.1.13/32"))}, l4: udpPorts(1, 2), from: "3"},
		{what: "two prefixes", scope: scope{port: rules(open, aclRule(allowIn("any")).from("10.1.1.13/32", "10.1.2.0/24"))}, l4: udpPorts(1, 2), from: "3v"},
		{what: "destination prefix", scope: scope{port: rules(open, aclRule(allowIn("any")).to("10.1.1.11/32"))}, l4: udpPorts(1, 2), from: "23v"},
		{what: "another's destination prefix", scope: scope{port: rules(open, aclRule(allowIn("any")).to("10.1.1.12/32"))}, l4: udpPorts(1, 2), from: ""},
		{what: "exception", scope: scope{port: rules(open, aclRule(denyIn("any")).from("10.1.1.12/32"), aclRule(allowIn("any")).from("10.1.0.0/16"))}, l4: udpPorts(1, 2), from: "3v"},
		{what: "protocol", scope: scope{port: rules(open, aclRule(allowIn("icmp")))}, l4: ping(false, false, 7), from: "23v"},
		{what: "not the protocol", scope: scope{port: rules(open, aclRule(allowIn("icmp")))}, l4: udpPorts(1, 2), from: ""},
		{what: "protocol by number", scope: scope{port: rules(open, aclRule(allowIn("17")))}, l4: udpPorts(1, 2), from: "23v"},
		{what: "no rules at all", scope: scope{port: []hnv.ACLRule{}}, l4: udpPorts(1, 2), from: ""},
		{what: "only the other direction", scope: scope{port: rules(open)}, l4: udpPorts(1, 2), from: ""},

		{what: "IPv6 port", scope: scope{port: rules(open, aclRule(allowIn("tcp")).dport(80, 80))}, six: true, l4: tcpFlags(5, 80, "S"), from: "23v"},
		{what: "IPv6 prefix", scope: scope{port: rules(open, aclRule(allowIn("any")).from("fd00:1::/64"))}, six: true, l4: udpPorts(1, 2), from: "23"},
		{what: "IPv6 under a list of IPv4", scope: scope{port: rules(open, aclRule(allowIn("any")).from("10.0.0.0/8"))}, six: true, l4: udpPorts(1, 2), from: ""},
		{what: "IPv4 under a list of IPv6", scope: scope{port: rules(open, aclRule(allowIn("any")).from("fd00::/16"))}, l4: udpPorts(1, 2), from: ""},
		{what: "both families", scope: scope{port: rules(open, aclRule(allowIn("any")).from("0.0.0.0/0"), aclRule(allowIn("any")).from("::/0"))}, six: true, l4: udpPorts(1, 2), from: "23v"},
		{what: "ICMPv6", scope: scope{port: rules(open, aclRule(allowIn("icmpv6")))}, six: true, l4: ping(true, false, 7), from: "23v"},
		{what: "ICMP is not ICMPv6", scope: scope{port: rules(open, aclRule(allowIn("icmp")))}, six: true, l4: ping(true, false, 7), from: ""},

		{what: "subnet", scope: scope{subnet: rules(open, aclRule(allowIn("udp")).dport(2, 2))}, l4: udpPorts(1, 2), from: "23v"},
		{what: "not by the subnet", scope: scope{subnet: rules(open, aclRule(allowIn("udp")).dport(3, 3))}, l4: udpPorts(1, 2), from: ""},
		{what: "port, whatever the subnet", scope: scope{port: rules(open, aclRule(allowIn("udp")).dport(2, 9)), subnet: rules(aclRule(allowOut("any")))}, l4: udpPorts(1, 2), from: "23v"},
		{what: "subnet but not the port", scope: scope{port: rules(open, aclRule(allowIn("udp")).dport(3, 9)), subnet: rules(open, aclRule(allowIn("udp")).dport(1, 2))}, l4: udpPorts(1, 2), from: ""},
		// What a subnet's list says of sending holds for its other stations, too.
		{what: "subnet's other stations may not send", scope: scope{subnet: rules(aclRule(allowIn("any")))}, l4: udpPorts(1, 2), from: "v"},
	} {
		for _, s := range []*site{contoso, fabrikam} {
			bare := contoso
			if s == contoso {
				bare = fabrikam
			}
			l.setScope(s, tc.scope)
			for _, one := range []*site{s, bare} {
				for letter, n := range map[string]*nic{"2": one.vm12, "3": one.vm13, "v": one.v21} {
					want := strings.Contains(tc.from, letter) || one == bare
					payload := tc.what
					if tc.six {
						payload = id6(7) + payload
					}
					before := map[*host]map[drop.Reason]uint64{}
					for _, h := range l.hosts {
						before[h] = h.allDrops()
					}
					got := arrives(t, l, n, one.packet(n, one.vm11, tc.six, tc.l4, payload), one.vm11, contoso, fabrikam)
					if got != want {
						t.Errorf("%s, %s: from %s %v, want %v", tc.what, one.Name, one.ca(n, tc.six), got, want)
					}
					denied := uint64(0)
					for _, h := range l.hosts {
						d := h.since(before[h])
						denied += d[drop.ACLDenied]
						delete(d, drop.ACLDenied)
						if len(d) != 0 {
							t.Errorf("%s, %s: from %s: drops %v", tc.what, one.Name, one.ca(n, tc.six), d)
						}
					}
					if want != (denied == 0) || denied > 1 {
						t.Errorf("%s, %s: from %s: denied %d times", tc.what, one.Name, one.ca(n, tc.six), denied)
					}
				}
			}
			l.clearScope(s)
		}
	}
}

// A machine may deny what no list speaks of.
func TestDefaultDeny(t *testing.T) {
	l := newLab(t)
	for _, pa := range []string{paGate, paHost1, paHost2} {
		l.addHostWith(Options{DefaultACL: hnv.Deny}, pa)
	}
	contoso, fabrikam := l.join("contoso", 5000, hnv.NVGRE), l.join("fabrikam", 6000, hnv.VXLAN)
	for _, s := range []*site{contoso, fabrikam} {
		for _, n := range []*nic{s.vm12, s.vm13, s.v21} {
			if arrives(t, l, n, s.packet(n, s.vm11, false, udpPorts(1, 2), "x"), s.vm11, contoso, fabrikam) {
				t.Errorf("%s: a port without a list may send", s.Name)
			}
		}
	}
	// Contoso's subnet gets a list; its other subnet, and the neighbour, have none.
	l.apply(contoso, func(t *Tenant) {
		t.ACLs, t.Subnets[1].ACL = []hnv.ACL{acl("all", allowIn("any"), allowOut("any"))}, mustName("all")
	})
	for _, tc := range []struct {
		s        *site
		from, to *nic
		want     bool
	}{
		{contoso, contoso.vm12, contoso.vm11, true},
		{contoso, contoso.vm11, contoso.vm13, true},
		{contoso, contoso.v21, contoso.vm11, false},
		{contoso, contoso.vm11, contoso.v21, false},
		{fabrikam, fabrikam.vm12, fabrikam.vm11, false},
	} {
		if got := arrives(t, l, tc.from, tc.s.packet(tc.from, tc.to, false, udpPorts(1, 2), "x"), tc.to, contoso, fabrikam); got != tc.want {
			t.Errorf("%s: %s to %s: %v, want %v", tc.s.Name, tc.s.ca(tc.from, false), tc.s.ca(tc.to, false), got, tc.want)
		}
	}
	for _, h := range l.hosts {
		if d := h.allDrops(); len(d) != 0 && d[drop.ACLDenied] == 0 || len(d) > 1 {
			t.Errorf("host %s dropped %v", h.pa, d)
		}
	}
}

// A TCP connection that was allowed in one direction passes in both until it is
// over, and what comes afterwards is judged anew. The neighbour, whose list is
// the other way round, has the same connection the other way round.
func TestConnectionsUnderLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.setScope(contoso, scope{port: rules(aclRule(allowOut("tcp")))})
	l.setScope(fabrikam, scope{port: rules(aclRule(allowIn("tcp")))})
	type step struct {
		wait  time.Duration
		in    bool // towards vm11
		flags string
		pass  bool
	}
	port := layers.TCPPort(40000)
	for what, steps := range map[string][]step{
		"handshake, data, close, and a guess": {
			{0, false, "S", true}, {0, true, "SA", true}, {0, false, "A", true}, {time.Minute, true, "A", true},
			{20 * time.Minute, true, "A", true}, {0, false, "FA", true}, {0, true, "A", true}, {0, true, "FA", true}, {0, false, "A", true},
			{11 * time.Second, true, "A", false}},
		"not opened":              {{0, true, "S", false}, {0, true, "SA", false}, {0, true, "A", false}},
		"refused":                 {{0, false, "S", true}, {0, true, "RA", true}, {11 * time.Second, true, "SA", false}},
		"idle for too long":       {{0, false, "S", true}, {0, true, "SA", true}, {0, false, "A", true}, {31 * time.Minute, true, "A", false}, {0, false, "A", true}, {0, true, "A", true}},
		"no answer in time":       {{0, false, "S", true}, {31 * time.Second, true, "SA", false}},
		"reopened by its opener":  {{0, false, "S", true}, {0, true, "SA", true}, {0, false, "RA", true}, {0, false, "S", true}, {0, true, "SA", true}, {0, false, "A", true}},
		"reopened by the other":   {{0, false, "S", true}, {0, true, "SA", true}, {0, false, "A", true}, {0, false, "RA", true}, {0, true, "S", false}},
		"half closed, and a wait": {{0, false, "S", true}, {0, true, "SA", true}, {0, false, "A", true}, {0, false, "FA", true}, {3 * time.Minute, true, "A", true}},
	} {
		port++
		for _, st := range steps {
			l.now = l.now.Add(st.wait)
			for _, s := range []*site{contoso, fabrikam} {
				for _, peer := range []*nic{s.vm12, s.vm13, s.v21} {
					in := st.in
					if s == fabrikam {
						in = !in
					}
					from, to := s.vm11, peer
					l4 := tcpFlags(port, 80, st.flags)
					if in {
						from, to = peer, s.vm11
					}
					if st.in {
						l4 = tcpFlags(80, port, st.flags)
					}
					if got := arrives(t, l, from, s.packet(from, to, false, l4, what), to, contoso, fabrikam); got != st.pass {
						t.Errorf("%s, %s, with %s: %+v: %v", what, s.Name, s.ca(peer, false), st, got)
					}
				}
			}
		}
	}
}

// UDP and ICMP flows under lists last as long as the flow table says, and echo
// replies pass for the identifier that was asked with.
func TestDatagramsUnderLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.setScope(s, scope{port: rules(aclRule(allowOut("any")))})
	}
	for _, s := range []*site{contoso, fabrikam} {
		for _, peer := range []*nic{s.vm12, s.vm13, s.v21} {
			for _, six := range []bool{false, true} {
				out := func(l4 gopacket.SerializableLayer, payload string) bool {
					return arrives(t, l, s.vm11, s.packet(s.vm11, peer, six, l4, payload), peer, contoso, fabrikam)
				}
				in := func(l4 gopacket.SerializableLayer, payload string) bool {
					return arrives(t, l, peer, s.packet(peer, s.vm11, six, l4, payload), s.vm11, contoso, fabrikam)
				}
				check := func(what string, got, want bool) {
					t.Helper()
					if got != want {
						t.Errorf("%s with %s: %s: %v", s.Name, s.ca(peer, six), what, got)
					}
				}
				check("unasked answer", in(udpPorts(53, 5353), "x"), false)
				check("question", out(udpPorts(5353, 53), "x"), true)
				check("answer", in(udpPorts(53, 5353), "x"), true)
				check("answer from another port", in(udpPorts(54, 5353), "x"), false)
				check("answer to another port", in(udpPorts(53, 5354), "x"), false)
				check("answer by TCP", in(tcpFlags(53, 5353, "A"), "x"), false)
				l.now = l.now.Add(29 * time.Second)
				check("late answer", in(udpPorts(53, 5353), "x"), true)
				l.now = l.now.Add(31 * time.Second)
				check("too late an answer", in(udpPorts(53, 5353), "x"), false)

				payload := "ping"
				if six {
					payload = id6(7) + payload
				}
				other := strings.Replace(payload, "\x07", "\x08", 1)
				check("unasked echo reply", in(ping(six, true, 7), payload), false)
				check("echo request from outside", in(ping(six, false, 7), payload), false)
				check("echo request", out(ping(six, false, 7), payload), true)
				check("echo reply", in(ping(six, true, 7), payload), true)
				check("reply to another request", in(ping(six, true, 8), other), false)
				check("echo request with the same identifier", in(ping(six, false, 7), payload), false)
			}
		}
	}
}

// Lists that change under flows: by other contents, by another scope, and by
// being taken away.
func TestListsComeAndGo(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	web := aclRule(allowIn("tcp")).dport(80, 80)
	ssh := aclRule(allowIn("tcp")).dport(22, 22)
	for _, s := range []*site{contoso, fabrikam} {
		other := contoso
		if s == contoso {
			other = fabrikam
		}
		l.setScope(other, scope{port: rules(web)})
		for i, tc := range []struct {
			scope     scope
			web, ssh  bool // a connection's next packet
			webReply  bool
			sshReply  bool
			firstTime bool
		}{
			{scope{}, true, true, true, true, true},
			{scope{port: rules(web)}, true, false, true, false, false},
			{scope{subnet: rules(web, aclRule(allowOut("any")))}, true, false, true, true, false}, // what it opens itself it may send
			{scope{subnet: rules(ssh, aclRule(allowOut("any")))}, false, true, true, true, false},
			{scope{port: rules(web), subnet: rules(ssh, aclRule(allowOut("any")))}, true, false, true, false, false},
			{scope{port: rules(web, ssh), subnet: rules(ssh, aclRule(allowOut("any")))}, true, true, true, true, false},
			{scope{port: []hnv.ACLRule{}}, false, false, false, false, false},
			{scope{}, true, true, true, true, false},
		} {
			if tc.scope.port == nil {
				l.clearScope(s)
			}
			l.setScope(s, tc.scope)
			for _, c := range []struct {
				port        layers.TCPPort
				want, reply bool
			}{{80, tc.web, tc.webReply}, {22, tc.ssh, tc.sshReply}} {
				what := fmt.Sprintf("%s, step %d, port %d", s.Name, i, c.port)
				if got := arrives(t, l, s.vm12, s.packet(s.vm12, s.vm11, false, tcpFlags(5000, c.port, "A"), what), s.vm11, contoso, fabrikam); got != c.want {
					t.Errorf("%s: there %v, want %v", what, got, c.want)
				}
				if got := arrives(t, l, s.vm11, s.packet(s.vm11, s.vm12, false, tcpFlags(c.port, 5000, "A"), what), s.vm12, contoso, fabrikam); got != c.reply {
					t.Errorf("%s: back %v, want %v", what, got, c.reply)
				}
			}
			// The neighbour goes by its own list all the time.
			for port, want := range map[layers.TCPPort]bool{80: true, 22: false} {
				if got := arrives(t, l, other.vm12, other.packet(other.vm12, other.vm11, false, tcpFlags(5000, port, "A"), "x"), other.vm11, contoso, fabrikam); got != want {
					t.Errorf("%s, step %d of %s, port %d: %v, want %v", other.Name, i, s.Name, port, got, want)
				}
			}
		}
		l.clearScope(other)
	}
}

// A list goes together with the port's wish for it, and the tenant hears of it
// first: the port has the list until it is told, and nothing is refused for good.
func TestListGoesBeforeItsPort(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.setScope(s, scope{port: rules(aclRule(allowIn("tcp")).dport(80, 80))})
		reached := func(what string, want map[layers.TCPPort]bool) {
			t.Helper()
			for port, is := range want {
				if got := arrives(t, l, s.vm12, s.packet(s.vm12, s.vm11, false, tcpFlags(5000, port, "S"), what), s.vm11, contoso, fabrikam); got != is {
					t.Errorf("%s, %s, port %d: %v, want %v", s.Name, what, port, got, is)
				}
			}
		}
		l.apply(s, func(t *Tenant) { t.ACLs = nil })
		reached("the list is gone", map[layers.TCPPort]bool{80: true, 22: false})
		sw := s.vm11.host.sw
		if err := sw.SetPort(s.vm11.id, mustName("another"), 0, 0); err == nil {
			t.Error("a port has a list that is not there")
		}
		if err := sw.SetPort(s.vm11.id, hnv.Name{}, 0, 0); err != nil {
			t.Fatal(err)
		}
		reached("the port knows", map[layers.TCPPort]bool{80: true, 22: true})
		if err := sw.SetPort(s.vm11.id, mustName("of-port"), 0, 0); err == nil {
			t.Error("a port has a list again that is gone")
		}
	}
}

// Lists come under connections that began without any: those that a list lets the
// VM open go on, also where the next packet is the other end's; those that it does
// not stop. The neighbour, whose list is the other way round, has the same ones the
// other way round.
func TestListsComeUnderConnections(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for round, nextIn := range []bool{true, false} {
		type talk struct {
			s      *site
			peer   *nic
			opened bool // by vm11
			port   layers.TCPPort
		}
		pass := func(c talk, in bool, flags string) bool {
			from, to, l4 := c.s.vm11, c.peer, tcpFlags(c.port, 80, flags)
			if in == c.opened {
				l4 = tcpFlags(80, c.port, flags)
			}
			if in {
				from, to = to, from
			}
			return arrives(t, l, from, c.s.packet(from, to, false, l4, "x"), to, contoso, fabrikam)
		}
		var all []talk
		for _, s := range []*site{contoso, fabrikam} {
			l.clearScope(s)
			for i, peer := range []*nic{s.vm12, s.vm13, s.v21} {
				for j, opened := range []bool{true, false} {
					c := talk{s, peer, opened, layers.TCPPort(40000 + 100*round + 10*i + j)}
					for k, flags := range []string{"S", "SA", "A"} {
						if in := (k == 1) == opened; !pass(c, in, flags) {
							t.Fatalf("%s: %s is dropped without a list", s.Name, flags)
						}
					}
					all = append(all, c)
				}
			}
		}
		out := aclRule(allowOut("tcp")).dport(80, 80)
		in := aclRule(allowIn("tcp")).dport(80, 80)
		l.setScope(contoso, scope{port: rules(out)})
		l.setScope(fabrikam, scope{port: rules(in)})
		for _, c := range all {
			want := c.opened == (c.s == contoso)
			if !c.opened && !nextIn && c.peer.host == c.s.vm11.host {
				// Without lists, a port does not note what comes from its own
				// machine: the other end has to speak first.
				want = false
			}
			for i, dir := range []bool{nextIn, !nextIn, nextIn} {
				if dir && c.s == fabrikam && !c.opened {
					want = true
				}
				if got := pass(c, dir, "A"); got != want {
					t.Errorf("%s, opened by vm11: %v: packet %d, to vm11: %v: passes %v", c.s.Name, c.opened, i, dir, got)
				}
			}
			// Nobody else profits.
			c.port += 5
			if got, want := pass(c, !c.opened, "S"), want; got != want {
				t.Errorf("%s, opened by vm11: %v: a new one: %v", c.s.Name, c.opened, got)
			}
		}
	}
}

// A list that lets nobody in stops the connections that others had opened before,
// although the VM may say whatever it likes.
func TestListsStopWhatOthersOpened(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for i, peer := range []*nic{s.vm12, s.v21, s.vm13} {
			l.clearScope(s)
			port := layers.TCPPort(50000 + i)
			udpPort := layers.UDPPort(50000 + i)
			in := func(flags string) bool {
				return arrives(t, l, peer, s.packet(peer, s.vm11, false, tcpFlags(port, 22, flags), "x"), s.vm11, contoso, fabrikam)
			}
			out := func(flags string) bool {
				return arrives(t, l, s.vm11, s.packet(s.vm11, peer, false, tcpFlags(22, port, flags), "x"), peer, contoso, fabrikam)
			}
			udpIn := func() bool {
				return arrives(t, l, peer, s.packet(peer, s.vm11, false, udpPorts(udpPort, 53), "x"), s.vm11, contoso, fabrikam)
			}
			udpOut := func() bool {
				return arrives(t, l, s.vm11, s.packet(s.vm11, peer, false, udpPorts(53, udpPort), "x"), peer, contoso, fabrikam)
			}
			if !in("S") || !out("SA") || !in("A") || !udpIn() || !udpOut() || !udpIn() {
				t.Fatalf("%s: dropped without a list", s.Name)
			}
			l.setScope(s, scope{port: rules(aclRule(allowOut("any")))})
			for range 2 { // the first packet and one of a flow that is known
				if in("A") {
					t.Errorf("%s, peer %d: what the other end had opened goes on", s.Name, i)
				}
				if peer.host != s.vm11.host && udpIn() { // what its own machine's ports say is not noted
					t.Errorf("%s, peer %d: datagrams to the VM go on", s.Name, i)
				}
			}
		}
	}
}

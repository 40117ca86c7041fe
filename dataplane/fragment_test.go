package dataplane

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// cutUp makes two fragments of what one NIC of the site sends to another.
func (s *site) cutUp(from, to *nic, six bool, l4 *layers.UDP, id uint16) (first, later []byte) {
	b := s.packet(from, to, six, l4, strings.Repeat("fragment", 8))
	if six {
		return fragments6(b, uint32(id), 32)
	}
	return fragments(b, id, 32)
}

// Where lists ask for ports, a later fragment passes once its first one has, in
// that order; where they do not, the order is of no matter. Later fragments of
// nobody, of other packets, and of packets that were denied do not pass.
func TestFragmentsUnderLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	id := uint16(100)
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			what              string
			rules             []hnv.ACLRule
			inOrder, reversed [2]bool // of first and later, or later and first
			reason            drop.Reason
		}{
			{"no list", nil, [2]bool{true, true}, [2]bool{true, true}, 0},
			{"without ports", rules(aclRule(allowIn("udp"))), [2]bool{true, true}, [2]bool{true, true}, 0},
			{"by a port that is allowed", rules(aclRule(allowIn("udp")).dport(2, 2)), [2]bool{true, true}, [2]bool{false, true}, drop.FragmentUnmatched},
			{"by a port that is not", rules(aclRule(allowIn("udp")).dport(3, 3)), [2]bool{false, false}, [2]bool{false, false}, drop.FragmentUnmatched},
			{"by a port that is denied", rules(aclRule(denyIn("udp")).dport(2, 2), aclRule(allowIn("any"))), [2]bool{false, false}, [2]bool{false, false}, drop.FragmentUnmatched},
			{"another protocol", rules(aclRule(allowIn("tcp"))), [2]bool{false, false}, [2]bool{false, false}, drop.ACLDenied},
		} {
			if tc.rules == nil {
				l.clearScope(s)
			} else {
				l.setScope(s, scope{port: tc.rules})
			}
			for _, six := range []bool{false, true} {
				for _, from := range []*nic{s.vm12, s.vm13, s.v21} {
					id++
					first, later := s.cutUp(from, s.vm11, six, udpPorts(1, 2), id)
					got := [2]bool{arrives(t, l, from, first, s.vm11, contoso, fabrikam), arrives(t, l, from, later, s.vm11, contoso, fabrikam)}
					if got != tc.inOrder {
						t.Errorf("%s, %s, from %s in order: %v", s.Name, tc.what, s.ca(from, six), got)
					}
					id++
					first, later = s.cutUp(from, s.vm11, six, udpPorts(1, 2), id)
					before := s.vm11.host.allDrops()
					got = [2]bool{arrives(t, l, from, later, s.vm11, contoso, fabrikam), arrives(t, l, from, first, s.vm11, contoso, fabrikam)}
					if got != tc.reversed {
						t.Errorf("%s, %s, from %s reversed: %v", s.Name, tc.what, s.ca(from, six), got)
					}
					if d := s.vm11.host.since(before); !got[0] && d[tc.reason] == 0 {
						t.Errorf("%s, %s, from %s: drops %v, want %s", s.Name, tc.what, s.ca(from, six), d, tc.reason)
					}
					// The same identification from somebody else is another packet's.
					for _, other := range []*nic{s.vm12, s.vm13, s.v21} {
						if other == from {
							continue
						}
						_, later := s.cutUp(other, s.vm11, six, udpPorts(1, 2), id)
						if got := arrives(t, l, other, later, s.vm11, contoso, fabrikam); got != tc.reversed[0] {
							t.Errorf("%s, %s: a stray of %s: %v", s.Name, tc.what, s.ca(other, six), got)
						}
					}
				}
			}
			l.clearScope(s)
		}
	}
}

// A question in fragments opens a flow as a whole one does: its answer passes,
// whole and in fragments, and nothing else.
func TestAnswersToFragments(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.setScope(s, scope{port: rules(aclRule(allowOut("udp")).dport(53, 53))})
	}
	for _, s := range []*site{contoso, fabrikam} {
		for _, six := range []bool{false, true} {
			for i, peer := range []*nic{s.vm12, s.vm13, s.v21} {
				sport := layers.UDPPort(4000 + 10*i)
				in := func(sport, dport layers.UDPPort) bool {
					return arrives(t, l, peer, s.packet(peer, s.vm11, six, udpPorts(sport, dport), "answer"), s.vm11, contoso, fabrikam)
				}
				if in(53, sport) {
					t.Fatalf("%s: an unasked answer of %s passes", s.Name, s.ca(peer, six))
				}
				first, later := s.cutUp(s.vm11, peer, six, udpPorts(sport, 53), uint16(i+1))
				for j, f := range [][]byte{first, later} {
					if !arrives(t, l, s.vm11, f, peer, contoso, fabrikam) {
						t.Errorf("%s: fragment %d of the question to %s does not pass: %v", s.Name, j, s.ca(peer, six), s.vm11.host.allDrops())
					}
				}
				for range 2 {
					if !in(53, sport) {
						t.Errorf("%s: the answer of %s does not pass: %v", s.Name, s.ca(peer, six), s.vm11.host.allDrops())
					}
				}
				first, later = s.cutUp(peer, s.vm11, six, udpPorts(53, sport), uint16(i+1))
				for j, f := range [][]byte{first, later} {
					if !arrives(t, l, peer, f, s.vm11, contoso, fabrikam) {
						t.Errorf("%s: fragment %d of the answer of %s does not pass", s.Name, j, s.ca(peer, six))
					}
				}
				if in(54, sport) || in(53, sport+1) {
					t.Errorf("%s: what was not asked passes", s.Name)
				}
				// The question goes on whole, as one of the same flow.
				if !arrives(t, l, s.vm11, s.packet(s.vm11, peer, six, udpPorts(sport, 53), "question"), peer, contoso, fabrikam) || !in(53, sport) {
					t.Errorf("%s: the flow does not go on whole", s.Name)
				}
			}
		}
	}
}

// When the list changes between two fragments, the later one is judged by the
// new list, which does not know it.
func TestListChangesBetweenFragments(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.setScope(s, scope{port: rules(aclRule(allowIn("udp")).dport(2, 2))})
		first, later := s.cutUp(s.vm12, s.vm11, false, udpPorts(1, 2), 1)
		if !arrives(t, l, s.vm12, first, s.vm11, contoso, fabrikam) {
			t.Fatal("the first fragment does not pass")
		}
		l.setScope(s, scope{port: rules(aclRule(allowIn("udp")).dport(3, 3))})
		if arrives(t, l, s.vm12, later, s.vm11, contoso, fabrikam) {
			t.Errorf("%s: a later fragment passes a list that would not let its packet pass", s.Name)
		}
		// After five seconds, a first fragment is forgotten.
		l.setScope(s, scope{port: rules(aclRule(allowIn("udp")).dport(2, 2))})
		first, later = s.cutUp(s.vm12, s.vm11, false, udpPorts(1, 2), 2)
		if !arrives(t, l, s.vm12, first, s.vm11, contoso, fabrikam) {
			t.Fatal("the first fragment does not pass")
		}
		l.now = l.now.Add(6e9)
		if arrives(t, l, s.vm12, later, s.vm11, contoso, fabrikam) {
			t.Errorf("%s: a later fragment passes six seconds after the first", s.Name)
		}
	}
}

// What one port's layers rewrite stays that port's: flows of other ports, on the
// same worker, have nothing to do with it.
func TestRewritingStaysWithItsPort(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	l.setScope(fabrikam, scope{port: rules(aclRule(allowOut("any")))})
	for n, to := range map[*nic]string{contoso.vm11: "10.1.1.12", contoso.vm13: "10.1.1.12"} {
		if err := h1.sw.SetLayers(n.id, []vfp.Layer{service("10.1.1.100", to)}); err != nil {
			t.Fatal(err)
		}
	}
	contoso.vm11.send(ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.100", 64, udpPorts(1, 2), "question"))
	if d := expect(t, l, contoso.vm12, "question", contoso, fabrikam); d.Dst != ip("10.1.1.12") {
		t.Fatalf("the question goes to %s", d.Dst)
	}
	fabrikam.vm11.send(fabrikam.packet(fabrikam.vm11, fabrikam.vm12, false, udpPorts(5, 6), "question"))
	expect(t, l, fabrikam.vm12, "question", contoso, fabrikam)
	fabrikam.vm12.send(fabrikam.packet(fabrikam.vm12, fabrikam.vm11, false, udpPorts(6, 5), "answer"))
	d := expect(t, l, fabrikam.vm11, "answer", contoso, fabrikam)
	if d.Src != ip("10.1.1.12") || d.Dst != ip("10.1.1.11") {
		t.Errorf("the answer arrives from %s for %s", d.Src, d.Dst)
	}
}

// service is a layer that sends what goes to an address to another one.
func service(from, to string) vfp.Layer {
	return vfp.Layer{Name: "load-balancer", Priority: 500, Groups: []vfp.Group{{
		Name: "service", Priority: 10, Direction: vfp.Outbound, Family: vfp.IPv4,
		Rules: []vfp.Rule{{ID: from, Match: vfp.Match{Dst: []netip.Prefix{netip.PrefixFrom(ip(from), 32)}},
			Action: vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{Set: vfp.SetDst, NewDst: ip(to)}}}},
	}}}
}

// Fragments and ICMP errors are rewritten as the flow is that they belong to, in
// both directions, whether lists ask for ports or not.
func TestRewritingOfFragmentsAndErrors(t *testing.T) {
	for _, lists := range []bool{false, true} {
		l, contoso, fabrikam := exampleLab(t)
		if err := l.hosts[1].sw.SetLayers(contoso.vm11.id, []vfp.Layer{service("10.1.1.100", "10.1.1.12")}); err != nil {
			t.Fatal(err)
		}
		if lists {
			l.setScope(contoso, scope{port: rules(aclRule(allowOut("udp")).dport(2, 2))})
		}
		whole := ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.100", 64, udpPorts(1, 2), strings.Repeat("fragment", 8))
		first, later := fragments(whole, 9, 32)
		for i, f := range [][]byte{first, later} {
			contoso.vm11.send(f)
			l.settle()
			got := contoso.vm12.drain()
			if len(got) != 1 || decode(t, got[0].bytes).Dst != ip("10.1.1.12") {
				t.Errorf("lists %v: fragment %d: %d frames arrived; drops %v", lists, i, len(got), l.hosts[1].allDrops())
			}
		}
		contoso.vm11.send(whole)
		l.settle()
		got := contoso.vm12.drain()
		if len(got) != 1 {
			t.Fatalf("lists %v: the whole question does not arrive: %v", lists, l.hosts[1].allDrops())
		}
		// The service's port is closed, and says so of the packet that it got.
		quoted := string(got[0].bytes[14 : 14+28])
		contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, quoted))
		l.settle()
		back := contoso.vm11.drain()
		if len(back) != 1 {
			t.Fatalf("lists %v: %d errors arrived: %v", lists, len(back), l.hosts[1].allDrops())
		}
		b := back[0].bytes
		if d := decode(t, b); d.Src != ip("10.1.1.100") || netip.AddrFrom4([4]byte(b[14+20+8+16:])) != ip("10.1.1.100") {
			t.Errorf("lists %v: the error comes from %s about a packet to %s", lists, d.Src, netip.AddrFrom4([4]byte(b[14+20+8+16:])))
		}
		if v, err := readIP(b[14:], false); err != nil || !transportSum(v) {
			t.Errorf("lists %v: the error is malformed: %v", lists, err)
		}
		// The answer in fragments comes from the service, too.
		answer := ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, udpPorts(2, 1), strings.Repeat("fragment", 8))
		first, later = fragments(answer, 10, 32)
		for i, f := range [][]byte{first, later} {
			contoso.vm12.send(f)
			l.settle()
			got := contoso.vm11.drain()
			if len(got) != 1 || decode(t, got[0].bytes).Src != ip("10.1.1.100") {
				t.Errorf("lists %v: fragment %d of the answer: %d frames arrived; drops %v", lists, i, len(got), l.hosts[1].allDrops())
			}
		}
		expect(t, l, nil, "", contoso, fabrikam)
	}
}

// A packet in fragments that are themselves too big for the fabric is cut again,
// and adds up to what was sent.
func TestFragmentsOfFragments(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		payload := strings.Repeat("0123456789abcdef", 300)
		whole := s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), payload)
		first, later := fragments(whole, 77, 2400)
		data := make([]byte, len(whole)-34)
		filled := 0
		for _, f := range [][]byte{later, first} {
			s.vm11.send(f)
			l.settle()
			for _, got := range s.vm12.drain() {
				v, err := readIP(got.bytes[14:], true)
				if err != nil || v.id != 77 || v.length > 1458 {
					t.Fatalf("%s: a fragment of %d bytes: %v", s.Name, v.length, err)
				}
				at := int(v.frag&0x1fff) * 8
				if last := at+len(v.body) == len(data); last != (v.frag&0x2000 == 0) {
					t.Errorf("%s: a fragment from %d to %d has flags %#x", s.Name, at, at+len(v.body), v.frag>>13)
				}
				filled += copy(data[at:], v.body)
			}
		}
		if filled != len(data) || string(data[8:]) != payload || binary.BigEndian.Uint16(data[2:]) != 2 {
			t.Errorf("%s: %d bytes arrived of %d", s.Name, filled, len(data))
		}
		expect(t, l, nil, "", contoso, fabrikam)
	}
}

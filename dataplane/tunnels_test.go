package dataplane

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// dualLab is the example lab with hosts that have a PA of each family.
func dualLab(t *testing.T) (l *lab, contoso, fabrikam *site) {
	l = newLab(t)
	l.addHost(paGate, "fd99::1")
	l.addHost(paHost1, "fd99::10")
	l.addHost(paHost2, "fd99::20")
	return l, l.join("contoso", 5000, hnv.NVGRE), l.join("fabrikam", 6000, hnv.VXLAN)
}

// pa6 gives the IPv6 PA of the host with the IPv4 one.
func pa6(pa netip.Addr) netip.Addr {
	return map[netip.Addr]netip.Addr{ip(paGate): ip("fd99::1"), ip(paHost1): ip("fd99::10"), ip(paHost2): ip("fd99::20")}[pa]
}

// In one fabric every record has its own kind of tunnel and every domain its
// family outside: packets travel by the record of their destination, and arrive.
func TestTunnelsSideBySide(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, contoso, fabrikam := dualLab(t)
		for _, s := range []*site{contoso, fabrikam} {
			outer6 := r.IntN(2) == 0
			l.apply(s, func(t *Tenant) {
				t.Records = slices.Clone(t.Records)
				for i := range t.Records {
					t.Records[i].Rule = []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN}[r.IntN(2)]
					if outer6 {
						t.Records[i].PA = pa6(t.Records[i].PA)
					}
				}
			})
		}
		for _, s := range []*site{contoso, fabrikam} {
			for _, from := range s.nics() {
				for _, to := range s.nics() {
					for _, six := range []bool{false, true} {
						if from == to {
							continue
						}
						l.tap = nil
						from.send(s.packet(from, to, six, udpPorts(1, 2), "x"))
						expect(t, l, to, "x", contoso, fabrikam)
						if from.host == to.host {
							continue
						}
						var want hnv.Record
						for _, rec := range s.Records {
							if rec.CA == ip(s.ca(to, six)) {
								want = rec
							}
						}
						o, _ := readOuter(l.tap[0].bytes)
						if o.kind != string(want.Rule) || o.dst != want.PA || o.vsid != to.vsid {
							t.Errorf("seed %d: to %s by %s in VSID %d to %s; want %s to %s", seed, s.ca(to, six), o.kind, o.vsid, o.dst, want.Rule, want.PA)
						}
						kinds[o.kind+fmt.Sprint(o.dst.Is6(), six)]++
					}
				}
			}
		}
	}
	if len(kinds) != 8 {
		t.Errorf("only %v were seen", kinds)
	}
}

// The greatest packets that fit each kind of tunnel, over both families, pass;
// one byte more is cut, or reported with the MTU that is left.
func TestTunnelMTU(t *testing.T) {
	for _, mtu := range []int{1500, 9000, 1600} {
		for _, outer6 := range []bool{false, true} {
			for _, rule := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN} {
				room := mtu - map[bool]int{false: 20, true: 40}[outer6] - 14 - map[hnv.Rule]int{hnv.RuleNVGRE: 8, hnv.RuleVXLAN: 16}[rule]
				l, contoso, fabrikam := dualLab(t)
				l.mtu = mtu
				l.setDown()
				for _, s := range []*site{contoso, fabrikam} {
					l.apply(s, func(t *Tenant) {
						t.Records = slices.Clone(t.Records)
						for i := range t.Records {
							t.Records[i].Rule = rule
							if outer6 {
								t.Records[i].PA = pa6(t.Records[i].PA)
							}
						}
					})
				}
				for _, s := range []*site{contoso, fabrikam} {
					for _, to := range []*nic{s.vm12, s.v21} {
						to.host.sw.RemovePort(to.id)
						id, err := to.host.sw.AddPort(PortSpec{Name: "wide", VSID: mustVSID(to.vsid), MAC: to.mac, Kind: PortVM}, to)
						if err != nil {
							t.Fatal(err)
						}
						to.id = id
						for _, six := range []bool{false, true} {
							head := map[bool]int{false: 28, true: 48}[six]
							what := fmt.Sprintf("%s, %s over IPv6 %v, MTU %d, IPv6 %v to %s", s.Name, rule, outer6, mtu, six, s.ca(to, six))
							fits := strings.Repeat("f", room-head)
							l.tap = nil
							s.vm11.send(s.packet(s.vm11, to, six, udpPorts(1, 2), fits))
							expect(t, l, to, fits, contoso, fabrikam)
							if len(l.tap) != 1 || len(l.tap[0].bytes) != mtu {
								t.Errorf("%s: %d packets on the fabric, the first of %d bytes", what, len(l.tap), len(l.tap[0].bytes))
							}
							over := s.packet(s.vm11, to, six, udpPorts(1, 2), fits+"!")
							if !six {
								over = append(over[:14:14], edit(over[14:], func(b []byte) { b[6] |= 0x40 })...)
							}
							s.vm11.send(over)
							l.settle()
							typ, code, from, reported := icmpBack(t, s.vm11)
							wantFrom := map[bool]string{false: "10.1.1.1", true: "fd00:1::1"}[six]
							if typ != map[bool]uint8{false: 3, true: 2}[six] || code != map[bool]uint8{false: 4, true: 0}[six] || from != wantFrom || reported != room {
								t.Errorf("%s: type %d code %d from %s with MTU %d, want %d", what, typ, code, from, reported, room)
							}
							expect(t, l, nil, "", contoso, fabrikam)
							l.now = l.now.Add(1e9)
						}
						s.vm11.send(s.packet(s.vm11, to, false, udpPorts(1, 2), strings.Repeat("c", room)))
						l.settle()
						pieces := to.drain()
						n := 0
						for _, f := range pieces {
							v, err := readIP(f.bytes[14:], true)
							if err != nil || v.length > room {
								t.Errorf("a piece of %d bytes: %v", v.length, err)
							}
							n += len(v.body)
						}
						if len(pieces) != 2 || n != room+8 {
							t.Errorf("%s over %v: %d pieces with %d bytes", rule, outer6, len(pieces), n)
						}
					}
				}
			}
		}
	}
}

// Ports of all sorts get what they take: super-packets whole, in segments where
// they take none, and with complete checksums; what is too big for the port
// itself is reported to a sender on the same host, and dropped from the fabric.
func TestPortsTakeWhatTheyCan(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		replug := func(n *nic, mtu int, plain bool) {
			n.host.sw.RemovePort(n.id)
			id, err := n.host.sw.AddPort(PortSpec{Name: "again", VSID: mustVSID(n.vsid), MAC: n.mac, Kind: PortVM, MTU: mtu, Plain: plain}, n)
			if err != nil {
				t.Fatal(err)
			}
			n.id = id
		}
		for _, six := range []bool{false, true} {
			for _, from := range []*nic{s.vm11, s.v21, s.vm12} { // by the switch, the router, and the fabric
				dst := s.vm13.mac
				if from == s.v21 {
					dst = hnv.RouterMAC
				}
				super := func(size int, seg uint16) sent {
					p := superPacket(from.mac, dst, s.ca(from, six), s.ca(s.vm13, six), size)
					p.offload.GSOSize = seg
					return p
				}
				send := func(p sent) []sent {
					l.now = l.now.Add(1e9)
					if from == s.vm11 {
						from.sendOffloaded(p)
					} else { // merged again on the way
						outer := outerPacket(s.Encap, paHost2, paHost1, s.base+1, p.bytes)
						f := packet.NewFrame(1 << 16)
						f.Set(outer)
						f.Offload = p.offload
						f.Offload.CsumStart += uint16(len(outer) - len(p.bytes))
						f.Offload.HdrLen += uint16(len(outer) - len(p.bytes))
						if from == s.v21 {
							mac := routerMAC
							copy(f.Bytes()[len(outer)-len(p.bytes)+6:], mac[:])
							dstMAC := s.vm13.mac.Bytes()
							copy(f.Bytes()[len(outer)-len(p.bytes):], dstMAC[:])
						}
						s.vm13.host.w.FromProvider([]*packet.Frame{f})
						s.vm13.host.w.Flush()
					}
					l.settle()
					return s.vm13.drain()
				}
				what := fmt.Sprintf("%s, IPv6 %v, from %s", s.Name, six, s.ca(from, six))
				replug(s.vm13, 1458, false)
				if got := send(super(20000, 1380)); len(got) != 1 || got[0].offload.GSO == packet.GSONone || len(got[0].bytes) < 20000 {
					t.Errorf("%s: a port that takes super-packets got %d frames; drops %v", what, len(got), l.hosts[1].allDrops())
				}
				replug(s.vm13, 1458, true)
				total := 0
				got := send(super(20000, 1380))
				for _, f := range got {
					v, err := readIP(f.bytes[14:], false)
					if err != nil || !transportSum(v) || f.offload != (packet.Offload{}) || v.length > 1458 {
						t.Fatalf("%s: a segment of %d bytes, %v, %+v", what, v.length, err, f.offload)
					}
					total += len(v.body) - 20
				}
				if total != 20000 || len(got) != 15 {
					t.Errorf("%s: a plain port got %d frames with %d bytes", what, len(got), total)
				}
				part := super(500, 0)
				part.offload.GSO = packet.GSONone
				if got := send(part); len(got) != 1 || got[0].offload != (packet.Offload{}) {
					t.Errorf("%s: a plain port got %d frames with %+v", what, len(got), got[0].offload)
				} else if v, err := readIP(got[0].bytes[14:], false); err != nil || !transportSum(v) {
					t.Errorf("%s: a plain port got a wrong checksum: %v", what, err)
				}
				replug(s.vm13, 1300, false)
				before := l.hosts[1].allDrops()
				if got := send(super(20000, 1380)); len(got) != 0 || l.hosts[1].since(before)[drop.TooBig] != 1 {
					t.Errorf("%s: a port of MTU 1300 got %d frames; drops %v", what, len(got), l.hosts[1].since(before))
				}
				if back := from.drain(); len(back) != map[bool]int{true: 1, false: 0}[from == s.vm11] {
					t.Errorf("%s: %d errors came back", what, len(back))
				} else if len(back) == 1 {
					if d := decode(t, back[0].bytes); binaryMTU(back[0].bytes[d.L4:]) != 1300 {
						t.Errorf("%s: the error reports an MTU of %d", what, binaryMTU(back[0].bytes[d.L4:]))
					}
				}
				if got := send(super(20000, 1200)); len(got) != 1 {
					t.Errorf("%s: a port of MTU 1300 got %d frames of small segments", what, len(got))
				}
			}
		}
		replug(s.vm13, 1458, false)
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

func binaryMTU(icmp []byte) int { return int(icmp[6])<<8 | int(icmp[7]) }

// Fragments of tunnel packets are dropped for that reason, whatever they hold;
// fragments within tunnels are carried.
func TestFragmentsOutsideAndIn(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h2 := l.hosts[2]
	for _, s := range []*site{contoso, fabrikam} {
		whole := outerPacket(s.Encap, paHost1, paHost2, s.base+1, s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), strings.Repeat("x", 100)))
		frame := append(make([]byte, 14), whole...)
		first, later := fragments(frame, 5, 80)
		for _, f := range [][]byte{first, later} {
			h2.inject(f[14:])
		}
		expect(t, l, nil, "", contoso, fabrikam)
		first, later = s.cutUp(s.vm11, s.vm12, false, udpPorts(1, 2), 7)
		for _, f := range [][]byte{later, first} {
			s.vm11.send(f)
			l.settle()
			if got := s.vm12.drain(); len(got) != 1 || !bytes.Equal(got[0].bytes[14:], f[14:]) {
				t.Errorf("%s: %d frames arrived for a fragment", s.Name, len(got))
			}
		}
	}
	if d := h2.allDrops(); d[drop.OuterFragment] != 4 || len(d) != 1 {
		t.Errorf("drops are %v", d)
	}
	// Over IPv6, too.
	l6, _, _ := dualLab(t)
	b := make([]byte, 40, 100)
	b[0], b[5], b[6], b[7] = 0x60, 16, 44, 64
	copy(b[8:], ip("fd99::10").AsSlice())
	copy(b[24:], ip("fd99::20").AsSlice())
	b = append(b, 47, 0, 0, 1, 0, 0, 0, 9, 0x20, 0, 0x65, 0x58, 0, 0x13, 0x89, 0)
	l6.hosts[2].inject(b)
	if d := l6.hosts[2].allDrops(); d[drop.OuterFragment] != 1 {
		t.Errorf("drops are %v", d)
	}
}

// The entropy of a flow, NVGRE's FlowID or VXLAN's source port, is the same for
// all its packets and the same in all tenants; flows are spread over it by
// chance, and over PAs and next hops independently of it. Fragments of a packet
// have one entropy.
func TestEntropy(t *testing.T) {
	l, contoso, fabrikam := teamLab(t)
	const flows, bins = 4096, 16
	for _, s := range []*site{contoso, fabrikam} {
		counts := make([]int, bins)
		joint := make([]int, bins*len(teamHost))
		low, high := uint16(0xffff), uint16(0)
		for i := range flows {
			var l4 layers.UDP = *udpPorts(layers.UDPPort(1024+i%64), layers.UDPPort(i/64))
			b := s.packet(s.vm11, s.vm12, i%3 == 0, &l4, "x")
			l.tap = nil
			s.vm11.send(b)
			s.vm11.send(b)
			l.settle()
			s.vm12.drain()
			one, _ := readOuter(l.tap[0].bytes)
			two, _ := readOuter(l.tap[1].bytes)
			if one.entropy != two.entropy || one.src != two.src {
				t.Fatalf("%s: a flow has entropy %d from %s, and then %d from %s", s.Name, one.entropy, one.src, two.entropy, two.src)
			}
			low, high = min(low, one.entropy), max(high, one.entropy)
			bin := int(one.entropy) * bins >> 8
			if one.kind == "vxlan" {
				bin = int(one.entropy-49152) * bins >> 14
			}
			counts[bin]++
			for j, pa := range teamHost {
				if one.src == ip(pa) {
					joint[bin*len(teamHost)+j]++
				}
			}
		}
		if z := chiSquare(counts); z > 5 {
			t.Errorf("%s: %v flows by entropy: %.1f standard deviations from chance", s.Name, counts, z)
		}
		if z := chiSquare(joint); z > 5 {
			t.Errorf("%s: %v flows by entropy and PA: %.1f standard deviations from chance", s.Name, joint, z)
		}
		if s.Encap == hnv.VXLAN && low < 49152 || s.Encap == hnv.NVGRE && high > 255 {
			t.Errorf("%s: entropy from %d to %d", s.Name, low, high)
		}
		// All low bits of the entropy are of use.
		seen := map[uint16]bool{}
		for i := range 300 {
			l.tap = nil
			s.vm11.send(s.packet(s.vm11, s.vm12, false, tcpFlags(layers.TCPPort(i), 443, "S"), ""))
			l.settle()
			s.vm12.drain()
			o, _ := readOuter(l.tap[0].bytes)
			seen[o.entropy] = true
		}
		if want := map[hnv.Encap]int{hnv.NVGRE: 150, hnv.VXLAN: 280}[s.Encap]; len(seen) < want {
			t.Errorf("%s: 300 flows have %d entropies", s.Name, len(seen))
		}
		first, later := s.cutUp(s.vm11, s.vm12, false, udpPorts(1000, 2000), 9)
		l.tap = nil
		s.vm11.send(first)
		s.vm11.send(later)
		l.settle()
		s.vm12.drain()
		one, _ := readOuter(l.tap[0].bytes)
		two, _ := readOuter(l.tap[1].bytes)
		if one.entropy != two.entropy || one.src != two.src || one.dst != two.dst {
			t.Errorf("%s: fragments of a packet take different ways", s.Name)
		}
	}
}

package dataplane

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// wholeRewriteLab is the example lab in which every VM of each tenant has a PA
// for its IPv4 and one for its IPv6 address; the compartment has none.
func wholeRewriteLab(t *testing.T, mtu int) (l *lab, contoso, fabrikam *site) {
	l = newLab(t)
	l.mtu = mtu
	for _, pa := range []string{paGate, paHost1, paHost2} {
		l.addHost(pa)
	}
	contoso, fabrikam = l.join("contoso", 5000, hnv.NVGRE), l.join("fabrikam", 6000, hnv.VXLAN)
	l.rewritten = map[netip.Addr]*host{}
	for i, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			t.Records = slices.Clone(t.Records)
			for j := range t.Records {
				r := &t.Records[j]
				h := l.byPA[r.PA]
				if h == l.hosts[0] {
					continue
				}
				r.Rule = hnv.RuleRewrite
				if r.CA.Is4() {
					r.PA = netip.AddrFrom4([4]byte{192, 168, r.PA.As4()[2], byte(100 + 50*i + j)})
				} else {
					r.PA = ip(fmt.Sprintf("fd99::%d:%d", i+1, j))
				}
				l.rewritten[r.PA], l.byPA[r.PA] = h, h
			}
		})
	}
	l.setDown() // gives every host its PAs
	return l, contoso, fabrikam
}

// standIn gives the PA that stands for a NIC's address.
func (s *site) standIn(n *nic, six bool) netip.Addr {
	for _, r := range s.Records {
		if r.CA == ip(s.ca(n, six)) {
			return r.PA
		}
	}
	return netip.Addr{}
}

// Packets of every protocol and of both families between VMs that have PAs of
// their own arrive as they were sent, but for the TTL where they were routed,
// with every checksum right on the fabric and at the end.
func TestRewriteEndToEnd(t *testing.T) {
	l, contoso, fabrikam := wholeRewriteLab(t, 1500)
	for _, s := range []*site{contoso, fabrikam} {
		for _, pair := range [][2]*nic{{s.vm11, s.vm12}, {s.vm12, s.vm11}, {s.vm11, s.v21}, {s.v21, s.vm13}} {
			from, to := pair[0], pair[1]
			for _, six := range []bool{false, true} {
				asked := s.packet(to, from, six, udpPorts(2, 1), "data")
				frames := map[string][]byte{
					"UDP":            s.packet(from, to, six, udpPorts(1, 2), "data"),
					"odd UDP":        s.packet(from, to, six, udpPorts(1, 2), "odd"),
					"empty UDP":      s.packet(from, to, six, udpPorts(1, 2), ""),
					"UDP sum zero":   zeroSum(s.packet(from, to, six, udpPorts(1, 2), "\x00\x00zero")),
					"like VXLAN":     s.packet(from, to, six, udpPorts(50000, 4789), "\x08\x00\x00\x00\x00\x13\x89\x00"+string(goodInner(5000))),
					"TCP":            s.packet(from, to, six, tcpFlags(1, 80, "S"), ""),
					"TCP data":       s.packet(from, to, six, tcpFlags(1, 80, "A"), "GET /"),
					"ping":           s.packet(from, to, six, ping(six, false, 7), id6(7)+"data"),
					"pong":           s.packet(from, to, six, ping(six, true, 7), id6(7)+"data"),
					"error":          s.unreachable(from, to, six, asked, 1000),
					"error, short":   s.unreachable(from, to, six, asked, map[bool]int{false: 28, true: 48}[six]),
					"error, of TCP":  s.unreachable(from, to, six, s.packet(to, from, six, tcpFlags(80, 1, "A"), "data"), 1000),
					"error, of ping": s.unreachable(from, to, six, s.packet(to, from, six, ping(six, false, 7), id6(7)+"data"), 1000),
					"protocol 200":   s.raw(from, to, six, 200, []byte("anything")),
					"like GRE":       s.raw(from, to, six, 47, []byte("\x20\x00\x65\x58\x00\x13\x88\x07"+string(goodInner(5000)))),
				}
				if !six {
					frames["no checksum"] = s.packet(from, to, six, udpPorts(1, 2), "no checksum")
					frames["no checksum"][14+20+6], frames["no checksum"][14+20+7] = 0, 0
				}
				for what, b := range frames {
					what = fmt.Sprintf("%s, %s from %s to %s", s.Name, what, s.ca(from, six), s.ca(to, six))
					for range 2 {
						l.tap = nil
						from.send(b)
						l.settle()
						got := to.drain()
						if len(got) != 1 || len(l.tap) != 1 {
							t.Fatalf("%s: %d frames arrived, %d were on the fabric; drops %v %v", what, len(got), len(l.tap), from.host.allDrops(), to.host.allDrops())
						}
						w, err := readIP(l.tap[0].bytes, false)
						if err != nil || w.src != s.standIn(from, six) || w.dst != s.standIn(to, six) || !transportSum(w) {
							t.Errorf("%s: on the fabric from %s to %s: %v %x", what, w.src, w.dst, err, l.tap[0].bytes)
						}
						if strings.Contains(what, "UDP sum zero") && w.body[6]|w.body[7] == 0 {
							t.Errorf("%s: on the fabric the checksum is absent", what)
						}
						sent, _ := readIP(b[14:], true)
						end, err := readIP(got[0].bytes[14:], true)
						if err != nil || !transportSum(end) && transportSum(sent) || end.src != sent.src || end.dst != sent.dst || !bytes.Equal(end.body, sent.body) {
							t.Errorf("%s: arrives as %+v, %v; sent as %+v", what, end, err, sent)
						}
						ttl, mac := sent.ttl, from.mac.Bytes()
						if from.vsid != to.vsid {
							ttl, mac = ttl-1, routerMAC
						}
						if end.ttl != ttl || [6]byte(got[0].bytes[6:]) != mac || [6]byte(got[0].bytes) != to.mac.Bytes() {
							t.Errorf("%s: arrives with TTL %d from %x for %x", what, end.ttl, got[0].bytes[6:12], got[0].bytes[:6])
						}
					}
				}
				expect(t, l, nil, "", contoso, fabrikam)
			}
		}
	}
}

// zeroSum changes the first two bytes of a UDP payload so that the checksum is
// zero, which is written as 0xffff.
func zeroSum(b []byte) []byte {
	u := b[len(b)-8-6:]
	u[8], u[9] = u[6], u[7]
	u[6], u[7] = 0xff, 0xff
	return b
}

// Packets that are cut, by their senders, by their hosts or as super-packets,
// arrive complete, in a fabric of small and of large packets; what may not be cut
// is reported with the fabric's own MTU.
func TestRewriteSizes(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		l, contoso, fabrikam := wholeRewriteLab(t, mtu)
		for _, s := range []*site{contoso, fabrikam} {
			from, to := s.vm11, s.v21
			for _, n := range []*nic{s.vm11, s.v21} { // ports that take what the fabric carries
				n.host.sw.RemovePort(n.id)
				id, err := n.host.sw.AddPort(PortSpec{Name: "wide", VSID: mustVSID(n.vsid), MAC: n.mac, Kind: PortVM, MTU: mtu}, n)
				if err != nil {
					t.Fatal(err)
				}
				n.id = id
			}
			// Exactly the MTU, and one more, with and without leave to cut.
			for _, six := range []bool{false, true} {
				head := map[bool]int{false: 28, true: 48}[six]
				for _, more := range []int{0, 1, 20000} {
					for _, df := range []bool{false, true} {
						payload := strings.Repeat("r", mtu-head+more)
						b := s.packet(from, to, six, udpPorts(1, 2), payload)
						if df && !six {
							b = edit(b[14:], func(p []byte) { p[6] |= 0x40 })
							b = append(s.packet(from, to, six, udpPorts(1, 2), "")[:14:14], b...)
						}
						what := fmt.Sprintf("%s, MTU %d and %d bytes, IPv6 %v, DF %v", s.Name, mtu, more, six, df)
						from.send(b)
						l.settle()
						var data []byte
						for _, f := range to.drain() {
							v, err := readIP(f.bytes[14:], true)
							if err != nil || v.length > mtu || v.ttl != 63 || int(v.frag&0x1fff)*8 != len(data) || !transportSum(v) {
								t.Fatalf("%s: a piece at %d of %d bytes: %v", what, int(v.frag&0x1fff)*8, v.length, err)
							}
							data = append(data, v.body...)
						}
						if more > 0 && (df || six) {
							typ, code, _, reported := icmpBack(t, from)
							if want := map[bool]uint8{false: 3, true: 2}[six]; len(data) != 0 || typ != want || code != want/3*4 || reported != mtu {
								t.Errorf("%s: %d bytes arrived; type %d code %d MTU %d came back", what, len(data), typ, code, reported)
							}
							continue
						}
						if len(data) != 8+len(payload) || string(data[8:]) != payload {
							t.Errorf("%s: %d bytes arrived of %d; drops %v", what, len(data), 8+len(payload), from.host.allDrops())
						}
					}
				}
				// A super-packet.
				super := superPacket(mac11, hnv.RouterMAC, s.ca(from, six), s.ca(to, six), 50000)
				super.offload.GSOSize = uint16(mtu - head - 12)
				from.sendOffloaded(super)
				l.settle()
				total := 0
				for i, f := range to.drain() {
					v, err := readIP(f.bytes[14:], false)
					if err != nil || !transportSum(v) || v.src != ip(s.ca(from, six)) || v.length > mtu {
						t.Fatalf("%s: segment %d of MTU %d: %d bytes, %v", s.Name, i, mtu, v.length, err)
					}
					total += len(v.body) - 20
				}
				if total != 50000 {
					t.Errorf("%s: %d bytes of a super-packet arrived; drops %v", s.Name, total, from.host.allDrops())
				}
				// A partial checksum is complete on the fabric.
				part := superPacket(mac11, hnv.RouterMAC, s.ca(from, six), s.ca(to, six), 500)
				part.offload.GSO, part.offload.GSOSize = packet.GSONone, 0
				from.sendOffloaded(part)
				l.settle()
				if got := to.drain(); len(got) != 1 {
					t.Errorf("%s: %d frames with a partial checksum arrived", s.Name, len(got))
				} else if v, err := readIP(got[0].bytes[14:], false); err != nil || !transportSum(v) {
					t.Errorf("%s: the partial checksum became wrong: %v", s.Name, err)
				}
				// Fragments of the sender's own.
				whole := s.packet(from, to, six, udpPorts(1, 2), strings.Repeat("f", 1200))
				var first, later []byte
				if six {
					first, later = fragments6(whole, 9, 600)
				} else {
					first, later = fragments(whole, 9, 600)
				}
				var data []byte
				for _, f := range [][]byte{first, later} {
					from.send(f)
					l.settle()
					for _, got := range to.drain() {
						v, err := readIP(got.bytes[14:], false)
						if err != nil {
							t.Fatal(err)
						}
						if six {
							v.body = v.body[8:]
						}
						data = append(data, v.body...)
					}
				}
				if !bytes.Equal(data, whole[len(whole)-1208:]) {
					t.Errorf("%s: IPv6 %v: fragments arrive as %d bytes of %d", s.Name, six, len(data), 1208)
				}
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
	}
}

// What cannot travel rewritten, or should not be heard, is dropped: options that
// routers of the fabric would act upon, neighbor discovery and DHCP of a rogue
// out of the fabric, expired packets.
func TestRewriteRefuses(t *testing.T) {
	l, contoso, fabrikam := wholeRewriteLab(t, 1500)
	for _, s := range []*site{contoso, fabrikam} {
		h1, h2 := l.hosts[1], l.hosts[2]
		src, dst := s.standIn(s.vm12, false).String(), s.standIn(s.vm11, false).String()
		src6, dst6 := s.standIn(s.vm12, true).String(), s.standIn(s.vm11, true).String()
		options := slices.Concat(s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), "x")[:34], []byte{7, 4, 5, 0}, s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), "x")[34:])
		options[14], options[17], options[24], options[25] = 0x46, options[17]+4, 0, 0
		sum := ^sum16(options[14:38])
		options[24], options[25] = byte(sum>>8), byte(sum)
		l.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].DHCP = ip("10.1.1.13")
		})
		for what, tc := range map[string]struct {
			at     *host
			do     func()
			reason drop.Reason
		}{
			"options":         {h1, func() { s.vm11.send(options) }, drop.RewriteImpossible},
			"good":            {h1, func() { h1.inject(rawIP(mac12, mac11, src, dst, 64, 17, []byte{0, 1, 0, 2, 0, 8, 0, 0})[14:]) }, 0},
			"expired":         {h1, func() { h1.inject(rawIP(mac12, mac11, src, dst, 0, 17, []byte{0, 1, 0, 2, 0, 8, 0, 0})[14:]) }, drop.TTLExpired},
			"a rogue's offer": {h1, func() { h1.inject(rawIP(mac12, mac11, src, dst, 64, 17, []byte{0, 67, 0, 68, 0, 8, 0, 0})[14:]) }, drop.DHCPRogue},
			"advertisement": {h1, func() {
				h1.inject(neighborFrame(t, packet.NDNeighborAdvertisement, mac12, mac11, mac12, src6, dst6, "fd00:1::1")[14:])
			}, drop.NDIgnored},
			"router advertisement":  {h1, func() { h1.inject(rawND(134, mac12, mac11, src6, dst6, 255)[14:]) }, drop.NDIgnored},
			"to a group":            {h1, func() { h1.inject(rawIP(mac12, mac11, src, "239.1.1.1", 64, 17, []byte{0, 1, 0, 2, 0, 8, 0, 0})[14:]) }, drop.UDPPort},
			"cut short":             {h1, func() { h1.inject(rawIP(mac12, mac11, src, dst, 64, 17, []byte{0, 1, 0, 2, 0, 8, 0, 0})[14:40]) }, drop.InnerTruncated},
			"wrong header checksum": {h1, func() { b := rawIP(mac12, mac11, src, dst, 64, 200, []byte("x"))[14:]; b[10] ^= 1; h1.inject(b) }, drop.InnerChecksum},
			"tunnelled between both": {h2, func() {
				h2.inject(outerPacket(s.Encap, dst, src, s.base+1, s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), "x")))
			}, 0},
			"tunnelled to the host": {h2, func() {
				h2.inject(outerPacket(s.Encap, dst, paHost2, s.base+1, s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), "x")))
			}, drop.EncapMismatch},
		} {
			before := tc.at.allDrops()
			tc.do()
			l.settle()
			got := 0
			for _, n := range append(contoso.nics(), fabrikam.nics()...) {
				for _, f := range n.drain() {
					if d := decode(t, f.bytes); d.Proto != packet.ProtoICMP {
						got++
					}
				}
			}
			if d := tc.at.since(before); tc.reason != 0 && (got != 0 || d[tc.reason] != 1) || tc.reason == 0 && got != 1 {
				t.Errorf("%s, %s: %d frames arrived, drops %v; want %s", s.Name, what, got, d, tc.reason)
			}
		}
	}
}

// A VM with a PA of its own moves: all hosts follow with one change of its
// record, and its flows go on. Rewriting may also begin and end under flows.
func TestRewriteMigration(t *testing.T) {
	l, contoso, fabrikam := wholeRewriteLab(t, 1500)
	for _, s := range []*site{contoso, fabrikam} {
		home := s.vm11.host
		pa := s.standIn(s.vm11, false)
		talk := func(n *nic, what string) {
			t.Helper()
			n.send(s.packet(s.vm11, s.vm12, false, udpPorts(1, 2), what))
			expect(t, l, s.vm12, what, contoso, fabrikam)
			s.vm12.send(s.packet(s.vm12, s.vm11, false, udpPorts(2, 1), what))
			l.settle()
			if got := n.drain(); len(got) != 1 {
				t.Errorf("%s, %s: %d frames arrived; drops %v", s.Name, what, len(got), n.host.allDrops())
			}
		}
		talk(s.vm11, "at home")
		// The PA moves along to the gateway's machine, as an address of its own.
		l.byPA[pa], l.rewritten[pa] = l.hosts[0], l.hosts[0]
		l.setDown()
		home.sw.RemovePort(s.vm11.id)
		away := l.hosts[0].plug(s.base+1, mac11, PortVM)
		talk(away, "away")
		// An encapsulated one from then on, and back.
		for _, step := range []struct {
			rule hnv.Rule
			pa   netip.Addr
		}{{hnv.Rule(s.Encap), ip(paGate)}, {hnv.RuleRewrite, pa}} {
			l.changeRecord(s, "10.1.1.11", func(r *hnv.Record) { r.Rule, r.PA = step.rule, step.pa })
			l.tap = nil
			talk(away, string(step.rule))
			for _, p := range l.tap {
				if o, _ := readOuter(p.bytes); (o.kind == "") != (step.rule == hnv.RuleRewrite) {
					t.Errorf("%s: by rule %s a packet travels as %q", s.Name, step.rule, o.kind)
				}
			}
		}
	}
}

// Of two ends one of which has a PA of its own and the other a tunnel of whatever
// kind, both understand each other.
func TestRewriteAndTunnels(t *testing.T) {
	for _, rule := range []hnv.Rule{hnv.RuleNVGRE, hnv.RuleVXLAN} {
		l, contoso, fabrikam := rewriteLab(t)
		for _, s := range []*site{contoso, fabrikam} {
			for _, ca := range []string{"10.1.1.13", "10.254.254.2"} {
				l.changeRecord(s, ca, func(r *hnv.Record) { r.Rule = rule })
			}
			for _, pair := range [][2]*nic{{s.vm13, s.vm12}, {s.vm12, s.vm13}, {s.vm13, s.v21}, {s.v21, s.vm13}, {s.gw, s.vm11}, {s.vm11, s.gw}, {s.gw, s.vm13}, {s.vm13, s.gw}} {
				for range 2 {
					pair[0].send(s.packet(pair[0], pair[1], false, udpPorts(1, 2), "x"))
					expect(t, l, pair[1], "x", contoso, fabrikam)
				}
			}
			s.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "x"))
			expect(t, l, s.gw, "x", contoso, fabrikam)
			s.gw.send(udp(s.gw.mac, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "x"))
			expect(t, l, s.vm11, "x", contoso, fabrikam)
		}
	}
}

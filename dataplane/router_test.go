package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// The router's addresses in the example's virtual subnets.
var routers = map[string]bool{
	"10.254.254.1": false, "10.1.1.1": false, "10.1.2.1": false,
	"fd00:fe::1": true, "fd00:1::1": true, "fd00:2::1": true,
}

// Every host answers pings to every router address of the routing domain, from
// every port, without a packet on the fabric, and whatever the TTL.
func TestRouterAnswersEverywhere(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, n := range s.nics() {
			for router, six := range routers {
				payload := "ping " + router
				if six {
					payload = id6(7) + payload
				}
				for _, ttl := range []uint8{1, 64} {
					n.send(ipFrame(n.mac, hnv.RouterMAC, s.ca(n, six), router, ttl, ping(six, false, 7), payload))
					l.settle()
					frames := n.drain()
					if len(frames) != 1 {
						t.Fatalf("%s pings %s: %d answers; drops %v", s.ca(n, six), router, len(frames), n.host.allDrops())
					}
					v, err := readIP(frames[0].bytes[14:], false)
					d := decode(t, frames[0].bytes)
					if err != nil || !transportSum(v) || v.src != ip(router) || v.dst != ip(s.ca(n, six)) || v.ttl != 64 || !d.IsEchoReply() || d.ICMPID != 7 ||
						d.SrcMAC != routerMAC || d.DstMAC != n.mac.Bytes() || !strings.HasSuffix(d.payload, "ping "+router) {
						t.Errorf("%s pings %s: the answer is %+v, %v", s.ca(n, six), router, d, err)
					}
				}
			}
		}
		for i, c := range map[int]string{0: "contoso", 1: "fabrikam"} {
			if s.Name.String() == c && s.vm11.host.sw.Counters()[i+1].Answered != 24 {
				t.Errorf("%s: %d answers are counted", c, s.vm11.host.sw.Counters()[i+1].Answered)
			}
		}
		expect(t, l, nil, "", contoso, fabrikam)
	}
	if len(l.tap) != 0 {
		t.Errorf("%d packets went over the fabric", len(l.tap))
	}
	// A ping with options, in fragments or with a wrong checksum gets no answer.
	good := ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.1", 64, echo(), strings.Repeat("x", 64))
	first, _ := fragments(good, 1, 32)
	wrong := slices.Clone(good)
	wrong[50] ^= 1
	for _, b := range [][]byte{first, wrong} {
		contoso.vm11.send(b)
	}
	expect(t, l, nil, "", contoso, fabrikam)
	if d := l.hosts[1].drops("contoso"); d[drop.EchoMalformed] != 2 {
		t.Errorf("drops are %v", d)
	}
}

// Between virtual subnets of one routing domain packets are routed where they
// are sent: on one host they do not leave it, to another one they travel in the
// destination's virtual subnet, once a hop less, and never to another domain.
func TestRoutingBetweenSubnets(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, from := range s.nics() {
			for _, to := range s.nics() {
				if from == to {
					continue
				}
				for _, six := range []bool{false, true} {
					for _, ttl := range []uint8{0, 1, 2, 255} {
						what := fmt.Sprintf("%s: %s to %s, TTL %d", s.Name, s.ca(from, six), s.ca(to, six), ttl)
						l.tap = nil
						from.send(ipFrame(from.mac, hnv.RouterMAC, s.ca(from, six), s.ca(to, six), ttl, udpPorts(1, 2), what))
						l.settle()
						if ttl < 2 {
							if n := len(to.drain()); n != 0 || len(l.tap) != 0 {
								t.Errorf("%s: arrived", what)
							}
							back := from.drain()
							if ttl == 0 && len(back) != 0 || ttl == 1 && len(back) > 1 {
								t.Errorf("%s: %d frames came back", what, len(back))
							}
							l.now = l.now.Add(1e9) // for the limit of errors
							if ttl == 0 {
								continue
							}
							d := decode(t, back[0].bytes)
							v, err := readIP(back[0].bytes[14:], false)
							router := map[uint32]string{s.base: "10.254.254.1", s.base + 1: "10.1.1.1", s.base + 2: "10.1.2.1"}[from.vsid]
							typ := uint8(11)
							if six {
								router, typ = map[uint32]string{s.base: "fd00:fe::1", s.base + 1: "fd00:1::1", s.base + 2: "fd00:2::1"}[from.vsid], 3
							}
							if err != nil || !transportSum(v) || d.Src != ip(router) || d.ICMPType != typ || d.ICMPCode != 0 || d.DstMAC != from.mac.Bytes() || !strings.Contains(string(v.body), what) {
								t.Errorf("%s: %+v came back, %v", what, d, err)
							}
							continue
						}
						got := expect(t, l, to, what, contoso, fabrikam)
						if got.TTL != ttl-1 || got.SrcMAC != routerMAC || got.DstMAC != to.mac.Bytes() {
							t.Errorf("%s: arrives with TTL %d from %x", what, got.TTL, got.SrcMAC)
						}
						want := 0
						if from.host != to.host {
							want = 1
						}
						if len(l.tap) != want {
							t.Fatalf("%s: %d packets on the fabric, want %d", what, len(l.tap), want)
						}
						if want == 1 {
							if o, _ := readOuter(l.tap[0].bytes); o.vsid != to.vsid {
								t.Errorf("%s: it travels in VSID %d, want %d", what, o.vsid, to.vsid)
							}
						}
					}
				}
			}
		}
	}
}

// In a virtual subnet of several prefixes the router answers and reports with the
// address of the sender's own prefix, and routes between them.
func TestRouterInSeveralPrefixes(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) {
			t.Subnets = slices.Clone(t.Subnets)
			t.Subnets[1].Prefixes = append(slices.Clone(t.Subnets[1].Prefixes), subnet(s.base+1, "10.9.0.0/24").Prefixes...)
			t.Records = append(slices.Clone(t.Records), record(s.base+1, "10.9.0.11", mac11, paHost1, hnv.Rule(s.Encap)))
		})
	}
	for _, s := range []*site{contoso, fabrikam} {
		for ca, router := range map[string]string{"10.9.0.11": "10.9.0.1", "10.1.1.11": "10.1.1.1"} {
			s.vm11.send(ipFrame(mac11, hnv.RouterMAC, ca, "10.1.2.11", 1, udpPorts(1, 2), "x"))
			if typ, _, from, _ := icmpBack(t, s.vm11); typ != 11 || from != router {
				t.Errorf("%s: %s gets type %d from %s", s.Name, ca, typ, from)
			}
			s.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, ca, router))
			if a := arpReply(t, s.vm11); macString(a.SourceHwAddress) != hnv.RouterMAC.String() {
				t.Errorf("%s: the router of %s is at %x", s.Name, ca, a.SourceHwAddress)
			}
		}
		s.vm12.send(udp(mac12, hnv.RouterMAC, "10.1.1.12", "10.9.0.11", "x"))
		if d := expect(t, l, s.vm11, "x", contoso, fabrikam); d.TTL != 63 {
			t.Errorf("%s: TTL %d", s.Name, d.TTL)
		}
		s.vm11.send(udp(mac11, mac12, "10.9.0.11", "10.1.1.12", "x")) // one virtual subnet: bridged, if the VM likes
		expect(t, l, s.vm12, "x", contoso, fabrikam)
	}
}

// solicit is a neighbor solicitation of a NIC: of its own accord to the target's
// group, or to one MAC; without an address, to find duplicates.
func solicit(n *nic, from, target string, to hnv.MAC) []byte {
	q := packet.ND{Type: packet.NDNeighborSolicitation, Target: ip(target)}
	dst, mac := packet.SolicitedNode(q.Target), packet.MulticastMAC(packet.SolicitedNode(q.Target))
	if to.IsValid() {
		dst, mac = q.Target, to.Bytes()
	}
	if from != "::" {
		q.LinkAddr, q.HasLinkAddr = n.mac.Bytes(), true
	}
	f := packet.NewFrame(256)
	q.Build(f, mac, n.mac.Bytes(), ip(from), dst)
	return slices.Clone(f.Bytes())
}

// Questions by ARP and neighbor discovery, of every kind, from every port for
// every address: who has a record or is the router is answered for, with the
// right MAC and nothing on the fabric; all else is silence, and counted.
func TestNeighboursOfAllPorts(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		known := map[string]hnv.MAC{}
		for _, r := range s.Records {
			known[fmt.Sprintf("%d %s", r.VSID.Uint32(), r.CA)] = r.MAC
		}
		for _, sub := range s.Subnets {
			for _, p := range sub.Prefixes {
				known[fmt.Sprintf("%d %s", sub.VSID.Uint32(), p.Gateway)] = hnv.RouterMAC
			}
		}
		targets := []string{"10.1.1.99", "fd00:1::99", "10.1.1.0", "10.1.1.255", "203.0.113.5", "2001:db8::5", "0.0.0.0", "fe80::1"}
		for _, r := range s.Records {
			targets = append(targets, r.CA.String())
		}
		for r := range routers {
			targets = append(targets, r)
		}
		for _, n := range s.nics() {
			for _, target := range targets {
				six := ip(target).Is6()
				mac := known[fmt.Sprintf("%d %s", n.vsid, target)]
				for _, kind := range []string{"resolution", "duplicates", "reachability", "announcement"} {
					var b []byte
					own := s.ca(n, six)
					to := hnv.MAC{}
					if kind == "reachability" {
						if to = mac; !to.IsValid() {
							to = mac13
						}
					}
					switch {
					case kind == "announcement" && six:
						b = neighborFrame(t, packet.NDNeighborAdvertisement, n.mac, macMulticast6, n.mac, own, "ff02::1", target)
					case kind == "announcement":
						b = arpFrame(1, n.mac, macBroadcast, n.mac, own, own)
					case kind == "duplicates" && six:
						b = solicit(n, "::", target, hnv.MAC{})
					case kind == "duplicates":
						b = arpFrame(1, n.mac, macBroadcast, n.mac, "0.0.0.0", target)
					case six:
						b = solicit(n, own, target, to)
					case to.IsValid():
						b = arpFrame(1, n.mac, to, n.mac, own, target)
					default:
						b = arpFrame(1, n.mac, macBroadcast, n.mac, own, target)
					}
					what := fmt.Sprintf("%s: %s by %s for %s", s.Name, kind, own, target)
					before := n.host.allDrops()
					n.send(b)
					l.settle()
					frames := n.drain()
					if !mac.IsValid() || mac == n.mac || kind == "announcement" {
						if d := n.host.since(before); len(frames) != 0 || len(d) != 1 {
							t.Errorf("%s: %d frames, drops %v; want silence and one drop", what, len(frames), d)
						}
						continue
					}
					if len(frames) != 1 {
						t.Errorf("%s: %d answers", what, len(frames))
						continue
					}
					if got, for_ := answerOf(t, frames[0].bytes); got != mac.Bytes() || for_ != ip(target) {
						t.Errorf("%s: %s is at %x, want %s", what, for_, got, mac)
					}
				}
			}
		}
	}
	if len(l.tap) != 0 {
		t.Errorf("%d packets on the fabric", len(l.tap))
	}
	expect(t, l, nil, "", contoso, fabrikam)
}

// answerOf reads an ARP reply or a neighbor advertisement.
func answerOf(t testing.TB, b []byte) (mac [6]byte, of netip.Addr) {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Operation == layers.ARPReply {
		return [6]byte(a.SourceHwAddress), netip.AddrFrom4([4]byte(a.SourceProtAddress))
	}
	na, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
	v, err := readIP(b[14:], false)
	if !ok || err != nil || !transportSum(v) || v.ttl != 255 || len(na.Options) != 1 || na.Options[0].Type != layers.ICMPv6OptTargetAddress {
		t.Errorf("an answer is %s", p)
		return mac, of
	}
	of, _ = netip.AddrFromSlice(na.TargetAddress)
	return [6]byte(na.Options[0].Data), of
}

// Nobody gets an answer who is not what he says: from ports, and from tunnels.
func TestSpoofedQuestions(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		other := contoso
		if s == contoso {
			other = fabrikam
		}
		h1, h2 := l.hosts[1], l.hosts[2]
		wrongEncap := map[hnv.Encap]hnv.Encap{hnv.NVGRE: hnv.VXLAN, hnv.VXLAN: hnv.NVGRE}[s.Encap]
		nd := func(src, link hnv.MAC, from, target string) []byte {
			q := packet.ND{Type: packet.NDNeighborSolicitation, Target: ip(target), LinkAddr: link.Bytes(), HasLinkAddr: true}
			dst := packet.SolicitedNode(q.Target)
			f := packet.NewFrame(256)
			q.Build(f, packet.MulticastMAC(dst), src.Bytes(), ip(from), dst)
			return slices.Clone(f.Bytes())
		}
		for what, send := range map[string]func(){
			"a neighbour's address":       func() { s.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.13", "10.1.1.12")) },
			"a remote address":            func() { s.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.12", "10.1.1.13")) },
			"nobody's address":            func() { s.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.99", "10.1.1.13")) },
			"the router's address":        func() { s.vm11.send(arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.1", "10.1.1.13")) },
			"another's MAC in ARP":        func() { s.vm11.send(arpFrame(1, mac11, macBroadcast, mac12, "10.1.1.11", "10.1.1.13")) },
			"another's MAC outside":       func() { s.vm11.send(arpFrame(1, mac12, macBroadcast, mac11, "10.1.1.11", "10.1.1.13")) },
			"a neighbour's IPv6 address":  func() { s.vm11.send(nd(mac11, mac11, "fd00:1::13", "fd00:1::12")) },
			"the router's IPv6 address":   func() { s.vm11.send(nd(mac11, mac11, "fd00:1::1", "fd00:1::12")) },
			"another's link-layer option": func() { s.vm11.send(nd(mac11, mac12, "fd00:1::11", "fd00:1::12")) },
			"an advertisement for another": func() {
				s.vm11.send(neighborFrame(t, packet.NDNeighborAdvertisement, mac11, macMulticast6, mac11, "fd00:1::11", "ff02::1", "fd00:1::12"))
			},
			"from the wrong host": func() {
				h2.inject(outerPacket(s.Encap, paGate, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
			},
			"from a stranger": func() {
				h2.inject(outerPacket(s.Encap, "192.168.9.9", paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
			},
			"from the fabric in the router's name with another MAC": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.1", "10.1.1.12")))
			},
			"from the fabric with another MAC": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(1, mac13, mac12, mac13, "10.1.1.11", "10.1.1.12")))
			},
			"from the fabric with another MAC in ARP": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac13, "10.1.1.11", "10.1.1.12")))
			},
			"from the fabric for a VM of another host": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.13")))
			},
			"by another kind of tunnel": func() {
				h2.inject(outerPacket(wrongEncap, paHost1, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
			},
			"from the fabric without an address": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(1, mac11, mac12, mac11, "0.0.0.0", "10.1.1.12")))
			},
			"a reply from the fabric": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, arpFrame(2, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
			},
			"a spoofed solicitation from the fabric": func() {
				h2.inject(outerPacket(s.Encap, paGate, paHost2, s.base+1, nd(mac11, mac11, "fd00:1::11", "fd00:1::12")))
			},
			"a link-local one from the fabric": func() {
				h2.inject(outerPacket(s.Encap, paHost1, paHost2, s.base+1, nd(mac11, mac11, "fe80::11", "fd00:1::12")))
			},
			"an advertisement from the fabric": func() {
				h1.inject(outerPacket(s.Encap, paHost2, paHost1, s.base+1, neighborFrame(t, packet.NDNeighborAdvertisement, mac12, mac11, mac12, "fd00:1::12", "fd00:1::11", "fd00:1::12")))
			},
			"in a virtual subnet of the other tenant's": func() {
				if s.Encap == hnv.NVGRE {
					h2.inject(outerPacket(hnv.NVGRE, paHost1, paHost2, other.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
				} else {
					h2.inject(outerPacket(hnv.VXLAN, paHost1, paHost2, other.base+1, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")))
				}
			},
		} {
			before := []map[drop.Reason]uint64{h1.allDrops(), h2.allDrops()}
			send()
			l.settle()
			n := uint64(0)
			for i, h := range []*host{h1, h2} {
				for _, c := range h.since(before[i]) {
					n += c
				}
			}
			if n != 1 {
				t.Errorf("%s, %s: %d drops, want one", s.Name, what, n)
			}
			for _, one := range []*site{contoso, fabrikam} {
				for _, p := range one.nics() {
					for range p.drain() {
						t.Errorf("%s, %s: %s got a frame", s.Name, what, p.mac)
					}
				}
			}
			if len(l.tap) != 0 {
				t.Errorf("%s, %s: a packet on the fabric: %x", s.Name, what, l.tap[0].bytes)
				l.tap = nil
			}
		}
	}
}

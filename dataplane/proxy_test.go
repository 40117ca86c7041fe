package dataplane

import (
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// arpReply reads the one ARP reply that the port got.
func arpReply(t *testing.T, n *nic) *layers.ARP {
	t.Helper()
	frames := n.drain()
	if len(frames) != 1 {
		t.Fatalf("port %s got %d frames, want one ARP reply; drops %v", n.mac, len(frames), n.host.allDrops())
	}
	p := gopacket.NewPacket(frames[0].bytes, layers.LayerTypeEthernet, gopacket.Default)
	a, _ := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	if a == nil || a.Operation != layers.ARPReply {
		t.Fatalf("port %s got %s, want an ARP reply", n.mac, p)
	}
	eth := p.LinkLayer().(*layers.Ethernet)
	if eth.DstMAC.String() != n.mac.String() || eth.SrcMAC.String() != macString(a.SourceHwAddress) {
		t.Errorf("the reply goes from %s to %s", eth.SrcMAC, eth.DstMAC)
	}
	return a
}

func macString(b []byte) string {
	m, _ := hnv.MACFrom([6]byte(b))
	return m.String()
}

func TestARPProxy(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			what    string
			from    *nic
			sender  string
			dst     hnv.MAC
			target  string
			answers hnv.MAC     // unset: silence
			drop    drop.Reason // then
		}{
			{"VM on the same host", s.vm11, "10.1.1.11", macBroadcast, "10.1.1.13", mac13, 0},
			{"VM on another host", s.vm11, "10.1.1.11", macBroadcast, "10.1.1.12", mac12, 0},
			{"unicast probe of a neighbour", s.vm11, "10.1.1.11", mac12, "10.1.1.12", mac12, 0},
			{"the router", s.vm11, "10.1.1.11", macBroadcast, "10.1.1.1", hnv.RouterMAC, 0},
			{"the router of another subnet", s.vm11, "10.1.1.11", macBroadcast, "10.1.2.1", hnv.MAC{}, drop.ARPUnknown},
			{"a VM of another subnet", s.vm11, "10.1.1.11", macBroadcast, "10.1.2.11", hnv.MAC{}, drop.ARPUnknown},
			{"nobody", s.vm11, "10.1.1.11", macBroadcast, "10.1.1.99", hnv.MAC{}, drop.ARPUnknown},
			{"itself", s.vm11, "10.1.1.11", macBroadcast, "10.1.1.11", hnv.MAC{}, drop.ARPIgnored},
			{"its own address, as a probe", s.vm11, "0.0.0.0", macBroadcast, "10.1.1.11", hnv.MAC{}, drop.ARPIgnored},
			{"another's address, as a probe", s.vm11, "0.0.0.0", macBroadcast, "10.1.1.12", mac12, 0},
			{"a free address, as a probe", s.vm11, "0.0.0.0", macBroadcast, "10.1.1.99", hnv.MAC{}, drop.ARPUnknown},
			{"compartment asks for the router", s.gw, "10.254.254.2", macBroadcast, "10.254.254.1", hnv.RouterMAC, 0},
			{"compartment probes the router", s.gw, "10.254.254.2", hnv.RouterMAC, "10.254.254.1", hnv.RouterMAC, 0},
			{"compartment asks with its outer address", s.gw, "203.0.113.10", macBroadcast, "10.254.254.1", hnv.RouterMAC, 0},
			{"compartment asks for itself", s.gw, "0.0.0.0", macBroadcast, "10.254.254.2", hnv.MAC{}, drop.ARPIgnored},
			{"compartment asks for a VM elsewhere", s.gw, "10.254.254.2", macBroadcast, "10.1.1.11", hnv.MAC{}, drop.ARPUnknown},
		} {
			before := tc.from.host.drops(s.Name.String())[tc.drop]
			src := tc.from.mac
			tc.from.send(arpFrame(1, src, tc.dst, src, tc.sender, tc.target))
			l.settle()
			if tc.answers.IsValid() {
				a := arpReply(t, tc.from)
				if macString(a.SourceHwAddress) != tc.answers.String() || string(a.SourceProtAddress) != string(ip(tc.target).AsSlice()) ||
					macString(a.DstHwAddress) != src.String() || string(a.DstProtAddress) != string(ip(tc.sender).AsSlice()) {
					t.Errorf("%s: %s is at %x for %s at %x; want %s at %s", tc.what, a.SourceProtAddress, a.SourceHwAddress,
						a.DstProtAddress, a.DstHwAddress, tc.target, tc.answers)
				}
			} else if got := tc.from.host.drops(s.Name.String())[tc.drop]; got != before+1 {
				t.Errorf("%s: %s is counted %d times, want %d", tc.what, tc.drop, got, before+1)
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
	}
	if len(l.tap) != 0 {
		t.Errorf("%d ARP packets went to the fabric", len(l.tap))
	}
}

// A host without a proxy, a kernel or Open vSwitch, asks by the tunnel.
func TestARPFromFabric(t *testing.T) {
	for _, tc := range []struct {
		what      string
		vsid      uint32
		senderMAC hnv.MAC
		sender    string
		dst       hnv.MAC
		target    string
		askedMAC  hnv.MAC
	}{
		{"its router asks for the compartment", 0, hnv.RouterMAC, "10.254.254.1", hnv.CompartmentMAC(mustVSID(5000)), "10.254.254.2", hnv.CompartmentMAC(mustVSID(5000))},
		{"its router asks everybody", 0, hnv.RouterMAC, "10.254.254.1", macBroadcast, "10.254.254.2", hnv.CompartmentMAC(mustVSID(5000))},
	} {
		l, contoso, fabrikam := exampleLab(t)
		delete(l.byPA, ip(paHost1)) // the asker is not one of ours
		gate := l.hosts[0]
		gate.inject(nvgre(5000+tc.vsid, arpFrame(1, tc.senderMAC, tc.dst, tc.senderMAC, tc.sender, tc.target)))
		expect(t, l, nil, "", contoso, fabrikam)
		if len(l.tap) != 1 {
			t.Fatalf("%s: %d packets on the fabric, want one answer; drops %v", tc.what, len(l.tap), gate.allDrops())
		}
		p := gopacket.NewPacket(l.tap[0].bytes, layers.LayerTypeIPv4, gopacket.Default)
		outer := p.NetworkLayer().(*layers.IPv4)
		gre, _ := p.Layer(layers.LayerTypeGRE).(*layers.GRE)
		a, _ := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		if gre == nil || a == nil || gre.Key>>8 != 5000+tc.vsid || outer.DstIP.String() != paHost1 || outer.SrcIP.String() != paGate {
			t.Fatalf("%s: the answer is %s", tc.what, p)
		}
		if a.Operation != layers.ARPReply || macString(a.SourceHwAddress) != tc.askedMAC.String() || macString(a.DstHwAddress) != tc.senderMAC.String() {
			t.Errorf("%s: the answer is %+v", tc.what, a)
		}
	}
	// A VM behind such a host asks for a VM of ours.
	l, contoso, fabrikam := exampleLab(t)
	delete(l.byPA, ip(paHost2))
	l.hosts[1].inject(outerPacket(hnv.VXLAN, paHost2, paHost1, 6001, arpFrame(1, mac12, mac11, mac12, "10.1.1.12", "10.1.1.11")))
	expect(t, l, nil, "", contoso, fabrikam)
	if len(l.tap) != 1 || l.hosts[1].sw.Counters()[2].Answered != 1 {
		t.Errorf("%d packets on the fabric, want one answer; drops %v", len(l.tap), l.hosts[1].allDrops())
	}
}

func TestNDProxy(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			what    string
			from    *nic
			sender  string
			target  string
			answers hnv.MAC
			router  bool
			drop    drop.Reason
		}{
			{"VM on another host", s.vm11, "fd00:1::11", "fd00:1::12", mac12, false, 0},
			{"the router", s.vm11, "fd00:1::11", "fd00:1::1", hnv.RouterMAC, true, 0},
			{"the router, from a link-local address", s.vm11, "fe80::11", "fd00:1::1", hnv.RouterMAC, true, 0},
			{"nobody", s.vm11, "fd00:1::11", "fd00:1::99", hnv.MAC{}, false, drop.NDUnknown},
			{"another subnet", s.vm11, "fd00:1::11", "fd00:2::11", hnv.MAC{}, false, drop.NDUnknown},
			{"itself", s.vm11, "fd00:1::11", "fd00:1::11", hnv.MAC{}, false, drop.NDIgnored},
			{"its own address, for duplicates", s.vm11, "::", "fd00:1::11", hnv.MAC{}, false, drop.NDIgnored},
			{"another's address, for duplicates", s.vm11, "::", "fd00:1::12", mac12, false, 0},
			{"in another's name", s.vm11, "fd00:1::12", "fd00:1::1", hnv.MAC{}, false, drop.NDSpoofed},
			{"compartment asks for the router", s.gw, "fd00:fe::2", "fd00:fe::1", hnv.RouterMAC, true, 0},
			{"compartment's link-local address, for duplicates", s.gw, "::", "fe80::2", hnv.MAC{}, false, drop.NDUnknown},
		} {
			before := tc.from.host.drops(s.Name.String())[tc.drop]
			q := packet.ND{Type: packet.NDNeighborSolicitation, Target: ip(tc.target)}
			if tc.sender != "::" {
				q.LinkAddr, q.HasLinkAddr = tc.from.mac.Bytes(), true
			}
			to := packet.SolicitedNode(q.Target)
			f := packet.NewFrame(256)
			q.Build(f, packet.MulticastMAC(to), tc.from.mac.Bytes(), ip(tc.sender), to)
			tc.from.send(f.Bytes())
			l.settle()
			if !tc.answers.IsValid() {
				if got := tc.from.host.drops(s.Name.String())[tc.drop]; got != before+1 {
					t.Errorf("%s: %s is counted %d times, want %d: %v", tc.what, tc.drop, got, before+1, tc.from.host.allDrops())
				}
				expect(t, l, nil, "", contoso, fabrikam)
				continue
			}
			frames := tc.from.drain()
			if len(frames) != 1 {
				t.Fatalf("%s: %d answers; drops %v", tc.what, len(frames), tc.from.host.allDrops())
			}
			var h packet.Headers
			var a packet.ND
			if h.DecodeEthernet(frames[0].bytes) != drop.None || a.Parse(frames[0].bytes, &h) != drop.None {
				t.Fatalf("%s: the answer is malformed: %x", tc.what, frames[0].bytes)
			}
			dst, solicited := ip(tc.sender), true
			if tc.sender == "::" {
				dst, solicited = ip("ff02::1"), false
			}
			want := packet.ND{Type: packet.NDNeighborAdvertisement, Router: tc.router, Solicited: solicited, Override: true,
				Target: q.Target, LinkAddr: tc.answers.Bytes(), HasLinkAddr: true}
			if a != want || h.Dst != dst || h.Src != q.Target || h.SrcMAC != tc.answers.Bytes() {
				t.Errorf("%s: the answer is %+v from %s to %s, want %+v to %s", tc.what, a, h.Src, h.Dst, want, dst)
			}
			expect(t, l, nil, "", contoso, fabrikam)
		}
		// With another's link-layer address.
		before := s.vm11.host.drops(s.Name.String())[drop.NDSpoofed]
		s.vm11.send(neighborFrame(t, packet.NDNeighborSolicitation, mac11, hnv.RouterMAC, mac12, "fd00:1::11", "fd00:1::1", "fd00:1::1"))
		if got := s.vm11.host.drops(s.Name.String())[drop.NDSpoofed]; got != before+1 {
			t.Errorf("a solicitation with another's link-layer address: drops %v", s.vm11.host.allDrops())
		}
		expect(t, l, nil, "", contoso, fabrikam)
	}
}

func TestNDFromFabric(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	delete(l.byPA, ip(paHost1))
	gwMAC := hnv.CompartmentMAC(mustVSID(5000))
	l.hosts[0].inject(nvgre(5000, neighborFrame(t, packet.NDNeighborSolicitation, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "fd00:fe::1", "fd00:fe::2", "fd00:fe::2")))
	expect(t, l, nil, "", contoso, fabrikam)
	if len(l.tap) != 1 {
		t.Fatalf("%d packets on the fabric, want one answer; drops %v", len(l.tap), l.hosts[0].allDrops())
	}
	inner := l.tap[0].bytes[28:]
	var h packet.Headers
	var a packet.ND
	if h.DecodeEthernet(inner) != drop.None || a.Parse(inner, &h) != drop.None || a.Type != packet.NDNeighborAdvertisement ||
		a.LinkAddr != gwMAC.Bytes() || h.DstMAC != routerMAC || a.Router {
		t.Errorf("the answer is %+v in %+v", a, h)
	}
}

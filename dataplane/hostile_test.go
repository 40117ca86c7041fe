package dataplane

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// The good packets that the hostile ones are made of: from VM 11 of a tenant to
// the Internet, as its host sends it to the gateway.
func goodInner(base uint32) []byte {
	return udp(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(base)), "10.1.1.11", "203.0.113.5", "long enough to need no padding")
}

func goodNVGRE() []byte { return outerPacket(hnv.NVGRE, paHost1, paGate, 5000, goodInner(5000)) }
func goodVXLAN() []byte { return outerPacket(hnv.VXLAN, paHost1, paGate, 6000, goodInner(6000)) }

// edit changes the outer packet and mends its IPv4 header checksum.
func edit(b []byte, f func(b []byte)) []byte {
	b = slices.Clone(b)
	f(b)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	return b
}

// nvgre wraps an inner frame of contoso as host 1 would.
func nvgre(vsid uint32, inner []byte) []byte {
	return outerPacket(hnv.NVGRE, paHost1, paGate, vsid, inner)
}

func vlanTagged(frame []byte) []byte {
	tag := []byte{0x81, 0x00, 0x00, 0x05}
	return slices.Concat(frame[:12], tag, frame[12:])
}

// innerEdit changes the good inner frame and mends its IPv4 header checksum.
func innerEdit(f func(b []byte)) []byte {
	b := goodInner(5000)
	f(b)
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34], 0))
	return b
}

// hostile is a packet that the fabric should never carry, and why it is dropped;
// for which tenant, if there is one.
type hostile struct {
	what   string
	packet []byte
	tenant string
	want   drop.Reason
}

func hostilePackets(t testing.TB) []hostile {
	gwMAC := hnv.CompartmentMAC(mustVSID(5000))
	otherGW := hnv.CompartmentMAC(mustVSID(6000))
	return []hostile{
		// The outer headers.
		{"empty", nil, "", drop.OuterMalformed},
		{"outer version 5", edit(goodNVGRE(), func(b []byte) { b[0] = 0x55 }), "", drop.OuterMalformed},
		{"outer header length 4", edit(goodNVGRE(), func(b []byte) { b[0] = 0x44 }), "", drop.OuterMalformed},
		{"outer length beyond the packet", edit(goodNVGRE(), func(b []byte) { b[3]++ }), "", drop.OuterLength},
		{"outer length without room for GRE", edit(goodNVGRE(), func(b []byte) { b[2], b[3] = 0, 22 }), "", drop.OuterLength},
		{"outer checksum", func() []byte { b := goodNVGRE(); b[10] ^= 1; return b }(), "", drop.OuterChecksum},
		{"first outer fragment", edit(goodNVGRE(), func(b []byte) { b[6] = 0x20 }), "", drop.OuterFragment},
		{"later outer fragment", edit(goodVXLAN(), func(b []byte) { b[6], b[7] = 0, 0x10 }), "", drop.OuterFragment},
		{"outer TCP", edit(goodNVGRE(), func(b []byte) { b[9] = 6 }), "", drop.OuterProtocol},
		{"PA not ours", outerPacket(hnv.NVGRE, paHost1, "192.168.1.99", 5000, goodInner(5000)), "", drop.OuterNotOurs},
		{"our own PA as source", outerPacket(hnv.NVGRE, paGate, paGate, 5000, goodInner(5000)), "", drop.OuterSourceOurs},

		// The tunnel headers.
		{"GRE version 1", edit(goodNVGRE(), func(b []byte) { b[21] = 1 }), "", drop.GREVersion},
		{"GRE checksum present", edit(goodNVGRE(), func(b []byte) { b[20] |= 0x80 }), "", drop.GREFlags},
		{"GRE sequence present", edit(goodNVGRE(), func(b []byte) { b[20] |= 0x10 }), "", drop.GREFlags},
		{"GRE routing present", edit(goodNVGRE(), func(b []byte) { b[20] |= 0x40 }), "", drop.GREReserved},
		{"GRE key absent", edit(goodNVGRE(), func(b []byte) { b[20] &^= 0x20 }), "", drop.GRENoKey},
		{"GRE carries IPv4", edit(goodNVGRE(), func(b []byte) { b[22], b[23] = 0x08, 0 }), "", drop.GREProtocol},
		{"UDP port 53", edit(goodVXLAN(), func(b []byte) { b[22], b[23] = 0, 53 }), "", drop.UDPPort},
		{"UDP length too great", edit(goodVXLAN(), func(b []byte) { b[25]++ }), "", drop.UDPLength},
		{"UDP length too small", edit(goodVXLAN(), func(b []byte) { b[24], b[25] = 0, 7 }), "", drop.UDPLength},
		{"VXLAN I flag clear", edit(goodVXLAN(), func(b []byte) { b[28] = 0 }), "", drop.VXLANNoVNI},
		{"VSID 0", nvgre(0, goodInner(5000)), "", drop.VSIDReserved},
		{"VSID 4095", nvgre(4095, goodInner(5000)), "", drop.VSIDReserved},
		{"VSID all ones", nvgre(0xffffff, goodInner(5000)), "", drop.VSIDReserved},
		{"VSID of nobody", nvgre(5555, goodInner(5000)), "", drop.VSIDUnknown},

		// The inner frame.
		{"no inner frame", nvgre(5000, nil), "", drop.InnerTruncated},
		{"inner Ethernet header cut", nvgre(5000, goodInner(5000)[:13]), "", drop.InnerTruncated},
		{"inner IP header cut", nvgre(5000, goodInner(5000)[:30]), "contoso", drop.InnerTruncated},
		{"inner length beyond the frame", nvgre(5000, innerEdit(func(b []byte) { b[17]++ })), "contoso", drop.InnerTruncated},
		{"inner IP version 5", nvgre(5000, innerEdit(func(b []byte) { b[14] = 0x55 })), "contoso", drop.InnerMalformed},
		{"inner checksum", nvgre(5000, func() []byte { b := goodInner(5000); b[24] ^= 1; return b }()), "contoso", drop.InnerChecksum},
		{"inner VLAN tag", nvgre(5000, vlanTagged(goodInner(5000))), "contoso", drop.InnerVLAN},
		{"inner group MAC as source", nvgre(5000, innerEdit(func(b []byte) { b[6] |= 1 })), "contoso", drop.InnerSourceMAC},
		{"inner EtherType", nvgre(5000, innerEdit(func(b []byte) { b[12], b[13] = 0x88, 0xcc })), "contoso", drop.EtherTypeUnsupported},
		{"inner TTL 0", nvgre(5000, innerEdit(func(b []byte) { b[22] = 0 })), "contoso", drop.TTLExpired},
		{"inner broadcast", nvgre(5000, innerEdit(func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") })), "contoso", drop.GroupMismatch},
		{"inner multicast by unicast MAC", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "224.0.0.5", "x")), "contoso", drop.GroupMismatch},
		{"inner limited broadcast", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "255.255.255.255", "x")), "contoso", drop.GroupMismatch},
		{"source in 127/8", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "127.0.0.1", "203.0.113.5", "x")), "contoso", drop.SourceMartian},
		{"source in 0/8", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "0.0.0.0", "203.0.113.5", "x")), "contoso", drop.SourceMartian},
		{"source in 240/4", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "240.0.0.1", "203.0.113.5", "x")), "contoso", drop.SourceMartian},
		{"source multicast", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "224.0.0.1", "203.0.113.5", "x")), "contoso", drop.SourceMartian},
		{"source broadcast", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "255.255.255.255", "203.0.113.5", "x")), "contoso", drop.SourceMartian},
		{"source ::1", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "::1", "2001:db8::5", "x")), "contoso", drop.SourceMartian},
		{"source fe80::1", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "fe80::1", "2001:db8::5", "x")), "contoso", drop.SourceMartian},
		{"source ::ffff:10.1.1.11", nvgre(5000, udp6Mapped(gwMAC)), "contoso", drop.InnerMalformed},
		{"destination in 127/8", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "127.0.0.1", "x")), "contoso", drop.DestinationMartian},
		{"destination in 0/8", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "0.1.2.3", "x")), "contoso", drop.DestinationMartian},
		{"destination in 240/4", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "250.1.2.3", "x")), "contoso", drop.DestinationMartian},
		{"destination ::1", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "fd00:1::11", "::1", "x")), "contoso", drop.DestinationMartian},

		// Who sends what, and from where.
		{"a host of no tenant", outerPacket(hnv.NVGRE, "192.168.1.66", paGate, 5000, goodInner(5000)), "contoso", drop.SourcePAUnknown},
		{"another host of the tenant", outerPacket(hnv.NVGRE, paHost2, paGate, 5000, goodInner(5000)), "contoso", drop.SourcePAMismatch},
		{"the other tenant's tunnel", outerPacket(hnv.VXLAN, paHost1, paGate, 5000, goodInner(5000)), "contoso", drop.EncapMismatch},
		{"CA of another host", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.12", "203.0.113.5", "x")), "contoso", drop.SourcePAMismatch},
		{"CA of nobody", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.99", "203.0.113.5", "x")), "contoso", drop.SourceCAUnknown},
		{"the compartment's own CA", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.254.254.2", "203.0.113.5", "x")), "contoso", drop.SourcePAMismatch},
		{"an address behind the gateway", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "203.0.113.9", "203.0.113.5", "x")), "contoso", drop.SourcePAMismatch},
		{"a VM's CA under another VM's MAC", nvgre(5000, udp(mac12, gwMAC, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.SourceMACMismatch},
		{"a VM's CA under the compartment's MAC", nvgre(5000, udp(gwMAC, gwMAC, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.SourceMACMismatch},
		{"a VM's CA under the other tenant's compartment's MAC", nvgre(5000, udp(otherGW, gwMAC, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.SourceMACMismatch},
		{"the router's address with a VM's MAC", nvgre(5000, ipFrame(mac11, gwMAC, "10.1.1.1", "10.254.254.2", 64, echo(), "x")), "contoso", drop.SourceMACMismatch},
		{"the router's address speaking UDP", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.1", "10.254.254.2", "x")), "contoso", drop.SourceCASpoofed},
		{"the router's address from a stranger", outerPacket(hnv.NVGRE, "192.168.1.66", paGate, 5000, ipFrame(hnv.RouterMAC, gwMAC, "10.1.1.1", "10.254.254.2", 64, echo(), "x")), "contoso", drop.SourcePAUnknown},
		{"the router's address by the wrong tunnel", outerPacket(hnv.VXLAN, paHost1, paGate, 5000, ipFrame(hnv.RouterMAC, gwMAC, "10.1.1.1", "10.254.254.2", 64, echo(), "x")), "contoso", drop.EncapMismatch},

		// For whom.
		{"the other tenant's compartment MAC", nvgre(5000, udp(hnv.RouterMAC, otherGW, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.NotLocal},
		{"the compartment's MAC in another VSID", nvgre(5001, udp(mac11, gwMAC, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.NotLocal},
		{"the router's MAC", nvgre(5000, udp(mac11, hnv.RouterMAC, "10.1.1.11", "203.0.113.5", "x")), "contoso", drop.NotLocal},
		{"a CA elsewhere by the compartment's MAC", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "10.1.1.12", "x")), "contoso", drop.NotLocal},
		{"a CA of nobody by the compartment's MAC", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "10.1.1.99", "x")), "contoso", drop.DestinationUnknown},
		{"the router's address by the compartment's MAC", nvgre(5000, udp(hnv.RouterMAC, gwMAC, "10.1.1.11", "10.254.254.1", "x")), "contoso", drop.RouterAddress},

		// ARP and neighbor discovery.
		{"ARP cut", nvgre(5000, arpFrame(1, mac11, gwMAC, mac11, "10.254.254.3", "10.254.254.2")[:30]), "contoso", drop.ARPMalformed},
		{"ARP reply for our compartment", nvgre(5000, arpFrame(2, mac11, gwMAC, mac11, "10.254.254.1", "10.254.254.2")), "contoso", drop.ARPSpoofed},
		{"ARP reply of the router", nvgre(5000, arpFrame(2, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "10.254.254.1", "10.254.254.2")), "contoso", drop.ARPIgnored},
		{"ARP sender is not the frame's", nvgre(5000, arpFrame(1, hnv.RouterMAC, gwMAC, mac11, "10.254.254.1", "10.254.254.2")), "contoso", drop.ARPSpoofed},
		{"ARP in the compartment's name", nvgre(5000, arpFrame(1, gwMAC, gwMAC, gwMAC, "10.254.254.2", "10.254.254.2")), "contoso", drop.SourcePAMismatch},
		{"ARP of a stranger", outerPacket(hnv.NVGRE, "192.168.1.66", paGate, 5000, arpFrame(1, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "10.254.254.1", "10.254.254.2")), "contoso", drop.SourcePAUnknown},
		{"ARP for nobody", nvgre(5000, arpFrame(1, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "10.254.254.1", "10.254.254.5")), "contoso", drop.ARPUnknown},
		{"ARP for somebody elsewhere", nvgre(5001, arpFrame(1, mac11, mac12, mac11, "10.1.1.11", "10.1.1.12")), "contoso", drop.NotLocal},
		{"router advertisement", nvgre(5000, rawND(134, hnv.RouterMAC, gwMAC, "fd00:fe::1", "fd00:fe::2", 255)), "contoso", drop.NDIgnored},
		{"neighbor advertisement", nvgre(5000, neighborFrame(t, packet.NDNeighborAdvertisement, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "fd00:fe::1", "fd00:fe::2", "fd00:fe::1")), "contoso", drop.NDIgnored},
		{"solicitation over a router", nvgre(5000, rawND(135, hnv.RouterMAC, gwMAC, "fd00:fe::1", "fd00:fe::2", 254)), "contoso", drop.NDMalformed},
		{"solicitation in a lie's name", nvgre(5000, neighborFrame(t, packet.NDNeighborSolicitation, hnv.RouterMAC, gwMAC, mac11, "fd00:fe::1", "fd00:fe::2", "fd00:fe::2")), "contoso", drop.NDSpoofed},
		{"solicitation for nobody", nvgre(5000, neighborFrame(t, packet.NDNeighborSolicitation, hnv.RouterMAC, gwMAC, hnv.RouterMAC, "fd00:fe::1", "fd00:fe::2", "fd00:fe::9")), "contoso", drop.NDUnknown},
	}
}

// TestHostilePackets sends the gateway what the fabric should never carry. Each
// packet must be dropped, counted once, for its reason, for the tenant if there
// is one, and reach nobody.
func TestHostilePackets(t *testing.T) {
	for _, tc := range hostilePackets(t) {
		t.Run(tc.what, func(t *testing.T) {
			l, contoso, fabrikam := exampleLab(t)
			l.hosts[0].inject(tc.packet)
			expect(t, l, nil, "", contoso, fabrikam)
			if len(l.tap) != 0 {
				t.Errorf("an answer went to the fabric: %x", l.tap[0].bytes)
			}
			if got := l.hosts[0].drops(tc.tenant); !maps.Equal(got, map[drop.Reason]uint64{tc.want: 1}) {
				t.Errorf("tenant %q counts %v, want %s once; all: %v", tc.tenant, got, tc.want, l.hosts[0].allDrops())
			}
			if total := l.hosts[0].allDrops(); len(total) != 1 {
				t.Errorf("counted %v in all", total)
			}
		})
	}
}

// The good packets are good: else the test above would prove nothing. Reserved
// bits that a receiver must ignore are ignored, and padding is no part of a
// packet: in a tunnel a frame has no least length.
func TestGoodPacketsPass(t *testing.T) {
	short := udp(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)), "10.1.1.11", "203.0.113.5", "short") // serialized with padding
	for what, p := range map[string][]byte{
		"NVGRE":                  goodNVGRE(),
		"NVGRE reserved bits":    edit(goodNVGRE(), func(b []byte) { b[21] |= 0x80 }),
		"NVGRE another FlowID":   edit(goodNVGRE(), func(b []byte) { b[27] = 0xff }),
		"NVGRE outer TTL 1":      edit(goodNVGRE(), func(b []byte) { b[8] = 1 }),
		"NVGRE Ethernet padding": append(goodNVGRE(), make([]byte, 20)...),
		"VXLAN":                  goodVXLAN(),
		"VXLAN reserved bits":    edit(goodVXLAN(), func(b []byte) { b[28] |= 0xf7; b[29] = 1; b[35] = 1 }),
		"inner TTL 1":            nvgre(5000, innerEdit(func(b []byte) { b[22] = 1 })),
		"inner fragment":         nvgre(5000, innerEdit(func(b []byte) { b[20], b[21] = 0, 3 })),
		"inner padding":          nvgre(5000, short),
		"inner padding in part":  nvgre(5000, short[:len(short)-3]),
		"no inner padding":       nvgre(5000, short[:14+20+8+len("short")]),
		"router's ICMP": nvgre(5000, ipFrame(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)),
			"10.1.1.1", "10.254.254.2", 64, echo(), "x")),
	} {
		l, contoso, fabrikam := exampleLab(t)
		l.hosts[0].inject(p)
		l.settle()
		to := contoso
		if what[0] == 'V' {
			to = fabrikam
		}
		for _, s := range []*site{contoso, fabrikam} {
			for _, n := range s.nics() {
				want := 0
				if n == to.gw {
					want = 1
				}
				if got := len(n.drain()); got != want {
					t.Errorf("%s: port %s of VSID %d got %d frames, want %d; drops %v", what, n.mac, n.vsid, got, want, l.hosts[0].allDrops())
				}
			}
		}
	}
}

// A packet cut anywhere is dropped and counted, wherever the cut is.
func TestTruncatedAtEveryByte(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	gate := l.hosts[0]
	sent := uint64(0)
	check := func(p []byte, what string, cut int) {
		t.Helper()
		gate.inject(p)
		sent++
		expect(t, l, nil, "", contoso, fabrikam)
		total := uint64(0)
		for _, n := range gate.allDrops() {
			total += n
		}
		if total != sent {
			t.Fatalf("%s cut at %d: %d drops after %d packets", what, cut, total, sent)
		}
	}
	for what, good := range map[string][]byte{
		"NVGRE": goodNVGRE(),
		"VXLAN": goodVXLAN(),
		"IPv6":  nvgre(5000, udp(hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)), "fd00:1::11", "2001:db8::5", "long enough to need no padding")),
		"ARP":   nvgre(5000, arpFrame(1, hnv.RouterMAC, hnv.CompartmentMAC(mustVSID(5000)), hnv.RouterMAC, "10.254.254.1", "10.254.254.2")[:42]),
	} {
		for cut := range good {
			check(good[:cut], what, cut)
			// And with the outer lengths put right, so that the cut is found
			// further in.
			if cut >= 20 {
				check(edit(good[:cut], func(b []byte) {
					binary.BigEndian.PutUint16(b[2:], uint16(cut))
					if b[9] == 17 && cut >= 28 {
						binary.BigEndian.PutUint16(b[24:], uint16(cut-20))
					}
				}), what, cut)
			}
		}
	}
}

// TestHostileFrames sends into ports what their VMs and compartments must not.
func TestHostileFrames(t *testing.T) {
	gwMAC := hnv.CompartmentMAC(mustVSID(5000))
	for _, tc := range []struct {
		what  string
		from  func(*site) *nic
		frame []byte
		want  drop.Reason
	}{
		{"VM: empty", vm11, nil, drop.InnerTruncated},
		{"VM: another MAC", vm11, udp(mac12, mac13, "10.1.1.11", "10.1.1.13", "x"), drop.SourceMACMismatch},
		{"VM: the router's MAC", vm11, udp(hnv.RouterMAC, mac13, "10.1.1.11", "10.1.1.13", "x"), drop.SourceMACMismatch},
		{"VM: CA of another VM here", vm11, udp(mac11, mac12, "10.1.1.13", "10.1.1.12", "x"), drop.SourceCASpoofed},
		{"VM: CA of a VM elsewhere", vm11, udp(mac11, mac13, "10.1.1.12", "10.1.1.13", "x"), drop.SourceCASpoofed},
		{"VM: CA of the compartment", vm11, udp(mac11, hnv.RouterMAC, "10.254.254.2", "10.1.1.13", "x"), drop.SourceCASpoofed},
		{"VM: the router's address", vm11, udp(mac11, mac13, "10.1.1.1", "10.1.1.13", "x"), drop.SourceCASpoofed},
		{"VM: CA of nobody", vm11, udp(mac11, mac13, "10.1.1.99", "10.1.1.13", "x"), drop.SourceCAUnknown},
		{"VM: an outside address", vm11, udp(mac11, mac13, "203.0.113.5", "10.1.1.13", "x"), drop.SourceCASpoofed},
		{"VM: martian source", vm11, udp(mac11, mac13, "127.0.0.1", "10.1.1.13", "x"), drop.SourceMartian},
		{"VM: martian destination", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "127.0.0.1", "x"), drop.DestinationMartian},
		{"VM: broadcast without an address", vm11, udp(mac11, macBroadcast, "0.0.0.0", "255.255.255.255", "x"), drop.SourceMartian},
		{"VM: TTL 0 to the router", vm11, ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 0, &layers.UDP{}, "x"), drop.TTLExpired},
		{"VM: TTL 1 to the router", vm11, ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 1, &layers.UDP{}, "x"), drop.TTLExpired},
		{"VM: VLAN tag", vm11, vlanTagged(udp(mac11, mac13, "10.1.1.11", "10.1.1.13", "x")), drop.InnerVLAN},
		{"VM: LLDP", vm11, serialize(&layers.Ethernet{SrcMAC: macBytes(mac11), DstMAC: macBytes(mac13), EthernetType: 0x88cc}), drop.EtherTypeUnsupported},
		{"VM: nobody's CA in its subnet", vm11, udp(mac11, mac12, "10.1.1.11", "10.1.1.99", "x"), drop.DestinationUnknown},
		{"VM: nobody's CA by the router", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.99", "x"), drop.DestinationUnknown},
		{"VM: subnet broadcast by the router", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.255", "x"), drop.DestinationUnknown},
		{"VM: another VM's MAC", vm11, udp(mac11, mac13, "10.1.1.11", "10.1.1.12", "x"), drop.WrongPort},
		{"VM: MAC of the compartment in another subnet", vm11, udp(mac11, gwMAC, "10.1.1.11", "203.0.113.5", "x"), drop.WrongPort},
		{"VM: itself", vm11, udp(mac11, mac11, "10.1.1.11", "10.1.1.11", "x"), drop.SamePort},
		{"VM: itself by the router", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.11", "x"), drop.SamePort},
		{"VM: UDP to the router", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.1", "x"), drop.RouterAddress},
		{"VM: the tenant's provider network", vm11, udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.99", "x"), drop.DestinationUnknown},
		{"VM: router advertisement", vm11, rawND(134, mac11, macMulticast6, "fd00:1::11", "ff02::1", 255), drop.NDIgnored},
		{"VM: redirect", vm11, rawND(137, mac11, mac13, "fd00:1::11", "fd00:1::12", 255), drop.NDIgnored},
		{"VM: ARP in another's name", vm11, arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.13", "10.1.1.12"), drop.ARPSpoofed},
		{"VM: ARP with another's MAC", vm11, arpFrame(1, mac11, macBroadcast, mac13, "10.1.1.11", "10.1.1.12"), drop.ARPSpoofed},
		{"VM: ARP reply", vm11, arpFrame(2, mac11, mac13, mac11, "10.1.1.11", "10.1.1.13"), drop.ARPIgnored},
		{"VM: ARP in the router's name", vm11, arpFrame(2, mac11, mac13, mac11, "10.1.1.1", "10.1.1.13"), drop.ARPSpoofed},
		{"compartment: CA of a VM", gw, udp(gwMAC, hnv.RouterMAC, "10.1.1.11", "10.1.1.12", "x"), drop.SourceCASpoofed},
		{"compartment: CA of nobody", gw, udp(gwMAC, hnv.RouterMAC, "10.1.1.99", "10.1.1.12", "x"), drop.SourceCAUnknown},
		{"compartment: the router's address", gw, udp(gwMAC, hnv.RouterMAC, "10.254.254.1", "10.1.1.12", "x"), drop.SourceCASpoofed},
		{"compartment: a VM's MAC", gw, udp(mac11, hnv.RouterMAC, "203.0.113.5", "10.1.1.12", "x"), drop.SourceMACMismatch},
		{"compartment: back to the Internet", gw, udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "198.51.100.1", "x"), drop.SamePort},
		{"compartment: ARP in a VM's name", gw, arpFrame(1, gwMAC, macBroadcast, gwMAC, "10.1.1.11", "10.254.254.1"), drop.ARPSpoofed},
	} {
		t.Run(tc.what, func(t *testing.T) {
			l, contoso, fabrikam := exampleLab(t)
			n := tc.from(contoso)
			n.send(tc.frame)
			l.settle()
			own := n.drain() // ICMP errors may come back
			for _, f := range own {
				if d := decode(t, f.bytes); d.Proto != packet.ProtoICMP || d.SrcMAC != routerMAC {
					t.Errorf("something came back: %x", f.bytes)
				}
			}
			expect(t, l, nil, "", contoso, fabrikam)
			if len(l.tap) != 0 {
				t.Errorf("a packet went to the fabric: %x", l.tap[0].bytes)
			}
			if got := n.host.drops("contoso"); !maps.Equal(got, map[drop.Reason]uint64{tc.want: 1}) {
				t.Errorf("counted %v, want %s once", got, tc.want)
			}
			if total := n.host.allDrops(); len(total) != 1 {
				t.Errorf("counted %v in all", total)
			}
		})
	}
}

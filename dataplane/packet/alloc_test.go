package packet_test

import (
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func TestNothingAllocates(t *testing.T) {
	var h packet.Headers
	for name, b := range samples(t) {
		noAllocs(t, "DecodeEthernet "+name, func() { h.DecodeEthernet(b) })
		noAllocs(t, "DecodeIP "+name, func() { h.DecodeIP(b[14:]) })
		h.DecodeEthernet(b)
		noAllocs(t, "FlowHash "+name, func() { h.FlowHash() })
		noAllocs(t, "DecrementTTL "+name, func() {
			if !packet.DecrementTTL(b[14:]) {
				b[21], b[22] = 255, 255 // whichever of them is the TTL
			}
		})
	}
	tcp4, tcp6 := frameTCP4(t, 1400), frameTCP6(t, 1400)
	h4, h6 := decode(t, tcp4), decode(t, tcp6)
	noAllocs(t, "Checksum", func() { packet.Checksum(tcp4, packet.PseudoSum(h6.Src, h6.Dst, 6, 1400)) })
	noAllocs(t, "UpdateChecksum", func() { _ = packet.UpdateChecksum(1, 2, 3) })
	noAllocs(t, "SetECN", func() { packet.SetECN(tcp4[14:], packet.CE) })

	f := packet.NewFrame(2000)
	noAllocs(t, "Frame", func() {
		f.Set(tcp4)
		f.Prepend(42)
		f.Append(4)
		f.TrimBack(1000)
		f.TrimFront(42)
	})
	noAllocs(t, "CompleteChecksum", func() {
		f.Offload = packet.Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16}
		packet.CompleteChecksum(f)
	})

	var arp packet.ARP
	request := arpRequest.Append(nil)
	noAllocs(t, "ARP", func() {
		arp.Parse(request)
		arp.Build(f, mac1, mac2)
	})
	var nd packet.ND
	ns := ndFrame(t, solicitation, six1, six2)
	hn := decode(t, ns)
	noAllocs(t, "ND", func() {
		nd.Parse(ns, hn)
		nd.Build(f, mac1, mac2, six2, packet.SolicitedNode(six1))
	})
	lease4, lease6 := inUDP4(t, ack(t), 67, 68), inUDP6(t, dhcp6(7, duids, iana(addr6("fd00::1", 1, 2))))
	l4, l6 := decode(t, lease4), decode(t, lease6)
	var d4 packet.DHCP
	var d6 packet.DHCPv6
	noAllocs(t, "DHCP", func() {
		if !l4.IsDHCPToClient() || !d4.Parse(lease4, l4) || !d6.Parse(lease6, l6) || len(d6.Leases()) != 1 {
			t.Error("not read")
		}
	})
	noAllocs(t, "BuildICMPError", func() {
		packet.BuildICMPError(f, packet.TooBig, tcp4, h4, router4, router, 1400)
		packet.BuildICMPError(f, packet.TooBig, tcp6, h6, router6, router, 1400)
	})
	echo := frameEcho6(t)
	he := decode(t, echo)
	noAllocs(t, "EchoReply", func() {
		f.Set(echo)
		packet.EchoReply(f, he)
	})

	data := payload(56)
	var e packet.Echo
	reply := newFrame(t, echo)
	packet.EchoReply(reply, he)
	hr := decode(t, reply.Bytes())
	noAllocs(t, "Build and read", func() {
		packet.BuildARPRequest(f, mac1, mac2, ca1, ca2)
		packet.BuildNeighborSolicitation(f, mac1, mac2, six1, six2)
		packet.BuildEchoRequest(f, mac1, mac2, ca1, ca2, 1, 2, data)
		packet.BuildEchoRequest(f, mac1, mac2, six1, six2, 1, 2, data)
		if !e.Parse(reply.Bytes(), hr) {
			t.Error("not read")
		}
	})
	subnet := netip.MustParsePrefix("10.1.1.0/24")
	noAllocs(t, "IsBroadcastAddr", func() { packet.IsBroadcastAddr(ca1, subnet) })

	var s packet.Segments
	big := super(t, frameTCP4(t, 30000), packet.GSOTCPv4, 1400)
	noAllocs(t, "Segments", func() {
		s.Start(big)
		for s.Next(f) {
		}
	})
	copied := packet.NewFrame(40000)
	noAllocs(t, "Clone", func() {
		if !big.Clone(copied) {
			t.Error("refused")
		}
	})
	var fr packet.Fragments
	long := newFrame(t, mayFragment(t, 30000))
	noAllocs(t, "Fragments", func() {
		fr.Start(long, 1400)
		for fr.Next(f) {
		}
	})
}

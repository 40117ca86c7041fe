package packet_test

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func golden(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	must(t, err)
	return b
}

func TestDecodeGolden(t *testing.T) {
	for name, c := range map[string]struct {
		bytes string
		want  packet.Headers
	}{
		"tcp4": {
			`00155d000002 00155d000001 0800
			 45b9 0028 1234 4000 4006 11cb 0a01010b 0a01010c
			 9c40 01bb 00000001 00000002 5018 03e8 0000 0000`,
			packet.Headers{
				DstMAC: mac2, SrcMAC: mac1, EtherType: 0x0800, L3: 14, L4: 34, Version: 4,
				Src: ca1, Dst: ca2, Proto: 6, TTL: 64, DSCP: 46, ECN: 1, Length: 40, FragID: 0x1234, DontFragment: true,
				SrcPort: 40000, DstPort: 443, TCPFlags: packet.TCPPsh | packet.TCPAck,
			},
		},
		"udp6": {
			`00155d000002 00155d000001 86dd
			 6b912345 0008 11 40 fd000001000000000000000000000011 fd000001000000000000000000000012
			 9c41 0035 0008 0000`,
			packet.Headers{
				DstMAC: mac2, SrcMAC: mac1, EtherType: 0x86dd, L3: 14, L4: 54, Version: 6,
				Src: six1, Dst: six2, Proto: 17, TTL: 64, DSCP: 46, ECN: 1, Length: 48, DontFragment: true,
				SrcPort: 40001, DstPort: 53,
			},
		},
		"icmp4 with options and padding": {
			`00155d000002 00155d000001 0800
			 46 00 001c 0001 0000 01 01 0ec4 0a01010b 0a01010c 94040000
			 0800 f7ff 0000000000000000000000`,
			packet.Headers{
				DstMAC: mac2, SrcMAC: mac1, EtherType: 0x0800, L3: 14, L4: 38, Version: 4,
				Src: ca1, Dst: ca2, Proto: 1, TTL: 1, Length: 28, FragID: 1, HasOptions: true, ICMPType: 8,
			},
		},
		"last fragment": {
			`00155d000002 00155d000001 0800
			 4500 0018 0001 00b9 40 06 640e 0a01010b 0a01010c deadbeef`,
			packet.Headers{
				DstMAC: mac2, SrcMAC: mac1, EtherType: 0x0800, L3: 14, L4: 34, Version: 4,
				Src: ca1, Dst: ca2, Proto: 6, TTL: 64, Length: 24, FragOffset: 1480, FragID: 1,
			},
		},
		"arp": {
			`ffffffffffff 00155d000001 0806 0001`,
			packet.Headers{DstMAC: [6]byte{255, 255, 255, 255, 255, 255}, SrcMAC: mac1, EtherType: 0x0806, L3: 14, L4: 14},
		},
	} {
		var h packet.Headers
		if r := h.DecodeEthernet(golden(t, c.bytes)); r != drop.None {
			t.Errorf("%s: %s", name, r)
		}
		if d := cmp.Diff(c.want, h, compareAddr); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}

func TestDecodeEchoID(t *testing.T) {
	for name, b := range map[string][]byte{"echo4": frameEcho4(t), "echo6": frameEcho6(t)} {
		if h := decode(t, b); h.ICMPID != 9 {
			t.Errorf("%s: identifier %d, want 9", name, h.ICMPID)
		}
		b[len(b)-56-8] = 3
		if h := decode(t, b); h.ICMPType != 3 || h.ICMPID != 0 {
			t.Errorf("%s as an error: %+v", name, h)
		}
	}
}

func TestDecodeExtensions(t *testing.T) {
	h := decode(t, frameExt6(t))
	if h.Proto != 17 || h.L4 != 14+40+32 || !h.HasOptions || h.SrcPort != 40000 || h.DstPort != 53 {
		t.Errorf("%+v", h)
	}
	auth := golden(t, `00155d000002 00155d000001 86dd 60000000 0018 33 40
		fd000001000000000000000000000011 fd000001000000000000000000000012
		3b 04 0000 00000001 00000001 000000000000000000000000`)
	if h := decode(t, auth); h.Proto != 59 || h.L4 != len(auth) || !h.HasOptions {
		t.Errorf("behind an authentication header: %+v", h)
	}
	auth[55] = 5
	if r := new(packet.Headers).DecodeEthernet(auth); r != drop.InnerTruncated {
		t.Errorf("an authentication header reaching beyond: %s", r)
	}
	for _, c := range []struct {
		off  uint16
		more bool
	}{{0, true}, {1480, true}, {1480, false}} {
		for v, b := range map[uint8][]byte{4: frameFrag4(t, c.off, c.more), 6: frameFrag6(t, c.off, c.more)} {
			h := decode(t, b)
			if h.Version != v || h.FragOffset != c.off || h.MoreFragments != c.more || !h.IsFragment() || h.Proto != 17 ||
				(h.DstPort != 0) != (c.off == 0) {
				t.Errorf("v%d fragment at %d: %+v", v, c.off, h)
			}
		}
	}
}

// A packet may end with its headers.
func TestDecodeWithoutPayload(t *testing.T) {
	v4 := golden(t, `00155d000002 00155d000001 0800 4500 0014 0000 0000 40 ff 63d3 0a01010b 0a01010c`)
	if h := decode(t, v4); h.Length != 20 || h.Proto != 255 || h.L4 != len(v4) {
		t.Errorf("%+v", h)
	}
	v6 := golden(t, `00155d000002 00155d000001 86dd 60000000 0008 3c 40
		fd000001000000000000000000000011 fd000001000000000000000000000012 3b 00 01 04 00000000`)
	if h := decode(t, v6); h.Length != 48 || h.Proto != 59 || h.L4 != len(v6) {
		t.Errorf("%+v", h)
	}
	bare := edit(v6[:54:54], false, 18, 0, 0, 59)
	if h := decode(t, bare); h.Length != 40 || h.Proto != 59 || h.L4 != len(bare) {
		t.Errorf("%+v", h)
	}
	for _, b := range [][]byte{v4, bare} {
		if !packet.DecrementTTL(b[14:]) || decode(t, b).TTL != 63 {
			t.Errorf("the TTL of %x is not decremented", b)
		}
	}
	for _, n := range []int{0, 8} {
		udp := frameUDP4(t, n)[:14+20+8+n]
		if h := decode(t, udp); h.DstPort != 9 {
			t.Errorf("%+v", h)
		}
	}
}

// edit gives a copy of b with bytes put in at off, and the IPv4 checksum right
// again if fix is set.
func edit(b []byte, fix bool, off int, with ...byte) []byte {
	c := append([]byte(nil), b...)
	copy(c[off:], with)
	if fix {
		c[24], c[25] = 0, 0
		binary.BigEndian.PutUint16(c[24:], packet.Checksum(c[14:14+int(c[14]&15)*4], 0))
	}
	return c
}

func TestDecodeRefuses(t *testing.T) {
	t4, u4, t6, x6 := frameTCP4(t, 20), frameUDP4(t, 20), frameTCP6(t, 20), frameExt6(t)
	hops := make([]byte, 8*12)
	for i := 0; i < len(hops); i += 8 {
		hops[i] = 60
	}
	mapped := netip.MustParseAddr("::ffff:10.1.1.11").As16()
	for name, c := range map[string]struct {
		b    []byte
		want drop.Reason
	}{
		"empty":                {nil, drop.InnerTruncated},
		"source group":         {edit(t4, false, 6, 1), drop.InnerSourceMAC},
		"source zero":          {edit(t4, false, 6, 0, 0, 0, 0, 0, 0), drop.InnerSourceMAC},
		"customer tag":         {edit(t4, false, 12, 0x81, 0), drop.InnerVLAN},
		"service tag":          {edit(t4, false, 12, 0x88, 0xa8), drop.InnerVLAN},
		"version 6 in 0800":    {edit(t4, true, 14, 0x65), drop.InnerMalformed},
		"version 4 in 86dd":    {edit(t6, false, 14, 0x45), drop.InnerMalformed},
		"short IHL":            {edit(t4, true, 14, 0x44), drop.InnerMalformed},
		"IHL beyond":           {edit(t4, true, 14, 0x4f)[:14+48], drop.InnerTruncated},
		"length below header":  {edit(t4, true, 16, 0, 19), drop.InnerMalformed},
		"length beyond":        {edit(t4, true, 16, 1), drop.InnerTruncated},
		"checksum":             {edit(t4, false, 24, t4[24]^1), drop.InnerChecksum},
		"payload length":       {edit(t6, false, 18, 1), drop.InnerTruncated},
		"TCP offset small":     {edit(t4, false, 46, 0x40), drop.InnerMalformed},
		"TCP offset beyond":    {edit(t4, false, 46, 0xf0), drop.InnerMalformed},
		"TCP header short":     {edit(t4, true, 16, 0, 39), drop.InnerTruncated},
		"UDP header short":     {edit(u4, true, 16, 0, 27), drop.InnerTruncated},
		"UDP length small":     {edit(u4, false, 38, 0, 7), drop.InnerMalformed},
		"UDP length beyond":    {edit(u4, false, 38, 0, 29), drop.InnerMalformed},
		"ICMP short":           {edit(frameEcho4(t), true, 16, 0, 23), drop.InnerTruncated},
		"TCP overlay":          {edit(t4, true, 20, 0, 1), drop.InnerMalformed},
		"fragment not times 8": {edit(u4, true, 20, 0x20, 0), drop.InnerMalformed},
		"fragment too far":     {edit(t4, true, 20, 0x1f, 0xff), drop.InnerMalformed},
		"fragment empty":       {edit(t4, true, 16, 0, 20, 0, 0, 0, 9), drop.InnerMalformed},
		"hop-by-hop second":    {edit(x6, false, 54, 60, 0, 1, 4, 0, 0, 0, 0, 0), drop.InnerMalformed},
		"extension beyond":     {edit(x6, false, 55, 255), drop.InnerTruncated},
		"too many extensions":  {serialize(t, ether(layers.EthernetTypeIPv6), ipv6(60), gopacket.Payload(hops)), drop.InnerMalformed},
		"two fragment headers": {serialize(t, ether(layers.EthernetTypeIPv6), ipv6(44), gopacket.Payload{44, 0, 0, 1, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 0}), drop.InnerMalformed},
		"v6 fragment odd":      {serialize(t, ether(layers.EthernetTypeIPv6), ipv6(44), gopacket.Payload{59, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4}), drop.InnerMalformed},
		"v6 fragment empty":    {serialize(t, ether(layers.EthernetTypeIPv6), ipv6(44), gopacket.Payload{59, 0, 0, 8, 0, 0, 0, 0}), drop.InnerMalformed},
		"v6 fragment far":      {serialize(t, ether(layers.EthernetTypeIPv6), ipv6(44), gopacket.Payload{17, 0, 0xff, 0xf8, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}), drop.InnerMalformed},
		"v4-mapped source":     {edit(t6, false, 22, mapped[:]...), drop.InnerMalformed},
		"v4-mapped target":     {edit(t6, false, 38, mapped[:]...), drop.InnerMalformed},
	} {
		var h packet.Headers
		if got := h.DecodeEthernet(c.b); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestDecodeTruncatedAtEveryByte(t *testing.T) {
	for name, b := range samples(t) {
		for n := range len(b) {
			var h packet.Headers
			if r := h.DecodeEthernet(b[:n:n]); r != drop.InnerTruncated {
				t.Errorf("%s cut to %d of %d bytes: %s", name, n, len(b), r)
			}
		}
		padded := append(append([]byte(nil), b...), make([]byte, 30)...)
		if h, p := decode(t, b), decode(t, padded); *h != *p {
			t.Errorf("%s: padding changed %+v to %+v", name, h, p)
		}
	}
}

func TestDecodeIPAgreesWithDecodeEthernet(t *testing.T) {
	for name, b := range samples(t) {
		want := *decode(t, b)
		want.DstMAC, want.SrcMAC = [6]byte{}, [6]byte{}
		want.L3, want.L4 = want.L3-14, want.L4-14
		var h packet.Headers
		if r := h.DecodeIP(b[14:]); r != drop.None || h != want {
			t.Errorf("%s: %s, %+v, want %+v", name, r, h, want)
		}
	}
	for want, b := range map[drop.Reason][]byte{drop.InnerTruncated: nil, drop.InnerMalformed: {0x55, 1, 2, 3}} {
		if r := new(packet.Headers).DecodeIP(b); r != want {
			t.Errorf("DecodeIP(%x) = %s, want %s", b, r, want)
		}
	}
}

// agree compares what Headers found with what gopacket found.
func agree(t *testing.T, b []byte, h *packet.Headers) {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet); [6]byte(eth.SrcMAC) != h.SrcMAC || [6]byte(eth.DstMAC) != h.DstMAC {
		t.Errorf("MAC addresses %x %x, gopacket %s %s", h.SrcMAC, h.DstMAC, eth.SrcMAC, eth.DstMAC)
	}
	var src, dst []byte
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst = ip.SrcIP, ip.DstIP
		if int(ip.Length) != h.Length || ip.TTL != h.TTL || uint8(ip.Protocol) != h.Proto || ip.TOS != h.DSCP<<2|h.ECN ||
			ip.FragOffset*8 != h.FragOffset || (ip.Flags&layers.IPv4MoreFragments != 0) != h.MoreFragments ||
			(ip.Flags&layers.IPv4DontFragment != 0) != h.DontFragment || int(ip.IHL)*4 != h.L4-h.L3 {
			t.Errorf("%+v\ngopacket %+v", h, ip)
		}
	case *layers.IPv6:
		src, dst = ip.SrcIP, ip.DstIP
		if int(ip.Length)+40 != h.Length || ip.HopLimit != h.TTL || ip.TrafficClass != h.DSCP<<2|h.ECN {
			t.Errorf("%+v\ngopacket %+v", h, ip)
		}
	default:
		t.Errorf("gopacket found no IP: %v", p.ErrorLayer())
		return
	}
	if s, _ := netip.AddrFromSlice(src); s != h.Src {
		t.Errorf("source %s, gopacket %s", h.Src, s)
	}
	if d, _ := netip.AddrFromSlice(dst); d != h.Dst {
		t.Errorf("destination %s, gopacket %s", h.Dst, d)
	}
	if h.Proto != packet.ProtoTCP && h.Proto != packet.ProtoUDP {
		return // gopacket looks for one within tunnels too
	}
	switch l4 := p.TransportLayer().(type) {
	case *layers.TCP:
		if uint16(l4.SrcPort) != h.SrcPort || uint16(l4.DstPort) != h.DstPort ||
			l4.SYN != (h.TCPFlags&packet.TCPSyn != 0) || l4.FIN != (h.TCPFlags&packet.TCPFin != 0) || l4.CWR != (h.TCPFlags&packet.TCPCwr != 0) {
			t.Errorf("%+v\ngopacket %+v", h, l4)
		}
	case *layers.UDP:
		if uint16(l4.SrcPort) != h.SrcPort || uint16(l4.DstPort) != h.DstPort {
			t.Errorf("%+v\ngopacket %+v", h, l4)
		}
	}
}

func TestDecodeAgreesWithGopacket(t *testing.T) {
	for name, b := range samples(t) {
		if strings.Contains(name, "ext") {
			continue // gopacket knows no experimental routing header
		}
		agree(t, b, decode(t, b))
	}
}

func TestDecrementTTL(t *testing.T) {
	for name, b := range samples(t) {
		b = append([]byte(nil), b...)
		h := decode(t, b)
		for ttl := h.TTL; ttl > 1; ttl-- {
			if !packet.DecrementTTL(b[14:]) {
				t.Fatalf("%s: refused at TTL %d", name, ttl)
			}
			if h := decode(t, b); h.TTL != ttl-1 {
				t.Fatalf("%s: TTL %d after %d", name, h.TTL, ttl)
			}
		}
		if packet.DecrementTTL(b[14:]) || decode(t, b).TTL != 1 {
			t.Errorf("%s: TTL 1 was decremented", name)
		}
	}
	for _, b := range [][]byte{nil, {0x45}, make([]byte, 40), edit(frameTCP4(t, 1), true, 22, 0)[14:]} {
		if packet.DecrementTTL(b) {
			t.Errorf("%x was decremented", b)
		}
	}
}

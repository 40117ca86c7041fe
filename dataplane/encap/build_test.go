package encap_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

var (
	mac1 = [6]byte{0x00, 0x15, 0x5d, 0, 0, 1}
	mac2 = [6]byte{0x00, 0x15, 0x5d, 0, 0, 2}
	pa1  = netip.MustParseAddr("192.168.1.10")
	pa2  = netip.MustParseAddr("192.168.2.20")
	six1 = netip.MustParseAddr("fd00:2::10")
	six2 = netip.MustParseAddr("fd00:2::20")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inner is a TCP packet of n bytes of data between two VMs.
func inner(t testing.TB, n int) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Id: 1, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP,
		SrcIP: []byte{10, 1, 1, 11}, DstIP: []byte{10, 1, 1, 12},
	}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, ACK: true, Window: 1000}
	must(t, tcp.SetNetworkLayerForChecksum(ip))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i * 7)
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: mac1[:], DstMAC: mac2[:], EthernetType: layers.EthernetTypeIPv4}, ip, tcp, gopacket.Payload(data)))
	return buf.Bytes()
}

// headers are one of each kind over either family.
func headers() map[string]encap.Header {
	return map[string]encap.Header{
		"nvgre4": {Kind: encap.KindNVGRE, Src: pa1, Dst: pa2, VSID: 5001, FlowID: 0xa7, TOS: 0xb9, TTL: 33},
		"vxlan4": {Kind: encap.KindVXLAN, Src: pa1, Dst: pa2, VSID: 0xfffffe, SrcPort: 50000, TOS: 2, TTL: 64},
		"nvgre6": {Kind: encap.KindNVGRE, Src: six1, Dst: six2, VSID: 0x1000, FlowID: 1, TOS: 0xb9, TTL: 64},
		"vxlan6": {Kind: encap.KindVXLAN, Src: six1, Dst: six2, VSID: 5001, SrcPort: 49152, TOS: 3, TTL: 255},
	}
}

// pushed gives the outer packet that h makes of the inner frame.
func pushed(t testing.TB, h encap.Header, frame []byte) []byte {
	t.Helper()
	f := packet.NewFrame(len(frame))
	f.Set(frame)
	if !encap.Push(f, &h) {
		t.Fatalf("%+v refused", h)
	}
	return f.Bytes()
}

// edit gives a copy of an outer packet with bytes put in at off and the IPv4
// header checksum right again.
func edit(b []byte, off int, with ...byte) []byte {
	c := append([]byte(nil), b...)
	copy(c[off:], with)
	if n := int(c[0]&15) * 4; c[0]>>4 == 4 && n >= 20 && n <= len(c) {
		c[10], c[11] = 0, 0
		binary.BigEndian.PutUint16(c[10:], packet.Checksum(c[:n], 0))
	}
	return c
}

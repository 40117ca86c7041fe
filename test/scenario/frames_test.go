//go:build privileged && linux

package scenario

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// datagram is an inner frame: a UDP datagram to the discard port that carries
// a marker, so that captures can tell whether it got through.
type datagram struct {
	srcMAC, dstMAC hnv.MAC
	src, dst       string
	ttl            uint8
	marker         string
}

// bytes serializes the frame with good checksums.
func (d datagram) bytes(t *testing.T) []byte {
	t.Helper()
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: d.ttl, Protocol: layers.IPProtocolUDP,
		SrcIP: net.ParseIP(d.src), DstIP: net.ParseIP(d.dst),
	}
	udp := &layers.UDP{SrcPort: 5555, DstPort: 9}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return serialize(t, ethernet(d.srcMAC, d.dstMAC, layers.EthernetTypeIPv4), ip, udp, gopacket.Payload(d.marker))
}

func ethernet(src, dst hnv.MAC, kind layers.EthernetType) *layers.Ethernet {
	s, d := src.Bytes(), dst.Bytes()
	return &layers.Ethernet{SrcMAC: s[:], DstMAC: d[:], EthernetType: kind}
}

func serialize(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// outer is what stands before an inner frame on the fabric: Ethernet, IPv4
// from the PA to the gateway's, and the tunnel header with the VSID.
type outer struct {
	encap hnv.Encap
	src   string
	vsid  uint32
}

// Offsets in the frames that outer builds.
const (
	atIP    = 14
	atProto = atIP + 20 // the GRE or UDP header
	atVXLAN = atProto + 8
)

func (o outer) around(t *testing.T, inner []byte) []byte {
	t.Helper()
	gw := world.Topology().Gateway
	eth := ethernet(mac(t, "02:00:c0:a8:01:42"), mac(t, "02:00:c0:a8:01:01"), layers.EthernetTypeIPv4)
	ip := &layers.IPv4{
		Version: 4, IHL: 5, TTL: 64, Id: 4711, Flags: layers.IPv4DontFragment,
		SrcIP: net.ParseIP(o.src), DstIP: gw.PA.Addr().AsSlice(),
	}
	if o.encap == hnv.NVGRE {
		ip.Protocol = layers.IPProtocolGRE
		gre := &layers.GRE{KeyPresent: true, Key: o.vsid<<8 | 0x2a, Protocol: layers.EthernetTypeTransparentEthernetBridging}
		return serialize(t, eth, ip, gre, gopacket.Payload(inner))
	}
	ip.Protocol = layers.IPProtocolUDP
	udp := &layers.UDP{SrcPort: 50000, DstPort: 4789}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := serialize(t, eth, ip, udp, &layers.VXLAN{ValidIDFlag: true, VNI: o.vsid}, gopacket.Payload(inner))
	b[atProto+6], b[atProto+7] = 0, 0 // RFC 7348: the UDP checksum should be zero
	return b
}

// fixIP makes the outer IP header fit what is behind it.
func fixIP(b []byte) []byte {
	ip := b[atIP:]
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	return sumIP(b, atIP)
}

// sumIP computes the checksum of the 20-byte IP header at the offset.
func sumIP(b []byte, at int) []byte {
	h := b[at : at+20]
	h[10], h[11] = 0, 0
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return b
}

// inject sends frames out of the machine's interface.
func inject(t *testing.T, machine, iface string, frames ...[]byte) {
	t.Helper()
	var text strings.Builder
	for _, f := range frames {
		text.WriteString(hex.EncodeToString(f) + "\n")
	}
	hnvlab := filepath.Join(world.Bin(), "hnvlab")
	if _, err := world.ExecInput(t.Context(), machine, text.String(), hnvlab, "inject", iface); err != nil {
		t.Fatal(err)
	}
}

func mac(t *testing.T, s string) hnv.MAC {
	t.Helper()
	m, err := hnv.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// arp builds an ARP packet as a frame.
func arp(t *testing.T, op uint16, srcMAC hnv.MAC, sender, target string) []byte {
	t.Helper()
	s := srcMAC.Bytes()
	spa, tpa := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	eth := &layers.Ethernet{SrcMAC: s[:], DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}
	return serialize(t, eth, &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: op, SourceHwAddress: s[:], SourceProtAddress: spa[:], DstHwAddress: make([]byte, 6), DstProtAddress: tpa[:],
	})
}

package dataplane

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// Hostile things need addresses that hnv.MAC refuses to be.
var (
	macBroadcast  = groupMAC(1)
	macMulticast  = groupMAC(2)
	macMulticast6 = groupMAC(3)
)

// groupMAC gives a stand-in that ipFrame and arpFrame write as a unicast MAC;
// groups turns it into the group address.
func groupMAC(n byte) hnv.MAC { m, _ := hnv.MACFrom([6]byte{0xfe, 0, 0, 0, 0, n}); return m }

var groups = map[hnv.MAC][6]byte{
	macBroadcast:  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	macMulticast:  {0x01, 0x00, 0x5e, 0, 0, 5},
	macMulticast6: {0x33, 0x33, 0, 0, 0, 1},
}

func macBytes(m hnv.MAC) net.HardwareAddr {
	if g, ok := groups[m]; ok {
		return g[:]
	}
	b := m.Bytes()
	return b[:]
}

func vm11(s *site) *nic { return s.vm11 }
func gw(s *site) *nic   { return s.gw }

func echo() *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 1}
}

// udp6Mapped is an IPv6 packet from an IPv4-mapped address.
func udp6Mapped(dst hnv.MAC) []byte {
	b := udp(hnv.RouterMAC, dst, "fd00:1::11", "2001:db8::5", "x")
	from := ip("::ffff:10.1.1.11").As16()
	copy(b[22:], from[:])
	return b
}

// rawND is a neighbor discovery message of any type, with a good checksum and a
// target where there may be one.
func rawND(typ uint8, src, dst hnv.MAC, from, to string, hops uint8) []byte {
	body := make([]byte, 24)
	body[0] = typ
	target := ip(from).As16()
	copy(body[8:], target[:])
	binary.BigEndian.PutUint16(body[2:], packet.Checksum(body, packet.PseudoSum(ip(from), ip(to), packet.ProtoICMPv6, len(body))))
	b := udp(src, dst, from, to, string(body[8:])) // 8 bytes of UDP make room
	copy(b[54:], body)
	b[20], b[21] = packet.ProtoICMPv6, hops
	return b
}

// neighborFrame is a solicitation or advertisement with a link-layer address.
func neighborFrame(t testing.TB, typ uint8, src, dst, link hnv.MAC, from, to, target string) []byte {
	t.Helper()
	f := packet.NewFrame(256)
	n := packet.ND{Type: typ, Target: ip(target), LinkAddr: link.Bytes(), HasLinkAddr: true}
	if !n.Build(f, [6]byte(macBytes(dst)), src.Bytes(), ip(from), ip(to)) {
		t.Fatal("the message does not fit")
	}
	return f.Bytes()
}

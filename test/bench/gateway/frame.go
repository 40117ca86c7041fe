//go:build linux

package gateway

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// frame is a frame as the host sends it to the gateway, for the generator to fill
// in what tells flows apart.
type frame struct {
	bytes []byte
	inner int // offset of the IP header of the VM's packet
	// entropy is the offset of what tells flows apart on the fabric, and wide its
	// size: 16 bits, else 8.
	entropy int
	wide    bool
}

// smallest is an Ethernet frame of 64 bytes without its check sequence.
const smallest = 60

// discardPort is where small packets go (RFC 863).
const discardPort = 9

// small makes a UDP packet of a VM's to the address in the smallest frame there
// is, as it arrives at the gateway. The UDP checksum is left out: whoever looks at
// checksums has NICs do so, which this network does not have.
func (c Case) small(s site, from, to netip.Addr) frame {
	t := s.tenant(0)
	packet := udpPacket(from, to, 1024, discardPort, smallest-14-28)
	switch c.Encap {
	case hnv.NVGRE:
		key := binary.BigEndian.AppendUint32(nil, t.gatewayVSID.Uint32()<<8)
		tunnel := append([]byte{0x20, 0, 0x65, 0x58}, key...) // RFC 7637
		b := s.outer(47, append(tunnel, s.innerFrame(t, packet)...))
		return frame{bytes: b, inner: len(b) - len(packet), entropy: 14 + 20 + 7}
	case hnv.VXLAN:
		vni := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, t.gatewayVSID.Uint32()<<8) // RFC 7348
		b := s.outer(17, udpHeader(0xc000, 4789, append(vni, s.innerFrame(t, packet)...)))
		return frame{bytes: b, inner: len(b) - len(packet), entropy: 14 + 20, wide: true}
	}
	to48 := s.fabricMAC
	if c.direct {
		to48 = s.internetMAC
	}
	return frame{bytes: ethernet(to48, s.hostMAC, packet), inner: 14}
}

func (s site) innerFrame(t tenant, packet []byte) []byte {
	return ethernet(hnv.CompartmentMAC(t.gatewayVSID), hnv.RouterMAC, packet)
}

func (s site) outer(proto byte, payload []byte) []byte {
	return ethernet(s.fabricMAC, s.hostMAC, ipPacket(s.hostPA, s.gatewayPA, proto, payload))
}

func ethernet(to, from hnv.MAC, packet []byte) []byte {
	dst, src := to.Bytes(), from.Bytes()
	return append(append(append(dst[:], src[:]...), 8, 0), packet...)
}

func udpPacket(from, to netip.Addr, sport, dport uint16, payload int) []byte {
	return ipPacket(from, to, 17, udpHeader(sport, dport, make([]byte, payload)))
}

func udpHeader(sport, dport uint16, payload []byte) []byte {
	var b []byte
	for _, v := range []uint16{sport, dport, uint16(8 + len(payload)), 0} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, payload...)
}

func ipPacket(from, to netip.Addr, proto byte, payload []byte) []byte {
	src, dst := from.As4(), to.As4()
	h := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0}
	h = append(append(h, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum(h)))
	return append(h, payload...)
}

// sum adds up the 16-bit words of a header as the Internet checksum does (RFC 1071).
func sum(h []byte) uint32 {
	var s uint32
	for i := 0; i+1 < len(h); i += 2 {
		s += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return s
}

// sumWithout is the sum of the frame's inner IP header without its checksum and its
// addresses, in the order of bytes that the generator reads it in.
func (f frame) sumWithout() uint32 {
	h := append([]byte(nil), f.bytes[f.inner:f.inner+20]...)
	clear(h[10:])
	return uint32(bits.ReverseBytes16(uint16(sum(h))))
}

package encap

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// Push writes the outer headers that h asks for in front of the inner Ethernet
// frame in f. False, and no change, if the frame has no room in front, if the
// outer packet would exceed 65535 bytes, or if h contradicts itself: addresses
// missing or of two families, an unknown kind, a VSID that no subnet may have.
//
// A partial checksum of the inner packet stays partial and keeps its place;
// where it can be completed and where it is cut into segments is the caller's
// choice, but over IPv6 VXLAN a super-packet is refused, as one UDP checksum
// cannot serve all its segments.
func Push(f *packet.Frame, h *Header) bool {
	if !h.Src.IsValid() || h.Src.BitLen() != h.Dst.BitLen() || h.VSID < hnv.MinVSID || h.VSID > hnv.MaxVSID {
		return false
	}
	if h.Kind != KindNVGRE && h.Kind != KindVXLAN {
		return false
	}
	v6 := h.Src.Is6()
	summed := v6 && h.Kind == KindVXLAN // there will be an outer UDP checksum
	if summed && f.Offload.GSO != packet.GSONone {
		return false
	}
	ipLen := Overhead(h.Kind, v6) - h.Kind.headerLen() - packet.EthernetLen
	size := ipLen + h.Kind.headerLen()
	if f.Len()+size > packet.MaxPacket {
		return false
	}
	if summed && !localChecksum(f) && !packet.CompleteChecksum(f) {
		return false
	}
	b := f.Prepend(size)
	if b == nil {
		return false
	}
	proto := uint8(packet.ProtoGRE)
	if h.Kind == KindNVGRE {
		binary.BigEndian.PutUint32(b[ipLen:], greKey<<16|etherBridging)
		binary.BigEndian.PutUint32(b[ipLen+4:], h.VSID<<8|uint32(h.FlowID))
	} else {
		proto = packet.ProtoUDP
		putVXLAN(b[ipLen:], h, f.Len()-ipLen)
	}
	if v6 {
		putIPv6(b, h, proto, f.Len())
	} else {
		putIPv4(b, h, proto, f.Len())
	}
	if summed {
		binary.BigEndian.PutUint16(b[ipLen+6:], udpChecksum(f, h, ipLen))
	}
	return true
}

func (h *Header) ttl() uint8 {
	if h.TTL == 0 {
		return DefaultTTL
	}
	return h.TTL
}

func putIPv4(b []byte, h *Header, proto uint8, total int) {
	b[0], b[1] = 0x45, h.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(total))
	binary.BigEndian.PutUint16(b[4:], h.ID)
	binary.BigEndian.PutUint16(b[6:], 0x4000) // DF
	b[8], b[9] = h.ttl(), proto
	b[10], b[11] = 0, 0
	src, dst := h.Src.As4(), h.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:packet.IPv4Len], 0))
}

// putIPv6 gives the packet the entropy as its flow label too (RFC 6438 section
// 3): it is what a fabric hashes where it does not look into GRE.
func putIPv6(b []byte, h *Header, proto uint8, total int) {
	label := uint32(h.FlowID)
	if h.Kind == KindVXLAN {
		label = uint32(h.SrcPort)
	}
	binary.BigEndian.PutUint32(b, 6<<28|uint32(h.TOS)<<20|label)
	binary.BigEndian.PutUint16(b[4:], uint16(total-packet.IPv6Len))
	b[6], b[7] = proto, h.ttl()
	src, dst := h.Src.As16(), h.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}

func putVXLAN(b []byte, h *Header, udpLen int) {
	port := h.SrcPort
	if port == 0 {
		port = firstPort
	}
	binary.BigEndian.PutUint16(b, port)
	binary.BigEndian.PutUint16(b[2:], VXLANPort)
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen))
	binary.BigEndian.PutUint16(b[6:], 0) // no checksum
	binary.BigEndian.PutUint32(b[8:], vxlanValid<<24)
	binary.BigEndian.PutUint32(b[12:], h.VSID<<8)
}

// localChecksum tells whether f has a partial checksum that lies so that the
// outer checksum can be computed without completing it: within the frame and at
// an even place, as that of every real packet does.
func localChecksum(f *packet.Frame) bool {
	o := f.Offload
	return o.NeedsCsum && o.CsumStart%2 == 0 && o.CsumOffset%2 == 0 &&
		int(o.CsumStart)+int(o.CsumOffset)+2 <= f.Len()
}

// udpChecksum computes the UDP checksum of f, whose UDP header starts at off.
// Where an inner checksum is still partial, the bytes that it covers need not
// be read: once it is complete they sum up to the complement of what its field
// holds now, the sum of the inner pseudo-header. Linux calls this local
// checksum offload.
func udpChecksum(f *packet.Frame, h *Header, off int) uint16 {
	b := f.Bytes()
	sum := packet.PseudoSum(h.Src, h.Dst, packet.ProtoUDP, len(b)-off)
	if o := f.Offload; o.NeedsCsum {
		start, field := int(o.CsumStart), int(o.CsumStart)+int(o.CsumOffset)
		sum = uint64(packet.Fold(packet.Sum(b[off:start], sum)))
		sum += uint64(^binary.BigEndian.Uint16(b[field:]))
	} else {
		sum = packet.Sum(b[off:], sum)
	}
	if c := packet.Checksum(nil, sum); c != 0 {
		return c
	}
	return 0xffff
}

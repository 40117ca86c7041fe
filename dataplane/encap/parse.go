package encap

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// Parse reads the outer headers of b, which starts at the outer IP header. Bytes
// behind the outer packet's own length are tolerated as padding of the link;
// the caller cuts them off at h.Total. h is meaningful only with drop.None.
//
// A super-packet, merged by the kernel from several, is read like any other as
// long as its length fits the 16 bits of the outer header; the jumbo forms
// beyond that state a length of 0 and are refused with drop.OuterLength.
func Parse(b []byte, h *Header) drop.Reason {
	*h = Header{}
	if len(b) < packet.IPv4Len {
		return drop.OuterMalformed
	}
	var (
		proto uint8
		l4    int
		r     drop.Reason
	)
	switch b[0] >> 4 {
	case 4:
		proto, l4, r = h.parseIPv4(b)
	case 6:
		proto, l4, r = h.parseIPv6(b)
	default:
		r = drop.OuterMalformed
	}
	if r != drop.None {
		return r
	}
	payload := b[l4:h.Total]
	switch proto {
	case packet.ProtoGRE:
		r = h.parseGRE(payload)
	case packet.ProtoUDP:
		r = h.parseVXLAN(payload)
	default:
		r = drop.OuterProtocol
	}
	switch {
	case r != drop.None:
		return r
	case h.VSID < hnv.MinVSID || h.VSID > hnv.MaxVSID: // RFC 7637 section 3.4
		return drop.VSIDReserved
	}
	h.InnerOff = l4 + h.Kind.headerLen()
	if h.Total-h.InnerOff < packet.EthernetLen {
		return drop.InnerTruncated
	}
	return drop.None
}

// parseIPv4 reads the outer IPv4 header; the diagram is at packet's decoder.
// Options are skipped.
func (h *Header) parseIPv4(b []byte) (proto uint8, l4 int, _ drop.Reason) {
	ihl := int(b[0]&0x0f) * 4
	if ihl < packet.IPv4Len || ihl > len(b) {
		return 0, 0, drop.OuterMalformed
	}
	h.Total = int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case h.Total < ihl || h.Total > len(b):
		return 0, 0, drop.OuterLength
	case packet.Checksum(b[:ihl], 0) != 0: // RFC 1812 section 5.2.2
		return 0, 0, drop.OuterChecksum
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0:
		return 0, 0, drop.OuterFragment
	}
	h.TOS, h.TTL = b[1], b[8]
	h.ID = binary.BigEndian.Uint16(b[4:])
	h.Src = netip.AddrFrom4([4]byte(b[12:]))
	h.Dst = netip.AddrFrom4([4]byte(b[16:]))
	return b[9], ihl, drop.None
}

// IPv6 next header values that may stand before the tunnel header.
const (
	nextHopByHop = 0
	nextFragment = 44
	nextDest     = 60
)

// parseIPv6 reads the outer IPv6 header. Hop-by-Hop and Destination Options are
// skipped, once each: Linux senders add the latter (RFC 2473 section 4.1.1). A
// Routing header is refused as no tunnel protocol.
func (h *Header) parseIPv6(b []byte) (proto uint8, l4 int, _ drop.Reason) {
	if len(b) < packet.IPv6Len {
		return 0, 0, drop.OuterMalformed
	}
	h.Total = packet.IPv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if h.Total > len(b) {
		return 0, 0, drop.OuterLength
	}
	h.TOS, h.TTL = b[0]<<4|b[1]>>4, b[7]
	h.Src = netip.AddrFrom16([16]byte(b[8:]))
	h.Dst = netip.AddrFrom16([16]byte(b[24:]))
	if h.Src.Is4In6() || h.Dst.Is4In6() {
		return 0, 0, drop.OuterMalformed
	}
	proto, l4 = b[6], packet.IPv6Len
	for _, ext := range [...]uint8{nextHopByHop, nextDest} {
		if proto != ext {
			continue
		}
		if h.Total < l4+8 {
			return 0, 0, drop.OuterLength
		}
		proto, l4 = b[l4], l4+8+8*int(b[l4+1])
		if h.Total < l4 {
			return 0, 0, drop.OuterLength
		}
	}
	if proto == nextFragment {
		return 0, 0, drop.OuterFragment
	}
	return proto, l4, drop.None
}

// The first 16 bits of a GRE header.
const (
	greChecksum = 0x8000
	greKey      = 0x2000
	greSequence = 0x1000
	greRefused  = 0x4c00 // RFC 2784 section 2.3: of bits 1 to 5 those without another meaning
	greVersion  = 0x0007
)

// etherBridging is the GRE protocol type of an Ethernet frame.
const etherBridging = 0x6558

// parseGRE reads the GRE header with the key as NVGRE lays it out (RFC 7637
// section 3.2, RFC 2890 section 2).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|0| |1|0|   Reserved0     | Ver |   Protocol type 0x6558        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|               Virtual subnet ID (VSID)        |    FlowID     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
func (h *Header) parseGRE(p []byte) drop.Reason {
	if len(p) < 4 {
		return drop.OuterLength
	}
	flags := binary.BigEndian.Uint16(p)
	switch {
	case flags&greVersion != 0:
		return drop.GREVersion
	case flags&greRefused != 0:
		return drop.GREReserved
	case flags&(greChecksum|greSequence) != 0:
		return drop.GREFlags
	case flags&greKey == 0:
		return drop.GRENoKey
	case binary.BigEndian.Uint16(p[2:]) != etherBridging:
		return drop.GREProtocol
	case len(p) < greLen:
		return drop.OuterLength
	}
	key := binary.BigEndian.Uint32(p[4:])
	h.Kind, h.VSID, h.FlowID = KindNVGRE, key>>8, uint8(key)
	return drop.None
}

// vxlanValid is the I flag: the VNI is valid.
const vxlanValid = 0x08

// parseVXLAN reads the UDP and the VXLAN header (RFC 768, RFC 7348 section 5).
// The UDP length must be the whole of the outer payload: anything behind it
// would be forwarded as part of the inner frame.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Source port (entropy)     |    Destination port 4789      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          UDP length           |         UDP checksum          |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|                   Reserved                    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|        VXLAN network identifier (VNI)         |   Reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
func (h *Header) parseVXLAN(p []byte) drop.Reason {
	if len(p) < packet.UDPLen {
		return drop.OuterLength
	}
	switch {
	case binary.BigEndian.Uint16(p[2:]) != VXLANPort:
		return drop.UDPPort
	case int(binary.BigEndian.Uint16(p[4:])) != len(p):
		return drop.UDPLength
	case len(p) < packet.UDPLen+vxlanLen:
		return drop.OuterLength
	case p[8]&vxlanValid == 0:
		return drop.VXLANNoVNI
	}
	h.Kind = KindVXLAN
	h.SrcPort = binary.BigEndian.Uint16(p)
	h.VSID = binary.BigEndian.Uint32(p[12:]) >> 8
	return drop.None
}

// Pop takes the outer headers and the padding off f, so that it holds the inner
// Ethernet frame, and keeps the Offload right. Anything but drop.None leaves f
// as it was.
//
// A super-packet is refused with drop.GSOUnsupported if it was merged by its
// outer header: it is then several tunnel packets in a row, of which only the
// first could be found.
func Pop(f *packet.Frame, h *Header) drop.Reason {
	if r := Parse(f.Bytes(), h); r != drop.None {
		return r
	}
	o := f.Offload
	if o.GSO == packet.GSOUDP && o.NeedsCsum && int(o.CsumStart) < h.InnerOff {
		return drop.GSOUnsupported
	}
	if !f.TrimBack(h.Total) {
		return drop.ChecksumUnsupported
	}
	f.TrimFront(h.InnerOff)
	return drop.None
}

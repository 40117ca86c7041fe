package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// decodeIPv4 reads the IPv4 packet at h.L3 (RFC 791 section 3.1).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Version|  IHL  |    DSCP   |ECN|          Total length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Identification        |0|D|M|     Fragment offset     |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|      TTL      |    Protocol   |        Header checksum        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                         Source address                        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      Destination address                      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                    Options (IHL > 5) ...
func (h *Headers) decodeIPv4(b []byte) drop.Reason {
	p := b[h.L3:]
	if len(p) < IPv4Len {
		return drop.InnerTruncated
	}
	ihl := int(p[0]&0x0f) * 4
	if p[0]>>4 != 4 || ihl < IPv4Len {
		return drop.InnerMalformed
	}
	length := int(binary.BigEndian.Uint16(p[2:]))
	switch {
	case length < ihl:
		return drop.InnerMalformed
	case length > len(p):
		return drop.InnerTruncated
	case Checksum(p[:ihl], 0) != 0: // RFC 1812 section 5.2.2
		return drop.InnerChecksum
	}
	frag := binary.BigEndian.Uint16(p[6:])
	h.Version = 4
	h.Length = length
	h.L4 = h.L3 + ihl
	h.DSCP, h.ECN = p[1]>>2, p[1]&3
	h.DontFragment = frag&0x4000 != 0
	h.MoreFragments = frag&0x2000 != 0
	h.FragOffset = frag << 3
	h.FragID = uint32(binary.BigEndian.Uint16(p[4:]))
	h.HasOptions = ihl > IPv4Len
	h.TTL, h.Proto = p[8], p[9]
	h.Src = netip.AddrFrom4([4]byte(p[12:]))
	h.Dst = netip.AddrFrom4([4]byte(p[16:]))
	if r := h.checkFragment(length - ihl); r != drop.None {
		return r
	}
	return h.decodeTransport(p[ihl:length])
}

// checkFragment refuses fragments that no packet can be made of: those reaching
// past the greatest packet, those with more to come whose length is not a
// multiple of 8, and empty ones (RFC 791 section 3.2, RFC 8200 section 4.5).
func (h *Headers) checkFragment(data int) drop.Reason {
	switch {
	case !h.IsFragment():
		return drop.None
	case int(h.FragOffset)+data > MaxPacket,
		h.MoreFragments && data%8 != 0,
		data == 0:
		return drop.InnerMalformed
	}
	return drop.None
}

// IPv6 next header values of extensions (RFC 8200 section 4.1).
const (
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extAuth     = 51 // RFC 4302
	extDest     = 60
)

// maxExtensions bounds the walk; RFC 8200 section 4.1 knows of seven, the
// Destination Options twice.
const maxExtensions = 8

// decodeIPv6 reads the IPv6 packet at h.L3 with its extension headers, up to
// the transport header (RFC 8200 sections 3 and 4).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|Version|    DSCP   |ECN|              Flow label               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|         Payload length        |  Next header  |   Hop limit   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                   Source address (128 bits)                   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                Destination address (128 bits)                 |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//
// IPv4-mapped addresses on the wire are refused: they would pass for IPv4 ones
// in tables (RFC 4291 section 2.5.5.2 gives them no place in a packet).
func (h *Headers) decodeIPv6(b []byte) drop.Reason {
	p := b[h.L3:]
	if len(p) < IPv6Len {
		return drop.InnerTruncated
	}
	if p[0]>>4 != 6 {
		return drop.InnerMalformed
	}
	length := IPv6Len + int(binary.BigEndian.Uint16(p[4:]))
	if length > len(p) {
		return drop.InnerTruncated
	}
	class := p[0]<<4 | p[1]>>4
	h.Version = 6
	h.Length = length
	h.DSCP, h.ECN = class>>2, class&3
	h.TTL = p[7]
	h.DontFragment = true
	h.Src = netip.AddrFrom16([16]byte(p[8:]))
	h.Dst = netip.AddrFrom16([16]byte(p[24:]))
	if h.Src.Is4In6() || h.Dst.Is4In6() {
		return drop.InnerMalformed
	}
	p = p[:length]
	off, next := IPv6Len, p[6]
	for n := 0; ; n++ {
		var size int
		switch next {
		case extHopByHop:
			if n != 0 { // only ever the first (RFC 8200 section 4.3)
				return drop.InnerMalformed
			}
			fallthrough
		case extRouting, extDest:
			if len(p) < off+8 {
				return drop.InnerTruncated
			}
			size = 8 + 8*int(p[off+1])
			h.HasOptions = true
		case extAuth:
			if len(p) < off+8 {
				return drop.InnerTruncated
			}
			size = 8 + 4*int(p[off+1])
			h.HasOptions = true
		case extFragment:
			if len(p) < off+8 {
				return drop.InnerTruncated
			}
			if h.IsFragment() {
				return drop.InnerMalformed
			}
			size = 8
			field := binary.BigEndian.Uint16(p[off+2:])
			h.FragOffset, h.MoreFragments = field&^7, field&1 != 0
			h.FragID = binary.BigEndian.Uint32(p[off+4:])
			if r := h.checkFragment(len(p) - off - 8); r != drop.None {
				return r
			}
			if h.FragOffset != 0 { // what follows is the middle of something
				h.Proto, h.L4 = p[off], h.L3+off+8
				return h.decodeTransport(p[off+8:])
			}
		default:
			h.Proto, h.L4 = next, h.L3+off
			return h.decodeTransport(p[off:])
		}
		if n == maxExtensions {
			return drop.InnerMalformed
		}
		if len(p) < off+size {
			return drop.InnerTruncated
		}
		next = p[off]
		off += size
	}
}

// DecrementTTL takes one off the TTL or hop limit of the IP packet b, updating
// the IPv4 checksum (RFC 1812 section 5.3.1, RFC 8200 section 3). False, and
// no change, if the packet may not be forwarded any more. b must have been
// decoded.
func DecrementTTL(b []byte) bool {
	switch {
	case len(b) >= IPv4Len && b[0]>>4 == 4:
		if b[8] <= 1 {
			return false
		}
		old := binary.BigEndian.Uint16(b[8:])
		b[8]--
		sum := UpdateChecksum(binary.BigEndian.Uint16(b[10:]), old, binary.BigEndian.Uint16(b[8:]))
		binary.BigEndian.PutUint16(b[10:], sum)
		return true
	case len(b) >= IPv6Len && b[0]>>4 == 6:
		if b[7] <= 1 {
			return false
		}
		b[7]--
		return true
	}
	return false
}

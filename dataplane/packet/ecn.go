package packet

import "encoding/binary"

// ECN codepoints (RFC 3168 section 5).
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3
)

// DecapECN gives the congestion field with which a packet leaves a tunnel, from
// the outer and the inner one (RFC 6040 section 4.2, figure 4). False: the
// fabric marked congestion on a packet whose sender would not understand the
// mark; it must be dropped (drop.ECNInvalid). On the way in, the outer field is
// a copy of the inner one (section 4.1, normal mode).
//
//	          outer
//	inner     Not-ECT   ECT(0)    ECT(1)    CE
//	Not-ECT   Not-ECT   Not-ECT   Not-ECT   drop
//	ECT(0)    ECT(0)    ECT(0)    ECT(1)    CE
//	ECT(1)    ECT(1)    ECT(1)    ECT(1)    CE
//	CE        CE        CE        CE        CE
func DecapECN(outer, inner uint8) (uint8, bool) {
	switch {
	case inner == NotECT:
		return NotECT, outer != CE
	case outer == CE:
		return CE, true
	case outer == ECT1 && inner == ECT0:
		return ECT1, true
	}
	return inner, true
}

// SetECN writes the congestion field of the IP packet b, updating the IPv4
// checksum. b must have been decoded.
func SetECN(b []byte, ecn uint8) {
	switch {
	case len(b) >= IPv4Len && b[0]>>4 == 4:
		old := binary.BigEndian.Uint16(b)
		b[1] = b[1]&^3 | ecn&3
		sum := UpdateChecksum(binary.BigEndian.Uint16(b[10:]), old, binary.BigEndian.Uint16(b))
		binary.BigEndian.PutUint16(b[10:], sum)
	case len(b) >= IPv6Len && b[0]>>4 == 6:
		b[1] = b[1]&^0x30 | ecn&3<<4
	}
}

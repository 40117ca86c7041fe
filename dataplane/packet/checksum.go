package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds the bytes of b, taken as big-endian 16-bit words with a zero byte
// behind an odd one, to the one's complement sum initial (RFC 1071). It is not
// folded: give it on to another Sum, or to Fold. Every part of a chain but the
// last must have an even length.
func Sum(b []byte, initial uint64) uint64 {
	// A sum of 64-bit words is as good as one of 16-bit words, as 2^64-1 is a
	// multiple of 2^16-1 (RFC 1071 section 2 (C)); the carries are added at
	// the end.
	sum, carry := initial, uint64(0)
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) >= 4 {
		sum, carry = bits.Add64(sum, uint64(binary.BigEndian.Uint32(b)), carry)
		b = b[4:]
	}
	if len(b) >= 2 {
		sum, carry = bits.Add64(sum, uint64(binary.BigEndian.Uint16(b)), carry)
		b = b[2:]
	}
	if len(b) == 1 {
		sum, carry = bits.Add64(sum, uint64(b[0])<<8, carry)
	}
	sum, carry = bits.Add64(sum, 0, carry)
	return sum + carry
}

// Fold makes 16 bits of a sum: the form in which a partial checksum is stored.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Checksum gives the Internet checksum of b, with initial added in: what is
// stored in a header whose checksum field is zero, and 0 for one that is right.
func Checksum(b []byte, initial uint64) uint16 { return ^Fold(Sum(b, initial)) }

// PseudoSum sums the pseudo-header of a transport checksum (RFC 768, RFC 9293
// section 3.1, RFC 8200 section 8.1). Both addresses are of one family.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return sum + uint64(binary.BigEndian.Uint32(s[:])) + uint64(binary.BigEndian.Uint32(d[:]))
	}
	s, d := src.As16(), dst.As16()
	return Sum(d[:], Sum(s[:], sum))
}

// UpdateChecksum gives the checksum after one 16-bit field that it covers
// changed from old to now (RFC 1624 section 3, equation 3).
func UpdateChecksum(checksum, old, now uint16) uint16 {
	return ^Fold(uint64(^checksum) + uint64(^old) + uint64(now))
}

// CompleteChecksum carries out NeedsCsum. False, and no change, if the Offload
// points outside the frame.
func CompleteChecksum(f *Frame) bool {
	o := &f.Offload
	if !o.NeedsCsum {
		return true
	}
	b := f.Bytes()
	start, field := int(o.CsumStart), int(o.CsumStart)+int(o.CsumOffset)
	if field+2 > len(b) {
		return false
	}
	sum := Checksum(b[start:], 0)
	if sum == 0 {
		sum = 0xffff // the same number, and 0 means "no checksum" in UDP (RFC 768)
	}
	binary.BigEndian.PutUint16(b[field:], sum)
	o.NeedsCsum, o.CsumStart, o.CsumOffset = false, 0, 0
	return true
}

// SpareHeaders tells whether what is left to do to the frame that h was decoded
// from leaves alone what was decoded. The sum is written where the sender of the
// frame said, and it knows what it comes to: into the addresses, that would make
// another packet of one that was found good. A sender's kernel puts it into the
// transport header, or into one of a tunnel within.
func (o *Offload) SpareHeaders(h *Headers) bool {
	const typeAndCode = 2 // of ICMP; in other headers these bytes are no checksum either
	start := int(o.CsumStart)
	return !o.NeedsCsum || start >= h.L4 && start+int(o.CsumOffset) >= h.L4+typeAndCode
}

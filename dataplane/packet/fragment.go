package packet

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// Fragments cuts an IPv4 packet into fragments (RFC 791 section 3.2). It is used
// as Segments is, and like it reads the packet until the last piece is taken.
type Fragments struct {
	cut
	room    int    // data bytes in every fragment but the last, a multiple of 8
	offset  uint16 // of the packet itself, if it is a fragment already
	more    bool   // likewise
	options [40]byte
	optLen  int // of the options that later fragments carry
}

// Start takes an IPv4 packet in an Ethernet frame, whose IP packets may be mtu
// bytes long. A partial checksum is completed first. drop.TooBig: the packet may
// not be fragmented, as it has DF set or is IPv6.
func (s *Fragments) Start(f *Frame, mtu int) drop.Reason {
	*s = Fragments{}
	if f.Offload.GSO != GSONone {
		return drop.GSOUnsupported
	}
	if r := s.h.DecodeEthernet(f.Bytes()); r != drop.None {
		return r
	}
	h := &s.h
	if h.Version != 4 || h.DontFragment || mtu < minMTU4 {
		return drop.TooBig
	}
	if !CompleteChecksum(f) {
		return drop.ChecksumUnsupported
	}
	s.frame = f.Bytes()[:h.L3+h.Length]
	s.header, s.pos = h.L4, h.L4
	s.room = (mtu - (h.L4 - h.L3)) &^ 7
	s.offset, s.more = h.FragOffset, h.MoreFragments
	s.id = binary.BigEndian.Uint16(s.frame[h.L3+4:])
	s.optLen = copiedOptions(s.frame[h.L3+IPv4Len:h.L4], &s.options)
	data := len(s.frame) - s.header
	s.left = max(1, (data+s.room-1)/s.room)
	return drop.None
}

// Next makes dst the next fragment. False if there is none left, or if dst is
// too small: the fragment is given again then.
func (s *Fragments) Next(dst *Frame) bool {
	if s.left == 0 {
		return false
	}
	n := min(s.room, len(s.frame)-s.pos)
	header := s.header
	if s.index > 0 {
		header = s.h.L3 + IPv4Len + s.optLen
	}
	dst.Reset()
	b := dst.Append(header + n)
	if b == nil {
		return false
	}
	copy(b, s.frame[:s.h.L3+IPv4Len])
	if s.index == 0 {
		copy(b, s.frame[:s.header])
	} else {
		copy(b[s.h.L3+IPv4Len:], s.options[:s.optLen])
	}
	copy(b[header:], s.frame[s.pos:s.pos+n])
	ip := b[s.h.L3:]
	ip[0] = 0x40 | uint8((header-s.h.L3)/4)
	field := (s.offset + uint16(s.pos-s.header)) / 8
	if s.left > 1 || s.more {
		field |= 0x2000
	}
	binary.BigEndian.PutUint16(ip[6:], field)
	s.putLength(ip, s.id)
	s.pos += n
	s.index++
	s.left--
	return true
}

// copiedOptions picks the options that every fragment carries, those whose
// first bit is set, padded to a multiple of 4 (RFC 791 section 3.1). Options
// that contradict themselves end the list.
func copiedOptions(o []byte, to *[40]byte) int {
	n := 0
	for len(o) > 0 && o[0] != 0 {
		size := 1
		if o[0] != 1 {
			if len(o) < 2 || int(o[1]) < 2 || int(o[1]) > len(o) {
				break
			}
			size = int(o[1])
		}
		if o[0]&0x80 != 0 {
			n += copy(to[n:], o[:size])
		}
		o = o[size:]
	}
	return (n + 3) &^ 3
}

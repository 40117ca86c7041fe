package packet

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// The bounds of what is cut: without them one frame could be made into 65535.
const (
	minTCPSegment  = 48  // as Linux' tcp_min_snd_mss
	maxUDPSegments = 128 // as Linux' UDP_MAX_SEGMENTS
)

// Segments cuts a super-packet into packets for a port that cannot do it
// itself, as the kernel's GSO would (TCP over IPv4 and IPv6, UDP_L4):
//
//	var s packet.Segments
//	if r := s.Start(super); r != drop.None { ... }
//	for s.Left() > 0 {
//		dst := ...
//		if !s.Next(dst) { ... } // dst is too small
//	}
//
// It reads the super-packet until the last segment is taken.
type Segments struct {
	cut
	udp    bool
	size   int    // of a full segment's payload
	seq    uint32 // of the first segment
	noCsum bool   // UDP without a checksum
}

// cut is a packet on its way into pieces.
type cut struct {
	frame  []byte  // the packet, with its Ethernet header
	h      Headers // of the packet
	header int     // the bytes in front of every piece
	pos    int     // of the next piece in frame
	index  int     // of the next piece
	left   int     // pieces not yet taken
	id     uint16  // IPv4 identification
}

// Left is the number of pieces not yet taken.
func (c *cut) Left() int { return c.left }

// Start takes a super-packet in an Ethernet frame. A frame that needs no
// segmentation is refused too, with drop.GSOUnsupported: Left is 0 then.
func (s *Segments) Start(f *Frame) drop.Reason {
	*s = Segments{}
	b, o := f.Bytes(), f.Offload
	if r := s.h.DecodeEthernet(b); r != drop.None {
		return r
	}
	h := &s.h
	if h.Version == 0 || h.IsFragment() || o.GSOSize == 0 {
		return drop.GSOUnsupported
	}
	version, proto := uint8(4), uint8(ProtoTCP)
	switch o.GSO {
	case GSOTCPv4:
	case GSOTCPv6:
		version = 6
	case GSOUDP:
		version, proto, s.udp = h.Version, ProtoUDP, true
	default:
		return drop.GSOUnsupported
	}
	if h.Version != version || h.Proto != proto {
		return drop.GSOUnsupported
	}
	s.frame = b[:h.L3+h.Length]
	s.size = int(o.GSOSize)
	if s.udp {
		s.header = h.L4 + UDPLen
		s.noCsum = !o.NeedsCsum && binary.BigEndian.Uint16(b[h.L4+6:]) == 0
	} else {
		if h.TCPFlags&(TCPSyn|TCPRst) != 0 || s.size < minTCPSegment {
			return drop.GSOUnsupported
		}
		s.header = h.L4 + int(b[h.L4+12]>>4)*4
		s.seq = binary.BigEndian.Uint32(b[h.L4+4:])
	}
	payload := len(s.frame) - s.header
	count := max(1, (payload+s.size-1)/s.size)
	if s.udp && count > maxUDPSegments {
		return drop.GSOUnsupported
	}
	s.pos = s.header
	s.id = binary.BigEndian.Uint16(b[h.L3+4:])
	s.left = count
	return drop.None
}

// Next makes dst the next segment, complete with its checksums. False if there
// is none left, or if dst is too small: the segment is given again then.
func (s *Segments) Next(dst *Frame) bool {
	if s.left == 0 {
		return false
	}
	n := min(s.size, len(s.frame)-s.pos)
	dst.Reset()
	b := dst.Append(s.header + n)
	if b == nil {
		return false
	}
	copy(b, s.frame[:s.header])
	copy(b[s.header:], s.frame[s.pos:s.pos+n])
	s.putLength(b[s.h.L3:], s.id+uint16(s.index))
	l4 := b[s.h.L4:]
	field := 16
	if s.udp {
		field = 6
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	} else {
		s.putTCP(l4)
	}
	if !s.noCsum {
		l4[field], l4[field+1] = 0, 0
		sum := Checksum(l4, PseudoSum(s.h.Src, s.h.Dst, s.h.Proto, len(l4)))
		if sum == 0 && s.udp {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(l4[field:], sum)
	}
	s.pos += n
	s.index++
	s.left--
	return true
}

// putLength writes the length of the piece ip into its IP header.
func (c *cut) putLength(ip []byte, id uint16) {
	if c.h.Version == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-IPv6Len))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], id)
	putIPv4Checksum(ip)
}

func putIPv4Checksum(ip []byte) {
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], Checksum(ip[:int(ip[0]&0x0f)*4], 0))
}

// putTCP gives the segment its part of the sequence space and of the flags: CWR
// goes with the first only (RFC 3168 section 6.1.2), FIN and PSH with the last;
// the urgent pointer counts from the segment's own sequence number.
func (s *Segments) putTCP(tcp []byte) {
	off := s.pos - s.header
	binary.BigEndian.PutUint32(tcp[4:], s.seq+uint32(off))
	flags := tcp[13]
	if s.index > 0 {
		flags &^= TCPCwr
	}
	if s.left > 1 {
		flags &^= TCPFin | TCPPsh
	}
	if flags&TCPUrg != 0 {
		urgent := int(binary.BigEndian.Uint16(tcp[18:])) - off
		if urgent <= 0 {
			flags &^= TCPUrg
			urgent = 0
		}
		binary.BigEndian.PutUint16(tcp[18:], uint16(urgent))
	}
	tcp[13] = flags
}

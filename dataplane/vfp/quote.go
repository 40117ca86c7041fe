package vfp

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// icmpLen is the length of an ICMP header: what comes before the data of an echo
// and before what an error quotes (RFC 792, RFC 4443).
const icmpLen = 8

// quotes tells whether the packet is an ICMP error, with the beginning of the
// packet that it is about.
func quotes(h *packet.Headers) bool {
	if h.Proto != icmpProto(h.Version) {
		return false
	}
	if h.Version == 6 {
		return h.ICMPType < 128 // RFC 4443 section 2.1
	}
	switch h.ICMPType {
	case 3, 4, 5, 11, 12: // RFC 1122 section 3.2.2
		return true
	}
	return false
}

// quote is where the things are in the packet that an ICMP error quotes, from
// the start of the ICMP header on.
type quote struct {
	found     bool
	version   uint8
	ip        int
	l4        int // 0: nothing of the transport header is there to change
	transport transport
}

// parseQuote looks at the packet that the ICMP error msg quotes. It may be cut
// off anywhere behind its IP header. Of a fragment, or behind IPv6 extensions
// that are cut off, there is no transport header.
func parseQuote(msg []byte, version uint8) (quote, drop.Reason) {
	q := quote{found: true, version: version, ip: icmpLen}
	if len(msg) < icmpLen+packet.IPv4Len {
		return q, drop.InnerTruncated
	}
	ip := msg[icmpLen:]
	if ip[0]>>4 != version {
		return q, drop.InnerMalformed
	}
	if version == 6 {
		return q.ipv6(msg, ip)
	}
	size := int(ip[0]&0x0f) * 4
	switch {
	case size < packet.IPv4Len:
		return q, drop.InnerMalformed
	case size > len(ip):
		return q, drop.InnerTruncated
	case binary.BigEndian.Uint16(ip[6:])&0x1fff == 0:
		q.behind(msg, icmpLen+size, ip[9])
	}
	return q, drop.None
}

// IPv6 next header values of extensions (RFC 8200 section 4.1).
const (
	extHopByHop = 0
	extRouting  = 43
	extFragment = 44
	extAuth     = 51
	extDest     = 60
)

func (q quote) ipv6(msg, ip []byte) (quote, drop.Reason) {
	if len(ip) < packet.IPv6Len {
		return q, drop.InnerTruncated
	}
	off, next := packet.IPv6Len, ip[6]
	for {
		switch next {
		case extHopByHop, extRouting, extDest, extAuth, extFragment:
		default:
			if off <= len(ip) {
				q.behind(msg, icmpLen+off, next)
			}
			return q, drop.None
		}
		if len(ip) < off+8 {
			return q, drop.None
		}
		size := 8
		switch next {
		case extAuth:
			size += 4 * int(ip[off+1])
		case extFragment:
			if binary.BigEndian.Uint16(ip[off+2:])&^7 != 0 {
				return q, drop.None
			}
		default:
			size += 8 * int(ip[off+1])
		}
		next, off = ip[off], off+size
	}
}

// behind notes the transport header.
func (q *quote) behind(msg []byte, at int, proto uint8) {
	q.l4, q.transport = at, transportOf(q.version, proto, msg[at:])
}

// apply rewrites the quoted packet in msg as t does packets of the other
// direction, and gives how much the sum of msg grew.
func (q *quote) apply(msg []byte, t *Transposition) (grown uint64) {
	ip := msg[q.ip:]
	src, dst, size := 12, 16, 4
	if q.version == 6 {
		src, dst, size = 8, 24, 16
	}
	var addrs, ports uint64
	if t.Set&SetDst != 0 {
		addrs += putAddr(ip[src:src+size], t.NewDst)
	}
	if t.Set&SetSrc != 0 {
		addrs += putAddr(ip[dst:dst+size], t.NewSrc)
	}
	grown = addrs
	if q.version == 4 && addrs != 0 {
		grown += fixed(ip[10:], func(field []byte) { fix(field, addrs) })
	}
	if q.l4 == 0 {
		return grown
	}
	tr := &q.transport
	l4 := msg[q.l4:]
	if t.Set&SetDstPort != 0 && tr.src >= 0 {
		ports += put16(l4[tr.src:], t.NewDstPort)
	}
	if t.Set&SetSrcPort != 0 && tr.dst >= 0 {
		ports += put16(l4[tr.dst:], t.NewSrcPort)
	}
	grown += ports
	if !tr.pseudo {
		addrs = 0
	}
	if tr.sum >= 0 {
		grown += fixed(l4[tr.sum:], func(field []byte) { tr.fix(field, addrs, ports, false) })
	}
	return grown
}

// fixed tells how much the sum grows by what fix does to a checksum.
func fixed(field []byte, fix func([]byte)) uint64 {
	old := binary.BigEndian.Uint16(field)
	fix(field)
	return uint64(^old) + uint64(binary.BigEndian.Uint16(field))
}

package s2s

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of protocols and extension headers (IANA).
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	extHop      = 0
	extRouting  = 43
	extFragment = 44
	extOptions  = 60
)

// packet is where the parts of an IP packet begin. Nothing of it is trusted:
// whatever is too short or unknown is left as it is.
type packet struct {
	b        []byte
	six      bool
	src, dst []byte
	proto    uint8
	l4       []byte // empty if there is none: a later fragment, a cut packet
}

// parse finds the parts of a packet; ok is false where there is no whole IP
// header.
func parsePacket(b []byte) (p packet, ok bool) {
	if len(b) < 1 {
		return p, false
	}
	switch b[0] >> 4 {
	case 4:
		head := int(b[0]&15) * 4
		if head < 20 || len(b) < head {
			return p, false
		}
		p = packet{b: b, src: b[12:16], dst: b[16:20], proto: b[9]}
		if binary.BigEndian.Uint16(b[6:])&0x1fff == 0 {
			p.l4 = b[head:]
		}
		return p, true
	case 6:
		if len(b) < 40 {
			return p, false
		}
		p = packet{b: b, six: true, src: b[8:24], dst: b[24:40]}
		p.proto, p.l4 = upper(b[6], b[40:])
		return p, true
	}
	return p, false
}

// upper walks over IPv6 extension headers.
func upper(next uint8, b []byte) (proto uint8, l4 []byte) {
	for range 8 {
		switch next {
		case extHop, extRouting, extOptions:
			if len(b) < 8 || len(b) < (int(b[1])+1)*8 {
				return next, nil
			}
			next, b = b[0], b[(int(b[1])+1)*8:]
		case extFragment:
			if len(b) < 8 {
				return next, nil
			}
			if binary.BigEndian.Uint16(b[2:])&0xfff8 != 0 {
				return b[0], nil
			}
			next, b = b[0], b[8:]
		default:
			return next, b
		}
	}
	return next, nil
}

// checksum gives the field of the upper layer's checksum, and whether the
// addresses count in it; nil where there is none.
func (p *packet) checksum() (field []byte, pseudo bool) {
	var at int
	switch p.proto {
	case protoTCP:
		at = 16
	case protoUDP:
		at = 6
	case protoICMP, protoICMPv6:
		at = 2
	default:
		return nil, false
	}
	if len(p.l4) < at+2 {
		return nil, false
	}
	field = p.l4[at : at+2]
	if p.proto == protoUDP && field[0] == 0 && field[1] == 0 {
		return nil, false // not used
	}
	return field, p.proto != protoICMP
}

// embedded gives the packet that an ICMP error quotes.
func (p *packet) embedded() (packet, bool) {
	if len(p.l4) < 8 {
		return packet{}, false
	}
	t := p.l4[0]
	switch {
	case p.proto == protoICMP && !p.six && (t == 3 || t == 11 || t == 12):
	case p.proto == protoICMPv6 && p.six && t >= 1 && t <= 4:
	default:
		return packet{}, false
	}
	return parsePacket(p.l4[8:])
}

// rewrite sets an address of the packet and mends the checksums; it gives the
// sum of what changed within the quoted packet, for the ICMP header around it.
func (p *packet) rewrite(field, to []byte) (delta uint32) {
	d := difference(field, to)
	copy(field, to)
	delta = d
	if !p.six {
		ip := p.b[10:12]
		before := binary.BigEndian.Uint16(ip)
		mend(ip, d)
		delta += uint32(^before) + uint32(binary.BigEndian.Uint16(ip))
	}
	if sum, pseudo := p.checksum(); sum != nil && pseudo {
		before := binary.BigEndian.Uint16(sum)
		mend(sum, d)
		if p.proto == protoUDP && sum[0] == 0 && sum[1] == 0 {
			sum[0], sum[1] = 0xff, 0xff
		}
		delta += uint32(^before) + uint32(binary.BigEndian.Uint16(sum))
	}
	return delta
}

// difference is ~old + new in words (RFC 1624).
func difference(old, now []byte) (d uint32) {
	for i := 0; i+1 < len(old); i += 2 {
		d += uint32(^binary.BigEndian.Uint16(old[i:])) + uint32(binary.BigEndian.Uint16(now[i:]))
	}
	return d
}

// mend applies a difference to a checksum.
func mend(field []byte, d uint32) {
	s := uint64(^binary.BigEndian.Uint16(field)) + uint64(d)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	binary.BigEndian.PutUint16(field, ^uint16(s))
}

// clampMSS lowers the segment size that a SYN announces to what fits the MTU.
func (p *packet) clampMSS(mtu int) {
	const head, syn, optEnd, optNop, optMSS = 20, 2, 0, 1, 2
	if p.proto != protoTCP || len(p.l4) < head || p.l4[13]&syn == 0 {
		return
	}
	most := mtu - 40
	if p.six {
		most = mtu - 60
	}
	end := int(p.l4[12]>>4) * 4
	if end < head || end > len(p.l4) {
		return
	}
	for at := head; at < end; {
		o := p.l4[at:end]
		switch {
		case o[0] == optEnd:
			return
		case o[0] == optNop:
			at++
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return
		}
		if o[0] == optMSS && o[1] == 4 {
			if int(binary.BigEndian.Uint16(o[2:])) > most {
				p.setMSS(at+2, uint16(most))
			}
			return
		}
		at += int(o[1])
	}
}

func (p *packet) setMSS(at int, mss uint16) {
	field, now := p.l4[at:at+2], [2]byte{byte(mss >> 8), byte(mss)}
	d := difference(field, now[:])
	if at%2 == 1 { // its bytes lie in two words
		d = difference([]byte{field[1], field[0]}, []byte{now[1], now[0]})
	}
	copy(field, now[:])
	mend(p.l4[16:18], d)
}

// translate moves an address into the prefix, keeping its host bits.
func translate(a netip.Addr, into netip.Prefix) netip.Addr {
	if a.Is4() != into.Addr().Is4() {
		return a
	}
	if a.Is4() {
		b, to := a.As4(), into.Addr().As4()
		moveInto(b[:], to[:], into.Bits())
		return netip.AddrFrom4(b)
	}
	b, to := a.As16(), into.Addr().As16()
	moveInto(b[:], to[:], into.Bits())
	return netip.AddrFrom16(b)
}

// moveInto sets the first bits of a to those of the prefix.
func moveInto(a, prefix []byte, bits int) {
	for i := range a {
		switch {
		case bits >= 8:
			a[i] = prefix[i]
		case bits > 0:
			keep := byte(0xff) >> bits
			a[i] = a[i]&keep | prefix[i]&^keep
		default:
			return
		}
		bits -= 8
	}
}

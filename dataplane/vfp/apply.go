package vfp

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Apply rewrites the packet in f, that h was decoded from, in place, and updates
// its checksums by what changed (RFC 1624), so that a wrong one stays wrong. A
// UDP checksum that is absent stays so, and a partial one (Offload.NeedsCsum)
// stays partial. The packet that an ICMP error quotes went the other way, and is
// rewritten the other way round (RFC 5508 section 4.2); it must be one of the
// flow that t belongs to.
//
// h stays as it was; see ApplyHeaders. MAC addresses are set where there is an
// Ethernet header. Anything but drop.None leaves f as it was:
//
//	drop.TTLExpired           DecTTL would make it zero
//	drop.RuleUnsupported      t has fields that the packet has not: addresses of
//	                          the other family, or any of IP in another frame
//	drop.ChecksumUnsupported  the partial checksum is none of this packet's
//	drop.InnerTruncated       a header that has to change is not all there
//	drop.InnerMalformed       an ICMP error quotes something else than IP
func (t *Transposition) Apply(f *packet.Frame, h *packet.Headers) drop.Reason {
	b := f.Bytes()
	if !t.fits(h.Version) {
		return drop.RuleUnsupported
	}
	if h.Version != 0 && (t.DecTTL || t.Set&^(SetSrcMAC|SetDstMAC) != 0) {
		if h.L4 > h.L3+h.Length || h.L3+h.Length > len(b) {
			return drop.InnerTruncated
		}
		if r := t.applyIP(b[h.L3:h.L3+h.Length], &f.Offload, h); r != drop.None {
			return r
		}
	}
	if h.L3 >= packet.EthernetLen && len(b) >= packet.EthernetLen {
		if t.Set&SetDstMAC != 0 {
			copy(b, t.NewDstMAC[:])
		}
		if t.Set&SetSrcMAC != 0 {
			copy(b[6:], t.NewSrcMAC[:])
		}
	}
	return drop.None
}

// applyIP rewrites the IP packet ip: first everything that may be refused, then
// the changes.
func (t *Transposition) applyIP(ip []byte, o *packet.Offload, h *packet.Headers) drop.Reason {
	ttl, src, dst, size := 8, 12, 16, 4
	if h.Version == 6 {
		ttl, src, dst, size = 7, 8, 24, 16
	}
	if t.DecTTL && ip[ttl] <= 1 {
		return drop.TTLExpired
	}
	l4 := ip[h.L4-h.L3:]
	tr := noTransport
	var q quote
	partial := false
	if h.FragOffset == 0 && t.Set&(SetSrc|SetDst|SetSrcPort|SetDstPort) != 0 {
		tr = transportOf(h.Version, h.Proto, l4)
		if tr.truncated {
			return drop.InnerTruncated
		}
		if len(l4) < icmpLen { // an echo too short for package packet to know its identifier
			tr.src, tr.dst = -1, -1
		}
		if o.NeedsCsum && tr.sum >= 0 && int(o.CsumStart) <= h.L4 {
			partial = int(o.CsumStart) == h.L4 && int(o.CsumOffset) == tr.sum
			if !partial {
				return drop.ChecksumUnsupported
			}
		}
		if quotes(h) {
			var r drop.Reason
			if q, r = parseQuote(l4, h.Version); r != drop.None {
				return r
			}
		}
	}

	var addrs, ports, head uint64 // how much the sums of these grow
	if t.Set&SetSrc != 0 {
		addrs += putAddr(ip[src:src+size], t.NewSrc)
	}
	if t.Set&SetDst != 0 {
		addrs += putAddr(ip[dst:dst+size], t.NewDst)
	}
	if t.Set&SetSrcPort != 0 && tr.src >= 0 {
		ports += put16(l4[tr.src:], t.NewSrcPort)
	}
	if t.Set&SetDstPort != 0 && tr.dst >= 0 {
		ports += put16(l4[tr.dst:], t.NewDstPort)
	}
	if t.Set&SetDSCP != 0 {
		class := binary.BigEndian.Uint16(ip)
		if h.Version == 4 {
			class = class&^0x00fc | uint16(t.NewDSCP)<<2
		} else {
			class = class&^0x0fc0 | uint16(t.NewDSCP)<<6
		}
		head += put16(ip, class)
	}
	if t.DecTTL {
		head += put16(ip[ttl&^1:], binary.BigEndian.Uint16(ip[ttl&^1:])-hop(ttl))
	}
	if h.Version == 4 && head+addrs != 0 {
		fix(ip[10:], head+addrs)
	}
	if q.found {
		ports += q.apply(l4, t)
	}
	if !tr.pseudo {
		addrs = 0
	}
	if tr.sum >= 0 {
		tr.fix(l4[tr.sum:], addrs, ports, partial)
	}
	return drop.None
}

// hop is one in the byte at offset ttl, as a part of the 16-bit word there.
func hop(ttl int) uint16 {
	if ttl&1 == 0 {
		return 1 << 8
	}
	return 1
}

// IP protocols with a pseudo-header in their checksums, beside those that
// package packet reads.
const (
	protoDCCP    = 33  // RFC 4340 section 9.1
	protoUDPLite = 136 // RFC 3828 section 3.1
)

// transport tells where the things are in a transport header that a
// Transposition changes; -1 is nowhere.
type transport struct {
	src, dst  int // ports, or the identifier of an ICMP query
	sum       int
	pseudo    bool // the checksum covers the addresses
	udp       bool // no checksum is 0, and 0 is written 0xffff (RFC 768)
	truncated bool // the checksum is not there and should be
}

var noTransport = transport{src: -1, dst: -1, sum: -1}

// transportOf looks at a transport header, of which l4 may be only the beginning.
func transportOf(version, proto uint8, l4 []byte) transport {
	t := noTransport
	switch {
	case proto == packet.ProtoTCP:
		t = transport{src: 0, dst: 2, sum: 16, pseudo: true}
	case proto == packet.ProtoUDP:
		t = transport{src: 0, dst: 2, sum: 6, pseudo: true, udp: true}
	case proto == protoDCCP, proto == protoUDPLite:
		t.sum, t.pseudo = 6, true
	case proto == icmpProto(version):
		t.sum, t.pseudo = 2, version == 6
		if len(l4) > 0 {
			switch l4[0] {
			case echoRequest(version):
				t.src = 4
			case echoReply(version):
				t.dst = 4
			}
		}
	}
	if t.sum+2 > len(l4) && t.sum >= 0 {
		t.sum, t.truncated = -1, true
	}
	if t.src+2 > len(l4) {
		t.src = -1
	}
	if t.dst+2 > len(l4) {
		t.dst = -1
	}
	return t
}

func icmpProto(version uint8) uint8 {
	if version == 4 {
		return packet.ProtoICMP
	}
	return packet.ProtoICMPv6
}

func echoRequest(version uint8) uint8 {
	if version == 4 {
		return packet.ICMPEchoRequest
	}
	return packet.ICMPv6EchoRequest
}

func echoReply(version uint8) uint8 {
	if version == 4 {
		return packet.ICMPEchoReply
	}
	return packet.ICMPv6EchoReply
}

// fix updates the checksum in field after addresses and what else it covers
// have grown. A partial one is the sum, not its complement, of the pseudo-header
// alone.
func (t *transport) fix(field []byte, addrs, rest uint64, partial bool) {
	if partial {
		if addrs != 0 {
			binary.BigEndian.PutUint16(field, packet.Fold(uint64(binary.BigEndian.Uint16(field))+addrs))
		}
		return
	}
	if addrs+rest == 0 || t.udp && field[0]|field[1] == 0 {
		return
	}
	fix(field, addrs+rest)
	if t.udp && field[0]|field[1] == 0 {
		field[0], field[1] = 0xff, 0xff
	}
}

// fix updates a checksum after what it covers has grown (RFC 1624 section 3).
func fix(field []byte, grown uint64) {
	old := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, ^packet.Fold(uint64(^old)+grown))
}

// put writes a field and tells how much the one's complement sum grew.
func put(field, now []byte) uint64 {
	grown := packet.Sum(now, uint64(^packet.Fold(packet.Sum(field, 0))))
	copy(field, now)
	return uint64(packet.Fold(grown))
}

func put16(field []byte, now uint16) uint64 {
	old := binary.BigEndian.Uint16(field)
	binary.BigEndian.PutUint16(field, now)
	return uint64(^old) + uint64(now)
}

func putAddr(field []byte, a netip.Addr) uint64 {
	if len(field) == 4 {
		b := a.As4()
		return put(field, b[:])
	}
	b := a.As16()
	return put(field, b[:])
}

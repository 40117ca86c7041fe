package vfp

import (
	"math"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// field is one number of a packet's headers that rules ask about.
type field uint8

const (
	fieldDst field = iota // first those that tell rules apart best
	fieldSrc
	fieldDstPort
	fieldSrcPort
	fieldProto
	fieldICMPType
	fieldTCPFlags
	fieldEtherType
	fieldDstMAC
	fieldSrcMAC
	fields // how many there are
)

// behindPorts are the fields that a later fragment does not have.
const behindPorts = 1<<fieldDstPort | 1<<fieldSrcPort | 1<<fieldICMPType | 1<<fieldTCPFlags

// top is the greatest value of the field in frames of a class.
func (f field) top(c class) wide {
	switch f {
	case fieldDst, fieldSrc:
		if c == classIPv6 {
			return wide{math.MaxUint64, math.MaxUint64}
		}
		return number(math.MaxUint32)
	case fieldDstMAC, fieldSrcMAC:
		return number(1<<48 - 1)
	case fieldDstPort, fieldSrcPort, fieldEtherType:
		return number(math.MaxUint16)
	}
	return number(math.MaxUint8)
}

// keys are a packet's fields as numbers.
type keys [fields]wide

func keysOf(h *packet.Headers, k *keys) {
	if h.Version != 0 {
		k[fieldDst], k[fieldSrc] = wideAddr(h.Dst), wideAddr(h.Src)
	}
	k[fieldDstPort].lo = uint64(h.DstPort)
	k[fieldSrcPort].lo = uint64(h.SrcPort)
	k[fieldProto].lo = uint64(h.Proto)
	k[fieldICMPType].lo = uint64(h.ICMPType)
	k[fieldTCPFlags].lo = uint64(h.TCPFlags)
	k[fieldEtherType].lo = uint64(h.EtherType)
	k[fieldDstMAC], k[fieldSrcMAC] = wideMAC(h.DstMAC), wideMAC(h.SrcMAC)
}

// tuple is a Match as sets of numbers, one for each field, for frames of one
// class.
type tuple [fields]ranges

// covers tells whether whatever o matches is matched by t too.
func (t *tuple) covers(o *tuple) bool {
	for f := range t {
		if !t[f].covers(o[f]) {
			return false
		}
	}
	return true
}

// witness is a packet that t matches.
func (t *tuple) witness() (k keys) {
	for f, r := range t {
		if r != nil {
			k[f] = r[0].lo
		}
	}
	return k
}

// uses is the set of fields that t asks about.
func (t *tuple) uses() (set uint16) {
	for f, r := range t {
		if r != nil {
			set |= 1 << f
		}
	}
	return set
}

// class sorts frames by what they can match: a program has tables of its own
// for each.
type class uint8

const (
	classOther class = iota // no IP packet in it
	classIPv4
	classIPv6
	classes
)

func classOf(h *packet.Headers) class {
	switch h.Version {
	case 4:
		return classIPv4
	case 6:
		return classIPv6
	}
	return classOther
}

func (c class) family() Family {
	switch c {
	case classIPv4:
		return IPv4
	case classIPv6:
		return IPv6
	}
	return AnyFamily
}

// tupleOf gives the match as it is for the frames of a class; false if it
// matches none of them.
func tupleOf(m *Match, c class) (t tuple, ok bool) {
	t[fieldSrcMAC] = macs(m.SrcMAC)
	t[fieldDstMAC] = macs(m.DstMAC)
	if m.Group {
		t[fieldDstMAC] = t[fieldDstMAC].intersect(groupMACs())
	}
	if m.EtherType != 0 {
		t[fieldEtherType] = ranges{one(uint64(m.EtherType))}
	}
	if c == classOther {
		if m.asksIP() {
			return t, false
		}
		return t, t.possible()
	}
	typ, icmp := uint16(packet.EtherTypeIPv4), uint64(packet.ProtoICMP)
	if c == classIPv6 {
		typ, icmp = packet.EtherTypeIPv6, packet.ProtoICMPv6
	}
	if m.EtherType != 0 {
		if m.EtherType != typ {
			return t, false
		}
		t[fieldEtherType] = nil // all of the class have it
	}
	t[fieldSrc], t[fieldDst] = addrs(m.Src, c), addrs(m.Dst, c)
	if m.Proto != nil {
		t[fieldProto] = ranges{one(uint64(*m.Proto))}
	}
	ask := func(f field, r ranges, protos ...uint64) {
		var s []span
		for _, p := range protos {
			s = append(s, one(p))
		}
		t[fieldProto] = t[fieldProto].intersect(normalize(s, number(math.MaxUint8)))
		t[f] = r
	}
	if len(m.SrcPorts) > 0 {
		ask(fieldSrcPort, ports(m.SrcPorts), packet.ProtoTCP, packet.ProtoUDP)
	}
	if len(m.DstPorts) > 0 {
		ask(fieldDstPort, ports(m.DstPorts), packet.ProtoTCP, packet.ProtoUDP)
	}
	if len(m.ICMPTypes) > 0 {
		var s []span
		for _, v := range m.ICMPTypes {
			s = append(s, one(uint64(v)))
		}
		ask(fieldICMPType, normalize(s, number(math.MaxUint8)), icmp)
	}
	if m.TCPFlags.Mask != 0 {
		var s []span
		for v := range uint64(256) {
			if uint8(v)&m.TCPFlags.Mask == m.TCPFlags.Want {
				s = append(s, one(v))
			}
		}
		ask(fieldTCPFlags, normalize(s, number(math.MaxUint8)), packet.ProtoTCP)
	}
	return t, t.possible()
}

// asksIP tells whether the match is one for IP packets only.
func (m *Match) asksIP() bool {
	return m.Proto != nil || len(m.Src) > 0 || len(m.Dst) > 0 || len(m.SrcPorts) > 0 || len(m.DstPorts) > 0 ||
		len(m.ICMPTypes) > 0 || m.TCPFlags.Mask != 0 ||
		m.EtherType == packet.EtherTypeIPv4 || m.EtherType == packet.EtherTypeIPv6
}

// possible tells whether any packet can match.
func (t *tuple) possible() bool {
	for _, r := range t {
		if r != nil && len(r) == 0 {
			return false
		}
	}
	return true
}

func macs(m *[6]byte) ranges {
	if m == nil {
		return nil
	}
	w := wideMAC(*m)
	return ranges{{w, w}}
}

// groupMACs are the addresses whose first byte has its lowest bit set.
func groupMACs() ranges {
	var r ranges
	for b := uint64(1); b < 256; b += 2 {
		r = append(r, span{number(b << 40), number((b+1)<<40 - 1)})
	}
	return r
}

// addrs are the prefixes of the class's family; empty where there are only
// others.
func addrs(ps []netip.Prefix, c class) ranges {
	if len(ps) == 0 {
		return nil
	}
	s := []span{}
	for _, p := range ps {
		if p.Addr().Is4() == (c == classIPv4) {
			s = append(s, spanPrefix(p))
		}
	}
	return normalize(s, fieldSrc.top(c))
}

func ports(ps []PortRange) ranges {
	s := []span{}
	for _, p := range ps {
		s = append(s, span{number(uint64(p.Lo)), number(uint64(p.Hi))})
	}
	return normalize(s, number(math.MaxUint16))
}

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
)

// RoutedElsewhere matches packets whose destination is routed, over another link
// than the one named.
func RoutedElsewhere(link string) []Stmt {
	return []Stmt{
		{text: fmt.Sprintf("fib daddr oifname != %q", link), build: func(c *compiler) {
			c.add(&expr.Fib{Register: 1, ResultOIFNAME: true, FlagDADDR: true})
			c.cmp(expr.CmpOpNeq, ifnameBytes(link))
		}},
		{text: "fib daddr oif exists", build: func(c *compiler) { routed(c, 1) }},
	}
}

func routed(c *compiler, present byte) {
	c.add(&expr.Fib{Register: 1, ResultOIF: true, FlagDADDR: true, FlagPRESENT: true})
	c.cmp(expr.CmpOpEq, []byte{present, 0, 0, 0})
}

// NoRoute matches packets for which there is no route: their destination is none
// of this machine's addresses, none of all machines of a network, and no group.
func NoRoute() []Stmt {
	out := []Stmt{{text: "fib daddr oif missing", build: func(c *compiler) { routed(c, 0) }}}
	for _, t := range []struct {
		name string
		num  uint32 // RTN_ in linux/rtnetlink.h
	}{{"local", 2}, {"broadcast", 3}, {"anycast", 4}, {"multicast", 5}} {
		out = append(out, Stmt{text: "fib daddr type != " + t.name, build: func(c *compiler) {
			c.add(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true})
			c.cmp(expr.CmpOpNeq, native32(t.num))
		}})
	}
	return out
}

// NoReversePath matches packets whose source is not routed: strictly, not over the
// interface that they came in by.
func NoReversePath(strict bool) Stmt {
	over := ""
	if strict {
		over = " . iif"
	}
	return Stmt{text: "fib saddr" + over + " oif missing", build: func(c *compiler) {
		c.add(&expr.Fib{Register: 1, ResultOIF: true, FlagSADDR: true, FlagIIF: strict, FlagPRESENT: true})
		c.cmp(expr.CmpOpEq, []byte{0, 0, 0, 0})
	}}
}

// SourceOver matches packets whose source is routed over the link.
func SourceOver(link string) Stmt {
	return Stmt{text: fmt.Sprintf("fib saddr oifname %q", link), build: func(c *compiler) {
		c.add(&expr.Fib{Register: 1, ResultOIFNAME: true, FlagSADDR: true})
		c.cmp(expr.CmpOpEq, ifnameBytes(link))
	}}
}

// Notrack keeps a packet from connection tracking; for chains of PriorityRaw.
func Notrack() Stmt {
	return Stmt{text: "notrack", build: func(c *compiler) { c.add(&expr.Notrack{}) }}
}

// SetZone has connection tracking look at the packet in a zone, among whose
// connections alone it is; for chains of PriorityRaw.
func SetZone(zone uint16) Stmt {
	return Stmt{text: fmt.Sprintf("ct zone set %d", zone), build: func(c *compiler) {
		c.add(&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint16(nil, zone)})
		c.add(&expr.Ct{Register: 1, SourceRegister: true, Key: expr.CtKeyZONE})
	}}
}

// SetSource writes the source address; checksums are mended, conntrack is not told.
func SetSource(a netip.Addr) Stmt {
	const pseudoHeader = 1 // NFT_PAYLOAD_L4CSUM_PSEUDOHDR
	f, word, field := IPv4, "ip", SAddr4
	if a.Is6() {
		f, word, field = IPv6, "ip6", SAddr6
	}
	return Stmt{text: fmt.Sprintf("%s saddr set %s", word, a), build: func(c *compiler) {
		c.needL3(f)
		c.add(&expr.Immediate{Register: 1, Data: a.AsSlice()})
		w := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: field.base, Offset: field.offset, Len: uint32(field.size),
			CsumType: expr.CsumTypeInet, CsumOffset: 10, CsumFlags: pseudoHeader}
		if f == IPv6 {
			w.CsumType, w.CsumOffset = expr.CsumTypeNone, 0
		}
		c.add(w)
	}}
}

// SPorts matches a source port of TCP or UDP in the range.
func SPorts(p Protocol, lo, hi uint16) Stmt {
	ports := Ports(lo, hi)
	return Stmt{text: fmt.Sprintf("%s sport %s", p, ports.text), build: func(c *compiler) {
		c.needL4(p)
		c.load(SPortField, 0)
		if lo == hi {
			c.cmp(expr.CmpOpEq, ports.lo)
			return
		}
		c.cmp(expr.CmpOpGte, ports.lo)
		c.cmp(expr.CmpOpLte, ports.hi)
	}}
}

// QuotedSPort matches ICMP errors about a packet from the port; QuotedIs stands
// before it.
func QuotedSPort(f Family, port uint16) Stmt {
	q := QuotedSPort4
	if f == IPv6 {
		q = QuotedSPort6
	}
	return Stmt{text: fmt.Sprintf("%s 0x%04x", q.text, port), build: func(c *compiler) {
		c.loadAll([]Field{q})
		c.cmp(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))
	}}
}

// NotHandshake matches packets over UDP that are no handshake initiation of
// WireGuard, which are those whose first byte is 1. A rule that uses it looks at
// the protocol before.
func NotHandshake() Stmt {
	return Stmt{text: "@th,64,8 != 0x01", build: func(c *compiler) {
		c.payload(expr.PayloadBaseTransportHeader, 8, 1, 0)
		c.cmp(expr.CmpOpNeq, []byte{1})
	}}
}

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables/expr"
)

// A Stmt is one statement of a rule: its text and how it is compiled.
type Stmt struct {
	text  string
	build func(*compiler)
	// what it refers to, for checking
	set, counter, chain string
}

func (s Stmt) String() string { return s.text }

// IIfName matches the interface a packet came in by.
func IIfName(name string) Stmt { return ifname("iifname", expr.MetaKeyIIFNAME, name, expr.CmpOpEq) }

// OIfName matches the interface a packet leaves by.
func OIfName(name string) Stmt { return ifname("oifname", expr.MetaKeyOIFNAME, name, expr.CmpOpEq) }

// NotIIfName matches packets that came in by another interface.
func NotIIfName(name string) Stmt { return ifname("iifname", expr.MetaKeyIIFNAME, name, expr.CmpOpNeq) }

// NotOIfName matches packets that leave by another interface.
func NotOIfName(name string) Stmt { return ifname("oifname", expr.MetaKeyOIFNAME, name, expr.CmpOpNeq) }

func ifname(word string, key expr.MetaKey, name string, op expr.CmpOp) Stmt {
	return Stmt{text: fmt.Sprintf("%s %s%q", word, notText(op), name), build: func(c *compiler) {
		c.meta(key)
		c.cmp(op, ifnameBytes(name))
	}}
}

func notText(op expr.CmpOp) string {
	if op == expr.CmpOpNeq {
		return "!= "
	}
	return ""
}

// NFProto matches packets of IPv4 or of IPv6.
func NFProto(f Family) Stmt {
	word := "ipv4"
	if f == IPv6 {
		word = "ipv6"
	}
	return Stmt{text: "meta nfproto " + word, build: func(c *compiler) { c.needL3(f) }}
}

// L4Proto matches the protocol above IP.
func L4Proto(p Protocol) Stmt {
	return Stmt{text: "meta l4proto " + p.String(), build: func(c *compiler) { c.needL4(p) }}
}

// SAddr matches a source in the prefix.
func SAddr(p netip.Prefix) Stmt { return addr("saddr", p, expr.CmpOpEq) }

// DAddr matches a destination in the prefix.
func DAddr(p netip.Prefix) Stmt { return addr("daddr", p, expr.CmpOpEq) }

// NotSAddr matches a source outside the prefix.
func NotSAddr(p netip.Prefix) Stmt { return addr("saddr", p, expr.CmpOpNeq) }

// NotDAddr matches a destination outside the prefix.
func NotDAddr(p netip.Prefix) Stmt { return addr("daddr", p, expr.CmpOpNeq) }

func addr(word string, p netip.Prefix, op expr.CmpOp) Stmt {
	f := addrField(word, p.Addr().Is6())
	v := Prefix(p)
	return Stmt{text: f.text + " " + notText(op) + v.text, build: func(c *compiler) {
		c.loadAll([]Field{f})
		if !p.IsSingleIP() {
			mask := Prefix(netip.PrefixFrom(p.Addr(), p.Bits()))
			for i := range mask.lo {
				mask.lo[i] = ^(mask.lo[i] ^ mask.hi[i])
			}
			c.mask(mask.lo)
		}
		c.cmp(op, v.lo)
	}}
}

// DPort matches a destination port of TCP or UDP.
func DPort(p Protocol, port uint16) Stmt {
	return Stmt{text: fmt.Sprintf("%s dport %d", p, port), build: func(c *compiler) {
		c.needL4(p)
		c.load(DPortField, 0)
		c.cmp(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))
	}}
}

// NotHops matches packets of the family that arrive with another TTL, or hop limit, than
// n. For 255 these are packets that a router has forwarded (RFC 5082).
func NotHops(f Family, n uint8) Stmt {
	text, offset := "ip ttl", uint32(8)
	if f == IPv6 {
		text, offset = "ip6 hoplimit", 7
	}
	return Stmt{text: fmt.Sprintf("%s != %d", text, n), build: func(c *compiler) {
		c.needL3(f)
		c.payload(expr.PayloadBaseNetworkHeader, offset, 1, 0)
		c.cmp(expr.CmpOpNeq, []byte{n})
	}}
}

// ICMPTypeIs matches ICMP packets of the type.
func ICMPTypeIs(t uint8) Stmt { return icmpType("icmp", icmpName(t), ProtoICMP, t) }

// ICMPv6TypeIs matches ICMPv6 packets of the type.
func ICMPv6TypeIs(t uint8) Stmt { return icmpType("icmpv6", icmpv6Name(t), ProtoICMPv6, t) }

func icmpType(word, name string, p Protocol, t uint8) Stmt {
	return Stmt{text: word + " type " + name, build: func(c *compiler) {
		c.needL4(p)
		c.payload(expr.PayloadBaseTransportHeader, 0, 1, 0)
		c.cmp(expr.CmpOpEq, []byte{t})
	}}
}

// ICMPID matches echo packets whose identifier is in the range; a rule that
// uses it looks at the type first.
func ICMPID(lo, hi uint16) Stmt { return icmpID("icmp", ProtoICMP, lo, hi) }

// ICMPv6ID is ICMPID for ICMPv6.
func ICMPv6ID(lo, hi uint16) Stmt { return icmpID("icmpv6", ProtoICMPv6, lo, hi) }

func icmpID(word string, p Protocol, lo, hi uint16) Stmt {
	ids := Ports(lo, hi)
	return Stmt{text: word + " id " + ids.text, build: func(c *compiler) {
		c.needL4(p)
		c.payload(expr.PayloadBaseTransportHeader, 4, 2, 0)
		if lo == hi {
			c.cmp(expr.CmpOpEq, ids.lo)
			return
		}
		c.cmp(expr.CmpOpGte, ids.lo)
		c.cmp(expr.CmpOpLte, ids.hi)
	}}
}

// State is a set of conntrack states of a packet.
type State uint32

// The states (nft's ct.c).
const (
	StateInvalid     State = 1
	StateEstablished State = 2
	StateRelated     State = 4
	StateNew         State = 8
	StateUntracked   State = 64
)

// CTState matches packets in one of the states.
func CTState(s State) Stmt {
	var words []string
	for _, w := range []struct {
		s    State
		word string
	}{{StateEstablished, "established"}, {StateRelated, "related"}, {StateNew, "new"}, {StateInvalid, "invalid"}, {StateUntracked, "untracked"}} {
		if s&w.s != 0 {
			words = append(words, w.word)
		}
	}
	return Stmt{text: "ct state " + strings.Join(words, ","), build: func(c *compiler) {
		c.add(&expr.Ct{Key: expr.CtKeySTATE, Register: 1})
		c.flags(uint32(s))
	}}
}

// CTStatusDNAT matches packets of connections whose destination is translated.
func CTStatusDNAT() Stmt {
	const ipsDstNAT = 1 << 5
	return Stmt{text: "ct status dnat", build: func(c *compiler) {
		c.add(&expr.Ct{Key: expr.CtKeySTATUS, Register: 1})
		c.flags(ipsDstNAT)
	}}
}

// Flags of TCP.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// TCPFlags matches TCP segments whose flags, of those in mask, are exactly these.
func TCPFlags(mask, flags uint8) Stmt { return tcpFlags(mask, flags, "==", expr.CmpOpEq) }

// NotTCPFlags matches the other TCP segments.
func NotTCPFlags(mask, flags uint8) Stmt { return tcpFlags(mask, flags, "!=", expr.CmpOpNeq) }

func tcpFlags(mask, flags uint8, word string, op expr.CmpOp) Stmt {
	text := fmt.Sprintf("tcp flags & (%s) %s %s", flagNames(mask), word, flagNames(flags))
	return Stmt{text: text, build: func(c *compiler) {
		c.needL4(ProtoTCP)
		c.payload(expr.PayloadBaseTransportHeader, 13, 1, 0)
		c.mask([]byte{mask})
		c.cmp(op, []byte{flags})
	}}
}

func flagNames(f uint8) string {
	var words []string
	for _, w := range []struct {
		f    uint8
		word string
	}{{FIN, "fin"}, {SYN, "syn"}, {RST, "rst"}, {ACK, "ack"}} {
		if f&w.f != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " | ")
}

// ClampMSS lowers the maximum segment size that a SYN announces; the kernel
// never raises it and leaves a SYN without the option alone.
func ClampMSS(size uint16) Stmt {
	return Stmt{text: fmt.Sprintf("tcp option maxseg size set %d", size), build: func(c *compiler) {
		const optMaxSeg, offset = 2, 2
		c.needL4(ProtoTCP)
		c.add(&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, size)})
		c.add(&expr.Exthdr{SourceRegister: 1, Type: optMaxSeg, Offset: offset, Len: 2, Op: expr.ExthdrOpTcpopt})
	}}
}

// CountOver matches when more than n connections that came to this statement
// are alive.
func CountOver(n uint32) Stmt {
	return Stmt{text: fmt.Sprintf("ct count over %d", n), build: func(c *compiler) {
		c.add(&expr.Connlimit{Count: n, Flags: expr.NFT_CONNLIMIT_F_INV})
	}}
}

// CountSharesOver is CountOver for many connections: they are dealt out in turn to
// a number of shares, a power of two, kept in a dynamic set of type Mark, and it
// matches when more than n of one share are alive. Looking at a new connection costs
// the kernel a walk through all those that are counted together, but for one that
// comes right after another one: it lets eight of them (CONNCOUNT_GC_MAX_NODES) into
// a share within a tick of its clock without another walk, and so many are dealt at a
// time. Of a connection's packets only the first one is looked at, which conntrack
// has not confirmed yet.
func CountSharesOver(set string, shares, n uint32) Stmt {
	const dealt = 8
	text := fmt.Sprintf("ct status ! confirmed add @%s { numgen inc mod %d & %d ct count over %d }", set, dealt*shares, dealt*(shares-1), n)
	return Stmt{text: text, set: set, build: func(c *compiler) {
		const operationAdd, incremental, ipsConfirmed = 0, 0, 1 << 3
		c.add(&expr.Ct{Key: expr.CtKeySTATUS, Register: 1})
		c.mask(native32(ipsConfirmed))
		c.cmp(expr.CmpOpEq, make([]byte, 4))
		c.add(&expr.Numgen{Register: 1, Modulus: dealt * shares, Type: incremental})
		c.mask(native32(dealt * (shares - 1)))
		c.add(&expr.Dynset{SrcRegKey: 1, SetName: set, Operation: operationAdd,
			Exprs: []expr.Any{&expr.Connlimit{Count: n, Flags: expr.NFT_CONNLIMIT_F_INV}}})
	}}
}

// Remember puts the fields into a dynamic set, or has them stay there for its timeout
// from now on, and matches if they are in it then: they are not where it is full.
func Remember(set string, fields ...Field) Stmt {
	return Stmt{text: fmt.Sprintf("update @%s { %s }", set, fieldsText(fields)), set: set, build: func(c *compiler) {
		const operationUpdate = 1
		c.loadAll(fields)
		c.add(&expr.Dynset{SrcRegKey: 1, SetName: set, Operation: operationUpdate})
	}}
}

// Limit matches up to the rate, with a burst, both in packets.
func Limit(perSecond uint64, burst uint32) Stmt {
	text := fmt.Sprintf("limit rate %d/second burst %d packets", perSecond, burst)
	return Stmt{text: text, build: func(c *compiler) {
		c.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Unit: expr.LimitTimeSecond, Burst: burst})
	}}
}

// BytesOver matches what is over a rate of bytes, after a burst of one second of it and
// so many bytes more.
func BytesOver(perSecond uint64, more uint32) Stmt {
	text := fmt.Sprintf("limit rate over %d bytes/second burst %d bytes", perSecond, more)
	return Stmt{text: text, build: func(c *compiler) {
		c.add(&expr.Limit{Type: expr.LimitTypePktBytes, Rate: perSecond, Over: true, Unit: expr.LimitTimeSecond, Burst: more})
	}}
}

// Count counts the packet in the table's named counter.
func Count(name string) Stmt {
	return Stmt{text: fmt.Sprintf("counter name %q", name), counter: name, build: func(c *compiler) {
		c.add(&expr.Objref{Type: objectCounter, Name: name})
	}}
}

// Accept ends the hook: the packet goes on to the next one.
func Accept() Stmt { return verdict("accept", expr.VerdictAccept, "") }

// Drop ends the packet.
func Drop() Stmt { return verdict("drop", expr.VerdictDrop, "") }

// Return goes back to the chain that jumped here.
func Return() Stmt { return verdict("return", expr.VerdictReturn, "") }

// Jump goes through another chain and comes back.
func Jump(chain string) Stmt { return verdict("jump "+chain, expr.VerdictJump, chain) }

// Goto goes to another chain for good.
func Goto(chain string) Stmt { return verdict("goto "+chain, expr.VerdictGoto, chain) }

func verdict(text string, kind expr.VerdictKind, chain string) Stmt {
	return Stmt{text: text, chain: chain, build: func(c *compiler) {
		c.add(&expr.Verdict{Kind: kind, Chain: chain})
	}}
}

// SNAT translates the source to an address and a port (or ICMP identifier) in
// the range. A source port in the range is kept where it is free.
func SNAT(a netip.Addr, lo, hi uint16) Stmt {
	f, to := IPv4, a.String()
	if a.Is6() {
		f, to = IPv6, "["+a.String()+"]"
	}
	ports := Ports(lo, hi)
	return Stmt{text: fmt.Sprintf("snat %s to %s:%s", f, to, ports.text), build: func(c *compiler) {
		// In an inet table the kernel passes packets of the other family by.
		c.add(&expr.Immediate{Register: 1, Data: a.AsSlice()})
		c.add(&expr.Immediate{Register: 2, Data: ports.lo})
		nat := &expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f),
			RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: 2, RegProtoMax: 2, Specified: true}
		if lo != hi {
			c.add(&expr.Immediate{Register: 3, Data: ports.hi})
			nat.RegProtoMax = 3
		}
		c.add(nat)
	}}
}

// DNAT translates the destination to what the map gives for the fields: an
// address and a port.
func DNAT(f Family, set string, fields ...Field) Stmt {
	text := fmt.Sprintf("dnat %s to %s map @%s", f, fieldsText(fields), set)
	return Stmt{text: text, set: set, build: func(c *compiler) {
		c.needL3(f)
		c.loadAll(fields)
		c.add(&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set})
		size := 4
		if f == IPv6 {
			size = 16
		}
		port := slot(size / 4)
		c.add(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f),
			RegAddrMin: 1, RegAddrMax: 1, RegProtoMin: port, RegProtoMax: port, Specified: true})
	}}
}

// HashBelow matches when the hash of the field, between 0 and mod-1, is less
// than limit: a share of limit/mod of its values, always the same ones.
func HashBelow(f Field, mod, seed, limit uint32) Stmt {
	text := fmt.Sprintf("jhash %s mod %d seed 0x%x < %d", f.text, mod, seed, limit)
	return Stmt{text: text, build: func(c *compiler) {
		c.loadAll([]Field{f})
		c.add(&expr.Hash{SourceRegister: 1, DestRegister: 1, Length: uint32(f.size), Modulus: mod, Seed: seed, Type: expr.HashTypeJenkins})
		c.add(&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4})
		c.cmp(expr.CmpOpLt, binary.BigEndian.AppendUint32(nil, limit))
	}}
}

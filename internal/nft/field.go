package nft

import (
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
)

// A Field is a part of a packet that can be looked up in a set.
type Field struct {
	text   string
	l3     Family   // what it needs to be there at all
	l4     Protocol // likewise
	meta   bool     // not read from the packet's bytes: key, or the protocol above IP
	key    expr.MetaKey
	base   expr.PayloadBase
	offset uint32
	size   int
}

// The fields. The ports stand in the first bytes of TCP and UDP alike: a rule
// that uses them looks at the protocol too.
var (
	SAddr4      = Field{text: "ip saddr", l3: IPv4, base: expr.PayloadBaseNetworkHeader, offset: 12, size: 4}
	DAddr4      = Field{text: "ip daddr", l3: IPv4, base: expr.PayloadBaseNetworkHeader, offset: 16, size: 4}
	SAddr6      = Field{text: "ip6 saddr", l3: IPv6, base: expr.PayloadBaseNetworkHeader, offset: 8, size: 16}
	DAddr6      = Field{text: "ip6 daddr", l3: IPv6, base: expr.PayloadBaseNetworkHeader, offset: 24, size: 16}
	ProtoField  = Field{text: "meta l4proto", meta: true, size: 1}
	SPortField  = Field{text: "th sport", base: expr.PayloadBaseTransportHeader, offset: 0, size: 2}
	DPortField  = Field{text: "th dport", base: expr.PayloadBaseTransportHeader, offset: 2, size: 2}
	ICMPField   = Field{text: "icmp type", l4: ProtoICMP, base: expr.PayloadBaseTransportHeader, offset: 0, size: 1}
	ICMPv6Field = Field{text: "icmpv6 type", l4: ProtoICMPv6, base: expr.PayloadBaseTransportHeader, offset: 0, size: 1}
)

func addrField(word string, six bool) Field {
	switch {
	case word == "saddr" && six:
		return SAddr6
	case word == "saddr":
		return SAddr4
	case six:
		return DAddr6
	}
	return DAddr4
}

func fieldsText(fields []Field) string {
	words := make([]string, len(fields))
	for i, f := range fields {
		words[i] = f.text
	}
	return strings.Join(words, " . ")
}

// In matches when the fields together are in the set.
func In(set string, fields ...Field) Stmt { return in(set, fields, false) }

// NotIn matches when they are not.
func NotIn(set string, fields ...Field) Stmt { return in(set, fields, true) }

func in(set string, fields []Field, invert bool) Stmt {
	not := ""
	if invert {
		not = "!= "
	}
	return Stmt{text: fmt.Sprintf("%s %s@%s", fieldsText(fields), not, set), set: set, build: func(c *compiler) {
		c.loadAll(fields)
		c.add(&expr.Lookup{SourceRegister: 1, SetName: set, Invert: invert})
	}}
}

// slot names the n-th 32-bit register the way the kernel gives it back.
func slot(n int) uint32 {
	const firstSmall = 8 // NFT_REG32_00
	if n%4 == 0 {
		return uint32(1 + n/4)
	}
	return uint32(firstSmall + n)
}

// A compiler turns the statements of one rule into the kernel's expressions.
type compiler struct {
	family Family
	l3     Family
	l4     Protocol
	out    []expr.Any
}

func (c *compiler) add(e expr.Any) { c.out = append(c.out, e) }

// needL3 makes the rule match packets of one family only.
func (c *compiler) needL3(f Family) {
	if c.l3 == f || c.family == f {
		return
	}
	c.l3 = f
	if c.family == NetDev {
		c.meta(expr.MetaKeyPROTOCOL)
		ethertype := []byte{0x08, 0x00}
		if f == IPv6 {
			ethertype = []byte{0x86, 0xdd}
		}
		c.cmp(expr.CmpOpEq, ethertype)
		return
	}
	c.meta(expr.MetaKeyNFPROTO)
	c.cmp(expr.CmpOpEq, []byte{byte(f)})
}

// needL4 makes the rule match packets of one protocol only.
func (c *compiler) needL4(p Protocol) {
	if c.l4 == p {
		return
	}
	c.l4 = p
	c.meta(expr.MetaKeyL4PROTO)
	c.cmp(expr.CmpOpEq, []byte{byte(p)})
}

func (c *compiler) meta(key expr.MetaKey) { c.add(&expr.Meta{Key: key, Register: 1}) }

func (c *compiler) cmp(op expr.CmpOp, data []byte) {
	c.add(&expr.Cmp{Op: op, Register: 1, Data: data})
}

func (c *compiler) mask(mask []byte) {
	c.add(&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))})
}

// flags matches when any bit of the host-order number in register 1 is set.
func (c *compiler) flags(bits uint32) {
	c.mask(native32(bits))
	c.cmp(expr.CmpOpNeq, make([]byte, 4))
}

func (c *compiler) payload(base expr.PayloadBase, offset, size uint32, n int) {
	c.add(&expr.Payload{DestRegister: slot(n), Base: base, Offset: offset, Len: size})
}

// load puts the field into the registers from the n-th on.
func (c *compiler) load(f Field, n int) {
	if f.meta {
		key := expr.MetaKeyL4PROTO
		if f.key != 0 {
			key = f.key
		}
		c.add(&expr.Meta{Key: key, Register: slot(n)})
		return
	}
	c.payload(f.base, f.offset, uint32(f.size), n)
}

func (c *compiler) loadAll(fields []Field) {
	for _, f := range fields {
		if f.l3 != 0 {
			c.needL3(f.l3)
		}
		if f.l4 != 0 {
			c.needL4(f.l4)
		}
	}
	n := 0
	for _, f := range fields {
		c.load(f, n)
		n += align4(f.size) / 4
	}
}

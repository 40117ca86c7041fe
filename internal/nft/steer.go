package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables/expr"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// IfIndex is the type of an interface's index, as a map's value.
var IfIndex = Type{"iface_index", 4, 20}

// Index is an interface's index.
func Index(n int) Value { return single(native32(uint32(n)), strconv.Itoa(n)) }

// Interfaces, echo identifiers and the packet that an ICMP error quotes, as
// fields. A quoted packet's fields stand where they are only if its IPv4 header
// has no options: look at Quoted4 first.
var (
	IIfField     = Field{text: "iifname", meta: true, key: expr.MetaKeyIIFNAME, size: 16}
	OIfField     = Field{text: "oifname", meta: true, key: expr.MetaKeyOIFNAME, size: 16}
	ICMPIDField  = Field{text: "icmp id", l4: ProtoICMP, base: expr.PayloadBaseTransportHeader, offset: 4, size: 2}
	ICMP6IDField = Field{text: "icmpv6 id", l4: ProtoICMPv6, base: expr.PayloadBaseTransportHeader, offset: 4, size: 2}

	QuotedSAddr4 = quoted(ProtoICMP, 20, 4)
	QuotedDAddr4 = quoted(ProtoICMP, 24, 4)
	QuotedProto4 = quoted(ProtoICMP, 17, 1)
	QuotedSPort4 = quoted(ProtoICMP, 28, 2)
	QuotedDPort4 = quoted(ProtoICMP, 30, 2)
	QuotedID4    = quoted(ProtoICMP, 32, 2)
	QuotedSAddr6 = quoted(ProtoICMPv6, 16, 16)
	QuotedDAddr6 = quoted(ProtoICMPv6, 32, 16)
	QuotedProto6 = quoted(ProtoICMPv6, 14, 1)
	QuotedSPort6 = quoted(ProtoICMPv6, 48, 2)
	QuotedDPort6 = quoted(ProtoICMPv6, 50, 2)
	QuotedID6    = quoted(ProtoICMPv6, 52, 2)
)

func quoted(p Protocol, offset uint32, size int) Field {
	return Field{text: fmt.Sprintf("@th,%d,%d", offset*8, size*8), l4: p, base: expr.PayloadBaseTransportHeader, offset: offset, size: size}
}

// Quoted4 matches ICMP packets that quote an IPv4 packet without options.
func Quoted4() Stmt {
	return Stmt{text: "meta l4proto icmp @th,64,8 0x45", build: func(c *compiler) {
		c.needL4(ProtoICMP)
		c.payload(expr.PayloadBaseTransportHeader, 8, 1, 0)
		c.cmp(expr.CmpOpEq, []byte{0x45})
	}}
}

// QuotedIs matches ICMP errors about a packet of the protocol.
func QuotedIs(f Family, p Protocol) Stmt {
	q, lead := QuotedProto4, "" // Quoted4 stands before it
	if f == IPv6 {
		q, lead = QuotedProto6, "meta l4proto ipv6-icmp "
	}
	return Stmt{text: fmt.Sprintf("%s%s 0x%02x", lead, q.text, byte(p)), build: func(c *compiler) {
		c.loadAll([]Field{q})
		c.cmp(expr.CmpOpEq, []byte{byte(p)})
	}}
}

// Fragment matches any fragment of a packet, the first too. In a fragment other
// than the first a rule that looks at ports sees data instead: the kernel does
// not always refuse.
func Fragment(f Family) Stmt {
	if f == IPv6 {
		return Stmt{text: "exthdr frag exists", build: func(c *compiler) {
			const fragment, present = 44, 1
			c.needL3(IPv6)
			c.add(&expr.Exthdr{DestRegister: 1, Type: fragment, Len: 1, Flags: present, Op: expr.ExthdrOpIpv6})
			c.cmp(expr.CmpOpEq, []byte{1})
		}}
	}
	return Stmt{text: "ip frag-off & 0x3fff != 0x0", build: func(c *compiler) {
		c.needL3(IPv4)
		c.payload(expr.PayloadBaseNetworkHeader, 6, 2, 0)
		c.mask([]byte{0x3f, 0xff})
		c.cmp(expr.CmpOpNeq, []byte{0, 0})
	}}
}

// IIfPrefix matches packets that came in by an interface whose name starts so.
func IIfPrefix(prefix string) Stmt { return ifprefix("iifname", expr.MetaKeyIIFNAME, prefix) }

// OIfPrefix matches packets that leave by an interface whose name starts so.
func OIfPrefix(prefix string) Stmt { return ifprefix("oifname", expr.MetaKeyOIFNAME, prefix) }

func ifprefix(word string, key expr.MetaKey, prefix string) Stmt {
	return Stmt{text: fmt.Sprintf("%s \"%s*\"", word, prefix), build: func(c *compiler) {
		c.meta(key)
		c.cmp(expr.CmpOpEq, []byte(prefix))
	}}
}

const routeUnicast = 1 // RTN_UNICAST in linux/rtnetlink.h

// NotHere matches packets, of either IP version, whose destination is an address
// but none of the interface that they came in by, such as another interface's.
func NotHere() Stmt {
	return Stmt{text: "fib daddr . iif type unicast", build: func(c *compiler) {
		c.add(&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true, FlagIIF: true})
		c.cmp(expr.CmpOpEq, native32(routeUnicast))
	}}
}

// FwdTo hands the packet, from a device's ingress, to the neighbour with the
// address on the link whose index the map gives for the fields. The packet
// leaves the rules and takes no other way; its TTL is lowered.
func FwdTo(f Family, to netip.Addr, set string, fields ...Field) Stmt {
	text := fmt.Sprintf("fwd %s to %s device %s map @%s", f, to, fieldsText(fields), set)
	return Stmt{text: text, set: set, build: func(c *compiler) {
		const sregDev, sregAddr, nfproto = 1, 2, 3
		c.needL3(f)
		c.loadAll(fields)
		c.add(&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: set})
		c.add(&expr.Immediate{Register: 2, Data: to.AsSlice()})
		data := nfnl.AppendUint32(nil, sregDev, 1)
		data = nfnl.AppendUint32(data, sregAddr, 2)
		c.add(rawExpr{name: "fwd", data: nfnl.AppendUint32(data, nfproto, uint32(f))})
	}}
}

// rawExpr is an expression that google/nftables does not know.
type rawExpr struct {
	expr.Any
	name string
	data []byte
}

func marshal(f Family, e expr.Any) ([]byte, error) {
	if r, ok := e.(rawExpr); ok {
		return nfnl.AppendNested(nfnl.AppendString(nil, exprName, r.name), exprData, r.data), nil
	}
	return expr.Marshal(byte(f), e)
}

// Echo matches echo requests and replies.
func Echo(f Family) Stmt {
	request, reply, p, word := byte(ICMPEchoRequest), byte(ICMPEchoReply), ProtoICMP, "icmp"
	if f == IPv6 {
		request, reply, p, word = ICMPv6EchoRequest, ICMPv6EchoReply, ProtoICMPv6, "icmpv6"
	}
	// 8 and 0 differ in one bit, as do 128 and 129.
	mask := ^(request ^ reply)
	return Stmt{text: fmt.Sprintf("%s type & 0x%02x == 0x%02x", word, mask, request&mask), build: func(c *compiler) {
		c.needL4(p)
		c.payload(expr.PayloadBaseTransportHeader, 0, 1, 0)
		c.mask([]byte{mask})
		c.cmp(expr.CmpOpEq, []byte{request & mask})
	}}
}

// ICMPError matches ICMP errors that quote a packet: for IPv4 unreachable, time
// exceeded and parameter problem, for IPv6 all types below 128.
func ICMPError(f Family) []Stmt {
	if f == IPv6 {
		return []Stmt{{text: "icmpv6 type < 128", build: func(c *compiler) {
			c.needL4(ProtoICMPv6)
			c.payload(expr.PayloadBaseTransportHeader, 0, 1, 0)
			c.cmp(expr.CmpOpLt, binary.BigEndian.AppendUint16(nil, 128)[1:])
		}}}
	}
	return []Stmt{In("icmp-errors", ICMPField)}
}

// ICMPErrors is the set that ICMPError(IPv4) refers to; a table that uses it
// has it.
func ICMPErrors() Set {
	return Set{Name: "icmp-errors", Key: []Type{ICMPType}, Elements: []Element{
		E(ICMP(ICMPUnreachable)), E(ICMP(ICMPTimeExceeded)), E(ICMP(ICMPParameter))}}
}

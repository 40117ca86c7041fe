package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
)

// SPort matches a source port of TCP or UDP.
func SPort(p Protocol, port uint16) Stmt {
	return Stmt{text: fmt.Sprintf("%s sport %d", p, port), build: func(c *compiler) {
		c.needL4(p)
		c.load(SPortField, 0)
		c.cmp(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, port))
	}}
}

// SetDSCP writes the DSCP (6 bits, RFC 2474) of packets of the family; ECN stays.
func SetDSCP(f Family, dscp uint8) Stmt {
	word := "ip"
	if f == IPv6 {
		word = "ip6"
	}
	return Stmt{text: fmt.Sprintf("%s dscp set 0x%02x", word, dscp&63), build: func(c *compiler) {
		c.needL3(f)
		// The first two bytes: version, header length, DSCP and ECN; or version,
		// traffic class, and a part of the flow label.
		keep, bits := uint16(0xff03), uint16(dscp&63)<<2
		w := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: 10}
		if f == IPv6 {
			keep, bits = 0xf03f, uint16(dscp&63)<<6
			w.CsumType, w.CsumOffset = expr.CsumTypeNone, 0
		}
		c.payload(expr.PayloadBaseNetworkHeader, 0, 2, 0)
		c.add(&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2,
			Mask: binary.BigEndian.AppendUint16(nil, keep), Xor: binary.BigEndian.AppendUint16(nil, bits)})
		c.add(w)
	}}
}

// SetDF has routers not cut IPv4 packets to pieces, and say what does not fit instead.
func SetDF() Stmt {
	const dontFragment = 0x4000
	return Stmt{text: fmt.Sprintf("ip frag-off set 0x%04x", dontFragment), build: func(c *compiler) {
		c.needL3(IPv4)
		c.add(&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, dontFragment)})
		c.add(&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: 10})
	}}
}

package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
)

const (
	ethTypeVLAN = 0x8100
	vxlanPort   = 4789
)

// NVGRE matches NVGRE packets (RFC 7637 section 3.2) of the virtual subnets in
// the set, of type VSID: GRE with a key and without a checksum, which would
// move the key, that carries Ethernet frames.
//
// That it is GRE is looked at last: nft 1.0.6 dies of listing a rule with raw
// bytes behind it.
func NVGRE(set string) Stmt {
	const mask, is = 0xa007ffff, 0x20006558 // checksum, key and version; protocol type
	text := fmt.Sprintf("@th,0,32 & 0x%08x == 0x%08x @th,32,24 @%s meta l4proto gre", mask, is, set)
	return Stmt{text: text, set: set, build: func(c *compiler) {
		c.payload(expr.PayloadBaseTransportHeader, 0, 4, 0)
		c.mask(binary.BigEndian.AppendUint32(nil, mask))
		c.cmp(expr.CmpOpEq, binary.BigEndian.AppendUint32(nil, is))
		c.payload(expr.PayloadBaseTransportHeader, 4, 3, 0)
		c.add(&expr.Lookup{SourceRegister: 1, SetName: set})
		c.needL4(ProtoGRE)
	}}
}

// VXLAN matches VXLAN packets (RFC 7348 section 5) of the virtual subnets in the
// set, of type VSID.
func VXLAN(set string) Stmt {
	const valid = 0x08 // the I flag
	text := fmt.Sprintf("udp dport %d @th,64,8 & 0x%02x == 0x%02x @th,96,24 @%s", vxlanPort, valid, valid, set)
	return Stmt{text: text, set: set, build: func(c *compiler) {
		DPort(ProtoUDP, vxlanPort).build(c)
		c.payload(expr.PayloadBaseTransportHeader, 8, 1, 0)
		c.mask([]byte{valid})
		c.cmp(expr.CmpOpEq, []byte{valid})
		c.payload(expr.PayloadBaseTransportHeader, 12, 3, 0)
		c.add(&expr.Lookup{SourceRegister: 1, SetName: set})
	}}
}

// Tagged matches, at a device's ingress, frames of a VLAN other than 0, whether
// the tag is in the frame or beside it.
func Tagged() Stmt {
	return Stmt{text: "vlan id != 0", build: func(c *compiler) {
		const ethernet = 1 // ARPHRD_ETHER
		c.meta(expr.MetaKeyIIFTYPE)
		c.cmp(expr.CmpOpEq, binary.NativeEndian.AppendUint16(nil, ethernet))
		c.payload(expr.PayloadBaseLLHeader, 12, 2, 0)
		c.cmp(expr.CmpOpEq, binary.BigEndian.AppendUint16(nil, ethTypeVLAN))
		c.payload(expr.PayloadBaseLLHeader, 14, 2, 0)
		c.mask([]byte{0x0f, 0xff})
		c.cmp(expr.CmpOpNeq, []byte{0, 0})
	}}
}

// NotMark matches packets without the mark.
func NotMark(mark uint32) Stmt {
	return Stmt{text: fmt.Sprintf("meta mark != 0x%08x", mark), build: func(c *compiler) {
		c.meta(expr.MetaKeyMARK)
		c.cmp(expr.CmpOpNeq, native32(mark))
	}}
}

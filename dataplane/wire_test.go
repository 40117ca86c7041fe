package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// What is on the fabric is read here by hand, with nothing of the dataplane's
// code: RFC 791, RFC 8200, RFC 2784 with RFC 2890, RFC 7637, RFC 768, RFC 7348.

// outerView is what a packet on the fabric says.
type outerView struct {
	src, dst netip.Addr
	proto    uint8
	class    uint8
	kind     string // "nvgre", "vxlan", or "" for a packet without a tunnel
	vsid     uint32
	entropy  uint16 // FlowID or UDP source port
	inner    []byte // the Ethernet frame, or the IP packet where there is no tunnel
}

// ipView is what an IP header says, without extensions.
type ipView struct {
	src, dst        netip.Addr
	proto, ttl, tos uint8
	id, frag        uint16 // of IPv4: identification, flags and offset
	length          int
	body            []byte
}

// readIP reads an IP packet that fills b exactly or, where it may be padded, in
// part.
func readIP(b []byte, padded bool) (v ipView, err error) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		n := int(b[0]&15) * 4
		v = ipView{netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[9], b[8], b[1],
			binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]), int(binary.BigEndian.Uint16(b[2:])), nil}
		if n < 20 || v.length < n || v.length > len(b) {
			return v, fmt.Errorf("header length %d, length %d of %d", n, v.length, len(b))
		}
		if sum16(b[:n]) != 0xffff {
			return v, fmt.Errorf("the header checksum is wrong")
		}
		v.body = b[n:v.length]
	case len(b) >= 40 && b[0]>>4 == 6:
		v = ipView{netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[6], b[7], b[0]<<4 | b[1]>>4,
			0, 0, 40 + int(binary.BigEndian.Uint16(b[4:])), nil}
		if v.length > len(b) {
			return v, fmt.Errorf("length %d of %d", v.length, len(b))
		}
		v.body = b[40:v.length]
	default:
		return v, fmt.Errorf("no IP packet")
	}
	if v.length != len(b) && !padded {
		return v, fmt.Errorf("length %d of %d", v.length, len(b))
	}
	return v, nil
}

// sum16 is the one's complement sum of RFC 1071, the simple way.
func sum16(parts ...[]byte) uint16 {
	sum := uint32(0)
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			word := uint32(b[i]) << 8
			if i+1 < len(b) {
				word |= uint32(b[i+1])
			}
			sum += word
			sum = sum&0xffff + sum>>16
		}
	}
	return uint16(sum)
}

// readOuter reads a packet on the fabric.
func readOuter(b []byte) (o outerView, err error) {
	v, err := readIP(b, false)
	if err != nil {
		return o, err
	}
	o = outerView{src: v.src, dst: v.dst, proto: v.proto, class: v.tos, inner: b}
	p := v.body
	switch {
	case v.proto == 47 && len(p) >= 8 && binary.BigEndian.Uint32(p) == 0x2000_6558:
		key := binary.BigEndian.Uint32(p[4:])
		o.kind, o.vsid, o.entropy, o.inner = "nvgre", key>>8, uint16(key&255), p[8:]
	case v.proto == 17 && len(p) >= 16 && binary.BigEndian.Uint16(p[2:]) == 4789 && binary.BigEndian.Uint32(p[8:]) == 0x0800_0000:
		if n := binary.BigEndian.Uint16(p[4:]); int(n) != len(p) {
			return o, fmt.Errorf("UDP length %d of %d", n, len(p))
		}
		if sum := binary.BigEndian.Uint16(p[6:]); sum != 0 && !transportSum(v) || p[15] != 0 {
			return o, fmt.Errorf("UDP checksum %#x, reserved byte %d", sum, p[15])
		}
		o.kind, o.vsid, o.entropy, o.inner = "vxlan", binary.BigEndian.Uint32(p[12:])>>8, binary.BigEndian.Uint16(p), p[16:]
	}
	if o.kind != "" && v.frag&0x3fff != 0 {
		return o, fmt.Errorf("a tunnel packet is a fragment")
	}
	return o, nil
}

// inspect holds a packet on the fabric against what must be true of every one,
// and gives its addresses.
func (l *lab) inspect(from *host, s sent) (src, dst netip.Addr) {
	l.t.Helper()
	bad := func(format string, args ...any) {
		l.t.Helper()
		l.t.Errorf("a packet of host %s on the fabric: %s: %x", from.pa, fmt.Sprintf(format, args...), s.bytes)
	}
	if s.offload != (packet.Offload{}) {
		bad("it leaves work to others: %+v", s.offload)
	}
	if len(s.bytes) > l.mtu {
		bad("it has %d bytes", len(s.bytes))
	}
	o, err := readOuter(s.bytes)
	switch {
	case l.rewritten[o.src] != nil && l.rewritten[o.dst] != nil && l.byPA[o.src] == from:
		// It is a VM's own, whatever that makes it look like.
	case err != nil:
		bad("%v", err)
	case l.byPA[o.src] != from:
		bad("its source %s is not the sender's", o.src)
	case o.kind == "" && l.rewritten[o.dst] == nil:
		bad("it is no tunnel's, and %s stands for nobody", o.dst)
	case o.kind == "" && l.rewritten[o.src] == nil:
		bad("it is no tunnel's, and %s stands for nobody", o.src)
	}
	return o.src, o.dst
}

// transportSum tells whether the transport checksum of a whole IP packet is
// right, or absent where it may be.
func transportSum(v ipView) bool {
	length := make([]byte, 4)
	binary.BigEndian.PutUint16(length[2:], uint16(len(v.body)))
	pseudo := [][]byte{v.src.AsSlice(), v.dst.AsSlice(), length, {0, v.proto}, v.body}
	switch {
	case v.frag&0x3fff != 0:
		return true
	case v.proto == 6 && len(v.body) >= 20, v.proto == 58 && len(v.body) >= 4:
		return sum16(pseudo...) == 0xffff
	case v.proto == 17 && len(v.body) >= 8:
		return v.src.Is4() && v.body[6]|v.body[7] == 0 || sum16(pseudo...) == 0xffff
	case v.proto == 1:
		return sum16(v.body) == 0xffff
	}
	return !slices.Contains([]uint8{6, 17, 58}, v.proto)
}

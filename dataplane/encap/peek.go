package encap

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Peek gives the VSID and the inner frame of a tunnel packet of the plainest
// form, without checking anything: what it says is no more than a guess at what
// Parse will say. It is for whoever wants to know early what will be needed.
func Peek(b []byte) (vsid uint32, inner []byte, ok bool) {
	const l4, least = packet.IPv4Len, packet.IPv4Len + packet.UDPLen + vxlanLen
	l := l4
	if len(b) < least {
		return 0, nil, false
	}
	proto := b[9]
	switch {
	case b[0] == 0x45:
	case b[0]>>4 == 6:
		l, proto = packet.IPv6Len, b[6]
	default:
		return 0, nil, false
	}
	if len(b) < l+packet.UDPLen+vxlanLen {
		return 0, nil, false
	}
	b = b[l:]
	switch {
	case proto == packet.ProtoGRE && binary.BigEndian.Uint32(b) == greKey<<16|etherBridging:
		return binary.BigEndian.Uint32(b[4:]) >> 8, b[greLen:], true
	case proto == packet.ProtoUDP && binary.BigEndian.Uint16(b[2:]) == VXLANPort:
		return binary.BigEndian.Uint32(b[packet.UDPLen+4:]) >> 8, b[packet.UDPLen+vxlanLen:], true
	}
	return 0, nil, false
}

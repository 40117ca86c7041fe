package encap

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// IPv6 extension headers that a machine's packet filter walks.
const (
	nextRouting = 43
	nextAuth    = 51
)

// Claimed tells, of a packet to a provider address, whether it is the dataplane's
// on a machine whose own stack has all others (hybrid forwarding): a tunnel packet
// of a virtual subnet that is known, or a fragment that may be of one. The rest,
// such as plain GRE or the VXLAN of the machine's own devices, is not the
// dataplane's to drop.
//
// It reads b as the machine's packet filter does, which keeps such packets from
// the stack (compartments/table.go): only what tells the virtual subnet, where it
// stands; whether the packet is well formed else is for Parse to say. It is meant
// for what Parse or the tables refuse, and not for every packet.
func Claimed(b []byte, known func(vsid uint32) bool) bool {
	proto, l4, fragment, ok := upper(b)
	switch {
	case !ok || proto != packet.ProtoGRE && proto != packet.ProtoUDP:
		return false
	case fragment:
		return true
	}
	p := b[min(l4, len(b)):]
	if proto == packet.ProtoGRE {
		// A checksum would stand where the key is looked for.
		const read, is = greChecksum | greKey | greVersion, greKey
		return len(p) >= greLen-1 && binary.BigEndian.Uint16(p)&read == is && binary.BigEndian.Uint16(p[2:]) == etherBridging &&
			known(vsidAt(p[4:]))
	}
	return len(p) >= packet.UDPLen+vxlanLen-1 && binary.BigEndian.Uint16(p[2:]) == VXLANPort && p[8]&vxlanValid != 0 &&
		known(vsidAt(p[12:]))
}

func vsidAt(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

// upper finds the protocol above IP, and where it starts.
func upper(b []byte) (proto uint8, l4 int, fragment, ok bool) {
	switch {
	case len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		l4 = int(b[0]&0x0f) * 4
		total := int(binary.BigEndian.Uint16(b[2:]))
		ok = l4 >= packet.IPv4Len && total >= l4 && total <= len(b)
		return b[9], l4, binary.BigEndian.Uint16(b[6:])&0x3fff != 0, ok
	case len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		if packet.IPv6Len+int(binary.BigEndian.Uint16(b[4:])) > len(b) {
			return 0, 0, false, false
		}
		return upper6(b)
	}
	return 0, 0, false, false
}

func upper6(b []byte) (proto uint8, l4 int, fragment, ok bool) {
	proto, l4 = b[6], packet.IPv6Len
	for {
		size := 8
		switch proto {
		case nextHopByHop, nextRouting, nextDest:
			if len(b) < l4+size {
				return 0, 0, false, false
			}
			size += 8 * int(b[l4+1])
		case nextAuth:
			if len(b) < l4+size {
				return 0, 0, false, false
			}
			size = 4 * (int(b[l4+1]) + 2)
		case nextFragment:
			if len(b) < l4+size {
				return 0, 0, false, false
			}
			fragment = true
			if binary.BigEndian.Uint16(b[l4+2:])&0xfff8 != 0 {
				return b[l4], l4 + size, true, true // nothing of what follows is a header
			}
		default:
			return proto, l4, fragment, true
		}
		proto, l4 = b[l4], l4+size
	}
}

package packet

import (
	"encoding/binary"
	"net/netip"
)

// BroadcastMAC is the Ethernet address of every station.
func BroadcastMAC() [6]byte { return [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// IsBroadcast tells whether the frame is for every station of its subnet.
func (h *Headers) IsBroadcast() bool { return h.DstMAC == BroadcastMAC() }

// IsMulticast tells whether the frame is for a group of stations, but not for
// all of them.
func (h *Headers) IsMulticast() bool { return h.DstMAC[0]&1 != 0 && !h.IsBroadcast() }

// IsBroadcastAddr tells whether an address means every station of the subnet:
// the limited broadcast address, or the one directed at the subnet, all ones
// behind its prefix (RFC 919 section 7). Subnets of one or two addresses have
// none of their own (RFC 3021), and there is none in IPv6.
func IsBroadcastAddr(a netip.Addr, subnet netip.Prefix) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	n := binary.BigEndian.Uint32(b[:])
	if n == 1<<32-1 {
		return true
	}
	if !subnet.Contains(a) || subnet.Bits() > 30 {
		return false
	}
	hosts := uint32(1<<32-1) >> subnet.Bits()
	return n&hosts == hosts
}

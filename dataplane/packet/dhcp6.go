package packet

import (
	"encoding/binary"
	"net/netip"
)

// DHCPv6 message types (RFC 8415 section 7.3).
const (
	DHCPv6Solicit = 1 + iota
	DHCPv6Advertise
	DHCPv6Request
	DHCPv6Confirm
	DHCPv6Renew
	DHCPv6Rebind
	DHCPv6Reply
	DHCPv6Release
	DHCPv6Decline
	DHCPv6Reconfigure
	DHCPv6InformationRequest
)

// The options that are looked at (RFC 8415 section 21).
const (
	dhcp6ClientID = 1
	dhcp6ServerID = 2
	dhcp6IANA     = 3
	dhcp6IAAddr   = 5
	dhcp6Status   = 13
)

const (
	dhcp6IANALen   = 12 // IAID, T1, T2 in front of an IA_NA's own options
	dhcp6IAAddrLen = 24 // address and lifetimes in front of an IAADDR's
)

// MaxDHCPv6Leases is how many addresses of one message are read: far more than
// an interface asks for.
const MaxDHCPv6Leases = 8

// DHCPv6 is what there is to learn from a DHCPv6 message between client and
// server (RFC 8415 section 8). What relays tell each other is not read.
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|     Type      |                Transaction ID                 |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|          Option code          |         Option length         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|  Option data: an IA_NA holds IAADDR options, each an address, |
//	|            its preferred and its valid lifetime ...
type DHCPv6 struct {
	Type                     uint8
	Xid                      uint32 // 24 bits
	HasClientID, HasServerID bool
	Status                   uint16 // of the whole message; 0: success

	leases [MaxDHCPv6Leases]DHCPv6Lease
	n      int
}

// DHCPv6Lease is an address that the message is about: in a reply, one that the
// client may use.
type DHCPv6Lease struct {
	Addr      netip.Addr
	Preferred uint32 // seconds
	Valid     uint32 // seconds; 0: no longer valid; 0xffffffff: for ever (RFC 8415 section 7.7)
}

// Leases gives the addresses of all identity associations, in order. The slice
// is valid until the next Parse.
func (d *DHCPv6) Leases() []DHCPv6Lease { return d.leases[:d.n] }

// Parse reads the DHCPv6 message in the frame b that h was decoded from. A
// partial checksum must have been completed before. False if it is none, or one
// that a receiver discards: a wrong checksum, lengths that do not fit, or more
// than MaxDHCPv6Leases addresses.
//
// Addresses that a client must not use are left out: those whose preferred
// lifetime exceeds the valid one (section 21.6), those with a status other than
// success, of their own, of their IA_NA or of the message, and those that are no
// station's.
func (d *DHCPv6) Parse(b []byte, h *Headers) bool {
	*d = DHCPv6{}
	if h.Version != 6 {
		return false
	}
	m, ok := udpPayload(b, h)
	if !ok || len(m) < 4 || m[0] < DHCPv6Solicit || m[0] > DHCPv6InformationRequest {
		return false
	}
	d.Type = m[0]
	d.Xid = binary.BigEndian.Uint32(m) & 0xffffff
	for o := m[4:]; len(o) > 0; {
		code, data, rest, ok := nextOption6(o)
		if !ok {
			return false
		}
		o = rest
		switch code {
		case dhcp6ClientID:
			d.HasClientID = true
		case dhcp6ServerID:
			d.HasServerID = true
		case dhcp6Status:
			if !failure6(&d.Status, data) {
				return false
			}
		case dhcp6IANA:
			if !d.association(data) {
				return false
			}
		}
	}
	if d.Status != 0 {
		d.n = 0
	}
	return true
}

// association reads an IA_NA (RFC 8415 section 21.4).
func (d *DHCPv6) association(ia []byte) bool {
	if len(ia) < dhcp6IANALen {
		return false
	}
	before, status := d.n, uint16(0)
	for o := ia[dhcp6IANALen:]; len(o) > 0; {
		code, data, rest, ok := nextOption6(o)
		if !ok {
			return false
		}
		o = rest
		switch code {
		case dhcp6Status:
			if !failure6(&status, data) {
				return false
			}
		case dhcp6IAAddr:
			if !d.address(data) {
				return false
			}
		}
	}
	if status != 0 {
		d.n = before
	}
	return true
}

// address reads an IAADDR (RFC 8415 section 21.6).
func (d *DHCPv6) address(b []byte) bool {
	if len(b) < dhcp6IAAddrLen {
		return false
	}
	status := uint16(0)
	for o := b[dhcp6IAAddrLen:]; len(o) > 0; {
		code, data, rest, ok := nextOption6(o)
		if !ok || code == dhcp6Status && !failure6(&status, data) {
			return false
		}
		o = rest
	}
	l := DHCPv6Lease{
		Addr:      netip.AddrFrom16([16]byte(b)),
		Preferred: binary.BigEndian.Uint32(b[16:]),
		Valid:     binary.BigEndian.Uint32(b[20:]),
	}
	a := l.Addr
	if status != 0 || l.Preferred > l.Valid || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
		return true
	}
	if d.n == len(d.leases) {
		return false
	}
	d.leases[d.n] = l
	d.n++
	return true
}

// failure6 reads a status code (RFC 8415 section 21.13). Should there be several,
// the first that is not success stays.
func failure6(status *uint16, data []byte) bool {
	if len(data) < 2 {
		return false
	}
	if *status == 0 {
		*status = binary.BigEndian.Uint16(data)
	}
	return true
}

// nextOption6 splits the first option off (RFC 8415 section 21.1).
func nextOption6(o []byte) (code uint16, data, rest []byte, ok bool) {
	if len(o) < 4 {
		return 0, nil, nil, false
	}
	end := 4 + int(binary.BigEndian.Uint16(o[2:]))
	if end > len(o) {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(o), o[4:end], o[end:], true
}

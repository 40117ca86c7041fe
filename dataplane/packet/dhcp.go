package packet

import (
	"encoding/binary"
	"net/netip"
)

// UDP ports of DHCP (RFC 2131 section 4.1, RFC 8415 section 7.2).
const (
	DHCPServerPort   = 67
	DHCPClientPort   = 68
	DHCPv6ClientPort = 546
	DHCPv6ServerPort = 547
)

// IsDHCPToServer tells whether the packet is addressed as what DHCP clients of
// either IP version send, and IsDHCPToClient whether it is as what servers send
// them: by the destination port alone, as neither RFC binds a sender to its
// source port, and so that no forged answer slips by. What a relay sends is "to
// the server" both ways; DHCP.Op tells which. Of fragments, only the first has
// ports.
func (h *Headers) IsDHCPToServer() bool { return h.isDHCP(DHCPServerPort, DHCPv6ServerPort) }

// IsDHCPToClient is described with IsDHCPToServer.
func (h *Headers) IsDHCPToClient() bool { return h.isDHCP(DHCPClientPort, DHCPv6ClientPort) }

func (h *Headers) isDHCP(four, six uint16) bool {
	return h.Proto == ProtoUDP && h.FragOffset == 0 &&
		(h.Version == 4 && h.DstPort == four || h.Version == 6 && h.DstPort == six)
}

// DHCP message types (RFC 2132 section 9.6).
const (
	DHCPDiscover = 1 + iota
	DHCPOffer
	DHCPRequest
	DHCPDecline
	DHCPAck
	DHCPNak
	DHCPRelease
	DHCPInform
)

// Values of DHCP.Op.
const (
	BOOTRequest = 1
	BOOTReply   = 2
)

// The options that are looked at (RFC 2132 sections 3 and 9).
const (
	dhcpPad       = 0
	dhcpRequested = 50
	dhcpLease     = 51
	dhcpOverload  = 52
	dhcpType      = 53
	dhcpServerID  = 54
	dhcpEnd       = 255
)

// Where things are in a message.
const (
	dhcpServerName = 44
	dhcpFile       = 108
	dhcpCookie     = 236
	dhcpOptions    = 240
	dhcpMagic      = 0x63825363 // RFC 2131 section 3
)

// DHCP is what there is to learn from a DHCPv4 message (RFC 2131 section 2).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|      op       |    htype 1    |    hlen 6     |     hops      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                              xid                              |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|             secs              |             flags             |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       ciaddr, ClientIP                        |
//	|                       yiaddr, YourIP                          |
//	|                       siaddr, NextServerIP                    |
//	|                       giaddr, RelayIP                         |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                      chaddr (16 bytes)                        |
//	|                      sname (64), file (128)                   |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       cookie 0x63825363                       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                  options: code, length, data ...
type DHCP struct {
	Op        uint8 // BOOTRequest or BOOTReply
	Type      uint8 // DHCPDiscover and so on; 0: none, it is BOOTP
	Xid       uint32
	ClientMAC [6]byte

	// The addresses of the header, 0.0.0.0 where the message does not say.
	ClientIP, YourIP, NextServerIP, RelayIP netip.Addr

	// The addresses of options, invalid where there is no such option.
	ServerID, Requested netip.Addr

	Lease    uint32 // seconds; 0xffffffff: for ever (RFC 2131 section 3.3)
	HasLease bool
}

// Parse reads the DHCPv4 message in the frame b that h was decoded from. A
// partial checksum must have been completed before. False if it is none, or one
// that leaves a doubt: a wrong checksum, another link layer than Ethernet,
// lengths that do not fit, an option that is there twice (RFC 3396 would join
// the two), a type that contradicts op.
func (d *DHCP) Parse(b []byte, h *Headers) bool {
	*d = DHCP{}
	if h.Version != 4 {
		return false
	}
	m, ok := udpPayload(b, h)
	if !ok || len(m) < dhcpOptions || binary.BigEndian.Uint32(m[dhcpCookie:]) != dhcpMagic ||
		m[0] != BOOTRequest && m[0] != BOOTReply || m[1] != 1 || m[2] != 6 {
		return false
	}
	d.Op = m[0]
	d.Xid = binary.BigEndian.Uint32(m[4:])
	d.ClientMAC = [6]byte(m[28:])
	d.ClientIP = netip.AddrFrom4([4]byte(m[12:]))
	d.YourIP = netip.AddrFrom4([4]byte(m[16:]))
	d.NextServerIP = netip.AddrFrom4([4]byte(m[20:]))
	d.RelayIP = netip.AddrFrom4([4]byte(m[24:]))
	if d.ClientMAC[0]&1 != 0 || d.ClientMAC == [6]byte{} {
		return false
	}

	// More options may stand in the fields of the file and the server's name
	// (RFC 2132 section 9.3), to be read in this order (RFC 3396 section 5).
	overload := uint8(0)
	if !d.options(m[dhcpOptions:], &overload) {
		return false
	}
	where := overload
	if where&1 != 0 && !d.options(m[dhcpFile:dhcpCookie], &overload) ||
		where&2 != 0 && !d.options(m[dhcpServerName:dhcpFile], &overload) {
		return false
	}
	return d.Type == 0 || d.fitsOp()
}

// options reads a field of options; false if they contradict themselves. The End
// option may be missing where the field ends anyway.
func (d *DHCP) options(o []byte, overload *uint8) bool {
	for len(o) > 0 && o[0] != dhcpEnd {
		if o[0] == dhcpPad {
			o = o[1:]
			continue
		}
		if len(o) < 2 || 2+int(o[1]) > len(o) {
			return false
		}
		code, data := o[0], o[2:2+int(o[1])]
		o = o[2+len(data):]
		first := true
		switch code {
		case dhcpType, dhcpOverload:
			to := &d.Type
			if code == dhcpOverload {
				to = overload
			}
			if len(data) != 1 || data[0] == 0 || code == dhcpOverload && data[0] > 3 {
				return false
			}
			first, *to = *to == 0, data[0]
		case dhcpRequested, dhcpServerID:
			to := &d.Requested
			if code == dhcpServerID {
				to = &d.ServerID
			}
			if len(data) != 4 {
				return false
			}
			first, *to = !to.IsValid(), netip.AddrFrom4([4]byte(data))
		case dhcpLease:
			if len(data) != 4 {
				return false
			}
			first = !d.HasLease
			d.Lease, d.HasLease = binary.BigEndian.Uint32(data), true
		}
		if !first {
			return false
		}
	}
	return true
}

// fitsOp tells whether the message type is one that op may have (RFC 2131
// section 3, table 2). Types of later RFCs fit either.
func (d *DHCP) fitsOp() bool {
	switch d.Type {
	case DHCPOffer, DHCPAck, DHCPNak:
		return d.Op == BOOTReply
	case DHCPDiscover, DHCPRequest, DHCPDecline, DHCPRelease, DHCPInform:
		return d.Op == BOOTRequest
	}
	return true
}

// udpPayload gives what the UDP datagram in the frame b carries, if its checksum
// is right. IPv4 knows datagrams without one (RFC 768); IPv6 does not (RFC 8200
// section 8.1).
func udpPayload(b []byte, h *Headers) ([]byte, bool) {
	if h.Proto != ProtoUDP || h.IsFragment() || h.L3+h.Length > len(b) || h.L4+UDPLen > h.L3+h.Length {
		return nil, false
	}
	u := b[h.L4 : h.L3+h.Length]
	n := int(binary.BigEndian.Uint16(u[4:]))
	if n < UDPLen || n > len(u) {
		return nil, false
	}
	u = u[:n]
	none := binary.BigEndian.Uint16(u[6:]) == 0
	if none && h.Version == 6 || !none && Checksum(u, PseudoSum(h.Src, h.Dst, ProtoUDP, n)) != 0 {
		return nil, false
	}
	return u[UDPLen:], true
}

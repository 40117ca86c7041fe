package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// ARPLen is the length of an ARP packet for IPv4 over Ethernet.
const ARPLen = 28

// ARP operations.
const (
	ARPRequest = 1
	ARPReply   = 2
)

// ARP is an ARP packet for IPv4 over Ethernet (RFC 826).
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|       Hardware type 1         |     Protocol type 0x0800      |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|   HLen 6      |   PLen 4      |           Operation           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       Sender MAC address                      |
//	+                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                               |      Sender IP address        |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|    Sender IP (continued)      |      Target MAC address       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//	|                                                               |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                       Target IP address                       |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
type ARP struct {
	Op                   uint16
	SenderMAC, TargetMAC [6]byte
	SenderIP, TargetIP   netip.Addr // a probe's sender is 0.0.0.0 (RFC 5227 section 2.1.1)
}

// Parse reads the ARP packet at the start of b, which may be padded. The sender
// must be a station: neither its MAC nor its IP address may be a group's.
func (a *ARP) Parse(b []byte) drop.Reason {
	*a = ARP{}
	if len(b) < ARPLen ||
		binary.BigEndian.Uint32(b) != 1<<16|EtherTypeIPv4 || b[4] != 6 || b[5] != 4 {
		return drop.ARPMalformed
	}
	a.Op = binary.BigEndian.Uint16(b[6:])
	a.SenderMAC, a.SenderIP = [6]byte(b[8:]), netip.AddrFrom4([4]byte(b[14:]))
	a.TargetMAC, a.TargetIP = [6]byte(b[18:]), netip.AddrFrom4([4]byte(b[24:]))
	switch {
	case a.Op != ARPRequest && a.Op != ARPReply,
		a.SenderMAC == [6]byte{}, a.SenderMAC[0]&1 != 0,
		isGroup4(a.SenderIP), isGroup4(a.TargetIP):
		return drop.ARPMalformed
	}
	return drop.None
}

// Append writes the ARP packet behind b; both IP addresses must be IPv4.
func (a *ARP) Append(b []byte) []byte {
	sender, target := a.SenderIP.As4(), a.TargetIP.As4()
	b = binary.BigEndian.AppendUint32(b, 1<<16|EtherTypeIPv4)
	b = append(b, 6, 4)
	b = binary.BigEndian.AppendUint16(b, a.Op)
	b = append(b, a.SenderMAC[:]...)
	b = append(b, sender[:]...)
	b = append(b, a.TargetMAC[:]...)
	return append(b, target[:]...)
}

// Build makes f the Ethernet frame that carries the ARP packet; false if f has
// no room. It is not padded: the last link to need that does it itself.
func (a *ARP) Build(f *Frame, dst, src [6]byte) bool {
	f.Reset()
	b := f.Append(EthernetLen + ARPLen)
	if b == nil {
		return false
	}
	PutEthernet(b, dst, src, EtherTypeARP)
	a.Append(b[:EthernetLen])
	return true
}

// BuildARPRequest makes f the frame that asks, in the name of srcMAC and src, who
// has the target address. It goes to one station or to all (BroadcastMAC). False if
// f has no room.
func BuildARPRequest(f *Frame, dstMAC, srcMAC [6]byte, src, target netip.Addr) bool {
	a := ARP{Op: ARPRequest, SenderMAC: srcMAC, SenderIP: src, TargetIP: target}
	return a.Build(f, dstMAC, srcMAC)
}

// isGroup4 tells whether an IPv4 address is a multicast, reserved or broadcast
// one (RFC 1112 section 4; 255.255.255.255 lies in the reserved class E).
func isGroup4(a netip.Addr) bool { b := a.As4(); return b[0] >= 224 }

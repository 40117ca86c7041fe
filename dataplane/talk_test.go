package dataplane

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// ca gives the address of one of the site's NICs.
func (s *site) ca(n *nic, six bool) string {
	a := map[*nic][2]string{
		s.gw: {"10.254.254.2", "fd00:fe::2"}, s.vm11: {"10.1.1.11", "fd00:1::11"}, s.vm12: {"10.1.1.12", "fd00:1::12"},
		s.vm13: {"10.1.1.13", "fd00:1::13"}, s.v21: {"10.1.2.11", "fd00:2::11"},
	}[n]
	if six {
		return a[1]
	}
	return a[0]
}

// packet is what one of the site's NICs sends to another: bridged in a virtual
// subnet, by the router otherwise.
func (s *site) packet(from, to *nic, six bool, l4 gopacket.SerializableLayer, payload string) []byte {
	dst := to.mac
	if from.vsid != to.vsid {
		dst = hnv.RouterMAC
	}
	return ipFrame(from.mac, dst, s.ca(from, six), s.ca(to, six), 64, l4, payload)
}

// arrives tells whether the frame that from sends reaches to, once, and nobody
// else in both tenants.
func arrives(t *testing.T, l *lab, from *nic, frame []byte, to *nic, tenants ...*site) bool {
	t.Helper()
	from.send(frame)
	l.settle()
	got := 0
	for _, s := range tenants {
		for _, n := range s.nics() {
			frames := n.drain()
			switch {
			case n == to:
				got += len(frames)
			case n == from: // an ICMP error, or an answer
				for _, f := range frames {
					if d := decode(t, f.bytes); d.SrcMAC != routerMAC {
						t.Errorf("something came back to %s: %x", n.mac, f.bytes)
					}
				}
			case len(frames) != 0:
				t.Errorf("%s of VSID %d got %d frames of somebody else's: %x", n.mac, n.vsid, len(frames), frames[0].bytes)
			}
		}
	}
	if got > 1 {
		t.Errorf("%d frames arrived for one", got)
	}
	return got == 1
}

// reason gives the one drop reason that was counted on the host for the tenant
// since before.
func (h *host) since(before map[drop.Reason]uint64) map[drop.Reason]uint64 {
	out := map[drop.Reason]uint64{}
	for r, n := range h.allDrops() {
		if n -= before[r]; n != 0 {
			out[r] = n
		}
	}
	return out
}

func tcpFlags(sport, dport layers.TCPPort, flags string) *layers.TCP {
	t := &layers.TCP{SrcPort: sport, DstPort: dport, Window: 100}
	for _, f := range flags {
		switch f {
		case 'S':
			t.SYN = true
		case 'A':
			t.ACK = true
		case 'F':
			t.FIN = true
		case 'R':
			t.RST = true
		}
	}
	return t
}

func udpPorts(sport, dport layers.UDPPort) *layers.UDP {
	return &layers.UDP{SrcPort: sport, DstPort: dport}
}

// ping is an echo request, or a reply, of the IP version.
func ping(six, reply bool, id uint16) gopacket.SerializableLayer {
	if !six {
		typ := uint8(8)
		if reply {
			typ = 0
		}
		return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: id, Seq: 1}
	}
	// The identifier is the first thing in the payload of ICMPv6 for gopacket.
	typ := uint8(128)
	if reply {
		typ = 129
	}
	return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, 0)}
}

// id6 goes in front of the payload of an ICMPv6 echo.
func id6(id uint16) string {
	return string(binary.BigEndian.AppendUint16(nil, id)) + "\x00\x01"
}

// fragments cuts the IPv4 packet in the frame in two behind at bytes of its
// payload, a multiple of 8, by hand.
func fragments(frame []byte, id uint16, at int) (first, later []byte) {
	head, body := frame[:34], frame[34:]
	piece := func(data []byte, field uint16) []byte {
		b := append(append([]byte(nil), head...), data...)
		binary.BigEndian.PutUint16(b[16:], uint16(20+len(data)))
		binary.BigEndian.PutUint16(b[18:], id)
		binary.BigEndian.PutUint16(b[20:], field)
		binary.BigEndian.PutUint16(b[24:], 0)
		binary.BigEndian.PutUint16(b[24:], ^sum16(b[14:34]))
		return b
	}
	return piece(body[:at], 0x2000), piece(body[at:], uint16(at/8))
}

// fragments6 does so to an IPv6 packet.
func fragments6(frame []byte, id uint32, at int) (first, later []byte) {
	head, body := frame[:54], frame[54:]
	piece := func(data []byte, field uint16) []byte {
		b := append([]byte(nil), head...)
		b = append(b, head[20], 0)
		b = binary.BigEndian.AppendUint16(b, field)
		b = binary.BigEndian.AppendUint32(b, id)
		b = append(b, data...)
		b[20] = 44
		binary.BigEndian.PutUint16(b[18:], uint16(8+len(data)))
		return b
	}
	return piece(body[:at], 1), piece(body[at:], uint16(at))
}

// rawIP is a frame with an IP packet of any protocol, made by hand; checksums of
// ICMP, TCP, UDP and ICMPv6 are put right.
func rawIP(src, dst hnv.MAC, from, to string, ttl, proto uint8, body []byte) []byte {
	b := append(append([]byte(nil), macBytes(dst)...), macBytes(src)...)
	if ip(from).Is4() {
		b = append(b, 8, 0, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(20+len(body)))
		b = append(b, 0, 1, 0, 0, ttl, proto, 0, 0)
	} else {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
		b = append(b, proto, ttl)
	}
	b = append(append(b, ip(from).AsSlice()...), ip(to).AsSlice()...)
	if ip(from).Is4() {
		binary.BigEndian.PutUint16(b[24:], ^sum16(b[14:34]))
	}
	l4 := len(b)
	b = append(b, body...)
	at, ok := map[uint8]int{1: 2, 6: 16, 17: 6, 58: 2}[proto]
	if !ok || len(body) < at+2 {
		return b
	}
	b[l4+at], b[l4+at+1] = 0, 0
	sum := sum16(b[l4:])
	if proto != 1 {
		length := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
		sum = sum16(ip(from).AsSlice(), ip(to).AsSlice(), length, []byte{0, proto}, b[l4:])
	}
	if sum = ^sum; sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[l4+at:], sum)
	return b
}

// raw is what one of the site's NICs sends to another, of any protocol.
func (s *site) raw(from, to *nic, six bool, proto uint8, body []byte) []byte {
	dst := to.mac
	if from.vsid != to.vsid {
		dst = hnv.RouterMAC
	}
	return rawIP(from.mac, dst, s.ca(from, six), s.ca(to, six), 64, proto, body)
}

// unreachable is an error by which from tells to that a packet of to's did not
// arrive: it quotes n bytes of it.
func (s *site) unreachable(from, to *nic, six bool, quoted []byte, n int) []byte {
	quoted = quoted[14:]
	if six {
		return s.raw(from, to, six, 58, append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, quoted[:min(n, len(quoted))]...))
	}
	return s.raw(from, to, six, 1, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quoted[:min(n, len(quoted))]...))
}

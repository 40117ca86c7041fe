package dataplane

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// ends is what a packet says of itself.
type ends struct {
	srcMAC, dstMAC [6]byte
	src, dst       netip.Addr
	sport, dport   uint16
	size           int  // of the IP packet; 0: the smallest
	fragment       bool // the first of several
	tcp            bool // with ACK
	// Of the tunnel, if there is to be one.
	outer *encap.Header
}

// build makes the packet: an Ethernet frame, or a tunnel packet with one inside.
func (e *ends) build(f *packet.Frame) {
	f.Reset()
	ipLen, proto, l4Len := packet.IPv4Len, byte(packet.ProtoUDP), packet.UDPLen
	etherType := uint16(packet.EtherTypeIPv4)
	if e.src.Is6() {
		ipLen, etherType = packet.IPv6Len, packet.EtherTypeIPv6
	}
	if e.tcp {
		proto, l4Len = packet.ProtoTCP, packet.TCPLen
	}
	size := max(e.size, ipLen+l4Len+8)
	b := f.Append(packet.EthernetLen + size)
	clear(b)
	packet.PutEthernet(b, e.dstMAC, e.srcMAC, etherType)
	ip := b[packet.EthernetLen:]
	l4 := ip[ipLen:]
	if e.src.Is6() {
		ip[0] = 0x60
		binary.BigEndian.PutUint16(ip[4:], uint16(size-ipLen))
		ip[6], ip[7] = proto, 64
		copy(ip[8:], e.src.AsSlice())
		copy(ip[24:], e.dst.AsSlice())
	} else {
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(size))
		binary.BigEndian.PutUint16(ip[6:], 0x4000)
		if e.fragment {
			binary.BigEndian.PutUint16(ip[4:], e.sport)
			binary.BigEndian.PutUint16(ip[6:], 0x2000)
		}
		ip[8], ip[9] = 64, proto
		copy(ip[12:], e.src.AsSlice())
		copy(ip[16:], e.dst.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:ipLen], 0))
	}
	binary.BigEndian.PutUint16(l4, e.sport)
	binary.BigEndian.PutUint16(l4[2:], e.dport)
	sum := 6
	if e.tcp {
		l4[12], l4[13], sum = packet.TCPLen/4<<4, packet.TCPAck, 16
	} else {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	binary.BigEndian.PutUint16(l4[sum:], packet.Checksum(l4, packet.PseudoSum(e.src, e.dst, proto, len(l4))))
	if e.outer != nil && !encap.Push(f, e.outer) {
		panic("the tunnel packet does not fit")
	}
}

// stack holds many packets of one length, as they came from a wire.
type stack struct {
	size int
	b    []byte
}

func (s *stack) add(f *packet.Frame) {
	if s.size == 0 {
		s.size = f.Len()
	}
	if s.size != f.Len() {
		panic("packets of two lengths")
	}
	s.b = append(s.b, f.Bytes()...)
}

func (s *stack) len() int { return len(s.b) / max(1, s.size) }

func (s *stack) at(i int) []byte { return s.b[i*s.size : (i+1)*s.size] }

// shuffle puts the packets into another order.
func (s *stack) shuffle() {
	swapped := make([]byte, s.size)
	rand.New(rand.NewPCG(2, 2)).Shuffle(s.len(), func(i, j int) {
		copy(swapped, s.at(i))
		copy(s.at(i), s.at(j))
		copy(s.at(j), swapped)
	})
}

func (s *stack) reset() { s.b = s.b[:0] }

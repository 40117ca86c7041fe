package nft

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// A Type is the type of one field of a set's key or value.
type Type struct {
	name  string
	size  int
	magic uint32 // nft's number for it: without it nft list cannot print the set
}

// The types (enum datatypes in nft's datatype.h).
var (
	IPv4Addr    = Type{"ipv4_addr", 4, 7}
	IPv6Addr    = Type{"ipv6_addr", 16, 8}
	InetProto   = Type{"inet_proto", 1, 12}
	InetService = Type{"inet_service", 2, 13}
	ICMPType    = Type{"icmp_type", 1, 14}
	ICMPv6Type  = Type{"icmpv6_type", 1, 29}
	IfName      = Type{"ifname", 16, 41}
	Mark        = Type{"mark", 4, 19} // any number in host order
	VSID        = Type{"@th,32,24", 3, 4}
)

// typeof tells whether nft names the type after where it stands in a packet,
// having no word for it. See setTypeof.
func (t Type) typeof() bool { return t == VSID }

func align4(n int) int { return (n + 3) &^ 3 }

// typesSize is the length of a concatenation: each field fills whole registers.
func typesSize(ts []Type) int {
	if len(ts) == 1 {
		return ts[0].size
	}
	n := 0
	for _, t := range ts {
		n += align4(t.size)
	}
	return n
}

func typesMagic(ts []Type) uint32 {
	var m uint32
	for _, t := range ts {
		m = m<<6 | t.magic
	}
	return m
}

// A Value is one field of an element, possibly a range.
type Value struct {
	lo, hi []byte // hi is inclusive; equal to lo for a single value
	text   string
}

func single(b []byte, text string) Value { return Value{b, b, text} }

// Addr is an address.
func Addr(a netip.Addr) Value { return single(a.AsSlice(), a.String()) }

// Prefix is all addresses of a prefix.
func Prefix(p netip.Prefix) Value {
	p = p.Masked()
	lo := p.Addr().AsSlice()
	hi := append([]byte(nil), lo...)
	for i := p.Bits(); i < len(hi)*8; i++ {
		hi[i/8] |= 0x80 >> (i % 8)
	}
	text := p.String()
	if p.IsSingleIP() {
		text = p.Addr().String()
	}
	return Value{lo, hi, text}
}

// Port is a TCP or UDP port, or an ICMP identifier.
func Port(n uint16) Value {
	return single(binary.BigEndian.AppendUint16(nil, n), strconv.Itoa(int(n)))
}

// Ports is a range of ports, both ends included.
func Ports(lo, hi uint16) Value {
	if lo == hi {
		return Port(lo)
	}
	return Value{Port(lo).lo, Port(hi).lo, strconv.Itoa(int(lo)) + "-" + strconv.Itoa(int(hi))}
}

// Proto is a protocol number of IP.
func Proto(p Protocol) Value { return single([]byte{byte(p)}, p.String()) }

// ICMP is an ICMP type.
func ICMP(t uint8) Value { return single([]byte{t}, icmpName(t)) }

// ICMPv6 is an ICMPv6 type.
func ICMPv6(t uint8) Value { return single([]byte{t}, icmpv6Name(t)) }

// Subnet is a virtual subnet ID, as NVGRE and VXLAN carry it.
func Subnet(vsid uint32) Value {
	return single(binary.BigEndian.AppendUint32(nil, vsid)[1:], strconv.FormatUint(uint64(vsid), 10))
}

// Name is an interface's name.
func Name(ifname string) Value { return single(ifnameBytes(ifname), strconv.Quote(ifname)) }

func ifnameBytes(s string) []byte {
	b := make([]byte, 16)
	copy(b[:15], s)
	return b
}

// Protocol is a protocol number of IP.
type Protocol uint8

// The protocols that rules speak of.
const (
	ProtoICMP   Protocol = 1
	ProtoTCP    Protocol = 6
	ProtoUDP    Protocol = 17
	ProtoGRE    Protocol = 47
	ProtoICMPv6 Protocol = 58
)

func (p Protocol) String() string {
	switch p {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoGRE:
		return "gre"
	case ProtoICMPv6:
		return "ipv6-icmp"
	}
	return strconv.Itoa(int(p))
}

// ICMP types (RFC 792, RFC 4443, RFC 4861).
const (
	ICMPEchoReply       = 0
	ICMPUnreachable     = 3
	ICMPEchoRequest     = 8
	ICMPTimeExceeded    = 11
	ICMPParameter       = 12
	ICMPv6Unreachable   = 1
	ICMPv6TooBig        = 2
	ICMPv6TimeExceeded  = 3
	ICMPv6Parameter     = 4
	ICMPv6EchoRequest   = 128
	ICMPv6EchoReply     = 129
	ICMPv6RouterSolicit = 133
	ICMPv6NeighSolicit  = 135
	ICMPv6NeighAdvert   = 136
)

func icmpName(t uint8) string {
	switch t {
	case ICMPEchoReply:
		return "echo-reply"
	case ICMPUnreachable:
		return "destination-unreachable"
	case ICMPEchoRequest:
		return "echo-request"
	case ICMPTimeExceeded:
		return "time-exceeded"
	case ICMPParameter:
		return "parameter-problem"
	}
	return strconv.Itoa(int(t))
}

func icmpv6Name(t uint8) string {
	switch t {
	case ICMPv6Unreachable:
		return "destination-unreachable"
	case ICMPv6TooBig:
		return "packet-too-big"
	case ICMPv6TimeExceeded:
		return "time-exceeded"
	case ICMPv6Parameter:
		return "parameter-problem"
	case ICMPv6EchoRequest:
		return "echo-request"
	case ICMPv6EchoReply:
		return "echo-reply"
	case ICMPv6RouterSolicit:
		return "nd-router-solicit"
	case ICMPv6NeighSolicit:
		return "nd-neighbor-solicit"
	case ICMPv6NeighAdvert:
		return "nd-neighbor-advert"
	}
	return strconv.Itoa(int(t))
}

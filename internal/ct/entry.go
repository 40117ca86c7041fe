package ct

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// Attributes of nfnetlink_conntrack.h.
const (
	ctTupleOrig     = 1
	ctTupleReply    = 2
	ctStatus        = 3
	ctProtoInfo     = 4
	ctTimeout       = 7
	ctMark          = 8
	ctCountersOrig  = 9
	ctCountersReply = 10
	ctID            = 12
	ctZone          = 18

	tupleIP    = 1
	tupleProto = 2

	ipv4Src = 1
	ipv4Dst = 2
	ipv6Src = 3
	ipv6Dst = 4

	protoNum      = 1
	protoSrcPort  = 2
	protoDstPort  = 3
	protoICMPID   = 4
	protoICMPType = 5
	protoICMPCode = 6
	protoICMP6ID  = 7
	protoICMP6Typ = 8
	protoICMP6Cod = 9

	protoInfoTCP = 1
	tcpState     = 1

	counterPackets = 1
	counterBytes   = 2
)

// Bits of an entry's status (enum ip_conntrack_status).
const (
	SeenReply = 1 << 1
	Assured   = 1 << 2
)

// A Tuple is one direction of a connection. For ICMP both ports hold the
// identifier.
type Tuple struct {
	Proto    uint8
	Src, Dst netip.AddrPort
	ICMPType uint8
	ICMPCode uint8
}

// Traffic is what one direction carried.
type Traffic struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// An Entry is one tracked connection.
type Entry struct {
	ID          uint32
	Orig, Reply Tuple
	Status      uint32
	Timeout     time.Duration
	Mark        uint32
	Zone        uint16
	TCPState    TCPState
	// Counted tells whether the namespace accounts traffic.
	Counted         bool
	OrigTraffic     Traffic
	ReplyTraffic    Traffic
	hasOrig, hasRep bool
}

// SNAT tells whether the source of the connection is translated.
func (e Entry) SNAT() bool { return e.Orig.Src != e.Reply.Dst }

// DNAT tells whether its destination is. The identifier of ICMP belongs to the
// source alone.
func (e Entry) DNAT() bool {
	if e.Orig.Proto == protocolICMP || e.Orig.Proto == protocolICMPv6 {
		return e.Orig.Dst.Addr() != e.Reply.Src.Addr()
	}
	return e.Orig.Dst != e.Reply.Src
}

// TCPState is the kernel's view of a TCP connection; 0 for other protocols.
type TCPState uint8

var tcpStates = [...]string{"", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"}

func (s TCPState) String() string {
	if int(s) < len(tcpStates) {
		return tcpStates[s]
	}
	return fmt.Sprintf("STATE_%d", uint8(s))
}

// Parse reads the attributes of one entry.
func Parse(b []byte) (Entry, error) {
	var e Entry
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return e, err
		}
		switch a.Type {
		case ctTupleOrig:
			e.hasOrig = true
			e.Orig, err = parseTuple(a.Data)
		case ctTupleReply:
			e.hasRep = true
			e.Reply, err = parseTuple(a.Data)
		case ctStatus:
			e.Status, err = a.Uint32()
		case ctProtoInfo:
			e.TCPState, err = parseProtoInfo(a.Data)
		case ctTimeout:
			var n uint32
			n, err = a.Uint32()
			e.Timeout = time.Duration(n) * time.Second
		case ctMark:
			e.Mark, err = a.Uint32()
		case ctCountersOrig:
			e.Counted = true
			e.OrigTraffic, err = parseTraffic(a.Data)
		case ctCountersReply:
			e.Counted = true
			e.ReplyTraffic, err = parseTraffic(a.Data)
		case ctID:
			e.ID, err = a.Uint32()
		case ctZone:
			e.Zone, err = a.Uint16()
		}
		if err != nil {
			return e, err
		}
	}
	if !e.hasOrig || !e.hasRep {
		return e, fmt.Errorf("entry lacks a direction: %w", nfnl.ErrMalformed)
	}
	return e, nil
}

func parseTuple(b []byte) (Tuple, error) {
	var t Tuple
	var src, dst netip.Addr
	var sport, dport uint16
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return t, err
		}
		switch a.Type {
		case tupleIP:
			src, dst, err = parseAddrs(a.Data)
		case tupleProto:
			sport, dport, err = t.parseProto(a.Data)
		}
		if err != nil {
			return t, err
		}
	}
	if !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() {
		return t, fmt.Errorf("tuple lacks an address: %w", nfnl.ErrMalformed)
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return t, nil
}

func parseAddrs(b []byte) (src, dst netip.Addr, err error) {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return src, dst, err
		}
		want, to := 4, &src
		switch a.Type {
		case ipv4Src:
		case ipv4Dst:
			to = &dst
		case ipv6Src:
			want = 16
		case ipv6Dst:
			want, to = 16, &dst
		default:
			continue
		}
		if len(a.Data) != want {
			return src, dst, nfnl.ErrMalformed
		}
		*to, _ = netip.AddrFromSlice(a.Data)
	}
	return src, dst, nil
}

func (t *Tuple) parseProto(b []byte) (sport, dport uint16, err error) {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return 0, 0, err
		}
		switch a.Type {
		case protoNum:
			t.Proto, err = a.Uint8()
		case protoSrcPort:
			sport, err = a.Uint16()
		case protoDstPort:
			dport, err = a.Uint16()
		case protoICMPID, protoICMP6ID:
			sport, err = a.Uint16()
			dport = sport
		case protoICMPType, protoICMP6Typ:
			t.ICMPType, err = a.Uint8()
		case protoICMPCode, protoICMP6Cod:
			t.ICMPCode, err = a.Uint8()
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return sport, dport, nil
}

func parseProtoInfo(b []byte) (TCPState, error) {
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return 0, err
		}
		if a.Type != protoInfoTCP {
			continue
		}
		for s, err := range nfnl.Attrs(a.Data) {
			if err != nil {
				return 0, err
			}
			if s.Type == tcpState {
				n, err := s.Uint8()
				return TCPState(n), err
			}
		}
	}
	return 0, nil
}

func parseTraffic(b []byte) (Traffic, error) {
	var t Traffic
	for a, err := range nfnl.Attrs(b) {
		if err != nil {
			return t, err
		}
		switch a.Type {
		case counterPackets:
			t.Packets, err = a.Uint64()
		case counterBytes:
			t.Bytes, err = a.Uint64()
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// append writes the tuple the way the kernel reads it when it looks an entry up.
func (t Tuple) append(b []byte, typ uint16) []byte {
	var ip, proto []byte
	src, dst := uint16(ipv4Src), uint16(ipv4Dst)
	if t.Src.Addr().Is6() {
		src, dst = ipv6Src, ipv6Dst
	}
	ip = nfnl.Append(ip, src, t.Src.Addr().AsSlice())
	ip = nfnl.Append(ip, dst, t.Dst.Addr().AsSlice())
	proto = nfnl.Append(proto, protoNum, []byte{t.Proto})
	id, icmpType, icmpCode := uint16(protoICMPID), uint16(protoICMPType), uint16(protoICMPCode)
	switch t.Proto {
	case protocolICMPv6:
		id, icmpType, icmpCode = protoICMP6ID, protoICMP6Typ, protoICMP6Cod
		fallthrough
	case protocolICMP:
		proto = nfnl.AppendUint16(proto, id, t.Src.Port())
		proto = nfnl.Append(proto, icmpType, []byte{t.ICMPType})
		proto = nfnl.Append(proto, icmpCode, []byte{t.ICMPCode})
	default:
		proto = nfnl.AppendUint16(proto, protoSrcPort, t.Src.Port())
		proto = nfnl.AppendUint16(proto, protoDstPort, t.Dst.Port())
	}
	body := nfnl.AppendNested(nil, tupleIP, ip)
	body = nfnl.AppendNested(body, tupleProto, proto)
	return nfnl.AppendNested(b, typ, body)
}

const (
	protocolICMP   = 1
	protocolICMPv6 = 58
)

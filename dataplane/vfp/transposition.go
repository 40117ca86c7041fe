package vfp

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Fields are those that a Transposition sets.
type Fields uint8

// The fields.
const (
	SetSrc Fields = 1 << iota
	SetDst
	SetSrcPort
	SetDstPort
	SetSrcMAC
	SetDstMAC
	SetDSCP
)

const maxDSCP = 63

// Transposition is how a packet's headers are rewritten: which fields, and what
// they become. The zero Transposition changes nothing.
//
// Ports are those of TCP and UDP. In ICMP and ICMPv6 echoes the identifier stands
// for the port of the side that asks: the source's in a request, the
// destination's in a reply (RFC 5508 section 3.1). Other packets, and later
// fragments, have no ports, and only the rest is changed.
type Transposition struct {
	Set                    Fields
	DecTTL                 bool // a hop: one off the TTL, however many layers ask for it
	NewDSCP                uint8
	NewSrcMAC, NewDstMAC   [6]byte
	NewSrcPort, NewDstPort uint16
	NewSrc, NewDst         netip.Addr
}

// IsZero tells whether nothing is changed.
func (t *Transposition) IsZero() bool { return t.Set == 0 && !t.DecTTL }

// Then makes t what it is followed by u: fields that both set become as u says.
func (t Transposition) Then(u Transposition) Transposition {
	t.take(&u)
	return t
}

func (t *Transposition) take(u *Transposition) {
	t.Set |= u.Set
	t.DecTTL = t.DecTTL || u.DecTTL
	if u.Set&SetSrc != 0 {
		t.NewSrc = u.NewSrc
	}
	if u.Set&SetDst != 0 {
		t.NewDst = u.NewDst
	}
	if u.Set&SetSrcPort != 0 {
		t.NewSrcPort = u.NewSrcPort
	}
	if u.Set&SetDstPort != 0 {
		t.NewDstPort = u.NewDstPort
	}
	if u.Set&SetSrcMAC != 0 {
		t.NewSrcMAC = u.NewSrcMAC
	}
	if u.Set&SetDstMAC != 0 {
		t.NewDstMAC = u.NewDstMAC
	}
	if u.Set&SetDSCP != 0 {
		t.NewDSCP = u.NewDSCP
	}
}

// Inverse gives what makes a packet with the headers h again of what t makes of
// it, but for the TTL.
func (t *Transposition) Inverse(h *packet.Headers) Transposition {
	src, dst := portsOf(h)
	return Transposition{
		Set: t.Set, NewDSCP: h.DSCP, NewSrcMAC: h.SrcMAC, NewDstMAC: h.DstMAC,
		NewSrcPort: src, NewDstPort: dst, NewSrc: h.Src, NewDst: h.Dst,
	}.trim()
}

// portsOf gives the ports, or for both of them the identifier of an echo.
func portsOf(h *packet.Headers) (src, dst uint16) {
	if h.ICMPID != 0 {
		return h.ICMPID, h.ICMPID
	}
	return h.SrcPort, h.DstPort
}

// Reply gives what is done to the replies to a packet with the headers h that t
// is applied to: the peers of the flow see each other as before. MAC addresses
// and DSCP are not part of a flow and stay as they are.
func (t *Transposition) Reply(h *packet.Headers) Transposition {
	src, dst := portsOf(h)
	r := Transposition{DecTTL: t.DecTTL, NewSrc: h.Dst, NewDst: h.Src, NewSrcPort: dst, NewDstPort: src}
	for _, f := range [...]struct{ to, from Fields }{{SetSrc, SetDst}, {SetDst, SetSrc}, {SetSrcPort, SetDstPort}, {SetDstPort, SetSrcPort}} {
		if t.Set&f.from != 0 {
			r.Set |= f.to
		}
	}
	return r.trim()
}

// trim clears the fields that are not set, so that equal transpositions compare
// equal.
func (t Transposition) trim() Transposition {
	only := Transposition{Set: t.Set, DecTTL: t.DecTTL}
	only.take(&t)
	return only
}

// ApplyHeaders makes of h what h would be of the packet that Apply changed.
func (t *Transposition) ApplyHeaders(h *packet.Headers) {
	if t.Set&SetSrcMAC != 0 {
		h.SrcMAC = t.NewSrcMAC
	}
	if t.Set&SetDstMAC != 0 {
		h.DstMAC = t.NewDstMAC
	}
	if h.Version == 0 {
		return
	}
	if t.Set&SetSrc != 0 {
		h.Src = t.NewSrc
	}
	if t.Set&SetDst != 0 {
		h.Dst = t.NewDst
	}
	if t.Set&SetDSCP != 0 {
		h.DSCP = t.NewDSCP
	}
	if t.DecTTL && h.TTL > 0 {
		h.TTL--
	}
	if h.FragOffset != 0 {
		return
	}
	switch h.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		if t.Set&SetSrcPort != 0 {
			h.SrcPort = t.NewSrcPort
		}
		if t.Set&SetDstPort != 0 {
			h.DstPort = t.NewDstPort
		}
	case icmpProto(h.Version):
		if h.L3+h.Length-h.L4 < icmpLen {
			return
		}
		if t.Set&SetSrcPort != 0 && h.ICMPType == echoRequest(h.Version) {
			h.ICMPID = t.NewSrcPort
		}
		if t.Set&SetDstPort != 0 && h.ICMPType == echoReply(h.Version) {
			h.ICMPID = t.NewDstPort
		}
	}
}

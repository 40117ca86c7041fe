package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// Fragments and ICMP errors are no flows of their own: both go with one. A later
// fragment has no ports; where lists look at ports, it passes if its packet's
// first fragment did, which is remembered for a few seconds (RFC 1858). An ICMP
// error passes if the packet that it quotes is of a flow that passes. Both get
// the new addresses that their flow's packets of the same direction get.
//
//	first fragment     the flow of its ports
//	later fragment     what is remembered of the first one
//	ICMP error         the flow of the packet quoted, the other way

// goesWith finds the flow that the lone packet under way goes with, and in it the
// half of its own direction.
func (w *Worker) goesWith(fl *flowState) {
	h := &w.x.h
	fl.alone = true
	switch {
	case h.IsFragment():
		fl.piece = flow.FragmentKey(uint8(fl.dir), h, h.FragID)
		if h.FragOffset == 0 {
			fl.key = flow.KeyOf(uint8(fl.dir), h)
			if fl.entry = w.lookup(fl.port, &fl.key); fl.entry != nil && fl.pol.stateful && fl.entry.Peer() == nil {
				w.begin(fl)
			}
			return
		}
		// What was remembered under another policy is of no use.
		if e := w.lookup(fl.port, &fl.piece); e != nil && e.Gen.Load() == fl.pol.gen {
			fl.entry = e
		}
	case isICMPError(h):
		var quoted packet.Headers
		if !quote(&quoted, w.x.f.Bytes()[h.L3:h.L3+h.Length], h) {
			return
		}
		// What answers the packet quoted comes from where that was sent to.
		key := flow.KeyOf(uint8(opposite(fl.dir)), &quoted).Reverse()
		if e := w.lookup(fl.port, &key); e != nil && e.Peer() != nil {
			fl.entry = e
		}
	}
}

// rememberFirst lets the further fragments of a packet pass whose first one did,
// with its new addresses, and its flow's replies. Other lone packets leave
// nothing behind.
func (w *Worker) rememberFirst(fl *flowState) drop.Reason {
	x, v := &w.x, &w.verdict
	if x.nameless || !x.h.IsFragment() || x.h.FragOffset != 0 || !fl.pol.stateful && v.Transposition.IsZero() {
		v.Lease.Release()
		return drop.None
	}
	flows := fl.port.flows
	if fl.entry == nil {
		first := &action{trans: v.Transposition, lease: leaseOf(v)}
		reply := flow.KeyOf(uint8(fl.dir), &x.h).Reverse()
		e, err := flows.InsertPair(fl.key, first, reply, &action{trans: w.replies}, fl.pol.gen, w.now)
		if err != nil || e.Action() != first {
			v.Lease.Release()
		}
		switch {
		case err != nil:
			return noPair(err)
		case e.Action() != first && !v.Transposition.IsZero(): // as in remember
			return drop.FlowTableFull
		}
		fl.entry = e
	}
	piece := &action{trans: v.Transposition}
	e, err := flows.Insert(fl.piece, piece, fl.pol.gen, w.now)
	switch {
	case err != nil:
		return drop.FlowTableFull
	case e.Action() != piece: // the identification is used again
		e.SetAction(piece)
		e.Gen.Store(fl.pol.gen)
	}
	fl.entry.Hit(w.now, x.f.Len(), x.h.TCPFlags)
	return drop.None
}

func opposite(d vfp.Direction) vfp.Direction {
	if d == outbound {
		return inbound
	}
	return outbound
}

// isICMPError tells whether the packet reports an error about another one.
func isICMPError(h *packet.Headers) bool {
	switch h.Proto {
	case packet.ProtoICMP:
		return h.Version == 4 && (h.ICMPType == 3 || h.ICMPType == 4 || h.ICMPType == 11 || h.ICMPType == 12)
	case packet.ProtoICMPv6:
		return h.Version == 6 && h.ICMPType < 128
	}
	return false
}

// quote reads as much of the packet that the ICMP error ip quotes as names its
// flow: RFC 792 promises 8 bytes behind its IP header.
func quote(q *packet.Headers, ip []byte, h *packet.Headers) bool {
	const icmpLen = 8
	b := ip[h.L4-h.L3:]
	if len(b) < icmpLen {
		return false
	}
	b = b[icmpLen:]
	*q = packet.Headers{Version: h.Version}
	var l4 int
	switch {
	case h.Version == 4 && len(b) >= packet.IPv4Len && b[0]>>4 == 4:
		if l4 = int(b[0]&15) * 4; l4 < packet.IPv4Len || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			return false
		}
		q.Proto = b[9]
		q.Src, q.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	case h.Version == 6 && len(b) >= packet.IPv6Len && b[0]>>4 == 6:
		l4 = packet.IPv6Len
		q.Proto = b[6]
		q.Src, q.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	default:
		return false
	}
	if len(b) < l4+8 {
		return false
	}
	b = b[l4:]
	switch q.Proto {
	case packet.ProtoTCP, packet.ProtoUDP:
		q.SrcPort, q.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case packet.ProtoICMP, packet.ProtoICMPv6:
		q.ICMPType, q.ICMPCode, q.ICMPID = b[0], b[1], binary.BigEndian.Uint16(b[4:])
	}
	return true
}

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
// error passes if the packet that it quotes is of a flow that passes.

// fragmentKnown tells whether the fragment under way belongs to a packet whose
// first fragment was let pass.
func (w *Worker) fragmentKnown(fl *flowState) bool {
	key := flow.FragmentKey(uint8(fl.dir), &w.x.h, w.x.h.FragID)
	e := w.lookup(fl.port, &key)
	return e != nil && e.Gen.Load() == fl.pol.gen
}

// rememberFragment lets the further fragments of a packet pass whose first one
// did, and its flow's replies.
func (w *Worker) rememberFragment(fl *flowState) drop.Reason {
	x := &w.x
	if !fl.pol.stateful || !x.h.IsFragment() || x.h.FragOffset != 0 {
		return drop.None
	}
	key := flow.FragmentKey(uint8(fl.dir), &x.h, x.h.FragID)
	if e := fl.port.flows.Lookup(&key, w.now); e != nil {
		e.Gen.Store(fl.pol.gen)
	} else if _, err := fl.port.flows.Insert(key, nil, fl.pol.gen, w.now); err != nil {
		return drop.FlowTableFull
	}
	whole := x.h
	whole.MoreFragments = false
	first := flow.KeyOf(uint8(fl.dir), &whole)
	if e := fl.port.flows.Lookup(&first, w.now); e != nil {
		e.Hit(w.now, x.f.Len(), x.h.TCPFlags)
		return drop.None
	}
	if _, err := fl.port.flows.InsertPair(first, nil, first.Reverse(), nil, fl.pol.gen, w.now); err != nil {
		return drop.FlowTableFull
	}
	return drop.None
}

// related tells whether the fragment or ICMP error under way goes with a flow
// that the lists let pass.
func (w *Worker) related(fl *flowState) bool {
	x := &w.x
	var key flow.Key
	switch {
	case x.h.IsFragment():
		if x.h.FragOffset != 0 {
			return w.fragmentKnown(fl)
		}
		whole := x.h
		whole.MoreFragments = false
		key = flow.KeyOf(uint8(fl.dir), &whole)
	default:
		var quoted packet.Headers
		if !quote(&quoted, x.f.Bytes()[x.h.L3:x.h.L3+x.h.Length], &x.h) {
			return false
		}
		// The quoted packet went the other way.
		key = flow.KeyOf(uint8(opposite(fl.dir)), &quoted)
	}
	e := w.lookup(fl.port, &key)
	if e == nil {
		return false
	}
	of := *fl
	of.entry = e
	return w.stillAllowed(&of)
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
	l4 := 0
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

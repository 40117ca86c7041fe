package dataplane

import (
	"errors"
	"slices"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// A port's unified flow table remembers what its layers composed for the first
// packet of a flow, in each direction:
//
//	packet --> flow table --hit--> composed action, mappings as they are now --> out
//	               |                        | a mapping is gone, or points away
//	               miss                     v
//	               `-------------> layers in order --> action --> flow table, out
//
// An action is good as long as the port's layers (policy) and the routes and the
// set of records of its routing domain (Domain.Gen) are those it was decided by.
// What merely changes where a record points, a live migration above all, leaves
// actions as they are: they hold mappings, not records, and follow at once.
//
// Where the port's lists deny anything, a flow is a pair: the reply half, made
// with the opener, is what lets replies pass. When the policy has changed, the
// opener is judged again, and the pair goes if it would not be let pass now.

// action is what is done with the packets of a flow. It is immutable, but for
// what of it was settled. There is one for each half of a flow, and where there
// are many, most are in no cache when their packet comes: what each packet needs
// stands in the first 128 bytes.
type action struct {
	policy, domain uint64 // what it was decided by

	// Outbound: where the packet goes. Inbound: the record of the port.
	dstMAC     [6]byte
	routed     bool
	freely     bool   // src has no record: a compartment speaks for what lies outside
	outside    bool   // inbound: a compartment gets what lies outside the routing domain
	fromFabric bool   // inbound: came out of a tunnel, from where src points
	answers    bool   // of one direction alone: it began after the other one
	hash       uint32 // the packets' FlowHash, as they leave
	to         link   // none where outside
	src        link   // vouches for the source
	meters     []*vfp.Bucket
	tunnel     *vfp.Tunnel // instead of to
	trans      vfp.Transposition

	lease *vfp.Lease // of an opener with an address from a NAT pool
	prog  *vfp.Program
	steps []vfp.Step // the rules that made it
	// What the entry had counted when the action was set, or last settled.
	packets, bytes atomic.Uint64
	offered        atomic.Int64 // when it was, as a verdict; 0: never
}

// flowState is what the port's flow table knows of the packet under way.
type flowState struct {
	port  *port
	pol   *policy
	dir   vfp.Direction
	key   flow.Key
	entry *flow.Entry[action]
	// asked is the other direction, known from before the port had lists, that
	// makes the packet under way a reply.
	asked *flow.Entry[action]
	// alone is a packet that is no flow of its own: a fragment, an ICMP error or
	// one for a group. Its entry is that of what it goes with (fragment.go).
	alone bool
	piece flow.Key // of a fragment: what all of its packet have in common
}

// flowOf looks the packet under way up.
func (w *Worker) flowOf(p *port, dir vfp.Direction) flowState {
	fl := flowState{port: p, pol: p.policy.Load(), dir: dir}
	if w.x.h.IsFragment() || isICMPError(&w.x.h) {
		w.goesWith(&fl)
		return fl
	}
	fl.key.Set(uint8(dir), &w.x.h)
	fl.entry = w.lookup(p, &fl.key)
	if fl.entry != nil && w.x.h.TCPFlags&packet.TCPSyn != 0 && fl.entry.Reopens(w.x.h.TCPFlags) {
		w.begin(&fl)
	}
	if w.tr != nil {
		w.tr.flow(&fl)
	}
	return fl
}

// lookup finds a flow of the port.
func (w *Worker) lookup(p *port, k *flow.Key) *flow.Entry[action] {
	if w.tr != nil {
		return w.tr.lookup(p, k)
	}
	return p.flows.Lookup(k, w.now)
}

// begin makes the packet under way the first of a new flow.
func (w *Worker) begin(fl *flowState) {
	if w.tr == nil {
		fl.port.flows.Remove(fl.entry)
	}
	fl.entry = nil
}

// current gives the action if it is still good.
func (fl *flowState) current(x *transit) *action {
	if fl.entry == nil || fl.alone {
		return nil
	}
	a := fl.entry.Action()
	if a == nil || a.policy != fl.pol.gen || a.domain != x.domain.Gen() {
		return nil
	}
	return a
}

// pass counts the packet for its flow, and takes its share of the rates and its
// new addresses from the action.
func (w *Worker) pass(fl *flowState, a *action) drop.Reason {
	if w.tr != nil {
		return w.tr.pass(fl, a)
	}
	x := &w.x
	fl.entry.Hit(w.now, x.f.Len(), x.h.TCPFlags)
	if !vfp.TakeAll(a.meters, w.up, x.charge()) {
		return drop.RateExceeded
	}
	if x.h.TCPFlags&(packet.TCPFin|packet.TCPRst) != 0 {
		w.closed(fl)
	} else {
		w.offer(fl, a)
	}
	return w.transpose(&a.trans)
}

// applyVerdict rewrites the packet under way as the port's layers said.
func (w *Worker) applyVerdict() drop.Reason {
	t := &w.verdict.Transposition
	if t.IsZero() {
		w.replies = vfp.Transposition{}
		return drop.None
	}
	w.replies = t.Reply(&w.x.h)
	r := w.transpose(t)
	if r != drop.None {
		w.verdict.Lease.Release()
	}
	return r
}

// admit lets a packet of another port of this machine through the layers of the
// port that it is for.
func (w *Worker) admit(to *port) drop.Reason {
	if !to.policy.Load().inbound {
		return drop.None
	}
	fl := w.flowOf(to, inbound)
	if a := fl.current(&w.x); a != nil {
		return w.pass(&fl, a)
	}
	if r := w.judge(&fl); r != drop.None {
		return r
	}
	if r := w.applyVerdict(); r != drop.None {
		return r
	}
	var a *action
	if w.keeps(&fl) {
		a = &action{}
	}
	return w.remember(&fl, a)
}

// transpose rewrites the packet under way and reads it again.
func (w *Worker) transpose(t *vfp.Transposition) drop.Reason {
	x := &w.x
	if t.IsZero() {
		return drop.None
	}
	if w.tr != nil {
		w.tr.transpose(t)
	}
	if r := t.Apply(x.f, &x.h); r != drop.None {
		return r
	}
	return x.h.DecodeEthernet(x.f.Bytes())
}

// judge asks the port's layers about a packet that no action is good for, and
// leaves in w.verdict what is to be done with it.
func (w *Worker) judge(fl *flowState) drop.Reason {
	x, v, prog := &w.x, &w.verdict, fl.pol.prog
	switch {
	case fl.entry == nil:
	case fl.alone && !w.stillAllowed(fl):
		fl.entry = nil
	case !fl.alone && (fl.pol.stateful && fl.entry.Peer() == nil || !w.stillAllowed(fl)):
		w.begin(fl)
	}
	whole := false
	var old *action
	if fl.entry != nil {
		old = fl.entry.Action()
	}
	switch {
	case old != nil && (fl.entry.Reply || !old.trans.IsZero()):
		// It was let pass with its opener, and what it is translated to stays as
		// it is for its life.
		prog.EvaluateLayer(LayerMeter, fl.dir, &x.h, v)
		v.Transposition = old.trans
	default:
		whole = true
		prog.Evaluate(fl.dir, &x.h, v)
		denied := v.Blocked && v.Reason == drop.ACLDenied
		if (v.Blocked || v.NeedsL4) && fl.alone && fl.entry != nil || denied && (x.isSubnetDHCP(fl.port) || w.wasAsked(fl)) {
			whole = false
			prog.EvaluateLayer(LayerMeter, fl.dir, &x.h, v)
		} else if fl.entry != nil && !v.Transposition.IsZero() && !fl.alone {
			w.begin(fl) // its replies would not be translated back
		}
	}
	if w.tr != nil {
		return w.tr.judge(fl, whole)
	}
	switch {
	case v.NeedsL4:
		return drop.FragmentUnmatched
	case v.Blocked:
		prog.Count(v.Steps(), 1, uint64(x.f.Len()))
		w.offerDrop(fl, v.Reason)
		return v.Reason
	case !vfp.TakeAll(v.Meters(), w.up, x.charge()):
		v.Lease.Release()
		return drop.RateExceeded
	case v.Has(vfp.Punt):
		prog.Count(v.Steps(), 1, uint64(x.f.Len()))
		v.Lease.Release()
		return w.punt(v.Action(vfp.Punt).Queue)
	}
	return drop.None
}

// stillAllowed tells whether the lists let the flow's opener pass. They did when
// it was made; if they have changed since, they are asked again.
func (w *Worker) stillAllowed(fl *flowState) bool {
	opener := fl.entry.Opener()
	if opener.Gen.Load() == fl.pol.gen {
		return true
	}
	key := opener.Key()
	h := headersOf(key)
	var v vfp.Composed
	fl.pol.prog.EvaluateLayer(LayerACL, vfp.Direction(key.Dir), &h, &v)
	if v.Blocked {
		return false
	}
	if w.tr == nil {
		opener.Gen.Store(fl.pol.gen)
	}
	return true
}

// wasAsked tells whether the packet of no flow, which the lists deny, goes with one
// that began before the port had lists, so that each of its directions is known
// for itself: if they let the other one pass, and that one began it, this one is
// its reply.
func (w *Worker) wasAsked(fl *flowState) bool {
	if fl.alone || fl.entry != nil || w.x.h.TCPFlags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn {
		return false
	}
	key := fl.key.Reverse()
	other := w.lookup(fl.port, &key)
	if other == nil || other.Peer() != nil || other.Action().answers {
		return false
	}
	h := headersOf(key)
	var v vfp.Composed
	fl.pol.prog.EvaluateLayer(LayerACL, vfp.Direction(key.Dir), &h, &v)
	if v.Blocked {
		return false
	}
	fl.asked = other
	return true
}

// answers tells whether the packet of a new flow is for one that the other end has
// begun: known to the port, or refused or confirmed by this very packet.
func (w *Worker) answers(fl *flowState) bool {
	if f := w.x.h.TCPFlags; f&packet.TCPRst != 0 || f&packet.TCPSyn != 0 && f&packet.TCPAck != 0 {
		return true
	}
	key := fl.key.Reverse()
	other := fl.port.flows.Peek(&key, w.now)
	return other != nil && !other.Action().answers
}

// headersOf gives as much of a packet's headers as its flow's key tells.
func headersOf(k flow.Key) packet.Headers {
	h := packet.Headers{
		Version: k.Family, Proto: k.Proto, Src: k.Source(), Dst: k.Destination(), SrcPort: k.SrcPort, DstPort: k.DstPort,
		EtherType: packet.EtherTypeIPv4,
	}
	echo := [2]uint8{packet.ICMPEchoRequest, packet.ICMPEchoReply}
	if k.Family == 6 {
		h.EtherType = packet.EtherTypeIPv6
		echo = [2]uint8{packet.ICMPv6EchoRequest, packet.ICMPv6EchoReply}
	}
	switch k.Kind {
	case flow.KindEchoRequest:
		h.ICMPType = echo[0]
	case flow.KindEchoReply:
		h.ICMPType = echo[1]
	case flow.KindICMP:
		h.ICMPType, h.ICMPCode = uint8(k.SrcPort), uint8(k.DstPort)
	}
	return h
}

// keeps tells whether remember will keep an action. Making one takes locks and
// memory, which packets that are no flow of their own must not cost.
func (w *Worker) keeps(fl *flowState) bool {
	return !fl.alone && !w.x.nameless && w.tr == nil
}

// remember keeps the action, if there is one, for the further packets of the
// flow. Flows of ports that deny something are pairs, as are those with new
// addresses.
func (w *Worker) remember(fl *flowState, a *action) drop.Reason {
	if w.tr != nil {
		return drop.None
	}
	x, v := &w.x, &w.verdict
	if fl.alone || x.nameless {
		fl.pol.prog.Count(v.Steps(), 1, uint64(x.f.Len()))
		return w.rememberFirst(fl)
	}
	a.policy, a.domain = fl.pol.gen, x.domain.Gen()
	a.prog, a.steps, a.meters = fl.pol.prog, slices.Clone(v.Steps()), slices.Clone(v.Meters())
	a.trans, a.lease = v.Transposition, leaseOf(v)
	if fl.entry != nil {
		packets, bytes := fl.entry.Counters()
		a.packets.Store(packets)
		a.bytes.Store(bytes)
		if old := fl.entry.Action(); old != nil {
			a.lease, a.answers = old.lease, old.answers
			old.settle(packets, bytes)
		}
		fl.entry.SetAction(a)
		fl.entry.Hit(w.now, x.f.Len(), x.h.TCPFlags)
		if x.h.TCPFlags&(packet.TCPFin|packet.TCPRst) != 0 {
			w.closed(fl)
		} else {
			w.offer(fl, a)
		}
		return drop.None
	}
	paired := fl.pol.stateful || !a.trans.IsZero()
	var err error
	if fl.asked != nil {
		fl.port.flows.Remove(fl.asked)
		var opener *flow.Entry[action]
		if opener, err = fl.port.flows.InsertPair(fl.asked.Key(), &action{}, fl.key, a, fl.pol.gen, w.now); err == nil {
			fl.entry = opener.Peer()
		}
		w.expectReply(fl.port, fl.key)
	} else if paired {
		// Replies answer the packet as it is by now.
		reply := flow.KeyOf(uint8(fl.dir), &x.h).Reverse()
		fl.entry, err = fl.port.flows.InsertPair(fl.key, a, reply, &action{trans: w.replies}, fl.pol.gen, w.now)
		w.expectReply(fl.port, reply)
	} else {
		a.answers = w.answers(fl)
		fl.entry, err = fl.port.flows.Insert(fl.key, a, fl.pol.gen, w.now)
	}
	switch {
	case fl.asked != nil && fl.entry == nil: // another worker was faster
		return drop.None
	case err == nil && fl.entry.Action() != a && !a.trans.IsZero():
		// Another worker was faster, and has another translation: the sender
		// will send this packet again.
		v.Lease.Release()
		return drop.FlowTableFull
	case err == nil:
		fl.entry.Hit(w.now, x.f.Len(), x.h.TCPFlags)
		return drop.None
	case paired:
		v.Lease.Release()
		return noPair(err)
	}
	// Each of its packets is decided by itself.
	a.settle(1, uint64(x.f.Len()))
	return drop.None
}

// noPair tells why there can be no flow with replies: the table is full, or replies
// to the rewritten packet would be taken for those of another flow.
func noPair(err error) drop.Reason {
	if errors.Is(err, flow.ErrConflict) {
		return drop.NATPoolExhausted
	}
	return drop.FlowTableFull
}

// leaseOf gives what the rules took from a NAT pool, nil if they took nothing.
func leaseOf(v *vfp.Composed) *vfp.Lease {
	if v.Lease.Pool == nil {
		return nil
	}
	l := v.Lease
	return &l
}

// settle adds what the entry has counted under the action, and was not settled
// yet, to the rules that made it.
func (a *action) settle(packets, bytes uint64) {
	if a.prog != nil {
		a.prog.Count(a.steps, packets-a.packets.Swap(packets), bytes-a.bytes.Swap(bytes))
	}
}

// forgotten settles a flow that has left the port's table.
func (s *Switch) forgotten(p *port, opener *flow.Entry[action]) {
	p.takeBack(s.offloader.Load(), opener)
	for e := opener; e != nil; e = e.Peer() {
		if a := e.Action(); a != nil {
			a.settle(e.Counters())
			if a.lease != nil {
				a.lease.Release()
			}
		}
		if e.Reply {
			return
		}
	}
}

// link is an indirection by which a flow follows a record, and the record's key.
type link struct {
	m   *lookup.Mapping
	key lookup.Key
}

// now gives where the link leads at present; no record if it leads nowhere any
// more.
func (l link) now() place {
	if l.m == nil {
		return place{}
	}
	return place{l.m.Record(), l.key}
}

// link makes one of a place.
func (w *Worker) link(p place) link {
	if p.rec == nil {
		return link{}
	}
	return link{w.x.domain.Mapping(p.key), p.key}
}

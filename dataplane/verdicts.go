package dataplane

import (
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// Offloader is a Follower that keeps verdicts: what a port's lists say of one
// direction of a flow at the port, by which it lets packets pass, or drops them, in
// the Switch's place. All else about a packet it decides for itself.
//
// A verdict is made under one generation of a port's layers (PortView.Generation)
// and void under another. TCP packets with SYN, FIN or RST, and those with ICMP, are
// none of its business: the Switch keeps the state of flows. Any of its methods may
// be called from several goroutines at once, with or without locks of the Switch.
type Offloader interface {
	Follower
	// Offer gives a verdict; it need not be taken. reply tells that the direction is
	// the one that answers. The reason is drop.None where packets pass.
	Offer(v FlowVerdict)
	// Withdraw takes the verdict about the direction of a flow back, if there is one.
	Withdraw(id PortID, k flow.Key)
	// Passed calls yield for the verdicts by which packets passed, or were dropped,
	// since it was called last: how many, and how long ago the last was. Where that
	// gives false, the verdict is taken back.
	Passed(yield func(v FlowVerdict, idle time.Duration, packets, bytes uint64) (stays bool))
}

// FlowVerdict is what a port's lists say of one direction of a flow.
type FlowVerdict struct {
	Port       PortID
	Key        flow.Key
	Generation uint64
	Reply      bool
	Reason     drop.Reason // drop.None: they let it pass
}

// offerAgain is how long after a verdict was offered its flow's packets may come to
// the Switch before it is offered once more: it may not have been taken.
const offerAgain = int64(time.Second)

// mayOffer tells whether verdicts about flows with the key are of use.
func mayOffer(k *flow.Key) bool {
	return k.Kind == flow.KindPorts && k.Family != 0 && k.Proto != packet.ProtoICMP && k.Proto != packet.ProtoICMPv6
}

// offer offers the verdict that the flow passes, whose packet under way the action
// was just found good for.
func (w *Worker) offer(fl *flowState, a *action) {
	o := w.sw.offloader.Load()
	if o == nil || w.tr != nil || !fl.pol.plain || fl.alone || w.now-a.offered.Load() < offerAgain {
		return
	}
	e := fl.entry
	if !mayOffer(&fl.key) || !a.trans.IsZero() || a.tunnel != nil || e.Peer() == nil {
		return
	}
	// The handshake is for us to follow.
	if s := e.State(); fl.key.Proto == packet.ProtoTCP && s != flow.StateEstablished && s != flow.StateHalfClosed {
		return
	}
	a.offered.Store(w.now)
	(*o).Offer(FlowVerdict{Port: fl.port.id, Key: fl.key, Generation: a.policy, Reply: e.Reply})
	if e.Gone() || e.State() == flow.StateClosing { // and was taken back before it was there
		(*o).Withdraw(fl.port.id, fl.key)
	}
}

// closed takes the verdicts about a flow back whose connection is over: it is
// forgotten soon, and might go on all the same (flow.Entry.Reopens, and RST that
// was forged), which the Switch must see.
func (w *Worker) closed(fl *flowState) {
	if fl.entry.State() == flow.StateClosing {
		fl.port.takeBack(w.sw.offloader.Load(), fl.entry)
	}
}

// takeBack takes back what was offered about the flow.
func (p *port) takeBack(o *Offloader, e *flow.Entry[action]) {
	if o == nil {
		return
	}
	for _, half := range [2]*flow.Entry[action]{e, e.Peer()} {
		if half == nil {
			continue
		}
		if a := half.Action(); a != nil && a.offered.Load() != 0 {
			(*o).Withdraw(p.id, half.Key())
		}
	}
}

// offerDrop offers the verdict that the lists do not let the packet under way
// pass, which is of no flow. What would change that but another generation is a flow
// that the packet answers.
func (w *Worker) offerDrop(fl *flowState, r drop.Reason) {
	o := w.sw.offloader.Load()
	if o == nil || w.tr != nil || !fl.pol.plain || fl.alone || fl.entry != nil || r != drop.ACLDenied || !mayOffer(&fl.key) {
		return
	}
	if other := fl.key.Reverse(); fl.port.flows.Peek(&other, w.now) != nil {
		return
	}
	(*o).Offer(FlowVerdict{Port: fl.port.id, Key: fl.key, Generation: fl.pol.gen, Reason: r})
	if fl.port.flows.Peek(&fl.key, w.now) != nil { // another worker has let it be answered meanwhile
		(*o).Withdraw(fl.port.id, fl.key)
	}
}

// expectReply takes back that the lists do not let a key pass, which is from now on
// that of the replies of a flow.
func (w *Worker) expectReply(p *port, k flow.Key) {
	if o := w.sw.offloader.Load(); o != nil && w.tr == nil && mayOffer(&k) {
		(*o).Withdraw(p.id, k)
	}
}

// hearPassed takes up what passed by verdicts.
func (s *Switch) hearPassed(now int64) {
	o := s.offloader.Load()
	if o == nil {
		return
	}
	(*o).Passed(func(v FlowVerdict, idle time.Duration, packets, bytes uint64) bool {
		p := s.ports.Load().byID.Get(lookup.Number(v.Port))
		if p == nil {
			return false
		}
		e := (*p).flows.Peek(&v.Key, now)
		switch {
		case e != nil && v.Reason == drop.None:
			e.Seen(now-int64(idle), packets, bytes)
			return e.State() != flow.StateClosing
		case e != nil || v.Reason == drop.None:
			return false
		}
		pol := (*p).policy.Load()
		if pol.gen != v.Generation {
			return false
		}
		var c vfp.Composed
		h := headersOf(v.Key)
		pol.prog.EvaluateLayer(LayerACL, vfp.Direction(v.Key.Dir), &h, &c)
		pol.prog.Count(c.Steps(), packets, bytes)
		return c.Blocked
	})
}

// Restore takes up a flow that an earlier process let pass, by the verdict of an
// Offloader that outlived it, if the port's lists let its opener pass now. It gives
// the generation under which the verdict is good again.
func (s *Switch) Restore(v FlowVerdict) (generation uint64, ok bool) {
	at := s.ports.Load().byID.Get(lookup.Number(v.Port))
	if at == nil || v.Reason != drop.None || !mayOffer(&v.Key) {
		return 0, false
	}
	p := *at
	pol := p.policy.Load()
	if !pol.plain {
		return 0, false
	}
	opener, reply := v.Key, v.Key.Reverse()
	if v.Reply {
		opener, reply = reply, opener
	}
	var c vfp.Composed
	h := headersOf(opener)
	if pol.prog.EvaluateLayer(LayerACL, vfp.Direction(opener.Dir), &h, &c); c.Blocked {
		return 0, false
	}
	now := s.opt.Now().UnixNano()
	e, err := p.flows.InsertPair(opener, &action{}, reply, &action{}, pol.gen, now)
	if err != nil {
		return 0, false
	}
	e.Establish(now)
	return pol.gen, true
}

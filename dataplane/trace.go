package dataplane

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// TraceQuery is a packet to be taken through the Switch for show: it takes the
// very way that a real one would take now, but nothing is sent, counted, learned
// or remembered on its account.
type TraceQuery struct {
	// Port is the name of the port that sends the packet; FromFabric tells that it
	// comes from the fabric. Of a Packet, neither need be set: it is then sent by
	// the port of its source, if that is on this machine, and comes from the
	// fabric if not.
	Port       string
	FromFabric bool

	Frame  []byte       // an Ethernet frame of a port, or an IP packet of the fabric
	Packet *TracePacket // or else what one is to be made of

	// NewFlow takes the packet for the first one of its flow, whatever flows the
	// ports know of.
	NewFlow bool
}

// Trace is what happened to the packet.
type Trace struct {
	From   string // the port's name, or "fabric"
	Tenant hnv.Name
	RDID   hnv.RDID
	VSID   uint32
	Frame  []byte // as it went in

	Steps   []TraceStep
	Outputs []TraceOutput // what would have left, in order
	Verdict Verdict
	Reason  drop.Reason // where Verdict is VerdictDropped
}

// Verdict sums a Trace up.
type Verdict string

// The verdicts.
const (
	VerdictSent      Verdict = "sent"      // to the fabric, and maybe to ports too
	VerdictDelivered Verdict = "delivered" // to ports of this machine
	VerdictAnswered  Verdict = "answered"  // by the dataplane itself, to where it came from
	VerdictTaken     Verdict = "taken"     // it has done what it is for
	VerdictDropped   Verdict = "dropped"   // there may be an ICMP error among the outputs
)

// TraceStep is one thing that was found or decided on the way.
type TraceStep struct {
	Stage   Stage
	At      string // the port whose layers have the packet, or "fabric"
	Layer   string // StageLayer: which one, and
	Group   string // which group of it, and
	Rule    string // the ID of the rule that matched, if one did
	Verdict string // in a word: "hit", "allow", "acl-denied"
	Detail  string // a sentence without a full stop
}

// Stage is where on the way a step is.
type Stage string

// The stages, in the order in which packets meet them.
const (
	StageReceived    Stage = "received"    // as it came
	StageDecap       Stage = "decapsulate" // the outer headers were taken off
	StageFlow        Stage = "flow"        // the port's unified flow table
	StageSource      Stage = "source"      // who vouches for the sender
	StageDestination Stage = "destination" // whether it is found at the port
	StageLayer       Stage = "layer"       // what a group of a layer says
	StageAction      Stage = "action"      // what the layers compose
	StageRewrite     Stage = "rewrite"     // headers change
	StageRoute       Stage = "route"       // the space of mappings: from one virtual subnet to another
	StageBridge      Stage = "bridge"      // likewise, inside one
	StageForward     Stage = "forward"     // to a port of this machine, or which way over the fabric
	StageOutput      Stage = "output"      // it leaves
	StageDrop        Stage = "drop"        // it goes no further
)

// TraceOutput is a packet that would have left.
type TraceOutput struct {
	To      string // the port's name, or "fabric"
	Fabric  bool
	Frame   []byte // an Ethernet frame to a port, an IP packet to the fabric
	Offload packet.Offload
	Summary string // for people
}

const fabricName = "fabric"

// Trace takes a packet through the Switch for show.
func (s *Switch) Trace(q TraceQuery) (Trace, error) {
	p, frame, err := s.traced(&q)
	if err != nil {
		return Trace{}, fmt.Errorf("trace: %w", err)
	}
	f := packet.NewFrame(len(frame))
	if len(frame) > packet.MaxPacket || !f.Set(slices.Clone(frame)) {
		return Trace{}, fmt.Errorf("trace: the packet has %d bytes, more than any", len(frame))
	}
	tr := &tracer{fresh: q.NewFlow}
	w := s.dryWorker(tr)
	out := Trace{From: fabricName, Frame: frame}
	if p != nil {
		out.From = p.spec.Name
		w.x = transit{at: p}
		tr.received(p, f)
		out.Reason = w.send(p, w.cellOf(p.tenant), f)
	} else {
		tr.received(nil, f)
		_, out.Reason = w.receive(f)
	}
	if out.Reason != drop.None {
		tr.drop(out.Reason)
	}
	if x := &w.x; x.tenant != nil {
		out.RDID = x.tenant.rdid
		if x.domain != nil {
			out.Tenant = x.domain.Name
		}
	}
	out.VSID = w.x.vsid
	w.Flush()
	out.Steps, out.Outputs = tr.steps, tr.outputs
	out.Verdict = out.verdict()
	return out, nil
}

func (t *Trace) verdict() Verdict {
	v := VerdictTaken
	switch {
	case t.Reason != drop.None:
		return VerdictDropped
	case len(t.Outputs) > 0:
		v = VerdictAnswered
	}
	for _, o := range t.Outputs {
		switch {
		case o.Fabric && t.From != fabricName:
			return VerdictSent
		case o.To != t.From:
			v = VerdictDelivered
		}
	}
	return v
}

// traced gives the packet of a query, and the port that sends it; none where it
// comes from the fabric.
func (s *Switch) traced(q *TraceQuery) (*port, []byte, error) {
	switch {
	case q.Port != "" && q.FromFabric:
		return nil, nil, errors.New("the packet comes from a port or from the fabric, not from both")
	case (q.Packet == nil) == (q.Frame == nil):
		return nil, nil, errors.New("give a packet, or describe one")
	}
	var p *port
	if q.Port != "" {
		var err error
		if p, err = s.portNamed(q.Port); err != nil {
			return nil, nil, err
		}
	}
	if q.Packet != nil {
		return s.build(*q.Packet, p, q.FromFabric)
	}
	if p == nil && !q.FromFabric {
		return nil, nil, errors.New("say which port sends the packet, or that it comes from the fabric")
	}
	return p, q.Frame, nil
}

// portNamed finds a port by its name.
func (s *Switch) portNamed(name string) (found *port, err error) {
	for _, p := range s.ports.Load().byID.All {
		if p.spec.Name != name {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("several ports are named %s: %w", name, ErrConflict)
		}
		found = p
	}
	if found == nil {
		return nil, fmt.Errorf("no port of this machine is named %s: %w", name, ErrUnknown)
	}
	return found, nil
}

// dryWorker makes a Worker whose packets have no effects.
func (s *Switch) dryWorker(tr *tracer) *Worker {
	w := &Worker{sw: s, cells: map[*tenant]*cell{}, tr: tr}
	tr.w = w
	w.nowhere = tr.cell()
	w.tick()
	return w
}

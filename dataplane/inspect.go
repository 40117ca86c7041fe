package dataplane

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// PortInspection is all that decides about a port's packets, with what it has
// counted.
type PortInspection struct {
	PortState
	Tenant  hnv.Name
	Layers  []LayerInspection // in outbound order
	Meters  []MeterInspection
	Learned []LearnedCA
	Table   flow.Stats       // of the port's unified flow table
	Flows   []FlowInspection // the busiest first, at most as many as asked for
}

// LayerInspection is a layer of a port.
type LayerInspection struct {
	Name     string
	Priority int
	Groups   []GroupInspection
}

// GroupInspection is a group of a layer.
type GroupInspection struct {
	Name      string
	Priority  int
	Direction vfp.Direction
	Family    vfp.Family
	Rules     []RuleInspection
}

// RuleInspection is a rule of a group.
type RuleInspection struct {
	ID             string
	Priority       uint16
	Match, Action  string // for people
	Packets, Bytes uint64 // that it has matched, of the port
}

// MeterInspection is a rate that limits the port.
type MeterInspection struct {
	Direction     vfp.Direction
	Name          string // whose: "port" or "tenant"
	BitsPerSecond uint64
	Burst         int // bytes
}

// FlowInspection is a flow that a port's table knows of.
type FlowInspection struct {
	Key     flow.Key // of the packet that it began with
	State   flow.State
	Idle    time.Duration
	Expires time.Duration // from now, if it stays idle
	// What the ends have sent: the opener, and who replied. Where lists deny
	// nothing each direction is a flow of its own, without replies.
	Packets, Bytes           uint64
	ReplyPackets, ReplyBytes uint64
	Paired                   bool
	Action                   string   // for people
	Rules                    []string // that made it: "acl/port web/110"
}

// Inspect tells all about a port, by its name, with at most so many flows, of
// the CA if it is valid.
func (s *Switch) Inspect(name string, flows int, of netip.Prefix) (PortInspection, error) {
	p, err := s.portNamed(name)
	if err != nil {
		return PortInspection{}, err
	}
	d := p.tenant.domain.Load()
	out := PortInspection{PortState: PortState{p.id, p.spec, d != nil && d.Has(p.vsid)}}
	if d != nil {
		out.Tenant = d.Name
	}
	p.settle()
	prog := p.policy.Load().prog
	for i, l := range prog.Counters() {
		out.Layers = append(out.Layers, inspectLayer(prog, uint16(i), l, &out.Meters))
	}
	learned, _ := s.Learned()
	for _, l := range learned {
		if l.RDID == p.tenant.rdid && l.Record.VSID == p.spec.VSID && l.Record.MAC == p.spec.MAC {
			out.Learned = append(out.Learned, l)
		}
	}
	out.Table = p.flows.Stats()
	out.Flows = s.inspectFlows(p, d, flows, of)
	return out, nil
}

// settle counts what the port's flows have counted for the rules that made them.
func (p *port) settle() {
	for e := range p.flows.All {
		for _, half := range []*flow.Entry[action]{e, e.Peer()} {
			if half == nil {
				continue
			}
			if a := half.Action(); a != nil {
				a.settle(half.Counters())
			}
		}
	}
}

func inspectLayer(prog *vfp.Program, at uint16, l vfp.LayerCounters, meters *[]MeterInspection) LayerInspection {
	out := LayerInspection{Name: l.Name, Priority: l.Priority}
	for j, g := range l.Groups {
		group := GroupInspection{Name: g.Name, Priority: g.Priority, Direction: g.Direction, Family: g.Family}
		for k, c := range g.Rules {
			r := prog.Rule(vfp.Step{Layer: at, Group: uint16(j), Rule: uint16(k)})
			group.Rules = append(group.Rules, RuleInspection{c.ID, c.Priority, r.Match.String(), r.Action.String(), c.Packets, c.Bytes})
			if b := r.Action.Bucket; b != nil {
				*meters = append(*meters, MeterInspection{g.Direction, g.Name, b.Rate(), b.Burst()})
			}
		}
		out.Groups = append(out.Groups, group)
	}
	return out
}

func (s *Switch) inspectFlows(p *port, d *lookup.Domain, most int, of netip.Prefix) []FlowInspection {
	type busy struct {
		e       *flow.Entry[action]
		packets uint64
	}
	var all []busy
	for e := range p.flows.All {
		if k := e.Key(); of.IsValid() && !of.Contains(k.Source()) && !of.Contains(k.Destination()) {
			continue
		}
		packets, _ := e.Counters()
		if r := e.Peer(); r != nil {
			n, _ := r.Counters()
			packets += n
		}
		all = append(all, busy{e, packets})
	}
	slices.SortFunc(all, func(a, b busy) int {
		return cmp.Or(cmp.Compare(b.packets, a.packets), cmp.Compare(a.e.Key().String(), b.e.Key().String()))
	})
	all = all[:min(len(all), most)]
	x := transit{domain: d, provider: s.provider.Load()}
	now := s.opt.Now().UnixNano()
	var out []FlowInspection
	for _, b := range all {
		f := FlowInspection{
			Key: b.e.Key(), State: b.e.State(), Paired: b.e.Peer() != nil,
			Idle: time.Duration(max(0, now-b.e.LastSeen())), Expires: time.Duration(max(0, b.e.Expires()-now)),
		}
		f.Packets, f.Bytes = b.e.Counters()
		if r := b.e.Peer(); r != nil {
			f.ReplyPackets, f.ReplyBytes = r.Counters()
		}
		if a := b.e.Action(); a != nil {
			if d != nil {
				f.Action = x.actionWords(a, vfp.Direction(f.Key.Dir))
			}
			for _, step := range a.steps {
				n := a.prog.Name(step)
				f.Rules = append(f.Rules, n[0]+"/"+n[1]+"/"+n[2])
			}
		}
		out = append(out, f)
	}
	return out
}

// LayerTraffic is what a tenant's packets met in a layer of its ports.
type LayerTraffic struct {
	Name           string
	Packets, Bytes uint64 // that rules of the layer matched; some match several
	Dropped        uint64 // packets, by its rules
}

// LayerCounters sums up the layers of a tenant's ports, in outbound order. What
// ports counted that were unplugged is not among it. It visits every flow, and is
// for people who ask for one tenant.
func (s *Switch) LayerCounters(rdid hnv.RDID) []LayerTraffic {
	type sum struct {
		LayerTraffic
		priority int
	}
	sums := map[string]*sum{}
	for _, p := range s.ports.Load().byID.All {
		if p.tenant.rdid != rdid {
			continue
		}
		p.settle()
		for _, l := range p.policy.Load().prog.Counters() {
			t := sums[l.Name]
			if t == nil {
				t = &sum{LayerTraffic{Name: l.Name}, l.Priority}
				sums[l.Name] = t
			}
			for _, g := range l.Groups {
				for _, r := range g.Rules {
					t.Packets += r.Packets
					t.Bytes += r.Bytes
					if r.Kind == vfp.Block {
						t.Dropped += r.Packets
					}
				}
			}
		}
	}
	var all []*sum
	for _, t := range sums {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *sum) int { return cmp.Compare(a.priority, b.priority) })
	var out []LayerTraffic
	for _, t := range all {
		out = append(out, t.LayerTraffic)
	}
	return out
}

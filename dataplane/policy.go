package dataplane

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// The directions of a port's layers.
const (
	outbound = vfp.Outbound
	inbound  = vfp.Inbound
)

// The layers that every port has, by name and priority. What a library user adds
// stands between LayerMeter and LayerVNET.
const (
	LayerACL     = "acl"
	LayerMeter   = "meter"
	LayerVNET    = "vnet"
	LayerForward = "forward"

	priorityACL     = 100
	priorityMeter   = 200
	priorityVNET    = 900
	priorityForward = 1000
)

// policy is what a port's layers say at one moment, compiled. It is immutable.
type policy struct {
	prog *vfp.Program
	gen  uint64   // of this policy, never that of another one
	list *hnv.ACL // what the port's access control list was compiled from; nil if it has none
	// stateful tells that some packets may only pass as replies.
	stateful bool
	// inbound tells that anything but decapsulation happens on the way to the
	// port, so that packets from other ports of this machine must be looked at;
	// outbound that anything but routing and encapsulation does on the way from it.
	inbound, outbound bool
	// plain tells that lists, and perhaps rates, are all that there is to it, so
	// that verdicts about flows can be handed on (Offloader); custom that there are
	// layers of a library's user.
	plain, custom bool
	rates         Rates
}

// aclLayer holds a group for each direction with the rules of the list that
// applies: the port's own, or else its virtual subnet's. A port to which none
// applies has the default.
func (s *Switch) aclLayer(p *port, d *lookup.Domain) (l vfp.Layer, acl *hnv.ACL, err error) {
	l = vfp.Layer{Name: LayerACL, Priority: priorityACL}
	scope, name := "port", p.spec.ACL
	if sub := d.Subnet(p.vsid); !name.IsValid() && sub != nil {
		scope, name = "subnet", sub.ACL
	}
	if name.IsValid() {
		if acl = d.ACL(name); acl == nil {
			acl = p.lastList(name)
		}
		if acl == nil {
			return l, nil, fmt.Errorf("the %s's access control list %s is not there", scope, name)
		}
	}
	for _, dir := range []vfp.Direction{outbound, inbound} {
		g := vfp.Group{Name: "default", Priority: 10, Direction: dir, Rules: []vfp.Rule{s.defaultRule()}}
		if acl != nil {
			g.Name, g.Rules = scope+" "+name.String(), aclRules(acl, dir)
		}
		l.Groups = append(l.Groups, g)
	}
	return l, acl, nil
}

// lastList is the list of that name as the port has it now, nil if it has none.
// A tenant's lists and its ports are set one after the other: a list that goes
// together with its last port's wish for it may be gone first.
func (p *port) lastList(name hnv.Name) *hnv.ACL {
	if old := p.policy.Load(); old != nil && old.list != nil && old.list.Name == name {
		return old.list
	}
	return nil
}

// defaultRule is for ports without a list.
func (s *Switch) defaultRule() vfp.Rule {
	rule := vfp.Rule{ID: "default", Action: vfp.Action{Kind: vfp.Allow}}
	if s.opt.DefaultACL == hnv.Deny {
		rule.Action = vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}
	}
	return rule
}

// aclRules translates a list's rules of a direction; what none of them matches
// is denied.
func aclRules(acl *hnv.ACL, dir vfp.Direction) []vfp.Rule {
	var out []vfp.Rule
	open := false
	for _, r := range acl.Rules {
		if (r.Direction == hnv.Outbound) != (dir == outbound) {
			continue
		}
		v := vfp.Rule{ID: strconv.Itoa(int(r.Priority)), Priority: r.Priority, Action: vfp.Action{Kind: vfp.Allow}}
		if r.Action == hnv.Deny {
			v.Action = vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}
		}
		v.Match = vfp.Match{Src: r.Src, Dst: r.Dst, SrcPorts: portRanges(r.SrcPorts), DstPorts: portRanges(r.DstPorts)}
		if n, anyProto := r.ProtoNumber(); !anyProto {
			v.Match.Proto = &n
		}
		out = append(out, v)
		open = open || r.Action == hnv.Allow && v.Match.Proto == nil && len(r.Src)+len(r.Dst) == 0
	}
	slices.SortStableFunc(out, func(a, b vfp.Rule) int { return int(a.Priority) - int(b.Priority) })
	if open { // nothing is left for the rest
		return out
	}
	return append(out, vfp.Rule{ID: "rest", Priority: ^uint16(0), Action: vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}})
}

func portRanges(in []hnv.PortRange) []vfp.PortRange {
	var out []vfp.PortRange
	for _, r := range in {
		out = append(out, vfp.PortRange(r))
	}
	return out
}

// meterLayer holds a rule for each rate that limits the port: its own and its
// tenant's.
func meterLayer(p *port, in, out meter) vfp.Layer {
	l := vfp.Layer{Name: LayerMeter, Priority: priorityMeter}
	add := func(dir vfp.Direction, priority int, name string, b *vfp.Bucket) {
		if b != nil {
			l.Groups = append(l.Groups, vfp.Group{Name: name, Priority: priority, Direction: dir, Rules: []vfp.Rule{
				{ID: name, Action: vfp.Action{Kind: vfp.Meter, Bucket: b}},
			}})
		}
	}
	add(outbound, 10, "port", p.out.Bucket)
	add(outbound, 20, "tenant", out.Bucket)
	add(inbound, 10, "port", p.in.Bucket)
	add(inbound, 20, "tenant", in.Bucket)
	return l
}

// vnetLayer is the virtual network: routing and bridging by the CA to PA space
// on the way out; on the way in the packet was decapsulated, and its source
// found to be where the space says.
func vnetLayer() vfp.Layer {
	mac := routerMAC
	return vfp.Layer{Name: LayerVNET, Priority: priorityVNET, Groups: []vfp.Group{
		{Name: "space", Priority: 10, Direction: outbound, Rules: []vfp.Rule{
			{ID: "route", Priority: 10, Match: vfp.Match{DstMAC: &mac}, Action: vfp.Action{Kind: vfp.Route, Space: SpaceCAPA}},
			{ID: "bridge", Priority: 20, Action: vfp.Action{Kind: vfp.Route, Space: SpaceCAPA}},
		}},
		{Name: "space", Priority: 10, Direction: inbound, Rules: []vfp.Rule{
			{ID: "source", Priority: 10, Action: vfp.Action{Kind: vfp.Route, Space: SpaceCAPA}},
		}},
	}}
}

// forwardLayer is next to the wire: a mapping that leads to a PA of ours is a
// port of this machine (hairpin), any other one a tunnel.
func forwardLayer() vfp.Layer {
	return vfp.Layer{Name: LayerForward, Priority: priorityForward, Groups: []vfp.Group{
		{Name: "mapping", Priority: 10, Direction: outbound, Rules: []vfp.Rule{
			{ID: "deliver", Priority: 10, Action: vfp.Action{Kind: vfp.Encap, Space: SpaceCAPA}},
		}},
		{Name: "mapping", Priority: 10, Direction: inbound, Rules: []vfp.Rule{
			{ID: "receive", Priority: 10, Action: vfp.Action{Kind: vfp.Decap}},
		}},
	}}
}

// SpaceCAPA is the name of the mapping space that a routing domain is: its
// lookup records, subnets and customer routes.
const SpaceCAPA = "ca-pa"

// meter is a bucket and what it was made for.
type meter struct {
	*vfp.Bucket
	kbps uint64
}

// at gives the meter at the rate: itself, with its bucket, if that is its rate
// already.
func (m meter) at(kbps uint64) meter {
	if m.kbps == kbps {
		return m
	}
	m = meter{kbps: kbps}
	if kbps > 0 {
		m.Bucket = vfp.NewBucket(kbps*1000, 0)
	}
	return m
}

// policies compiles the layers of a routing domain's ports for its next state;
// with mu. Ports in a subnet that is gone keep theirs: nothing passes there.
func (s *Switch) policies(rdid hnv.RDID, d *lookup.Domain, in, out meter) (map[*port]*policy, error) {
	all := map[*port]*policy{}
	for _, p := range s.ports.Load().byID.All {
		if p.tenant.rdid != rdid || !d.Has(p.vsid) {
			continue
		}
		pol, err := s.compile(p, d, in, out)
		if err != nil {
			return nil, err
		}
		all[p] = pol
	}
	return all, nil
}

// compile makes the port's layers as they are in the domain, with its tenant's
// meters; with mu.
func (s *Switch) compile(p *port, d *lookup.Domain, in, out meter) (*policy, error) {
	acl, list, err := s.aclLayer(p, d)
	if err != nil {
		return nil, fmt.Errorf("layers of port %s: %w", p.spec.Name, err)
	}
	layers := []vfp.Layer{acl, meterLayer(p, in, out), vnetLayer(), forwardLayer()}
	for _, l := range p.custom {
		if l.Priority <= priorityMeter || l.Priority >= priorityVNET {
			return nil, fmt.Errorf("layers of port %s: layer %q has priority %d: it must stand between %d and %d", p.spec.Name, l.Name, l.Priority, priorityMeter, priorityVNET)
		}
		if err := checkCustom(&l, d); err != nil {
			return nil, fmt.Errorf("layers of port %s: %w", p.spec.Name, err)
		}
		layers = append(layers, l)
	}
	prog, err := s.programs.Compile(layers)
	if err != nil {
		return nil, fmt.Errorf("layers of port %s: %w", p.spec.Name, err)
	}
	if old := p.policy.Load(); old != nil {
		prog.Inherit(old.prog)
	}
	stateful := list != nil || s.opt.DefaultACL == hnv.Deny
	custom := len(p.custom) > 0
	rates := Rates{Out: p.out.Bucket, In: p.in.Bucket, TenantOut: out.Bucket, TenantIn: in.Bucket}
	s.lastPolicy++
	return &policy{
		prog: prog, gen: s.lastPolicy, list: list, stateful: stateful,
		inbound: stateful || custom || rates.In != nil || rates.TenantIn != nil, outbound: stateful || custom || rates.Out != nil || rates.TenantOut != nil,
		plain: stateful && !custom, custom: custom, rates: rates,
	}, nil
}

package vfp

import (
	"cmp"
	"slices"
)

// Bounds of a program, refused by Compile where they are exceeded.
const (
	MaxSteps  = 16 // groups that one packet can meet
	MaxMeters = 4  // of those, groups with Meter rules
)

// Program is the layers of one port in the form that packets are put through.
// It is immutable but for its counters, and may be used by any number of
// goroutines.
type Program struct {
	layers []layer
	plans  [Inbound + 1][classes][]plan
}

// layer, group and their rules are as the caller gave them, but in order.
type layer struct {
	name     string
	priority int
	groups   []group
}

type group struct {
	Group
	counters []*counter // of each rule
}

// plan is a group as it is for the frames of one class.
type plan struct {
	layer, group uint16
	rules        []Rule  // of the group, all of them
	places       []int32 // in rules, of those that can match
	behindPorts  []bool  // of those: it asks for what later fragments lack
	classifier   *classifier
}

// Compile makes a Program of the layers of a port, or says all that is wrong
// with them: two of the same priority or name, rules that never match, actions
// that lack something. The layers' slices are not kept, but what their rules
// point to is, and must not change any more.
func Compile(layers []Layer) (*Program, error) {
	p := new(Program)
	for _, l := range layers {
		n := layer{name: l.Name, priority: l.Priority}
		for _, g := range l.Groups {
			g.Rules = slices.Clone(g.Rules)
			slices.SortStableFunc(g.Rules, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
			n.groups = append(n.groups, group{Group: g, counters: newCounters(len(g.Rules))})
		}
		slices.SortStableFunc(n.groups, func(a, b group) int { return cmp.Compare(a.Priority, b.Priority) })
		p.layers = append(p.layers, n)
	}
	slices.SortStableFunc(p.layers, func(a, b layer) int { return cmp.Compare(a.priority, b.priority) })
	c := check{p: p}
	c.names()
	for i := range p.layers {
		for j := range p.layers[i].groups {
			if c.group(&p.layers[i], &p.layers[i].groups[j]) {
				p.plan(i, j, &c)
			}
		}
	}
	for cl := range classes { // inbound: the layers in reverse, their groups as they are
		slices.SortStableFunc(p.plans[Inbound][cl], func(a, b plan) int { return cmp.Compare(b.layer, a.layer) })
	}
	c.bounds()
	if err := c.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// plan adds the tables of a group.
func (p *Program) plan(i, j int, c *check) {
	g := &p.layers[i].groups[j]
	reached := make([]reach, len(g.Rules))
	for cl := range classes {
		if g.Family != AnyFamily && g.Family != cl.family() {
			continue
		}
		pl := plan{layer: uint16(i), group: uint16(j), rules: g.Rules}
		var tuples []tuple
		for n := range g.Rules {
			if t, ok := tupleOf(&g.Rules[n].Match, cl); ok {
				pl.places = append(pl.places, int32(n))
				pl.behindPorts = append(pl.behindPorts, t.uses()&behindPorts != 0)
				tuples = append(tuples, t)
			}
		}
		if len(tuples) == 0 {
			continue
		}
		pl.classifier = newClassifier(tuples, cl)
		pl.note(tuples, cl, reached)
		p.plans[g.Direction][cl] = append(p.plans[g.Direction][cl], pl)
	}
	c.reach(&p.layers[i], g, reached)
}

// reach is what became of a rule: the classes of frames that it can match, those
// in which an earlier rule with another action leaves nothing to it, and that
// rule.
type reach struct {
	matches, covered uint8 // bits by class
	by               int32
}

// note looks, for each rule, for an earlier one that covers it. Only those
// that match one packet of the rule's can.
func (pl *plan) note(tuples []tuple, cl class, to []reach) {
	for n := range tuples {
		r := &to[pl.places[n]]
		r.matches |= 1 << cl
		k := tuples[n].witness()
		pl.classifier.all(&k, n, func(earlier int) bool {
			if !tuples[earlier].covers(&tuples[n]) {
				return true
			}
			if by := pl.places[earlier]; pl.rules[by].Action != pl.rules[pl.places[n]].Action {
				r.covered |= 1 << cl
				r.by = by
			}
			return false
		})
	}
}

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

// layer and group are as the caller gave them, but in order.
type layer struct {
	name     string
	priority int
	groups   []group
}

type group struct {
	name      string
	priority  int
	direction Direction
	family    Family
	*tables
	counters []*counter // of each rule
}

// tables are a group's rules in order and what finds them, for each class of
// frames. They are immutable, and shared by all groups that have the same ones.
type tables struct {
	family Family
	rules  []Rule
	by     [classes]table
}

// table is the rules of a group that can match frames of one class.
type table struct {
	places      []int32 // in tables.rules
	behindPorts []bool  // it asks for what later fragments lack
	classifier  *classifier
}

// plan is a group as packets of one class meet it.
type plan struct {
	layer, group uint16
	rules        []Rule
	*table
}

// Compile makes a Program of the layers of a port, or says all that is wrong
// with them: two of the same priority or name, rules that can never match
// because of one before them with another action, actions that lack something.
// The layers' slices are not kept, but what their rules point to is, and must
// not change any more.
func Compile(layers []Layer) (*Program, error) { return compile(layers, nil) }

func compile(layers []Layer, cache *Cache) (*Program, error) {
	p := new(Program)
	var c check
	for _, l := range layers {
		n := layer{name: l.Name, priority: l.Priority}
		for _, g := range l.Groups {
			n.groups = append(n.groups, group{
				name: g.Name, priority: g.Priority, direction: g.Direction, family: g.Family,
				tables: c.tables(l.Name, &g, cache), counters: newCounters(len(g.Rules)),
			})
		}
		slices.SortStableFunc(n.groups, func(a, b group) int { return cmp.Compare(a.priority, b.priority) })
		p.layers = append(p.layers, n)
	}
	slices.SortStableFunc(p.layers, func(a, b layer) int { return cmp.Compare(a.priority, b.priority) })
	c.names(p.layers)
	if err := c.err(); err != nil {
		return nil, err
	}
	for _, dir := range []Direction{Outbound, Inbound} {
		p.plan(dir)
	}
	c.bounds(p)
	if err := c.err(); err != nil {
		return nil, err
	}
	return p, nil
}

// plan lists what packets of a direction meet: inbound, the layers in reverse,
// their groups as they are.
func (p *Program) plan(dir Direction) {
	for _, at := range p.order(dir) {
		g := &p.layers[at.Layer].groups[at.Group]
		for cl := range classes {
			if t := &g.by[cl]; len(t.places) > 0 {
				p.plans[dir][cl] = append(p.plans[dir][cl], plan{at.Layer, at.Group, g.rules, t})
			}
		}
	}
}

// order lists every group of a direction as packets meet them.
func (p *Program) order(dir Direction) (list []Step) {
	for i := range p.layers {
		for j := range p.layers[i].groups {
			if p.layers[i].groups[j].direction == dir {
				list = append(list, Step{Layer: uint16(i), Group: uint16(j)})
			}
		}
	}
	if dir == Inbound {
		slices.SortStableFunc(list, func(a, b Step) int { return int(b.Layer) - int(a.Layer) })
	}
	return list
}

// tables makes those of a group.
func (c *check) tables(layer string, g *Group, cache *Cache) *tables {
	rules := slices.Clone(g.Rules)
	slices.SortStableFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	if t := cache.find(g.Family, rules); t != nil && g.Name != "" && g.Direction.valid() {
		return t
	}
	t := &tables{family: g.Family, rules: rules}
	if !c.group(layer, g, rules) {
		return t
	}
	before := len(c.errs)
	reached := make([]reach, len(rules))
	for cl := range classes {
		if g.Family == AnyFamily || g.Family == cl.family() {
			t.by[cl] = newTable(rules, cl, reached)
		}
	}
	c.reach(layer, g.Name, rules, reached)
	if len(c.errs) == before {
		cache.keep(t)
	}
	return t
}

func newTable(rules []Rule, cl class, reached []reach) (t table) {
	var tuples []tuple
	for n := range rules {
		if m, ok := tupleOf(&rules[n].Match, cl); ok {
			t.places = append(t.places, int32(n))
			t.behindPorts = append(t.behindPorts, m.uses()&behindPorts != 0)
			tuples = append(tuples, m)
		}
	}
	if len(tuples) == 0 {
		return t
	}
	t.places, t.behindPorts = slices.Clip(t.places), slices.Clip(t.behindPorts)
	t.classifier = newClassifier(tuples, cl)
	for n := range tuples {
		t.note(n, rules, tuples, cl, reached)
	}
	return t
}

// reach is what became of a rule: the classes of frames that it can match, those
// in which an earlier rule with another action leaves nothing to it, and that
// rule.
type reach struct {
	matches, covered uint8 // bits by class
	by               int32
}

// note looks for a rule before the n-th one that covers it. Only those that
// match one packet of the n-th rule's can.
func (t *table) note(n int, rules []Rule, tuples []tuple, cl class, reached []reach) {
	r := &reached[t.places[n]]
	r.matches |= 1 << cl
	k := tuples[n].witness()
	t.classifier.all(&k, n, func(earlier int) bool {
		if !tuples[earlier].covers(&tuples[n]) {
			return true
		}
		if by := t.places[earlier]; rules[by].Action != rules[t.places[n]].Action {
			r.covered |= 1 << cl
			r.by = by
		}
		return false
	})
}

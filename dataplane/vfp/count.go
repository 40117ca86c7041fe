package vfp

import "sync/atomic"

// counter is what a rule has matched.
type counter struct{ packets, bytes atomic.Uint64 }

func newCounters(n int) []*counter {
	cells := make([]counter, n)
	c := make([]*counter, n)
	for i := range cells {
		c[i] = &cells[i]
	}
	return c
}

// Count adds packets, of so many bytes together, to the counters of the rules
// that matched them. The steps must be of this Program; those of an earlier one
// with fewer rules do no harm.
func (p *Program) Count(steps []Step, packets, bytes uint64) {
	for _, s := range steps {
		if int(s.Layer) >= len(p.layers) || int(s.Group) >= len(p.layers[s.Layer].groups) {
			continue
		}
		if c := p.layers[s.Layer].groups[s.Group].counters; int(s.Rule) < len(c) {
			c[s.Rule].packets.Add(packets)
			c[s.Rule].bytes.Add(bytes)
		}
	}
}

// Name says which rule a step is: its layer, its group and its ID.
func (p *Program) Name(s Step) [3]string {
	l := &p.layers[s.Layer]
	g := &l.groups[s.Group]
	return [3]string{l.name, g.name, g.rules[s.Rule].ID}
}

// Inherit lets p go on counting where old stands: rules of the same ID in the
// same group and layer share their counters from then on, so that nothing is
// lost while both are in use. It must be called before p is used.
func (p *Program) Inherit(old *Program) {
	type place struct {
		layer, group, id string
		dir              Direction
		family           Family
	}
	had := map[place]*counter{}
	old.each(func(l *layer, g *group, i int) {
		had[place{l.name, g.name, g.rules[i].ID, g.direction, g.family}] = g.counters[i]
	})
	p.each(func(l *layer, g *group, i int) {
		if c := had[place{l.name, g.name, g.rules[i].ID, g.direction, g.family}]; c != nil {
			g.counters[i] = c
		}
	})
}

func (p *Program) each(yield func(l *layer, g *group, rule int)) {
	for i := range p.layers {
		for j := range p.layers[i].groups {
			g := &p.layers[i].groups[j]
			for n := range g.rules {
				yield(&p.layers[i], g, n)
			}
		}
	}
}

// LayerCounters are what the rules of a layer have matched.
type LayerCounters struct {
	Name     string
	Priority int
	Groups   []GroupCounters
}

// GroupCounters are what the rules of a group have matched.
type GroupCounters struct {
	Name      string
	Priority  int
	Direction Direction
	Family    Family
	Rules     []RuleCounters
}

// RuleCounters are what a rule has matched.
type RuleCounters struct {
	ID             string
	Priority       uint16
	Kind           Kind
	Packets, Bytes uint64
}

// Counters lists all rules in order, with what they have matched.
func (p *Program) Counters() []LayerCounters {
	list := make([]LayerCounters, 0, len(p.layers))
	for i := range p.layers {
		l := LayerCounters{Name: p.layers[i].name, Priority: p.layers[i].priority}
		for j := range p.layers[i].groups {
			g := &p.layers[i].groups[j]
			of := GroupCounters{Name: g.name, Priority: g.priority, Direction: g.direction, Family: g.family}
			for n, r := range g.rules {
				c := g.counters[n]
				of.Rules = append(of.Rules, RuleCounters{r.ID, r.Priority, r.Action.Kind, c.packets.Load(), c.bytes.Load()})
			}
			l.Groups = append(l.Groups, of)
		}
		list = append(list, l)
	}
	return list
}

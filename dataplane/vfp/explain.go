package vfp

import (
	"fmt"
	"strings"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Decision is what one group had to say about a packet.
type Decision struct {
	Layer, Group string
	Matched      bool
	Rule         string // its ID, where one matched
	Action       Action // of that rule
	Why          string // one sentence without a full stop
}

// Explain tells what every layer and group says about a packet, in the order of
// Evaluate, and why. It is slow, and for people. A lease is taken where a packet
// would take one, and given back at once.
func (p *Program) Explain(dir Direction, h *packet.Headers) []Decision {
	var list []Decision
	var c Composed
	p.Evaluate(dir, h, &c)
	c.Lease.Release()
	now, steps, over := *h, c.Steps(), ""
	for _, at := range p.order(dir) {
		l := &p.layers[at.Layer]
		g := &l.groups[at.Group]
		d := Decision{Layer: l.name, Group: g.name}
		switch {
		case over != "":
			d.Why = over
		case g.family == IPv4 && h.Version != 4, g.family == IPv6 && h.Version != 6:
			d.Why = fmt.Sprintf("the group is for %s packets only", g.family)
		case len(steps) > 0 && steps[0].in(at):
			r := &g.rules[steps[0].Rule]
			steps = steps[1:]
			d.Matched, d.Rule, d.Action, d.Why = true, r.ID, r.Action, r.Match.met(&now)
			r.explain(&now, &c)
			if len(steps) == 0 && c.Blocked {
				over = fmt.Sprintf("not reached: rule %q of group %q dropped the packet: %s", r.ID, g.name, c.Reason)
			}
		case c.NeedsL4 && c.asks.in(at):
			r := &g.rules[c.asks.Rule]
			d.Why = fmt.Sprintf("rule %q asks for what only the first fragment has", r.ID)
			over = "not reached: the first fragment decides"
		default:
			d.Why = g.whyNot(&now)
		}
		list = append(list, d)
	}
	return list
}

func (s Step) in(group Step) bool { return s.Layer == group.Layer && s.Group == group.Group }

// explain makes of h what the groups behind the rule see.
func (r *Rule) explain(h *packet.Headers, c *Composed) {
	if r.Action.Kind != Rewrite {
		return
	}
	r.Action.Transposition.ApplyHeaders(h)
	if r.Action.Pool != nil && c.Lease.Pool != nil {
		t := c.Lease.transposition()
		t.ApplyHeaders(h)
	}
}

// explained is how many rules are named that do not match.
const explained = 8

func (g *group) whyNot(h *packet.Headers) string {
	if len(g.rules) == 0 {
		return "the group has no rules"
	}
	if len(g.rules) > explained {
		return fmt.Sprintf("none of its %d rules matches", len(g.rules))
	}
	var why []string
	for i := range g.rules {
		r := &g.rules[i]
		why = append(why, fmt.Sprintf("%q: %s", r.ID, r.Match.unmet(h)))
	}
	return "no rule matches: " + strings.Join(why, "; ")
}

package vfp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane/drop"
)

// check collects what is wrong with the layers of a program.
type check struct{ errs []error }

func (c *check) err() error { return errors.Join(c.errs...) }

func (c *check) refuse(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// names looks for layers, and groups within them, that cannot be told apart.
func (c *check) names(layers []layer) {
	byName, byPriority := map[string]bool{}, map[int]string{}
	for i := range layers {
		l := &layers[i]
		if other, twice := byPriority[l.priority]; twice {
			c.refuse("layers %q and %q have the same priority %d", other, l.name, l.priority)
		}
		if l.name == "" || byName[l.name] {
			c.refuse("layer %q of priority %d: the name is missing or used twice", l.name, l.priority)
		}
		byName[l.name], byPriority[l.priority] = true, l.name
		for j := range l.groups {
			for k := range j {
				c.groups(l, &l.groups[k], &l.groups[j])
			}
		}
	}
}

func (c *check) groups(l *layer, a, b *group) {
	if a.direction != b.direction || a.family != b.family && a.family != AnyFamily && b.family != AnyFamily {
		return // no packet meets both
	}
	if a.priority == b.priority {
		c.refuse("layer %q: groups %q and %q, both %s, have the same priority %d", l.name, a.name, b.name, a.direction, a.priority)
	}
	if a.name == b.name {
		c.refuse("layer %q: two %s groups have the name %q", l.name, a.direction, a.name)
	}
}

// group looks at a group and its rules, each by itself, and tells whether they
// are good.
func (c *check) group(layer string, g *Group, rules []Rule) bool {
	before := len(c.errs)
	at := fmt.Sprintf("layer %q, group %q", layer, g.Name)
	if g.Name == "" {
		c.refuse("%s of priority %d: the group's name is missing", at, g.Priority)
	}
	if !g.Direction.valid() {
		c.refuse("%s: the direction %d is neither outbound nor inbound", at, g.Direction)
	}
	if g.Family != AnyFamily && g.Family != IPv4 && g.Family != IPv6 {
		c.refuse("%s: there is no family %d", at, g.Family)
	}
	if len(rules) > maxRules {
		c.refuse("%s: %d rules are more than %d", at, len(rules), maxRules)
	}
	ids := make(map[string]bool, len(rules))
	for i := range rules {
		r := &rules[i]
		if r.ID == "" || ids[r.ID] {
			c.refuse("%s, rule %q: priority %d: the ID is missing or used twice", at, r.ID, r.Priority)
		}
		ids[r.ID] = true
		if err := r.Match.check(); err != nil {
			c.refuse("%s, rule %q: %w", at, r.ID, err)
		}
		if err := r.Action.check(); err != nil {
			c.refuse("%s, rule %q: %w", at, r.ID, err)
		}
	}
	return len(c.errs) == before
}

func (m *Match) check() error {
	for _, p := range m.Src {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("the source prefix %s is no prefix of packets", p)
		}
	}
	for _, p := range m.Dst {
		if !p.IsValid() || p.Addr().Is4In6() {
			return fmt.Errorf("the destination prefix %s is no prefix of packets", p)
		}
	}
	for _, ps := range [][]PortRange{m.SrcPorts, m.DstPorts} {
		for _, p := range ps {
			if p.Lo > p.Hi {
				return fmt.Errorf("the port range %d-%d ends before it begins", p.Lo, p.Hi)
			}
		}
	}
	if m.TCPFlags.Want&^m.TCPFlags.Mask != 0 {
		return fmt.Errorf("the TCP flags wanted, %#x, are not within the mask %#x", m.TCPFlags.Want, m.TCPFlags.Mask)
	}
	return nil
}

// check tells what the action lacks, or has and may not have.
func (a *Action) check() error {
	if lacks := a.lacks(); lacks != "" {
		return fmt.Errorf("the action %s lacks its %s", a.Kind, lacks)
	}
	only := Action{Kind: a.Kind}
	switch a.Kind {
	case Allow, Decap:
	case Block:
		only.Reason = a.Reason
	case Rewrite:
		only.Transposition, only.Pool = a.Transposition, a.Pool
		return errors.Join(a.Transposition.check(), unless(*a == only, a.Kind))
	case Encap:
		only.Space, only.Tunnel = a.Space, a.Tunnel
		if a.Space != "" && a.Tunnel != (Tunnel{}) {
			return errors.New("the action encap has both a space and a tunnel")
		}
	case Route:
		only.Space = a.Space
	case Meter:
		only.Bucket = a.Bucket
	case Punt:
		only.Queue = a.Queue
	default:
		return fmt.Errorf("there is no action %d", a.Kind)
	}
	return unless(*a == only, a.Kind)
}

func unless(ok bool, k Kind) error {
	if ok {
		return nil
	}
	return fmt.Errorf("the action %s has parameters of another one", k)
}

func (a *Action) lacks() string {
	switch {
	case a.Kind == Block && (a.Reason == drop.None || int(a.Reason) >= drop.Count):
		return "reason"
	case a.Kind == Rewrite && a.Transposition == (Transposition{}) && a.Pool == nil:
		return "transposition or pool"
	case a.Kind == Route && a.Space == "":
		return "space"
	case a.Kind == Encap && a.Space == "" && (a.Tunnel.Protocol != NVGRE && a.Tunnel.Protocol != VXLAN || !a.Tunnel.Dst.IsValid() || a.Tunnel.VSID == 0):
		return "space or tunnel"
	case a.Kind == Meter && a.Bucket == nil:
		return "bucket"
	case a.Kind == Punt && a.Queue == 0:
		return "queue"
	}
	return ""
}

// reach refuses rules that no packet ever gets to, and rewriting that would
// meet packets of another address family.
func (c *check) reach(layer, group string, rules []Rule, reached []reach) {
	for i, r := range reached {
		rule := &rules[i]
		at := fmt.Sprintf("layer %q, group %q, rule %q", layer, group, rule.ID)
		switch {
		case r.matches == 0:
			c.refuse("%s: no packet can match: its conditions exclude each other or the group's family", at)
		case r.covered == r.matches:
			c.refuse("%s: never reached: rule %q before it matches all that it does", at, rules[r.by].ID)
		}
		for cl := range classes {
			if r.matches&(1<<cl) != 0 && !rule.Action.rewrites(cl) {
				c.refuse("%s: what it rewrites does not fit all the packets it matches: name their family, and addresses of that family only", at)
				break
			}
		}
	}
}

// rewrites tells whether the action's rewriting, if it does any, can be carried
// out on frames of the class.
func (a *Action) rewrites(cl class) bool {
	version := uint8(cl.family())
	return a.Transposition.fits(version) && (a.Pool == nil || a.Pool.serves(version))
}

// bounds holds the program to the size of Composed.
func (c *check) bounds(p *Program) {
	for _, dir := range []Direction{Outbound, Inbound} {
		for cl := range classes {
			meters, pools := 0, 0
			for _, pl := range p.plans[dir][cl] {
				if slices.ContainsFunc(pl.rules, func(r Rule) bool { return r.Action.Kind == Meter }) {
					meters++
				}
				if slices.ContainsFunc(pl.rules, func(r Rule) bool { return r.Action.Pool != nil }) {
					pools++
				}
			}
			if n := len(p.plans[dir][cl]); n > MaxSteps {
				c.refuse("a packet, %s, may meet %d groups, more than %d", dir, n, MaxSteps)
			}
			if meters > MaxMeters {
				c.refuse("a packet, %s, may meet %d groups that meter, more than %d", dir, meters, MaxMeters)
			}
			if pools > 1 {
				c.refuse("a packet, %s, may meet %d groups that rewrite from NAT pools, more than one", dir, pools)
			}
		}
	}
}

// fits tells whether frames of the IP version, 0 for others, can be rewritten
// so.
func (t *Transposition) fits(version uint8) bool {
	if version == 0 {
		return !t.DecTTL && t.Set&^(SetSrcMAC|SetDstMAC) == 0
	}
	return (t.Set&SetSrc == 0 || t.NewSrc.Is4() == (version == 4)) &&
		(t.Set&SetDst == 0 || t.NewDst.Is4() == (version == 4))
}

// check refuses fields that are marked and not there, or there and not marked.
func (t *Transposition) check() error {
	only := Transposition{Set: t.Set, DecTTL: t.DecTTL}
	only.take(t)
	switch {
	case *t != only:
		return errors.New("the transposition has fields that are not in its set")
	case t.Set&SetSrc != 0 && (!t.NewSrc.IsValid() || t.NewSrc.Is4In6() || t.NewSrc.Zone() != ""),
		t.Set&SetDst != 0 && (!t.NewDst.IsValid() || t.NewDst.Is4In6() || t.NewDst.Zone() != ""):
		return errors.New("the transposition's address is missing or none of packets")
	case t.Set&SetSrcMAC != 0 && t.NewSrcMAC[0]&1 != 0:
		return errors.New("the transposition's source MAC address is a group's")
	case t.NewDSCP > maxDSCP:
		return fmt.Errorf("the transposition's DSCP %d is more than %d", t.NewDSCP, maxDSCP)
	}
	return nil
}

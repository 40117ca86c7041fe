package nft

import (
	"fmt"
	"slices"

	"github.com/hnvgate/hnvgate/internal/nfnl"
)

// plan gives the messages that turn the observed table into the wanted one, and
// says in words what they change. Both are empty when nothing differs.
func plan(want compiled, have observed) (msgs []nfnl.Message, changes []string) {
	p := planner{want: want}
	title := fmt.Sprintf("table %s %s", want.family, want.name)
	switch {
	case !have.exists:
		p.build(nil)
		return p.msgs, []string{title + " made"}
	case p.mustRebuild(have):
		p.add(msgDelTable, 0, "delete table", nil)
		p.build(have.objects)
		return p.msgs, []string{title + " rebuilt: " + p.reason}
	}
	p.repair(have)
	return p.msgs, p.changes
}

type planner struct {
	want    compiled
	msgs    []nfnl.Message
	changes []string
	reason  string
}

func (p *planner) changed(format string, args ...any) {
	p.changes = append(p.changes, fmt.Sprintf(format, args...))
}

// mustRebuild tells whether something differs that the kernel cannot change in
// place. All happens in one batch all the same, and counters keep their values.
func (p *planner) mustRebuild(have observed) bool {
	for _, c := range p.want.chains {
		for _, o := range have.chains {
			if o.name == c.name && !equalHooks(c.hook, o.hook) {
				p.reason = "chain " + c.name + " was attached elsewhere"
			}
		}
	}
	for _, s := range p.want.sets {
		for _, o := range have.sets {
			if o.name == s.name && o.def != s.def {
				p.reason = "set " + s.name + " was of another type"
			}
		}
	}
	return p.reason != ""
}

// build makes the whole table.
func (p *planner) build(old []observedObject) {
	p.table()
	for _, name := range p.want.counters {
		var start Counter
		for _, o := range old {
			if o.name == name && o.typ == objectCounter {
				start = o.counter
			}
		}
		p.counter(name, start)
	}
	for _, s := range p.want.sets {
		p.set(s)
		p.elements(msgNewSetElem, s, s.elems)
	}
	for _, c := range p.want.chains {
		p.chain(c)
	}
	for _, c := range p.want.chains {
		p.rules(c)
	}
}

// repair changes what differs. Order: what goes away loses its users first,
// what comes is there before its users.
func (p *planner) repair(have observed) {
	if have.flags != 0 {
		p.table()
		p.changed("table %s woken", p.want.name)
	}
	rewrite := p.differingChains(have)
	for _, o := range have.chains {
		i := slices.IndexFunc(p.want.chains, func(c compiledChain) bool { return c.name == o.name })
		if len(o.rules) > 0 && (i < 0 || rewrite[o.name]) {
			p.add(msgDelRule, 0, "empty chain "+o.name, nfnl.AppendString(nil, ruleChain, o.name))
		}
	}
	p.removeStrangers(have)
	for _, name := range p.want.counters {
		if !slices.ContainsFunc(have.objects, func(o observedObject) bool { return o.name == name && o.typ == objectCounter }) {
			p.counter(name, Counter{})
			p.changed("counter %s made", name)
		}
	}
	p.repairSets(have)
	for _, c := range p.want.chains {
		i := slices.IndexFunc(have.chains, func(o observedChain) bool { return o.name == c.name })
		switch {
		case i < 0:
			p.chain(c)
			p.changed("chain %s made", c.name)
		case c.hook != nil && c.hook.Drop != have.chains[i].hook.Drop:
			p.chain(c)
			p.changed("policy of chain %s set", c.name)
		}
	}
	for _, c := range p.want.chains {
		if rewrite[c.name] {
			p.rules(c)
		}
	}
}

// differingChains names the wanted chains whose rules must be written.
func (p *planner) differingChains(have observed) map[string]bool {
	rewrite := map[string]bool{}
	for _, c := range p.want.chains {
		i := slices.IndexFunc(have.chains, func(o observedChain) bool { return o.name == c.name })
		switch {
		case i < 0:
			rewrite[c.name] = true
		case !equalRules(c.rules, have.chains[i].rules):
			rewrite[c.name] = true
			p.changed("rules of chain %s rewritten", c.name)
		}
	}
	return rewrite
}

// removeStrangers deletes what the table should not have. Sets go before
// chains, which their elements may lead to.
func (p *planner) removeStrangers(have observed) {
	for _, o := range have.sets {
		if !o.anonymous && !slices.ContainsFunc(p.want.sets, func(s compiledSet) bool { return s.name == o.name }) {
			p.add(msgDelSet, 0, "delete set "+o.name, nfnl.AppendString(nil, setName, o.name))
			p.changed("set %s removed", o.name)
		}
	}
	for _, o := range have.chains {
		if !o.isSeal() && !slices.ContainsFunc(p.want.chains, func(c compiledChain) bool { return c.name == o.name }) {
			p.add(msgDelChain, 0, "delete chain "+o.name, nfnl.AppendString(nil, chainName, o.name))
			p.changed("chain %s removed", o.name)
		}
	}
	for _, o := range have.objects {
		if o.typ != objectCounter || !slices.Contains(p.want.counters, o.name) {
			data := nfnl.AppendString(nil, objName, o.name)
			p.add(msgDelObj, 0, "delete object "+o.name, nfnl.AppendUint32(data, objType, o.typ))
			p.changed("object %s removed", o.name)
		}
	}
}

func (p *planner) repairSets(have observed) {
	for _, s := range p.want.sets {
		i := slices.IndexFunc(have.sets, func(o observedSet) bool { return o.name == s.name })
		if i < 0 {
			p.set(s)
			p.elements(msgNewSetElem, s, s.elems)
			p.changed("set %s made", s.name)
			continue
		}
		missing, extra := diffElements(s.elems, have.sets[i].elems)
		if len(missing)+len(extra) == 0 {
			continue
		}
		p.changed("set %s: %d elements put in, %d taken out", s.name, len(missing), len(extra))
		if s.def.flags&setInterval == 0 {
			p.elements(msgDelSetElem, s, extra)
			p.elements(msgNewSetElem, s, missing)
			continue
		}
		// The parts of an interval depend on each other: write all of them.
		p.add(msgDelSetElem, 0, "empty set "+s.name, nfnl.AppendString(nil, elemListSet, s.name))
		p.elements(msgNewSetElem, s, s.elems)
	}
}

func diffElements(want, have []elem) (missing, extra []elem) {
	in := make(map[elem]bool, len(have))
	for _, e := range have {
		in[e] = true
	}
	for _, e := range want {
		if !in[e] {
			missing = append(missing, e)
		}
		delete(in, e)
	}
	for _, e := range have {
		if in[e] {
			extra = append(extra, e)
		}
	}
	return missing, extra
}

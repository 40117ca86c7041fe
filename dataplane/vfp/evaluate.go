package vfp

import (
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Step is a rule that matched, by its places in the Program that Evaluate was
// called of.
type Step struct{ Layer, Group, Rule uint16 }

// Composed is what all layers together do to a packet, and to every later one of
// its flow.
type Composed struct {
	// Blocked tells that a rule with the Reason dropped the packet. The steps up
	// to that rule are there, and nothing may be done of what they say.
	Blocked bool
	// NeedsL4 tells that the packet is a later fragment, and what becomes of it
	// is for its ports to say, which the first fragment has. The steps are those
	// that were sure, and nothing may be done of what they say.
	NeedsL4 bool
	Reason  drop.Reason

	kinds          uint16 // bits by Kind
	count, metered uint8
	asks           Step // what needs L4
	steps          [MaxSteps]Step
	actions        [MaxSteps]*Action
	meters         [MaxMeters]*Bucket

	// Transposition is that of all Rewrite actions, one after the other.
	Transposition Transposition
	// Lease is what a NAT pool gave for this packet's flow. Whoever takes the
	// Composed has to release it when the flow is gone; where Blocked or NeedsL4
	// is set there is none.
	Lease Lease
}

// Steps are the rules that matched, in their order; valid as long as c is.
func (c *Composed) Steps() []Step { return c.steps[:c.count] }

// Actions are those of Steps.
func (c *Composed) Actions() []*Action { return c.actions[:c.count] }

// Meters are the buckets that must have room for the packet; give them to
// TakeAll.
func (c *Composed) Meters() []*Bucket { return c.meters[:c.metered] }

// Has tells whether an action of the kind is among Actions.
func (c *Composed) Has(k Kind) bool { return c.kinds&(1<<k) != 0 }

// Action gives the last action of the kind, nil if there is none.
func (c *Composed) Action(k Kind) *Action {
	if !c.Has(k) {
		return nil
	}
	for i := int(c.count) - 1; i >= 0; i-- {
		if a := c.actions[i]; a.Kind == k {
			return a
		}
	}
	return nil
}

// Evaluate puts a packet, by its headers, through all layers and composes what
// they do. Each layer sees the headers as the ones before it left them. It
// neither blocks nor allocates, unless a rule takes a lease from a NAT pool.
func (p *Program) Evaluate(dir Direction, h *packet.Headers, c *Composed) {
	*c = Composed{}
	if !dir.valid() {
		return
	}
	c.run(p.plans[dir][classOf(h)], h)
}

// EvaluateLayer is Evaluate for one layer alone: to see whether it still lets a
// flow pass, say. An unknown layer has no say.
func (p *Program) EvaluateLayer(name string, dir Direction, h *packet.Headers, c *Composed) {
	*c = Composed{}
	if !dir.valid() {
		return
	}
	plans := p.plans[dir][classOf(h)]
	begin, end := 0, 0
	for i := range plans {
		if p.layers[plans[i].layer].name == name {
			if end == 0 {
				begin = i
			}
			end = i + 1
		}
	}
	c.run(plans[begin:end], h)
}

func (c *Composed) run(plans []plan, h *packet.Headers) {
	var k keys
	var moved packet.Headers
	keysOf(h, &k)
	skip := uint16(0)
	if h.FragOffset != 0 {
		skip = behindPorts
	}
	for i := range plans {
		pl := &plans[i]
		n := pl.classifier.first(&k, skip)
		if n < 0 {
			continue
		}
		a := &pl.rules[pl.places[n]].Action
		if skip != 0 && (pl.behindPorts[n] || a.Pool != nil) {
			c.NeedsL4, c.asks = true, Step{pl.layer, pl.group, uint16(pl.places[n])}
			c.giveBack()
			return
		}
		c.steps[c.count] = Step{pl.layer, pl.group, uint16(pl.places[n])}
		c.actions[c.count] = a
		c.count++
		c.kinds |= 1 << a.Kind
		switch a.Kind {
		case Block:
			c.block(a.Reason)
			return
		case Meter:
			c.meters[c.metered] = a.Bucket
			c.metered++
		case Rewrite:
			t := a.Transposition
			if a.Pool != nil {
				lease, ok := a.Pool.lease(h)
				if !ok {
					c.block(drop.NATPoolExhausted)
					return
				}
				c.Lease = lease
				source := lease.transposition()
				t.take(&source)
			}
			if h != &moved {
				moved = *h
				h = &moved
			}
			t.ApplyHeaders(h)
			keysOf(h, &k)
			c.Transposition.take(&t)
		}
	}
}

func (c *Composed) block(r drop.Reason) {
	c.Blocked, c.Reason = true, r
	c.giveBack()
}

// giveBack is for packets that do not pass: they hold no lease.
func (c *Composed) giveBack() {
	c.Lease.Release()
	c.Lease = Lease{}
}

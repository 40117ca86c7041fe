package dataplane

import (
	"context"
	"time"
)

// upkeepInterval is how often what ages is looked at, and sweepShare how many
// flows of a port are looked at each time, so that no round takes long.
const (
	upkeepInterval = time.Second
	sweepShare     = 1 << 16
)

// Run does the Switch's upkeep, and learns, until ctx ends.
func (s *Switch) Run(ctx context.Context) {
	t := time.NewTicker(upkeepInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.Upkeep()
		case first := <-s.learner.queue:
			s.learn(first)
		}
	}
}

// Upkeep takes up what there is to learn and lets age what ages: flows of all
// ports, and what was learned. Run calls it every second;
// whoever steps a Switch by hand calls it as often as time passes.
func (s *Switch) Upkeep() {
	s.learn()
	s.age()
	s.forgetPings(s.opt.Now())
	now := s.opt.Now().UnixNano()
	s.hearPassed(now)
	for _, p := range s.ports.Load().byID.All {
		p.flows.Sweep(now, sweepShare)
	}
}

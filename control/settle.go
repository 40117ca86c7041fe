package control

import (
	"context"
	"errors"
	"time"
)

// settle tells the Wiring once everything that there was at the start has been
// tried and has come to be, or, where something of it fails, after some patience:
// what an earlier process left in the kernel forwards meanwhile what it did before,
// and a tenant that cannot be built now may be built in a moment.
func (c *Controller) settle(ctx context.Context) {
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	deadline := time.Now().Add(c.o.SettleWithin)
	for !c.settled() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			c.o.Log.Warn("something is not as desired since the start; what an earlier process left for it in the fast path is removed", "after", c.o.SettleWithin)
			break
		}
	}
	err := c.o.Wiring.Settled()
	if c.o.Exits != nil {
		err = errors.Join(err, c.o.Exits.Settle())
	}
	if err != nil {
		c.o.Log.Error("remove what an earlier process left in the fast path", "err", err)
	}
	if c.o.Settled != nil {
		c.o.Settled()
	}
}

const settlePoll = 50 * time.Millisecond

// settled tells whether nothing that was asked for is still to be done.
func (c *Controller) settled() bool {
	if c.behind() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tenants {
		if t.wish.pending() {
			return false
		}
	}
	return true
}

package control

import (
	"context"
	"slices"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// condStore tells whether what is stored can be read. Where it cannot, traffic
// flows by the last state that could, and no change is taken.
const condStore = "StoreReady"

// health remembers since when the store has been as it is.
type health struct {
	store Store

	mu   sync.Mutex
	cond v1.Condition
}

func (h *health) run(ctx context.Context, interval time.Duration) {
	for sleep(ctx, interval, nil) {
		h.look()
	}
}

// look asks the store how it is.
func (h *health) look() v1.Condition {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := v1.Condition{Type: condStore, Status: true, Reason: "Following", Since: h.cond.Since}
	if err := h.store.Healthy(); err != nil {
		next.Status, next.Reason = false, "Unreadable"
		next.Message = err.Error() + "; traffic flows as last configured, changes are refused"
	}
	if h.cond.Type == "" || h.cond.Status != next.Status {
		next.Since = time.Now()
	}
	h.cond = next
	return next
}

// conditions are those of the gateway as a whole.
func (c *Controller) conditions() []v1.Condition {
	out := slices.Concat(c.provider.conditions(), []v1.Condition{c.health.look()})
	if room, ok := c.neighbours.condition(c.attachedTenants()); ok {
		out = append(out, room)
	}
	return out
}

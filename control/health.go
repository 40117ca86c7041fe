package control

import (
	"context"
	"slices"
	"strings"
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

// condSecrets tells, while it is there, that stored secrets cannot be opened: their
// agents run on with what they were told before, and cannot be told anything else.
const condSecrets = "SecretsReady"

// secretsCondition names the tenants whose secrets cannot be opened; false: there are
// none.
func (c *Controller) secretsCondition() (v1.Condition, bool) {
	var whose []string
	var since time.Time
	for _, n := range c.known() {
		t := c.find(n)
		if t == nil {
			continue
		}
		t.keeper.mu.Lock()
		fault, at := t.keeper.fault, t.keeper.faultSince
		t.keeper.mu.Unlock()
		if fault == nil {
			continue
		}
		whose = append(whose, n.String())
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return v1.Condition{
		Type: condSecrets, Reason: "KeyFailed", Since: since,
		Message: "keys and passwords of " + strings.Join(whose, ", ") + " cannot be opened: their tunnels and BGP run on as they were told last, and what is changed of them has no effect, nor do they come back once their agent has ended: bring back the key file that they were stored with and start gatewayd again, or set them anew",
	}, len(whose) > 0
}

// conditions are those of the gateway as a whole.
func (c *Controller) conditions() []v1.Condition {
	out := slices.Concat(c.provider.conditions(), []v1.Condition{c.health.look()})
	if room, ok := c.neighbours.condition(c.attachedTenants()); ok {
		out = append(out, room)
	}
	if lost, ok := c.secretsCondition(); ok {
		out = append(out, lost)
	}
	return out
}

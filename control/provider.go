package control

import (
	"context"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/hnv"
)

// provider keeps the fabric side: addresses, routes, and the dataplane's ear on
// the PA interfaces.
type provider struct {
	c    *Controller
	wish wish

	apply sync.Mutex // one at a time changes the provider side

	mu   sync.Mutex
	spec compartments.ProviderSpec // of the last try
	cond v1.Condition
}

func newProvider(c *Controller) *provider {
	return &provider{c: c, wish: newWish()}
}

func (p *provider) run(ctx context.Context) {
	failures := 0
	for {
		pause := p.c.o.DriftInterval
		if failures > 0 {
			pause = p.c.o.backoff(failures)
		}
		if !sleep(ctx, pause, p.wish.woken) {
			return
		}
		asked := p.wish.asked.Load()
		if p.reconcile(ctx) {
			failures = 0
			p.wish.done.Store(asked)
		} else {
			failures++
		}
	}
}

// reconcile is one try at the whole provider side.
func (p *provider) reconcile(ctx context.Context) bool {
	p.apply.Lock()
	defer p.apply.Unlock()
	var spec compartments.ProviderSpec
	p.c.o.Store.View(func(f *hnv.Fabric) { spec = providerSpec(f) })
	p.mu.Lock()
	unchanged := equalSpecs(p.spec, spec) && p.cond.Status
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, p.c.o.StepTimeout)
	defer cancel()
	repaired, err := p.c.o.Compartments.ApplyProvider(ctx, spec)
	reason := "ProviderFailed"
	if err == nil {
		reason = "DataplaneFailed"
		st := p.c.o.Compartments.ProviderState()
		err = p.c.o.Wiring.Provider(FabricSide{Tunnel: st.Addresses, Rewrite: st.Rewrite, Groups: spec.Groups})
	}
	if len(repaired) > 0 && unchanged {
		p.c.o.Log.Warn("repaired drift of the provider side", "what", repaired)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spec = spec
	next := v1.Condition{Type: "ProviderReady", Status: err == nil, Reason: "Applied", Since: p.cond.Since}
	if err != nil {
		next.Reason, next.Message = reason, err.Error()
		p.c.o.Log.Error("reconcile the provider side", "err", err)
	}
	if p.cond.Type == "" || p.cond.Status != next.Status {
		next.Since = time.Now()
	}
	p.cond = next
	return err == nil
}

// claim makes sure, before the dataplane gets a tenant, that the tenant's tunnel
// packets do not go to the machine's own stack as well. Nothing that was viewed
// before can take it back, as that is done one at a time.
func (p *provider) claim(ctx context.Context, subnets []hnv.Subnet) error {
	var vsids []hnv.VSID
	for _, s := range subnets {
		vsids = append(vsids, s.VSID)
	}
	p.apply.Lock()
	defer p.apply.Unlock()
	return p.c.o.Compartments.Claim(ctx, vsids)
}

func (p *provider) conditions() []v1.Condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cond.Type == "" {
		return []v1.Condition{}
	}
	return []v1.Condition{p.cond}
}

func (p *provider) addresses() []v1.LinkStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []v1.LinkStatus{}
	for _, a := range p.spec.Addresses {
		l := v1.LinkStatus{Name: a.Addr.String(), Interface: a.Interface, Phase: v1.PhaseReady, MTU: p.c.o.PAMTU()}
		if !p.cond.Status {
			l.Phase, l.Message = v1.PhaseError, p.cond.Message
		}
		out = append(out, l)
	}
	return out
}

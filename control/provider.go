package control

import (
	"context"
	"slices"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/hnv"
)

// provider keeps the fabric side: addresses, each on a link that works, routes,
// and the dataplane's ear on the PA interfaces.
type provider struct {
	c    *Controller
	wish wish

	apply sync.Mutex // one at a time changes the provider side

	mu    sync.Mutex
	spec  compartments.ProviderSpec  // of the last try
	state compartments.ProviderState // as the dataplane knows it
	cond  v1.Condition
}

func newProvider(c *Controller) *provider {
	return &provider{c: c, wish: newWish()}
}

// run looks at everything when something is wanted and every now and then, and
// at the links when one changes.
func (p *provider) run(ctx context.Context) {
	links, err := p.c.o.Compartments.WatchProvider(ctx)
	if err != nil {
		p.c.o.Log.Error("no word of links that fail, which are found later", "err", err)
	}
	p.failover(ctx) // what has happened since the first look
	failures := 0
	next := time.Now().Add(p.c.o.DriftInterval) // look at everything
	for {
		pause := time.Until(next)
		if again := p.c.o.Compartments.ProviderState().Again; again > 0 {
			pause = min(pause, again)
		}
		timer := time.NewTimer(pause)
		whole := false
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.wish.woken:
			whole = true
		case <-links:
		case <-timer.C:
		}
		timer.Stop()
		if !whole && time.Now().Before(next) && p.failover(ctx) {
			continue
		}
		asked := p.wish.asked.Load()
		wait := p.c.o.DriftInterval
		if p.reconcile(ctx) {
			failures = 0
			p.wish.done.Store(asked)
		} else {
			failures++
			wait = p.c.o.backoff(failures)
		}
		next = time.Now().Add(wait)
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
	p.spec = spec
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, p.c.o.StepTimeout)
	defer cancel()
	repaired, err := p.c.o.Compartments.ApplyProvider(ctx, spec)
	reason := "ProviderFailed"
	if err == nil {
		reason = "DataplaneFailed"
		err = p.serve(spec)
	}
	if len(repaired) > 0 && unchanged {
		p.c.o.Log.Warn("repaired drift of the provider side", "what", repaired)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
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

// failover is what to do when a link has changed: quick, and no more than that.
// It is false if all should be looked at.
func (p *provider) failover(ctx context.Context) bool {
	p.apply.Lock()
	defer p.apply.Unlock()
	p.mu.Lock()
	spec := p.spec
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.c.o.StepTimeout)
	defer cancel()
	changed, err := p.c.o.Compartments.Failover(ctx)
	if len(changed) > 0 {
		p.c.o.Log.Info("provider addresses moved", "what", changed)
	}
	if err == nil {
		err = p.serve(spec)
	}
	if err != nil && ctx.Err() == nil {
		p.c.o.Log.Error("follow the links of the fabric", "err", err)
	}
	return err == nil
}

// serve tells the dataplane where the addresses are now.
func (p *provider) serve(spec compartments.ProviderSpec) error {
	st := p.c.o.Compartments.ProviderState()
	p.mu.Lock()
	old := p.state
	p.state = st
	p.mu.Unlock()
	for _, s := range st.Addresses {
		i := slices.IndexFunc(old.Addresses, func(o compartments.PAState) bool { return o.Addr == s.Addr })
		before := ""
		if i >= 0 {
			before = old.Addresses[i].Trouble()
		}
		switch {
		case before == s.Trouble():
		case s.Trouble() == "":
			p.c.o.Log.Info("provider address works again", "address", s.Addr, "interface", s.Link)
		default:
			p.c.o.Log.Warn("provider address", "address", s.Addr, "interface", s.Link, "usable", !s.Down, "trouble", s.Trouble())
		}
	}
	return p.c.o.Wiring.Provider(FabricSide{Tunnel: st.Addresses, Rewrite: st.Rewrite, Groups: spec.Groups, VSIDs: spec.VSIDs})
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

// addresses tells of each address where it is and whether it works.
func (p *provider) addresses() []v1.LinkStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []v1.LinkStatus{}
	for _, a := range p.spec.Addresses {
		l := v1.LinkStatus{Name: a.Addr.String(), Interface: a.Interface, Phase: v1.PhaseReady, MTU: p.c.o.PAMTU()}
		i := slices.IndexFunc(p.state.Addresses, func(s compartments.PAState) bool { return s.Addr == a.Addr.Addr() })
		switch {
		case !p.cond.Status:
			l.Phase, l.Message = v1.PhaseError, p.cond.Message
		case i < 0:
			l.Phase = v1.PhasePending
		default:
			linkStatus(&l, p.state.Addresses[i])
		}
		l.Path, l.PathReason = p.c.o.Wiring.FabricPath(l.Interface).words()
		out = append(out, l)
	}
	return out
}

func linkStatus(l *v1.LinkStatus, s compartments.PAState) {
	l.Interface = s.Link
	switch l.Message = s.Trouble(); {
	case l.Message == "":
	case s.Down:
		l.Phase = v1.PhaseError
	default:
		l.Phase = v1.PhaseDegraded
	}
}

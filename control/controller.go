package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
	"github.com/hnvgate/hnvgate/store"
)

// Options are the Controller's parts and pace. Zero durations take defaults.
type Options struct {
	Store        Store
	Compartments Compartments
	NAT          NAT
	Dataplane    Dataplane
	Wiring       Wiring
	Sight        Sight
	Exits        Exits     // nil: the kernel's rules and routes take what they would
	Forwarder    Forwarder // nil: there are no attachments by links of their own
	Explain      Explain   // nil: nobody can
	Agents       Agents    // nil: there are neither tunnels nor BGP
	// Neighbours tells how much room the kernel has for neighbours; nil: the usual.
	Neighbours Neighbours
	// Open gives what a sealed secret holds; nil: none can be opened.
	Open func(hnv.SecretPlace, hnv.Secret) (string, error)
	// WireGuard is what all tunnels are to be of; "" leaves it to each agent.
	WireGuard s2s.Implementation
	// Uplinks are the interfaces of this machine's uplinks by name.
	Uplinks map[string]string
	// NATOffload has the connections that compartments have established translated
	// past them, by Exits, for tenants that do not say otherwise; NoNATOffload is why
	// nobody's can be.
	NATOffload   bool
	NoNATOffload string
	// PAMTU gives the MTU of the fabric side.
	PAMTU func() int
	Log   *slog.Logger
	// Settled is called once what there was at the start is in place, or has had
	// SettleWithin; nil: nobody asks.
	Settled func()

	DriftInterval time.Duration // between checks of what is (10 s)
	Backoff       time.Duration // after the first failure; doubles (200 ms)
	MaxBackoff    time.Duration // (30 s)
	StepTimeout   time.Duration // of one attempt at one tenant (30 s)
	SettleWithin  time.Duration // the start, before leftovers are removed all the same (30 s)
	Parallel      int           // tenants reconciled at once (4)
	ParallelAgent int           // agents told something at once (8)
}

func (o *Options) defaults() {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&o.DriftInterval, 10 * time.Second},
		{&o.Backoff, 200 * time.Millisecond},
		{&o.MaxBackoff, 30 * time.Second},
		{&o.StepTimeout, 30 * time.Second},
		{&o.SettleWithin, 30 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.ParallelAgent == 0 {
		o.ParallelAgent = 8
	}
	if o.Open == nil {
		o.Open = func(hnv.SecretPlace, hnv.Secret) (string, error) { return "", errNoKey }
	}
}

var errNoKey = errors.New("this machine has no key for secrets")

// Controller keeps the machine as the store wants it.
type Controller struct {
	o       Options
	started time.Time
	slots   chan struct{} // bounds how many tenants are worked on at once
	// agentSlots does the same for agents, of which upgrade has one replaced at a time.
	agentSlots  chan struct{}
	upgrade     sync.Mutex
	upgradeHold time.Time         // until then none is; with upgrade
	strays      map[hnv.Name]bool // tenants that had an agent at the start; constant later
	provider    *provider
	ports       *ports
	health      *health
	learning    *learning
	neighbours  *neighbours

	ctx     context.Context // Run's
	handled atomic.Int64    // revision of the last event passed on

	mu      sync.Mutex
	tenants map[hnv.Name]*tenant
	wg      sync.WaitGroup
}

// wish counts what was asked for and what of it has been done, so that status
// can say «pending» from the moment that something is written.
type wish struct {
	woken       chan struct{} // holds one wake-up
	asked, done atomic.Int64
}

func newWish() wish { return wish{woken: make(chan struct{}, 1)} }

// wake asks for another look.
func (w *wish) wake() {
	w.asked.Add(1)
	select {
	case w.woken <- struct{}{}:
	default: // one is pending already
	}
}

func (w *wish) pending() bool { return w.asked.Load() != w.done.Load() }

// New prepares a Controller; Run sets it to work.
func New(o Options) *Controller {
	o.defaults()
	c := &Controller{
		o: o, started: time.Now(),
		slots:      make(chan struct{}, o.Parallel),
		agentSlots: make(chan struct{}, o.ParallelAgent), strays: map[hnv.Name]bool{},
		tenants: map[hnv.Name]*tenant{},
	}
	c.provider = newProvider(c)
	c.ports = newPorts(c)
	c.health = &health{store: o.Store}
	c.learning = newLearning(c)
	c.neighbours = &neighbours{ask: o.Neighbours}
	return c
}

// Run works until ctx ends and everything it started has ended. It leaves the
// machine as it is: traffic goes on where the kernel carries it.
func (c *Controller) Run(ctx context.Context) error {
	c.ctx = ctx
	events := c.o.Store.Watch(ctx)
	c.provider.reconcile(ctx)
	c.prune(ctx)
	c.wg.Go(func() { c.provider.run(ctx) })
	c.wg.Go(func() { c.ports.run(ctx) })
	c.wg.Go(func() { c.learning.run(ctx) })
	c.wg.Go(func() { newReach(c).run(ctx) })
	c.wg.Go(func() { c.health.run(ctx, c.o.DriftInterval) })
	c.wg.Go(func() { c.settle(ctx) })
	for e := range events {
		c.handle(ctx, e)
	}
	c.wg.Wait()
	return context.Cause(ctx)
}

// wakeAll wakes the tenants of the store, and those that are no longer there.
func (c *Controller) wakeAll(ctx context.Context) {
	for _, n := range c.known() {
		c.wake(ctx, n)
	}
}

// prune removes what a former run left and nobody wants now.
func (c *Controller) prune(ctx context.Context) {
	var keep []hnv.Name
	c.o.Store.View(func(f *hnv.Fabric) {
		for _, t := range f.Tenants() {
			if t.Gateway != nil {
				keep = append(keep, t.Name)
			}
		}
	})
	c.endStrayAgents(ctx, keep)
	removed, err := c.o.Compartments.Prune(ctx, keep)
	if err != nil {
		c.o.Log.Error("remove leftover compartments", "err", err)
	}
	for _, r := range removed {
		c.o.Log.Info("removed leftover", "what", r)
	}
}

// handle passes one event of the store on.
func (c *Controller) handle(ctx context.Context, e store.Event) {
	defer c.handled.Store(e.Revision)
	if e.Resync {
		c.provider.wish.wake()
		c.ports.wish.wake()
		c.wakeAll(ctx)
		return
	}
	fast := map[hnv.VSID]*recordChange{}
	names := map[hnv.Name]bool{} // of tenants whose tables or kernel state may change
	near := map[hnv.Name]bool{}  // of tenants that may have come here
	for _, ch := range e.Changes {
		for _, o := range []hnv.Object{ch.Old, ch.Object} {
			switch o := o.(type) {
			case hnv.Tenant:
				names[o.Name] = true
				c.ports.wish.wake()
				c.provider.wish.wake() // it has the virtual subnets
			case hnv.NATMapping:
				names[o.Tenant] = true
			case hnv.ACL:
				names[o.Tenant] = true
			case hnv.Attachment:
				names[o.Tenant] = true
			case hnv.S2SConnection:
				names[o.Tenant] = true
			case hnv.BGPRouter:
				names[o.Tenant] = true
			case hnv.BGPPeer:
				names[o.Tenant] = true
			case hnv.Record:
				if o.Rule == hnv.RuleRewrite {
					c.provider.wish.wake()
				}
				// These alone bring a tenant here, or let it go.
				if o.Type == hnv.L2Only || o.Rule == hnv.RuleRewrite {
					c.byVSID(o.VSID, names)
				}
			case hnv.CustomerRoute:
				c.byVSID(o.VSID, names)
			case hnv.ProviderAddress:
				c.provider.wish.wake()
				c.ports.wish.wake()
				c.allNames(names)
			case hnv.ProviderRoute:
				c.provider.wish.wake()
			case hnv.Port:
				c.ports.wish.wake()
				c.provider.wish.wake() // it has what stands for VMs, and groups of their subnets
				c.byVSID(o.VSID, near)
			}
		}
		collectRecord(fast, ch)
	}
	for v, rc := range fast {
		c.updateRecords(ctx, v, rc, e.Revision)
	}
	for n := range names {
		c.wake(ctx, n)
	}
	for n := range near {
		if t := c.start(ctx, n); t != nil {
			t.wish.wake()
		}
	}
}

func (c *Controller) byVSID(v hnv.VSID, names map[hnv.Name]bool) {
	c.o.Store.View(func(f *hnv.Fabric) {
		if t, ok := f.TenantOfVSID(v); ok {
			names[t.Name] = true
		}
	})
}

func (c *Controller) allNames(names map[hnv.Name]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.tenants {
		names[n] = true
	}
}

type recordChange struct {
	put []hnv.Record
	del []hnv.RecordKey
}

func collectRecord(into map[hnv.VSID]*recordChange, ch store.Applied) {
	at := func(v hnv.VSID) *recordChange {
		if into[v] == nil {
			into[v] = &recordChange{}
		}
		return into[v]
	}
	if r, ok := ch.Object.(hnv.Record); ok {
		rc := at(r.VSID)
		rc.put = append(rc.put, r)
		return
	}
	if r, ok := ch.Old.(hnv.Record); ok {
		rc := at(r.VSID)
		rc.del = append(rc.del, r.RecordKey())
	}
}

// updateRecords takes the short way to the dataplane.
func (c *Controller) updateRecords(ctx context.Context, v hnv.VSID, rc *recordChange, revision int64) {
	var t hnv.Tenant
	var ok bool
	c.o.Store.View(func(f *hnv.Fabric) { t, ok = f.TenantOfVSID(v) })
	if !ok {
		return // the tenant went too; its teardown takes the records along
	}
	tn := c.wakeUnless(ctx, t.Name)
	if tn == nil {
		return // just created: its first reconcile reads the records
	}
	tn.apply.Lock()
	defer tn.apply.Unlock()
	if tn.applied != t.RDID || revision <= tn.appliedRevision {
		return // where the tenant is not here, nothing needs its records
	}
	if err := c.o.Dataplane.UpdateRecords(t.RDID, rc.put, rc.del); err != nil {
		c.o.Log.Error("update lookup records", "tenant", t.Name, "rdid", t.RDID, "err", err)
		tn.dirty.Store(true)
		tn.wish.wake()
	}
}

// wakeUnless gives the tenant that is at work, or starts it and gives nil.
func (c *Controller) wakeUnless(ctx context.Context, n hnv.Name) *tenant {
	c.mu.Lock()
	t := c.tenants[n]
	c.mu.Unlock()
	if t == nil {
		c.wake(ctx, n)
	}
	return t
}

// wake makes the tenant's goroutine look again, starting it where needed, and
// bring its tables up to date. It gives the tenant; nil at the end.
func (c *Controller) wake(ctx context.Context, n hnv.Name) *tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	t := c.tenants[n]
	if t == nil {
		t = newTenant(c, n)
		c.tenants[n] = t
		c.wg.Go(func() { t.run(ctx) })
	}
	t.dirty.Store(true)
	t.wish.wake()
	return t
}

// start gives the tenant, starting its goroutine where needed; nil at the end.
func (c *Controller) start(ctx context.Context, n hnv.Name) *tenant {
	if t := c.find(n); t != nil {
		return t
	}
	return c.wake(ctx, n)
}

// forget ends a tenant that is gone, unless it has been asked for again or
// somebody is just giving its tables to the dataplane.
func (c *Controller) forget(t *tenant) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(t.wish.woken) > 0 || !t.apply.TryLock() {
		return false
	}
	defer t.apply.Unlock()
	if t.applied.IsValid() {
		return false
	}
	t.forgotten = true
	close(t.keeper.over)
	delete(c.tenants, t.name)
	return true
}

func (c *Controller) find(n hnv.Name) *tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tenants[n]
}

func (c *Controller) machine() machine {
	return machine{paMTU: c.o.PAMTU(), uplinks: c.o.Uplinks, open: c.o.Open, wireguard: c.o.WireGuard, neighbours: c.neighbours.each()}
}

// sleep waits for d, a wake-up or the end.
func sleep(ctx context.Context, d time.Duration, woken <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-woken:
	case <-timer.C:
	}
	return true
}

// backoff gives the pause after the n-th failure in a row.
func (o *Options) backoff(n int) time.Duration {
	d := o.Backoff
	for range min(n-1, 20) {
		d *= 2
	}
	return min(d, o.MaxBackoff)
}

func sortedNames(m map[hnv.Name]*tenant) []hnv.Name {
	out := make([]hnv.Name, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b hnv.Name) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	return out
}

package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// The conditions of a tenant.
const (
	condDataplane   = "DataplaneReady"
	condCompartment = "CompartmentReady"
	condNAT         = "NATReady"
	condPort        = "PortReady"
	condForward     = "ForwardReady"
	condFits        = "ConfigurationFits" // there while something does not
)

// tenant is one tenant's reconciler.
type tenant struct {
	c    *Controller
	name hnv.Name
	wish wish

	// apply guards what the dataplane was given, so that the short way for
	// records and the long one do not overtake each other.
	apply           sync.Mutex
	applied         hnv.RDID // invalid until the dataplane has the tenant
	appliedRevision int64
	forgotten       bool        // there may be another of the name by now
	dirty           atomic.Bool // the dataplane's tables may lack something that the store has

	learned atomic.Pointer[learned] // what BGP says is behind the compartment
	keeper  *keeper                 // of the compartment's agent
	// heard is from where its peers without an endpoint call, sorted.
	heard atomic.Pointer[[]netip.Addr]

	status status
	exit   exit // of the compartment; the runner's
	// attached: the compartment may have links in physical networks; the runner's.
	// It may at the start, as an earlier process may have made some.
	attached bool
}

func newTenant(c *Controller, n hnv.Name) *tenant {
	t := &tenant{c: c, name: n, wish: newWish(), attached: true}
	t.keeper = newKeeper(t)
	t.keeper.present = c.strays[n]
	return t
}

// run reconciles until the tenant is gone or ctx ends.
func (t *tenant) run(ctx context.Context) {
	failures := 0
	var settled *Desired // what the last complete success had
	fresh := false       // there was just one
	for {
		pause := t.c.o.DriftInterval
		if failures > 0 {
			pause = t.c.o.backoff(failures)
		}
		if settled == nil && failures == 0 {
			pause = 0
		}
		if fresh {
			pause, fresh = spread(pause), false
		}
		if !sleep(ctx, pause, t.wish.woken) {
			return
		}
		asked := t.wish.asked.Load()
		d, gone, err := t.attempt(ctx, settled)
		if err == nil {
			t.wish.done.Store(asked)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			t.c.o.Log.Error("reconcile", "tenant", t.name, "failures", failures, "err", err)
		case gone:
			if t.c.forget(t) {
				return
			}
			failures, settled = 0, nil
		default:
			fresh = settled == nil
			failures, settled = 0, d
		}
	}
}

// spread has those that came to be together, as at the start, looked at one after the
// other later on.
func spread(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// attempt is one bounded try. settled is what stood after the last success, or
// nil: whatever the engines then change although nothing new was desired is
// drift.
func (t *tenant) attempt(ctx context.Context, settled *Desired) (d *Desired, gone bool, err error) {
	select {
	case t.c.slots <- struct{}{}:
		defer func() { <-t.c.slots }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, t.c.o.StepTimeout)
	defer cancel()

	revision := t.c.o.Store.Revision() // before the view: it may lag behind it, never lead
	want, ok := t.view()
	if !ok {
		return nil, true, t.teardown(ctx)
	}
	repaired, err := t.build(ctx, want)
	t.status.observed(revision, want, err)
	if err != nil {
		return nil, false, err
	}
	if settled != nil && sameKernelState(*settled, want) && len(repaired) > 0 {
		t.c.o.Log.Warn("repaired drift", "tenant", t.name, "rdid", want.RDID, "what", repaired)
		t.status.repaired(repaired)
	}
	return &want, false, nil
}

func sameKernelState(a, b Desired) bool {
	return reflect.DeepEqual(a.Compartment, b.Compartment) && reflect.DeepEqual(a.NAT, b.NAT) && reflect.DeepEqual(a.Port, b.Port) &&
		reflect.DeepEqual(a.Forward, b.Forward)
}

func (t *tenant) view() (d Desired, ok bool) {
	m := t.c.machine()
	if heard := t.heard.Load(); heard != nil {
		m.heard = *heard
	}
	t.c.o.Store.View(func(f *hnv.Fabric) { d, ok = desired(f, t.name, m) })
	return d, ok
}

// build brings everything of the tenant in line, in the order compartment, NAT,
// attachments, dataplane, port, agent: a compartment is closed before packets can
// enter it, and tells nobody of routes before it forwards.
func (t *tenant) build(ctx context.Context, d Desired) (repaired []string, err error) {
	var errs []error
	t.tellAside(d)
	open := true // whether the port may be there
	switch {
	case d.Blocked != "":
		open = false
		t.status.set(condCompartment, false, "Blocked", d.Blocked)
		errs = append(errs, errors.New(d.Blocked))
	case d.Compartment == nil:
		t.status.drop(condCompartment, condNAT, condPort, condForward)
		errs = append(errs, t.removeCompartment(ctx))
	default:
		what, ok, err := t.buildCompartment(ctx, &d)
		repaired = append(repaired, what...)
		errs = append(errs, err)
		open = ok
	}
	switch here, err := t.applyDataplane(ctx); {
	case err != nil:
		t.status.set(condDataplane, false, "Refused", err.Error())
		errs = append(errs, fmt.Errorf("dataplane: %w", err))
	case here:
		t.status.set(condDataplane, true, "Applied", "")
	default:
		t.status.set(condDataplane, true, "NotHere", "no port and no compartment of it is on this machine, so its tables are not loaded")
	}
	err = t.plug(d, open)
	errs = append(errs, err)
	t.delegate(d, open && err == nil)
	if len(repaired) > 0 {
		t.keeper.again() // its namespace may be another one, of the same name
	}
	return repaired, errors.Join(errs...)
}

// tellAside says what of the tenant's is not made, as it does not fit this machine.
func (t *tenant) tellAside(d Desired) {
	if len(d.Aside) == 0 {
		t.status.drop(condFits)
		return
	}
	t.status.set(condFits, false, "SetAside", strings.Join(d.Aside, "; ")+
		": nothing is made of it: change or delete it, or put back what was in the configuration file of gatewayd before")
}

// delegate tells the compartment's agent what to do, if it is to have one. Where the
// compartment cannot forward, nothing is advertised.
func (t *tenant) delegate(d Desired, forwards bool) {
	namespace := t.status.namespace()
	if d.Blocked != "" {
		t.keeper.withhold()
		return
	}
	if d.Compartment == nil || namespace == "" {
		return // there is nothing to be inside of; removing the compartment ended it
	}
	where := agent.Compartment{Tenant: t.name, Namespace: namespace}
	if d.AgentFault != nil {
		// What runs goes on, as far as it is wanted: it was told when there was a key.
		t.c.o.Store.View(t.keeper.narrow)
		if !forwards {
			t.keeper.withhold()
		}
		t.keeper.fail(d.AgentFault)
		return
	}
	if d.Tunnels == nil && d.Speaker == nil {
		t.keeper.assign(t.c.ctx, where, nil)
		return
	}
	duty := &duty{comp: where, tunnels: d.Tunnels, speaker: d.Speaker}
	if duty.speaker != nil {
		duty.speaker.Withhold = !forwards
	}
	t.keeper.assign(t.c.ctx, where, duty)
}

// buildCompartment reports whether the compartment may be given packets: it may
// not where its NAT could not be put in place.
func (t *tenant) buildCompartment(ctx context.Context, d *Desired) (repaired []string, open bool, err error) {
	t.restrict(d.Compartment)
	res, err := t.c.o.Compartments.Apply(ctx, *d.Compartment)
	if err != nil {
		t.status.set(condCompartment, false, "Failed", err.Error())
		return nil, false, fmt.Errorf("compartment: %w", err)
	}
	t.status.set(condCompartment, true, "Applied", "")
	t.status.place(res)
	repaired = res.Repaired
	if d.NAT == nil { // links in physical networks go before the rules that guard them
		what, err := t.attach(ctx, d, res.Namespace)
		if repaired = append(repaired, what...); err != nil {
			return repaired, false, err
		}
	}
	what, open, err := t.translate(ctx, d, res)
	repaired = append(repaired, what...)
	if err != nil || d.NAT == nil {
		return repaired, open, err
	}
	what, err = t.attach(ctx, d, res.Namespace)
	return append(repaired, what...), open, err
}

// translate puts the compartment's rules in place.
func (t *tenant) translate(ctx context.Context, d *Desired, res compartments.Result) (repaired []string, open bool, err error) {
	if d.NAT == nil {
		t.status.drop(condNAT)
		t.openExit(res.Exit, d.Compartment, "nothing is translated")
		if err := t.c.o.NAT.Remove(ctx, res.Namespace); err != nil {
			return nil, true, fmt.Errorf("remove NAT: %w", err)
		}
		return nil, true, nil
	}
	spec := *d.NAT
	spec.Namespace = res.Namespace
	nres, err := t.c.o.NAT.Apply(ctx, spec)
	untranslated := t.c.o.untranslated(d.Offload, d.Beyond)
	if err != nil {
		untranslated = "the compartment's rules are not in place"
	}
	t.openExit(res.Exit, d.Compartment, untranslated)
	if err != nil || len(nres.Repaired) > 0 {
		t.renewExit()
	}
	if err != nil {
		t.status.set(condNAT, false, "Failed", err.Error())
		return nil, false, fmt.Errorf("nat: %w", err)
	}
	t.status.set(condNAT, true, "Applied", "")
	return nres.Repaired, true, nil
}

// attach makes the compartment's links in physical networks. One that cannot be made
// does not close the other ways.
func (t *tenant) attach(ctx context.Context, d *Desired, namespace string) (repaired []string, err error) {
	if t.c.o.Forwarder == nil || len(d.Forward.Attachments) == 0 && !t.attached {
		return nil, nil
	}
	spec := *d.Forward
	spec.Namespace = namespace
	t.attached = true
	res, err := t.c.o.Forwarder.Apply(ctx, spec)
	switch {
	case err != nil:
		t.status.set(condForward, false, "Failed", err.Error())
		return res.Repaired, fmt.Errorf("attachments: %w", err)
	case len(spec.Attachments) == 0:
		t.status.drop(condForward)
		t.attached = false
	default:
		t.status.set(condForward, true, "Applied", "")
	}
	return res.Repaired, nil
}

// errForgotten is that of a tenant that has just been torn down.
var errForgotten = errors.New("the tenant is gone")

// applyDataplane gives the dataplane the tenant's tables where this machine needs
// them and takes them away where it does not; it tells whether they are there. It
// takes a fresh view inside the lock: between the caller's and now the short way
// may have written records.
func (t *tenant) applyDataplane(ctx context.Context) (here bool, err error) {
	t.apply.Lock()
	defer t.apply.Unlock()
	if t.forgotten {
		return false, errForgotten
	}
	if !t.dirty.Swap(false) && t.applied.IsValid() {
		return true, nil
	}
	defer func() {
		if err != nil {
			t.dirty.Store(true)
		}
	}()
	revision := t.c.o.Store.Revision() // before the view: it may lag behind it, never lead
	var want dataplane.Tenant
	var there bool
	t.c.o.Store.View(func(f *hnv.Fabric) {
		var tenant hnv.Tenant
		if tenant, there = f.Tenant(t.name); !there {
			return
		}
		if here = f.Here(t.name); here {
			want = tables(f, tenant, t.learned.Load())
		}
	})
	if !there {
		return false, nil // deleted meanwhile: the wake-up that follows tears it down
	}
	if !here {
		if t.c.ports.holds(t.name) {
			return t.applied.IsValid(), nil // until the last port is out; then we are woken again
		}
		t.withdraw()
		return false, nil
	}
	if t.applied != want.RDID {
		t.withdraw()
	}
	if err := t.c.provider.claim(ctx, want.Subnets); err != nil {
		return false, err
	}
	if err := t.c.o.Dataplane.Apply(want); err != nil {
		if errors.Is(err, dataplane.ErrConflict) {
			// Tenants that swap VSIDs would wait for each other for good: give
			// ours up before the next try.
			t.withdraw()
		}
		return false, err
	}
	t.applied, t.appliedRevision = want.RDID, revision
	return true, nil
}

// withdraw takes the tables from the dataplane, if it has them; with apply.
func (t *tenant) withdraw() {
	if t.applied.IsValid() {
		t.c.o.Dataplane.Remove(t.applied)
		t.applied = hnv.RDID{}
	}
}

func (t *tenant) plug(d Desired, open bool) error {
	if d.Port == nil || !open {
		t.c.o.Wiring.Detach(compartmentPort(t.name))
		return nil
	}
	link := t.status.port()
	if err := t.c.o.Wiring.Attach(*d.Port, link); err != nil {
		t.status.set(condPort, false, "Failed", err.Error())
		return fmt.Errorf("port %s: %w", link, err)
	}
	t.status.set(condPort, true, "Attached", "")
	return nil
}

func (t *tenant) removeCompartment(ctx context.Context) error {
	t.c.o.Wiring.Detach(compartmentPort(t.name))
	t.closeExit()
	// An agent would keep the namespace.
	if err := t.keeper.discard(ctx); err != nil {
		return err
	}
	t.status.unplace()
	if err := t.c.o.Compartments.Delete(ctx, t.name); err != nil {
		return fmt.Errorf("delete compartment: %w", err)
	}
	return nil
}

// teardown removes all that was the tenant's.
func (t *tenant) teardown(ctx context.Context) error {
	t.apply.Lock()
	t.withdraw()
	t.apply.Unlock()
	if err := t.removeCompartment(ctx); err != nil {
		t.status.set(condCompartment, false, "DeleteFailed", err.Error())
		return err
	}
	return nil
}

// phase sums the conditions up.
func phase(conds []v1.Condition, pending bool, lastRepair *v1.Repair, now time.Time, interval time.Duration) v1.Phase {
	partial := map[string]bool{condTunnels: true, condSpeaker: true, condForward: true, condFits: true} // other ways work
	degraded := false
	for _, c := range conds {
		if !c.Status {
			if c.Reason == "Blocked" {
				return v1.PhasePending
			}
			if partial[c.Type] {
				degraded = true
				continue
			}
			return v1.PhaseError
		}
	}
	if degraded {
		return v1.PhaseDegraded
	}
	if pending {
		return v1.PhasePending
	}
	if lastRepair != nil && now.Sub(lastRepair.Time) < interval {
		return v1.PhaseDegraded
	}
	return v1.PhaseReady
}

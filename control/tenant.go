package control

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// The conditions of a tenant.
const (
	condDataplane   = "DataplaneReady"
	condCompartment = "CompartmentReady"
	condNAT         = "NATReady"
	condPort        = "PortReady"
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

	status status
	exit   exit // of the compartment; the runner's
}

func newTenant(c *Controller, n hnv.Name) *tenant {
	return &tenant{c: c, name: n, wish: newWish()}
}

// run reconciles until the tenant is gone or ctx ends.
func (t *tenant) run(ctx context.Context) {
	failures := 0
	var settled *Desired // what the last complete success had
	for {
		pause := t.c.o.DriftInterval
		if failures > 0 {
			pause = t.c.o.backoff(failures)
		}
		if settled == nil && failures == 0 {
			pause = 0
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
			failures, settled = 0, d
		}
	}
}

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
	return reflect.DeepEqual(a.Compartment, b.Compartment) && reflect.DeepEqual(a.NAT, b.NAT) && reflect.DeepEqual(a.Port, b.Port)
}

func (t *tenant) view() (d Desired, ok bool) {
	m := t.c.machine()
	t.c.o.Store.View(func(f *hnv.Fabric) { d, ok = desired(f, t.name, m) })
	return d, ok
}

// build brings everything of the tenant in line, in the order compartment, NAT,
// dataplane, port: a compartment is closed before packets can enter it.
func (t *tenant) build(ctx context.Context, d Desired) (repaired []string, err error) {
	var errs []error
	open := true // whether the port may be there
	switch {
	case d.Blocked != "":
		open = false
		t.status.set(condCompartment, false, "Blocked", d.Blocked)
		errs = append(errs, errors.New(d.Blocked))
	case d.Compartment == nil:
		t.status.drop(condCompartment, condNAT, condPort)
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
	errs = append(errs, t.plug(d, open))
	return repaired, errors.Join(errs...)
}

// buildCompartment reports whether the compartment may be given packets: it may
// not where its NAT could not be put in place.
func (t *tenant) buildCompartment(ctx context.Context, d *Desired) (repaired []string, open bool, err error) {
	t.restrict(d.Compartment.External)
	res, err := t.c.o.Compartments.Apply(ctx, *d.Compartment)
	if err != nil {
		t.status.set(condCompartment, false, "Failed", err.Error())
		return nil, false, fmt.Errorf("compartment: %w", err)
	}
	t.status.set(condCompartment, true, "Applied", "")
	t.status.place(res)
	repaired = res.Repaired
	if d.NAT == nil {
		t.status.drop(condNAT)
		t.openExit(res.Exit, d.Compartment.External, false)
		if err := t.c.o.NAT.Remove(ctx, res.Namespace); err != nil {
			return repaired, true, fmt.Errorf("remove NAT: %w", err)
		}
		return repaired, true, nil
	}
	spec := *d.NAT
	spec.Namespace = res.Namespace
	nres, err := t.c.o.NAT.Apply(ctx, spec)
	t.openExit(res.Exit, d.Compartment.External, err == nil)
	if err != nil || len(nres.Repaired) > 0 {
		t.renewExit()
	}
	if err != nil {
		t.status.set(condNAT, false, "Failed", err.Error())
		return repaired, false, fmt.Errorf("nat: %w", err)
	}
	t.status.set(condNAT, true, "Applied", "")
	return append(repaired, nres.Repaired...), true, nil
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
			want = tables(f, tenant)
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
	for _, c := range conds {
		if !c.Status {
			if c.Reason == "Blocked" {
				return v1.PhasePending
			}
			return v1.PhaseError
		}
	}
	if pending {
		return v1.PhasePending
	}
	if lastRepair != nil && now.Sub(lastRepair.Time) < interval {
		return v1.PhaseDegraded
	}
	return v1.PhaseReady
}

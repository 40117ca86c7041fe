package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// portRetry is how often a port whose interface is missing is tried again: a VM
// that starts or arrives brings its interface when it will.
const portRetry = 500 * time.Millisecond

// ports keeps the VM ports of this machine plugged in.
type ports struct {
	c    *Controller
	wish wish

	mu    sync.Mutex
	state map[string]v1.LinkStatus // by interface
	order []string
	// owners counts the ports of a tenant, from before they are plugged in until
	// they are out.
	owners map[hnv.Name]int
}

func newPorts(c *Controller) *ports {
	return &ports{c: c, wish: newWish(), state: map[string]v1.LinkStatus{}, owners: map[hnv.Name]int{}}
}

// holds tells whether a port of the tenant is, or is about to be, plugged in.
func (p *ports) holds(n hnv.Name) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owners[n] > 0
}

// claim notes whose ports are about to be plugged in, beside those that still
// are, and gives the tenants of the latter.
func (p *ports) claim(owner map[string]hnv.Name) (former map[hnv.Name]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	former = map[hnv.Name]bool{}
	for n := range p.owners {
		former[n] = true
	}
	for _, n := range owner {
		p.owners[n]++
		delete(former, n)
	}
	return former
}

// release notes that nobody else's ports are plugged in any more.
func (p *ports) release(owner map[string]hnv.Name) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.owners)
	for _, n := range owner {
		p.owners[n]++
	}
}

func vmPort(ifname string) string { return "vm/" + ifname }

func (p *ports) run(ctx context.Context) {
	p.wish.wake()
	waiting := false
	for {
		pause := p.c.o.DriftInterval
		if waiting {
			pause = portRetry
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case name := <-p.c.o.Wiring.Failed():
			p.failed(ctx, name)
		case <-p.wish.woken:
		case <-timer.C:
		}
		timer.Stop()
		asked := p.wish.asked.Load()
		waiting = !p.reconcile(ctx)
		p.wish.done.Store(asked) // a port that is still missing says so itself
	}
}

// failed handles a port that stopped by itself: a tenant's is rebuilt with its
// compartment, a VM's is tried again by reconcile.
func (p *ports) failed(ctx context.Context, name string) {
	p.c.o.Log.Warn("port stopped working", "port", name)
	p.c.mu.Lock()
	var owner hnv.Name
	for n := range p.c.tenants {
		if compartmentPort(n) == name {
			owner = n
		}
	}
	p.c.mu.Unlock()
	if t := p.c.find(owner); t != nil {
		t.wish.wake()
	}
}

// reconcile plugs in what should be and out what should not; false when a port
// is still missing.
func (p *ports) reconcile(ctx context.Context) bool {
	var want []hnv.Port
	specs := map[string]dataplane.PortSpec{}
	owner := map[string]hnv.Name{}
	m := p.c.machine()
	p.c.o.Store.View(func(f *hnv.Fabric) {
		want = f.Ports()
		pa, _ := f.GatewayPA()
		for _, w := range want {
			t, _ := f.TenantOfVSID(w.VSID)
			owner[w.Interface] = t.Name
			specs[w.Interface] = vmPortSpec(w, t, m.paMTU-t.Encap.Overhead(pa.Is6()))
		}
	})
	var names []string
	for _, w := range want {
		names = append(names, w.Interface)
	}
	refused := p.c.o.Compartments.ApplyPorts(ctx, names)
	former := p.claim(owner)
	all := true
	state := map[string]v1.LinkStatus{}
	for _, w := range want {
		spec := specs[w.Interface]
		st := v1.LinkStatus{Name: spec.Name, Interface: w.Interface, Phase: v1.PhaseReady, MTU: spec.MTU}
		if err := p.plug(ctx, w, owner[w.Interface], spec, refused[w.Interface]); err != nil {
			st.Phase, st.Message = v1.PhasePending, err.Error()
			all = false
		}
		state[w.Interface] = st
	}
	p.mu.Lock()
	old := p.state
	p.state, p.order = state, names
	p.mu.Unlock()
	for ifname, before := range old {
		now, still := state[ifname]
		if !still {
			p.c.o.Wiring.Detach(vmPort(ifname))
		} else if now.Phase != before.Phase {
			p.c.o.Log.Info("port", "interface", ifname, "phase", now.Phase, "message", now.Message)
		}
	}
	p.release(owner)
	for n := range former {
		if t := p.c.find(n); t != nil { // it may have nothing here any more
			t.dirty.Store(true)
			t.wish.wake()
		}
	}
	return all
}

// vmPortSpec is the dataplane's view of a VM's port.
func vmPortSpec(w hnv.Port, t hnv.Tenant, mtu int) dataplane.PortSpec {
	return dataplane.PortSpec{
		Name: vmPort(w.Interface), RDID: t.RDID, VSID: w.VSID, MAC: w.MAC, Kind: dataplane.PortVM, MTU: mtu,
		ACL: w.ACL, InKbps: w.InKbps, OutKbps: w.OutKbps,
	}
}

// plug connects one port, after its tenant's tables are there.
func (p *ports) plug(ctx context.Context, w hnv.Port, owner hnv.Name, spec dataplane.PortSpec, refused error) error {
	if refused != nil {
		p.c.o.Wiring.Detach(spec.Name)
		return refused
	}
	if t := p.c.start(ctx, owner); t != nil {
		here, err := t.applyDataplane(ctx)
		if err == nil && !here {
			err = errForgotten // the next look finds the port gone too, or the tenant back
		}
		if err != nil {
			return fmt.Errorf("tenant %s: %w", owner, err)
		}
	}
	return p.c.o.Wiring.Attach(spec, w.Interface)
}

func (p *ports) list() []v1.LinkStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []v1.LinkStatus{}
	for _, n := range p.order {
		l := p.state[n]
		l.Path, l.PathReason = p.c.o.Wiring.PortPath(l.Name).words()
		out = append(out, l)
	}
	return out
}

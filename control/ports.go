package control

import (
	"context"
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
}

func newPorts(c *Controller) *ports {
	return &ports{c: c, wish: newWish(), state: map[string]v1.LinkStatus{}}
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
	if owner.IsValid() {
		p.c.wake(ctx, owner)
	}
}

// reconcile plugs in what should be and out what should not; false when a port
// is still missing.
func (p *ports) reconcile(ctx context.Context) bool {
	var want []hnv.Port
	mtus := map[string]int{}
	rdids := map[string]hnv.RDID{}
	m := p.c.machine()
	p.c.o.Store.View(func(f *hnv.Fabric) {
		want = f.Ports()
		outer6 := false
		if pa, ok := gatewayPA(f); ok {
			outer6 = pa.Is6()
		}
		for _, w := range want {
			t, _ := f.TenantOfVSID(w.VSID)
			mtus[w.Interface], rdids[w.Interface] = m.paMTU-t.Encap.Overhead(outer6), t.RDID
		}
	})
	var names []string
	for _, w := range want {
		names = append(names, w.Interface)
	}
	refused := p.c.o.Compartments.ApplyPorts(ctx, names)
	all := true
	state := map[string]v1.LinkStatus{}
	var order []string
	for _, w := range want {
		st := v1.LinkStatus{Name: vmPort(w.Interface), Interface: w.Interface, Phase: v1.PhaseReady, MTU: mtus[w.Interface]}
		if err := p.plug(w, refused[w.Interface], rdids[w.Interface], mtus[w.Interface]); err != nil {
			st.Phase, st.Message = v1.PhasePending, err.Error()
			all = false
		}
		state[w.Interface] = st
		order = append(order, w.Interface)
	}
	p.mu.Lock()
	old := p.state
	p.state, p.order = state, order
	p.mu.Unlock()
	for ifname, before := range old {
		now, still := state[ifname]
		if !still {
			p.c.o.Wiring.Detach(vmPort(ifname))
		} else if now.Phase != before.Phase {
			p.c.o.Log.Info("port", "interface", ifname, "phase", now.Phase, "message", now.Message)
		}
	}
	return all
}

func (p *ports) plug(w hnv.Port, refused error, rdid hnv.RDID, mtu int) error {
	if refused != nil {
		p.c.o.Wiring.Detach(vmPort(w.Interface))
		return refused
	}
	return p.c.o.Wiring.Attach(dataplane.PortSpec{
		Name: vmPort(w.Interface), RDID: rdid, VSID: w.VSID, MAC: w.MAC, Kind: dataplane.PortVM, MTU: mtu,
	}, w.Interface)
}

func (p *ports) list() []v1.LinkStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []v1.LinkStatus{}
	for _, n := range p.order {
		out = append(out, p.state[n])
	}
	return out
}

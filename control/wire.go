package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/port"
)

// Wire connects Linux interfaces to a Switch: the fabric by package port's
// Provider, VMs and compartments by its Links. Each reader is served by one
// goroutine. With a FastPath there are readers only where that cannot take the
// packets, and of what it leaves.
type Wire struct {
	sw       *dataplane.Switch
	o        WireOptions
	log      *slog.Logger
	provider *port.Provider
	fast     *fast // nil: user space reads everything
	failed   chan string

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	own   dataplane.Provider
	away  []netip.Addr     // provider addresses of other hosts that do not work
	ears  map[string]*ear  // by interface
	ports map[string]*plug // by port name
}

// WireOptions say what a Wire has besides the Switch.
type WireOptions struct {
	MTU func() int // of the fabric
	Log *slog.Logger
	// Do runs its argument in the network namespace of the interfaces; nil means
	// that all of the process is in it.
	Do func(func() error) error
	// Fast takes what it can; nil: there is none, and NoFastPath says why.
	Fast       FastPath
	NoFastPath string
	// Settled is called once everything there was at the start has been given to
	// the Wire; nil: nobody wants to know.
	Settled func() error
}

// ear is an interface of the fabric.
type ear struct {
	index int
	r     *port.ProviderReader // nil: the FastPath has it
	why   error                // the FastPath does not have it
}

// plug is a port that is plugged in.
type plug struct {
	spec dataplane.PortSpec
	link string
	id   dataplane.PortID
	l    *port.Link
	why  error         // the FastPath does not have it
	dead chan struct{} // closed when its server ended
}

// NewWire prepares the fabric side; nothing is read until Provider is called, but
// what a FastPath leaves.
func NewWire(sw *dataplane.Switch, o WireOptions) (*Wire, error) {
	p, err := port.OpenProvider(port.ProviderOptions{Mark: compartments.DataplaneMark, Do: o.Do})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &Wire{
		sw: sw, o: o, log: o.Log, provider: p, failed: make(chan string, 64), ctx: ctx, stop: stop,
		ears: map[string]*ear{}, ports: map[string]*plug{},
	}
	if o.Fast != nil {
		if err := w.openFast(o.Fast); err != nil {
			return nil, errors.Join(err, w.Close())
		}
		sw.Follow(o.Fast)
	}
	return w, nil
}

// Failed delivers the names of ports that stopped working by themselves.
func (w *Wire) Failed() <-chan string { return w.failed }

// Provider serves the fabric: the addresses, each on the link that it is on, and
// groups, on the link of the first provider address of their family that can be
// used. On several links of one network, a group's packets would come several
// times.
func (w *Wire) Provider(f FabricSide) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// In this order: the dataplane takes the first of Addrs for a source.
	own := dataplane.Provider{MTU: w.o.MTU(), Hybrid: true, VSIDs: f.VSIDs}
	for _, s := range slices.Concat(f.Tunnel, f.Rewrite) {
		own.Addrs = append(own.Addrs, s.Addr)
		if s.Down {
			own.Down = append(own.Down, s.Addr)
		}
	}
	w.own = own
	var errs []error
	if w.fast != nil && w.fast.lost == nil {
		errs = append(errs, w.fast.change(w.fabricOf(f), w.publish))
	} else {
		w.publish()
	}
	addrs, left := f.addresses().Bounded()
	errs = append(errs, w.provider.SetAddresses(addrs))
	if left > 0 {
		errs = append(errs, fmt.Errorf("%d addresses and multicast groups on the fabric are not served: there are too many for this machine's packet filter", left))
	}
	links := f.links()
	for name, e := range w.ears {
		if !slices.Contains(links, name) {
			errs = append(errs, w.deafen(name, e))
		}
	}
	for _, name := range links {
		if err := w.hear(name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hear takes what arrives on the interface, unless it is taken already; with mu.
func (w *Wire) hear(name string) error {
	e := w.ears[name]
	if w.fast == nil {
		if e != nil {
			return nil
		}
		return w.listen(name, &ear{})
	}
	index, err := w.provider.Index(name)
	if err != nil {
		return fmt.Errorf("open provider interface %s: %w", name, err)
	}
	err = w.fast.attach(index) // again and again: somebody may have taken it off
	switch {
	case err == nil:
		w.ears[name] = &ear{index: index}
		if e != nil && e.r != nil {
			return e.r.Close()
		}
		return nil
	case e != nil && e.index == index && e.r != nil:
		e.why = err
		return nil
	}
	w.log.Warn("an interface of the fabric does not take the fast path", "interface", name, "err", err)
	return errors.Join(w.listen(name, &ear{index: index, why: err}), w.fast.DetachFabric(index))
}

// deafen leaves what arrives on the interface to others; with mu.
func (w *Wire) deafen(name string, e *ear) error {
	delete(w.ears, name)
	if e.r != nil {
		return e.r.Close()
	}
	return w.fast.DetachFabric(e.index)
}

// Unreachable has the dataplane pass over provider addresses of other hosts, where
// these have others.
func (w *Wire) Unreachable(pas []netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.away = pas
	w.publish()
}

// publish gives the dataplane what is known of provider addresses; with mu.
func (w *Wire) publish() {
	p := w.own
	p.Down = slices.Concat(w.own.Down, w.away)
	w.sw.SetProvider(p)
}

// listen reads the interface in user space; with mu.
func (w *Wire) listen(name string, e *ear) error {
	r, err := w.provider.AddInterface(name)
	if err != nil {
		return err
	}
	e.r = r
	w.ears[name] = e
	w.wg.Go(func() {
		err := w.sw.ServeProvider(w.ctx, r, w.provider)
		r.Close()
		w.mu.Lock()
		if w.ears[name] == e { // it ended by itself: the next reconcile opens it again
			delete(w.ears, name)
		}
		w.mu.Unlock()
		if err != nil && !errors.Is(err, net.ErrClosed) && w.ctx.Err() == nil {
			w.log.Error("listening on the fabric ended", "interface", name, "err", err)
		}
	})
	return nil
}

// Attach makes the link a port, unless it is that already and still works.
func (w *Wire) Attach(spec dataplane.PortSpec, link string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.ports[spec.Name]; p != nil {
		if p.link == link && !p.ended() && alike(p.spec, spec) {
			if err := w.speedUp(p); err != nil || p.spec == spec {
				return err
			}
			// Its flows go on, as far as its list lets them.
			if err := w.sw.SetPort(p.id, spec.ACL, spec.InKbps, spec.OutKbps); err != nil {
				return err
			}
			p.spec = spec
			return nil
		}
		w.pull(p)
	}
	l, err := port.OpenLink(link, port.LinkOptions{WriteOnly: w.fast != nil, Do: w.o.Do})
	if err != nil {
		return err
	}
	id, err := w.sw.AddPort(spec, l)
	if err != nil {
		l.Close()
		return err
	}
	p := &plug{spec: spec, link: link, id: id, l: l, dead: make(chan struct{})}
	if err := w.speedUp(p); err != nil {
		w.drop(p)
		return err
	}
	w.ports[spec.Name] = p
	w.wg.Go(func() { w.serve(p) })
	return nil
}

// speedUp has the FastPath take the port, unless there is none: also one that it
// could not take so far, or that somebody took from it. Where it cannot, the port is
// read in user space. With mu.
func (w *Wire) speedUp(p *plug) error {
	if w.fast == nil {
		return nil
	}
	had := p.why == nil
	if p.why = w.fast.plug(p); p.why == nil {
		return p.l.SetWriteOnly(true)
	}
	if had {
		w.log.Warn("a port does not take the fast path", "port", p.spec.Name, "interface", p.link, "err", p.why)
	}
	// In this order a packet may be taken twice, but is not lost.
	return errors.Join(p.l.SetWriteOnly(false), w.fast.unplug(p))
}

// alike tells whether two ports differ in what can be changed in place only.
func alike(a, b dataplane.PortSpec) bool {
	a.ACL, a.InKbps, a.OutKbps = b.ACL, b.InKbps, b.OutKbps
	return a == b
}

func (w *Wire) serve(p *plug) {
	err := w.sw.ServePort(w.ctx, p.id, p.l, w.provider)
	close(p.dead)
	if err == nil || errors.Is(err, net.ErrClosed) || w.ctx.Err() != nil {
		return
	}
	w.log.Warn("port ended", "port", p.spec.Name, "interface", p.link, "err", err)
	select {
	case w.failed <- p.spec.Name:
	default: // the regular check finds it too
	}
}

func (p *plug) ended() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// pull takes a port out; with mu. Its server ends by itself.
func (w *Wire) pull(p *plug) {
	delete(w.ports, p.spec.Name)
	w.drop(p)
}

func (w *Wire) drop(p *plug) {
	if w.fast != nil {
		if err := w.fast.unplug(p); err != nil {
			w.log.Warn("take a port out of the fast path", "port", p.spec.Name, "interface", p.link, "err", err)
		}
	}
	w.sw.RemovePort(p.id)
	p.l.Close()
}

// Detach takes the port away, if it is there.
func (w *Wire) Detach(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.ports[name]; p != nil {
		w.pull(p)
	}
}

// Settled tells the Wire that it has been given once all that there was at the
// start: what else an earlier process left can go.
func (w *Wire) Settled() error {
	var errs []error
	if w.fast != nil {
		errs = append(errs, w.fast.Settle())
	}
	if w.o.Settled != nil {
		errs = append(errs, w.o.Settled())
	}
	return errors.Join(errs...)
}

// Close ends all serving and waits for it. The interfaces stay as they are, and
// what a FastPath was given goes on in the kernel.
func (w *Wire) Close() error {
	w.stop()
	w.sw.Follow(nil)
	w.mu.Lock()
	for _, p := range w.ports {
		w.sw.RemovePort(p.id)
		p.l.Close()
	}
	clear(w.ports)
	if w.fast != nil {
		for _, r := range w.fast.punts {
			r.Close()
		}
	}
	err := w.provider.Close()
	w.mu.Unlock()
	w.wg.Wait()
	return err
}

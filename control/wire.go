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
// goroutine.
type Wire struct {
	sw       *dataplane.Switch
	log      *slog.Logger
	mtu      func() int
	provider *port.Provider
	failed   chan string

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	own   dataplane.Provider
	away  []netip.Addr                    // provider addresses of other hosts that do not work
	ears  map[string]*port.ProviderReader // by interface
	ports map[string]*plug                // by port name
}

// plug is a port that is plugged in.
type plug struct {
	spec dataplane.PortSpec
	link string
	id   dataplane.PortID
	l    *port.Link
	dead chan struct{} // closed when its server ended
}

// NewWire prepares the fabric side; nothing is read until Provider is called.
func NewWire(sw *dataplane.Switch, mtu func() int, log *slog.Logger) (*Wire, error) {
	p, err := port.OpenProvider(port.ProviderOptions{Mark: compartments.DataplaneMark})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Wire{
		sw: sw, log: log, mtu: mtu, provider: p, failed: make(chan string, 64), ctx: ctx, stop: stop,
		ears: map[string]*port.ProviderReader{}, ports: map[string]*plug{},
	}, nil
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
	own := dataplane.Provider{MTU: w.mtu(), Hybrid: true, VSIDs: f.VSIDs}
	for _, s := range slices.Concat(f.Tunnel, f.Rewrite) {
		own.Addrs = append(own.Addrs, s.Addr)
		if s.Down {
			own.Down = append(own.Down, s.Addr)
		}
	}
	w.own = own
	w.publish()
	addrs, left := f.addresses().Bounded()
	errs := []error{w.provider.SetAddresses(addrs)}
	if left > 0 {
		errs = append(errs, fmt.Errorf("%d addresses and multicast groups on the fabric are not served: there are too many for this machine's packet filter", left))
	}
	links := f.links()
	for name, r := range w.ears {
		if !slices.Contains(links, name) {
			r.Close()
			delete(w.ears, name)
		}
	}
	for _, name := range links {
		if w.ears[name] != nil {
			continue
		}
		r, err := w.provider.AddInterface(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.ears[name] = r
		w.wg.Go(func() { w.listen(name, r) })
	}
	return errors.Join(errs...)
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

func (w *Wire) listen(name string, r *port.ProviderReader) {
	err := w.sw.ServeProvider(w.ctx, r, w.provider)
	r.Close()
	w.mu.Lock()
	if w.ears[name] == r { // it ended by itself: the next reconcile opens it again
		delete(w.ears, name)
	}
	w.mu.Unlock()
	if err != nil && !errors.Is(err, net.ErrClosed) && w.ctx.Err() == nil {
		w.log.Error("listening on the fabric ended", "interface", name, "err", err)
	}
}

// Attach makes the link a port, unless it is that already and still works.
func (w *Wire) Attach(spec dataplane.PortSpec, link string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.ports[spec.Name]; p != nil {
		if p.link == link && !p.ended() && alike(p.spec, spec) {
			if p.spec == spec {
				return nil
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
	l, err := port.OpenLink(link, port.LinkOptions{})
	if err != nil {
		return err
	}
	id, err := w.sw.AddPort(spec, l)
	if err != nil {
		l.Close()
		return err
	}
	p := &plug{spec: spec, link: link, id: id, l: l, dead: make(chan struct{})}
	w.ports[spec.Name] = p
	w.wg.Go(func() { w.serve(p) })
	return nil
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

// Close ends all serving and waits for it. The interfaces stay as they are.
func (w *Wire) Close() error {
	w.stop()
	w.mu.Lock()
	for _, p := range w.ports {
		w.pull(p)
	}
	err := w.provider.Close()
	w.mu.Unlock()
	w.wg.Wait()
	return err
}

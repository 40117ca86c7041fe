//go:build linux

package s2s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Options of an Engine.
type Options struct {
	Log *slog.Logger
	// Namespace is the path of the compartment's; "" is the calling thread's.
	Namespace string
	// OnTurn is told that a peer has become alive or dead. It must not wait.
	OnTurn func()
}

// Engine holds the tunnels of one compartment.
type Engine struct {
	log   *slog.Logger
	told  func() // OnTurn
	ns    netns.NS
	nl    *nl.Handle
	nft   *nft.Conn
	kick  chan struct{} // a peer has turned
	done  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	spec    Spec
	kernel  kernelProbe
	tunnels map[string]*tunnel // by interface
	active  map[string]bool    // by "tunnel/peer"
	shared  map[string]bool    // by "tunnel/peer": it has packets that could go another way
	failed  map[string]error   // by tunnel's name
}

// New makes an engine. Tunnels that an earlier process left are adopted by the
// first Apply, which also removes those that are no longer wanted.
func New(o Options) (*Engine, error) {
	e := &Engine{log: o.Log, told: o.OnTurn, kick: make(chan struct{}, 1), done: make(chan struct{}),
		tunnels: map[string]*tunnel{}}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.told == nil {
		e.told = func() {}
	}
	var err error
	if e.nl, err = nl.Open(o.Namespace); err != nil {
		return nil, fmt.Errorf("tunnels: %w", err)
	}
	if e.ns, err = netns.Open(e.nl.Namespace()); err == nil {
		if e.nft, err = nft.Open(o.Namespace); err != nil {
			_ = e.ns.Close()
		}
	}
	if err != nil {
		e.nl.Close()
		return nil, fmt.Errorf("tunnels: %w", err)
	}
	e.ended.Go(e.follow)
	return e, nil
}

// ErrClosed is returned by an engine that was closed.
var ErrClosed = errors.New("the engine is closed")

// Result tells what Apply did.
type Result struct {
	// Changed says in words what was changed; empty when all was right.
	Changed []string
}

func (r *Result) add(format string, args ...any) {
	r.Changed = append(r.Changed, fmt.Sprintf(format, args...))
}

// Apply brings the compartment's tunnels to the Spec. A Spec that Check refuses
// changes nothing. A tunnel that cannot be made does not hold the others up; the
// error names it, and State does until it is made.
func (e *Engine) Apply(ctx context.Context, s Spec) (Result, error) {
	if err := s.Check(); err != nil {
		return Result{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return Result{}, ErrClosed
	}
	e.spec = s
	var r Result
	err := e.apply(ctx, &r)
	if len(r.Changed) > 0 {
		e.log.Info("tunnels changed", "changes", r.Changed)
	}
	return r, err
}

func (e *Engine) apply(ctx context.Context, r *Result) error {
	e.failed, e.shared = map[string]error{}, e.spec.redundant()
	if err := e.prune(r); err != nil {
		return err
	}
	if err := e.setSysctls(r); err != nil {
		return err
	}
	var errs []error
	for _, t := range e.spec.Tunnels {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.applyTunnel(t, r); err != nil {
			err = fmt.Errorf("tunnel %s: %w", t.Name, err)
			e.failed[t.Name] = err
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, e.shape(r), e.route(r))...)
}

// prune takes down what is ours and not wanted: first, so that its port and
// addresses are free.
func (e *Engine) prune(r *Result) error {
	wanted := func(link string) bool {
		return slices.ContainsFunc(e.spec.Tunnels, func(t Tunnel) bool { return t.Interface == link })
	}
	for name, t := range e.tunnels {
		if !wanted(name) {
			t.stop()
			delete(e.tunnels, name)
		}
	}
	links, err := e.nl.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if isOurs(l) && !wanted(l.Name) {
			if err := e.nl.DelLink(l.Name); err != nil {
				return err
			}
			r.add("link %s removed", l.Name)
		}
	}
	return nil
}

// setSysctls has flows keep to one of several tunnels by their ports as well.
func (e *Engine) setSysctls(r *Result) error {
	for _, key := range []string{"ipv4/fib_multipath_hash_policy", "ipv6/fib_multipath_hash_policy"} {
		now, err := e.nl.Sysctl(key)
		if errors.Is(err, nl.ErrNotFound) || err == nil && now == "1" {
			continue
		}
		if err == nil {
			err = e.nl.SetSysctl(key, "1")
		}
		if err != nil {
			return err
		}
		r.add("%s set", key)
	}
	return nil
}

// route brings the routes in line with what is alive.
func (e *Engine) route(r *Result) error {
	c := choose(e.spec.ways(), func(w way) bool {
		t := e.tunnels[w.link]
		return t != nil && t.liveness(w.peer).usable()
	})
	e.active = c.active
	index := map[string]int{}
	for name, t := range e.tunnels {
		index[name] = t.index
	}
	have, err := e.nl.Routes(RouteProtocol, 0)
	if err != nil {
		return err
	}
	replace, remove := planRoutes(kernelRoutes(c.routes, index), have)
	var errs []error
	for _, k := range replace {
		if err := e.nl.ReplaceRoute(k); err != nil {
			errs = append(errs, err)
			continue
		}
		r.add("route %s", k)
	}
	for _, k := range remove {
		if err := e.nl.DelRoute(k); err != nil {
			errs = append(errs, err)
			continue
		}
		r.add("route %s removed", k)
	}
	return errors.Join(errs...)
}

// pathLook is how often the paths' MTUs are looked at: what is too big for a path
// is lost meanwhile.
const pathLook = time.Second

// follow moves routes when a peer turns, and MTUs when a path's has changed.
func (e *Engine) follow() {
	look := time.NewTicker(pathLook)
	defer look.Stop()
	for {
		do := e.route
		select {
		case <-e.done:
			return
		case <-e.kick:
		case <-look.C:
			do = e.followPaths
		}
		e.mu.Lock()
		if !e.closed {
			var r Result
			if err := do(&r); err != nil {
				e.log.Error("the kernel does not follow the tunnels", "error", err)
			}
			if len(r.Changed) > 0 {
				e.log.Info("the kernel follows the tunnels", "changes", r.Changed)
			}
		}
		e.mu.Unlock()
	}
}

func (e *Engine) turned() {
	e.told()
	select {
	case e.kick <- struct{}{}:
	default: // it will be looked at anyway
	}
}

// Snapshot tells what is.
func (e *Engine) Snapshot() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	var s State
	over := e.shaped()
	for _, t := range e.spec.Tunnels {
		ts := TunnelState{Name: t.Name, Interface: t.Interface, PublicKey: t.PrivateKey.Public()}
		if run := e.tunnels[t.Interface]; run != nil {
			run.describe(&ts, e.active, t.Peers)
			ts.InboundDrops += over[inCounter(t.Interface)].Packets
			ts.OutboundDrops += over[outCounter(t.Interface)].Packets
		}
		if err := e.failed[t.Name]; err != nil {
			ts.Error = err.Error()
		}
		s.Tunnels = append(s.Tunnels, ts)
	}
	return s
}

// Close ends the tunnels. With keep, links, addresses and routes stay for the
// process that comes after; without, nothing of them is left.
func (e *Engine) Close(keep bool) error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	var err error
	for name, t := range e.tunnels {
		t.stop()
		delete(e.tunnels, name)
	}
	if !keep {
		var r Result
		e.spec = Spec{}
		err = errors.Join(e.prune(&r), e.route(&r), e.shape(&r))
	}
	e.closed = true
	close(e.done)
	e.mu.Unlock()
	e.ended.Wait()
	if e.kernel.ctl != nil {
		err = errors.Join(err, e.kernel.ctl.Close())
	}
	e.nl.Close()
	return errors.Join(err, e.nft.Close(), e.ns.Close())
}

//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Engine makes and keeps the compartments of one gateway. Its methods may be
// called at once for different compartments.
type Engine struct {
	cfg      Config
	names    names
	log      *slog.Logger
	ns       netns.NS
	out      *nl.Handle
	gw       *gateway
	own      ownAddrs
	features []Feature
	// beforeStep is set by tests that stop half way.
	beforeStep func(step) error
	now        func() time.Time
	watched    atomic.Pointer[watched]

	mu    sync.Mutex
	locks map[hnv.Name]*tenantLock
}

// tenantLock is there as long as someone holds it or waits for it.
type tenantLock struct {
	sync.Mutex
	users int
}

// settle bounds how often Apply looks again after it has changed something.
const settle = 4

// New starts an engine on the gateway's namespace. It changes nothing there; it
// fails, saying what is missing, where the kernel or the privileges do not
// suffice.
func New(cfg Config) (*Engine, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("start compartments: %w", err)
	}
	features, err := probe()
	if err != nil {
		return nil, fmt.Errorf("start compartments: %w", err)
	}
	e := &Engine{cfg: cfg, names: names{cfg.Instance}, log: cfg.Log, features: features, now: time.Now, locks: map[hnv.Name]*tenantLock{}}
	e.watch(ProviderSpec{})
	if err := e.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("start compartments: %w", err), e.Close())
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	path := e.cfg.Namespace
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	if e.ns, err = netns.Open(path); err != nil {
		return err
	}
	if e.out, err = nl.Open(e.ns.Path()); err != nil {
		return err
	}
	e.own.h = e.out
	if e.own.changes, err = e.out.AddrChanges(); err != nil {
		return err
	}
	e.gw = &gateway{names: e.names, out: e.out, nearby: newNearby()}
	e.gw.routes.h = e.out
	if e.gw.routes.changes, err = e.out.RouteChanges(); err != nil {
		return err
	}
	for _, u := range e.cfg.Uplinks {
		if _, err := e.out.Link(u.Interface); err != nil {
			return fmt.Errorf("uplink %s: interface %s: %w in the gateway's network namespace", u.Name, u.Interface, err)
		}
		if u.Kind == Routed && !slices.Contains(e.gw.uplinks, u.Interface) {
			e.gw.uplinks = append(e.gw.uplinks, u.Interface)
		}
	}
	for _, p := range e.cfg.PAInterfaces {
		if _, err := e.out.Link(p); err != nil {
			return fmt.Errorf("PA interface %s: %w in the gateway's network namespace", p, err)
		}
	}
	e.gw.nft, err = nft.Open(e.ns.Path())
	return err
}

// Close frees what the engine holds open. All compartments stay.
func (e *Engine) Close() error {
	var errs []error
	if e.gw != nil && e.gw.nft != nil {
		errs = append(errs, e.gw.nft.Close())
	}
	if e.own.changes != nil {
		e.own.changes.Close()
	}
	if e.gw != nil && e.gw.routes.changes != nil {
		e.gw.routes.changes.Close()
	}
	if e.out != nil {
		e.out.Close()
	}
	if e.ns != (netns.NS{}) {
		errs = append(errs, e.ns.Close())
	}
	return errors.Join(errs...)
}

// Features tells what the kernel offers, found out by trying.
func (e *Engine) Features() []Feature { return slices.Clone(e.features) }

// lock gives one caller at a time a compartment.
func (e *Engine) lock(n hnv.Name) (unlock func()) {
	e.mu.Lock()
	l, ok := e.locks[n]
	if !ok {
		l = &tenantLock{}
		e.locks[n] = l
	}
	l.users++
	e.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		e.mu.Lock()
		defer e.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(e.locks, n)
		}
	}
}

// Apply makes the compartment what the spec says. It may be called again at any
// time, also after it has failed.
func (e *Engine) Apply(ctx context.Context, s Spec) (Result, error) {
	res, err := e.apply(ctx, s)
	if err != nil {
		return res, fmt.Errorf("apply compartment %s: %w", s.Name, err)
	}
	return res, nil
}

func (e *Engine) apply(ctx context.Context, s Spec) (Result, error) {
	if err := s.check(); err != nil {
		return Result{}, err
	}
	up, ok := e.cfg.uplink(s.Uplink)
	if !ok {
		return Result{}, fmt.Errorf("uplink %q is not one of this gateway's (%s)", s.Uplink, e.uplinkNames())
	}
	if up.Kind != Routed {
		return Result{}, fmt.Errorf("uplink %s is of kind %s: a compartment's way outside needs one of kind %s; this is for attachments", up.Name, up.Kind, Routed)
	}
	if six := slices.ContainsFunc(s.CAs, func(p netip.Prefix) bool { return p.Addr().Is6() }) ||
		slices.ContainsFunc(s.External, func(r hnv.ExternalRange) bool { return r.Addr.Is6() }); six && !e.has(featureIPv6) {
		return Result{}, errors.New("the tenant has IPv6 addresses and this kernel has no IPv6")
	}
	defer e.lock(s.Name)()
	upLink, err := e.out.Link(up.Interface)
	if err != nil {
		return Result{}, fmt.Errorf("uplink %s: %w", up.Name, err)
	}
	own, err := e.own.get()
	if err != nil {
		return Result{}, err
	}
	w := wanted(e.names, s, uplinkState{upLink.Name, upLink.MTU, sourcesOn(upLink.Index, own)})
	if err := e.gw.free(upLink, own, w.outside.proxied); err != nil {
		return Result{}, err
	}
	if err := e.gw.clear(own, w.outside.peer, disjoint(s.Forwarded)); err != nil {
		return Result{}, err
	}
	res := Result{Namespace: netns.Path(w.namespace), Port: w.pairs[0].outer.name}

	x := &executor{ctx: ctx, e: e}
	defer x.close()
	made, err := e.applyInside(x, w, &res)
	if err != nil {
		return res, err
	}
	err = e.applyOutside(x, w.outside, &res)
	if made {
		res.Repaired = []string{"compartment made"}
	}
	if err != nil {
		return res, err
	}
	res.Exit, err = e.exit(w, upLink)
	return res, err
}

func (e *Engine) exit(w want, uplink nl.Link) (Exit, error) {
	port, ext := w.pairs[0], w.pairs[1]
	p, err := e.out.Link(port.outer.name)
	if err != nil {
		return Exit{}, err
	}
	x, err := e.out.Link(ext.outer.name)
	if err != nil {
		return Exit{}, err
	}
	return Exit{Link: x.Index, Port: p.Index, Uplink: uplink.Index, MAC: ext.inner.mac, PeerMAC: x.MAC, MTU: x.MTU, Netns: x.ParentNetns}, nil
}

func (e *Engine) uplinkNames() string {
	var out []string
	for _, u := range e.cfg.Uplinks {
		out = append(out, u.Name)
	}
	if len(out) == 0 {
		return "it has none"
	}
	return strings.Join(out, ", ")
}

// applyInside works until nothing is left to do: one change may undo what
// another look found right, as when an address takes its routes with it.
func (e *Engine) applyInside(x *executor, w want, res *Result) (made bool, err error) {
	if x.in, err = e.openCompartment(w.namespace); err != nil {
		return false, err
	}
	made = x.in == nil
	var steps []step
	for range settle {
		s, err := e.seeInside(w, x.in)
		if err != nil {
			return made, err
		}
		if steps = planInside(w, s); len(steps) == 0 {
			return made, nil
		}
		if err := e.leaveOldPeers(x, w, s); err != nil {
			return made, err
		}
		res.Repaired = append(res.Repaired, words(steps)...)
		if err := x.run(steps); err != nil {
			return made, err
		}
	}
	return made, fmt.Errorf("the namespace does not settle: %s is undone each time it is done; does somebody else change it?", steps[0])
}

// leaveOldPeers clears the gateway's namespace of what belongs to a link whose
// name has changed, as it does with the VSID, while the link can still be found.
func (e *Engine) leaveOldPeers(x *executor, w want, s seen) error {
	var old []string
	for _, name := range sortedKeys(s.links) {
		l := s.links[name]
		known := slices.ContainsFunc(w.pairs, func(p pair) bool {
			o, ok := s.outer[p.outer.name]
			return ok && o.Index == l.Parent
		})
		ofOurs := name == ExternalLink || strings.HasPrefix(name, overlayLinks) // others have veths here too
		if l.Kind != "veth" || !l.ParentElsewhere || known || !ofOurs {
			continue
		}
		peer, err := e.out.LinkByIndex(l.Parent)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if peer.Parent == l.Index && e.isPeer(peer, w.tenant) {
			old = append(old, peer.Name)
		}
	}
	if len(old) == 0 {
		return nil
	}
	_, err := e.sweep(x.ctx, old, false)
	return err
}

// applyOutside works in the gateway's namespace, where compartments may share
// an address: one at a time.
func (e *Engine) applyOutside(x *executor, o outside, res *Result) error {
	g := e.gw
	g.mu.Lock()
	defer g.mu.Unlock()
	repaired, err := e.prepare(x, o)
	res.Repaired = append(res.Repaired, repaired...)
	if err != nil {
		return err
	}
	var steps []step
	for try := range settle {
		if try > 0 {
			if _, err := g.sync(false); err != nil {
				return err
			}
		}
		s, err := g.seeOutside(o)
		if err != nil {
			return err
		}
		if steps = planOutside(e.names, o, s); len(steps) == 0 {
			return nil
		}
		err = x.run(steps)
		if errors.Is(err, nft.ErrChanged) {
			continue // the first step: nothing has been done yet
		}
		res.Repaired = append(res.Repaired, words(steps)...)
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the gateway's namespace does not settle: %s is undone each time it is done; does somebody else change it?", steps[0])
}

var _ io.Closer = (*Engine)(nil)

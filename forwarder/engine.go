//go:build linux

package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Engine makes and keeps the attachments of one gateway's compartments. Its
// methods may be called at once, for one tenant too.
type Engine struct {
	names    names
	log      *slog.Logger
	out      *nl.Handle
	nft      *nft.Conn
	features []Feature
	// beforeStep is set by tests that stop half way.
	beforeStep func(step) error

	mu    sync.Mutex
	locks map[hnv.Name]*tenantLock
}

// tenantLock is there as long as someone holds it or waits for it.
type tenantLock struct {
	sync.Mutex
	users int
}

// settle bounds how often Apply looks again after it has changed something.
const settle = 5

const machineID = "/etc/machine-id"

// New starts an engine on the gateway's namespace. It changes nothing there.
func New(cfg Config) (*Engine, error) {
	if cfg.Machine == "" {
		b, err := os.ReadFile(machineID)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("start forwarder: %w", err)
		}
		cfg.Machine = strings.TrimSpace(string(b))
	}
	e := &Engine{names: names{cfg.Instance, cfg.Machine}, log: cfg.Log, locks: map[hnv.Name]*tenantLock{}}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	err := e.names.check()
	if err == nil {
		e.features, err = probe()
	}
	if err == nil {
		e.out, err = nl.Open(cfg.Namespace)
	}
	if err == nil {
		e.nft, err = nft.Open(cfg.Namespace)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start forwarder: %w", err), e.Close())
	}
	return e, nil
}

// Close frees what the engine holds open. All attachments stay.
func (e *Engine) Close() error {
	var err error
	if e.nft != nil {
		err = e.nft.Close()
	}
	if e.out != nil {
		e.out.Close()
	}
	return err
}

// Features tells what the kernel offers, found out by trying when the engine was
// started.
func (e *Engine) Features() []Feature { return slices.Clone(e.features) }

// lock gives one caller at a time a tenant.
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

// Apply makes the compartment's attachments what the spec says. A spec that Check
// refuses changes nothing. It may be called again at any time, also after it has
// failed: what failed is tried again.
func (e *Engine) Apply(ctx context.Context, s Spec) (Result, error) {
	if err := s.Check(); err != nil {
		return Result{}, fmt.Errorf("apply attachments of %s: %w", s.Tenant, err)
	}
	res, err := e.apply(ctx, s)
	if err != nil {
		return res, fmt.Errorf("apply attachments of %s: %w", s.Tenant, err)
	}
	return res, nil
}

// Remove takes away all attachments of the compartment. It is no error if the
// compartment is gone, and they with it.
func (e *Engine) Remove(ctx context.Context, tenant hnv.Name, namespace string) error {
	_, err := e.apply(ctx, Spec{Tenant: tenant, Namespace: namespace})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attachments of %s: %w", tenant, err)
	}
	return nil
}

func (e *Engine) apply(ctx context.Context, s Spec) (Result, error) {
	defer e.lock(s.Tenant)()
	res := Result{Failed: map[hnv.Name]error{}}
	in, err := nl.Open(s.Namespace)
	if err != nil {
		return res, err
	}
	defer in.Close()
	parents, err := e.parents(s)
	if err != nil {
		return res, err
	}
	w, failed := wanted(e.names, s, parents)
	res.Failed = failed
	if err := e.guard(&w, &res); err != nil {
		return res, err
	}
	x := &executor{ctx: ctx, e: e, in: in}
	if err := x.settle(&w, &res); err != nil {
		return res, err
	}
	for _, a := range s.Attachments {
		if p, there := parents[a.Parent]; there && !p.Up { // whatever else came of that
			res.Failed[a.Name] = fmt.Errorf("the uplink's interface %s is down: set it up", a.Parent)
		}
	}
	return res, res.err()
}

func (r *Result) fail(n hnv.Name, err error) {
	if r.Failed[n] == nil {
		r.Failed[n] = err
	}
}

func (r *Result) err() error {
	names := make([]hnv.Name, 0, len(r.Failed))
	for n := range r.Failed {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b hnv.Name) int { return strings.Compare(a.String(), b.String()) })
	var errs []error
	for _, n := range names {
		errs = append(errs, fmt.Errorf("attachment %s: %w", n, r.Failed[n]))
	}
	return errors.Join(errs...)
}

// parents looks at the uplinks' interfaces.
func (e *Engine) parents(s Spec) (map[string]nl.Link, error) {
	out := map[string]nl.Link{}
	for _, a := range s.Attachments {
		if _, known := out[a.Parent]; known {
			continue
		}
		l, err := e.out.Link(a.Parent)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[a.Parent] = l
	}
	return out, nil
}

// settle works until nothing is left to do: one change may undo what another look
// found right, as a link takes its routes with it.
func (x *executor) settle(w *want, res *Result) error {
	var left []group
	for range settle {
		s, err := x.e.see(w, x.in, res)
		if err != nil {
			return err
		}
		if left = plan(*w, s); len(left) == 0 {
			return nil
		}
		for _, g := range left {
			if err := x.run(g); err != nil {
				if len(g.attachments) == 0 || x.ctx.Err() != nil {
					return err
				}
				x.giveUp(g, w, res, err)
				continue
			}
			res.Repaired = append(res.Repaired, g.words()...)
		}
	}
	return fmt.Errorf("the links do not settle: %s is undone each time it is done; does somebody else change it?", left[0].steps[0])
}

// giveUp leaves what a failed group is about as it is, so that the rest goes on.
func (x *executor) giveUp(g group, w *want, res *Result, err error) {
	for _, n := range g.attachments {
		res.fail(n, err)
	}
	switch s := g.steps[0].(type) {
	case addRoute:
		w.hold(s.route)
	case replaceRoute:
		w.hold(s.route)
	default:
		w.giveUp(g.attachments[0])
	}
}

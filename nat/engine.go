//go:build linux

package nat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"github.com/hnvgate/hnvgate/internal/ct"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nft"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Engine brings compartments' translation to what is wanted. It may be used
// from several goroutines, for different namespaces at once.
type Engine struct {
	log *slog.Logger

	mu sync.Mutex
	// swept holds, by path, the namespaces whose connections were all looked at
	// since the ruleset last changed. It starts empty: a process that died
	// between the two must not leave stale connections behind. Only then are rules
	// sealed, so that of sealed ones it need not be done again.
	swept   map[string]netns.ID
	checked checked
}

// New makes an engine. Compartments that are programmed already are adopted by
// the next Apply.
func New(log *slog.Logger) *Engine {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Engine{log: log, swept: map[string]netns.ID{}, checked: checked{by: map[string]check{}}}
}

// Result tells what Apply did.
type Result struct {
	// Repaired says in words what was changed; empty when all was right.
	Repaired []string
}

// Apply brings the compartment to the Spec. It changes only what differs, so
// that counters and connections go on, and changes it at once, so that no packet
// meets half of it.
func (e *Engine) Apply(ctx context.Context, s Spec) (Result, error) {
	if err := s.Check(); err != nil {
		return Result{}, err
	}
	r, err := e.apply(ctx, s.Namespace, &s)
	if err != nil {
		return r, fmt.Errorf("NAT of tenant %s: %w", s.Name, err)
	}
	if len(r.Repaired) > 0 {
		e.log.Info("NAT programmed", "tenant", s.Name.String(), "changes", r.Repaired)
	}
	return r, nil
}

// Remove ends translation in the compartment and leaves it closed: without its
// rules it would forward packets with the tenant's own addresses. A namespace
// that is gone is fine.
func (e *Engine) Remove(ctx context.Context, namespace string) error {
	_, err := e.apply(ctx, namespace, nil)
	if errors.Is(err, fs.ErrNotExist) {
		e.mark(namespace, netns.ID{})
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove NAT from %s: %w", namespace, err)
	}
	return nil
}

func (e *Engine) apply(ctx context.Context, namespace string, spec *Spec) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	ns, err := netns.Open(namespace)
	if err != nil {
		return Result{}, err
	}
	defer ns.Close()
	id, err := ns.ID()
	if err != nil {
		return Result{}, err
	}
	rules, err := nft.Open(ns.Path())
	if err != nil {
		return Result{}, err
	}
	defer rules.Close()
	last, again := e.checked.last(namespace, rules.Cookie())
	if same, err := last.same(rules, spec); err != nil || same {
		return Result{}, err
	}
	program, err := nft.Compile(tableOf(spec))
	if err != nil {
		return Result{}, err
	}
	if !again {
		sealed, err := rules.Sealed(program)
		if err != nil {
			return Result{}, err
		}
		if sealed {
			e.mark(namespace, id)
			e.checked.note(namespace, check{cookie: rules.Cookie()})
			return Result{}, nil
		}
	}
	found, err := rules.Put(program)
	if err != nil {
		return Result{}, err
	}
	r := Result{Repaired: found.Changes}
	if len(found.Changes) > 0 || !e.isSwept(namespace, id) {
		e.mark(namespace, netns.ID{})
		forgotten, err := sweep(ctx, ct.Over(rules.Socket()), newWanted(specOf(spec)))
		if forgotten > 0 {
			r.Repaired = append(r.Repaired, fmt.Sprintf("%d connections that are no longer allowed ended", forgotten))
		}
		if err != nil {
			return r, err
		}
		e.mark(namespace, id)
	}
	c := check{cookie: rules.Cookie()}
	gen, err := rules.Seal(program, found)
	if err != nil {
		return r, err
	}
	if len(found.Changes) == 0 { // else another look shows whether it came to be
		c.generation, c.spec = gen, spec
	}
	e.checked.note(namespace, c)
	return r, nil
}

// tableOf gives the rules of a Spec; nil is for none.
func tableOf(s *Spec) nft.Table {
	if s == nil {
		return Closed()
	}
	return Ruleset(*s)
}

func specOf(s *Spec) Spec {
	if s == nil {
		return Spec{}
	}
	return *s
}

func (e *Engine) isSwept(namespace string, id netns.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.swept[namespace] == id
}

func (e *Engine) mark(namespace string, id netns.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id == (netns.ID{}) {
		delete(e.swept, namespace)
		return
	}
	e.swept[namespace] = id
}

// sweep deletes the connections whose translation is not wanted any more. The
// rules are in force already: no new one can come. Where there are none at all, they
// are not listed: the kernel has one table for all namespaces, and would go through
// the whole of it.
func sweep(ctx context.Context, conns *ct.Conn, want wanted) (deleted int, err error) {
	if n, err := conns.Count(); err != nil || n == 0 {
		return 0, err
	}
	var stale []ct.Entry
	err = conns.Each(func(entry ct.Entry) error {
		if want.stale(entry) {
			stale = append(stale, entry)
		}
		return ctx.Err()
	})
	if err != nil {
		return 0, err
	}
	for _, entry := range stale {
		if err := ctx.Err(); err != nil {
			return deleted, err
		}
		gone, err := conns.Delete(entry)
		if err != nil {
			return deleted, err
		}
		if gone {
			deleted++
		}
	}
	return deleted, nil
}

// Counter counts packets and their bytes.
type Counter = nft.Counter

// State is what is in force in a compartment.
type State struct {
	// Programmed tells whether there are rules at all.
	Programmed bool
	// Drops holds the counters by name; see the Drop constants.
	Drops map[string]Counter
	// Connections is the number of tracked connections.
	Connections int
}

// Snapshot reads the compartment's counters.
func (e *Engine) Snapshot(ctx context.Context, namespace string) (State, error) {
	var s State
	if err := ctx.Err(); err != nil {
		return s, err
	}
	rules, err := nft.Open(namespace)
	if err != nil {
		return s, err
	}
	defer rules.Close()
	s.Drops, err = rules.Counters(nft.Inet, TableName)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.Programmed = len(s.Drops) > 0
	conns, err := ct.Open(namespace)
	if err != nil {
		return s, err
	}
	defer conns.Close()
	s.Connections, err = conns.Count()
	return s, err
}

// Sessions lists at most limit of the compartment's connections, and tells how
// many there are: those that are translated, and those with the compartment itself.
func (e *Engine) Sessions(ctx context.Context, namespace string, limit int) (list []Session, total int, err error) {
	conns, err := ct.Open(namespace)
	if err != nil {
		return nil, 0, err
	}
	defer conns.Close()
	own, err := addresses(namespace)
	if err != nil {
		return nil, 0, err
	}
	err = conns.Each(func(entry ct.Entry) error {
		if !entry.SNAT() && !entry.DNAT() && !own[entry.Orig.Src.Addr()] && !own[entry.Orig.Dst.Addr()] {
			return ctx.Err()
		}
		total++
		if len(list) < limit {
			list = append(list, newSession(entry))
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, 0, err
	}
	sortSessions(list)
	return list, total, nil
}

// addresses gives those of the namespace.
func addresses(namespace string) (map[netip.Addr]bool, error) {
	h, err := nl.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	all, err := h.Addrs(0)
	own := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		own[a.Prefix.Addr()] = true
	}
	return own, err
}

//go:build linux

package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Metrics put learned routes behind connected and static ones, and iBGP's behind
// eBGP's, as administrative distances do. IPv6 routes that say nothing have 1024.
const (
	metricExternal  = 20
	metricInternal  = 200
	metricAggregate = 254
	metricIPv6      = 1024
)

// settle is how long links are let change before the FIB is compared: they come in
// swarms.
const settle = 100 * time.Millisecond

// Kernel is the FIB of a network namespace: routes of protocol nl.ProtocolBGP in its
// main table. Routes of anybody else are left alone, also where they have the
// place of one of ours.
type Kernel struct {
	h      *nl.Handle
	w      *nl.RouteWriter
	stop   context.CancelFunc
	change chan struct{}

	mu     sync.Mutex
	routes map[netip.Prefix]*route
	sets   map[string]*hopSet // by key
	counts [states]int
	fixed  uint64
	last   error
}

// route is what is wanted for a prefix, or left over.
type route struct {
	set    *hopSet // nil: unreachable, or stale
	metric uint32
	state  state
}

// state of a route.
type state uint8

const (
	installed  state = iota
	unresolved       // no next hop is reachable now: not in the kernel
	conflict         // somebody else's route has the place
	stale            // in the kernel from an earlier process, not told anew
	states
)

// hopSet is the next hops that many routes share, and what they come to here.
type hopSet struct {
	hops     []bgp.NextHop
	resolved []nl.NextHop // none: not reachable
	users    int
}

// NewKernel opens the namespace at the path; "" is the calling thread's.
func NewKernel(nsPath string) (*Kernel, error) {
	h, err := nl.Open(nsPath)
	if err != nil {
		return nil, fmt.Errorf("open routing table: %w", err)
	}
	w, err := h.NewRouteWriter()
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open routing table: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &Kernel{h: h, w: w, stop: stop, change: make(chan struct{}, 1), routes: map[netip.Prefix]*route{}, sets: map[string]*hopSet{}}
	events, err := h.WatchLinks(ctx)
	if err != nil {
		stop()
		w.Close()
		h.Close()
		return nil, fmt.Errorf("open routing table: %w", err)
	}
	go k.watch(events)
	return k, nil
}

// watch tells when links changed, and with them what next hops come to.
func (k *Kernel) watch(events <-chan nl.LinkEvent) {
	var timer <-chan time.Time
	for {
		select {
		case _, open := <-events:
			if !open {
				return
			}
			if timer == nil {
				timer = time.After(settle)
			}
		case <-timer:
			timer = nil
			select {
			case k.change <- struct{}{}:
			default:
			}
		}
	}
}

// Changes tells when Repair should be called.
func (k *Kernel) Changes() <-chan struct{} { return k.change }

// Start takes over the routes that are there.
func (k *Kernel) Start() (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	there, err := k.h.Routes(nl.ProtocolBGP, 0)
	if err != nil {
		return 0, err
	}
	for _, r := range there {
		k.put(r.Dst, &route{metric: r.Metric, state: stale})
	}
	return k.counts[stale], nil
}

// put and drop keep the counts.
func (k *Kernel) put(p netip.Prefix, r *route) {
	k.drop(p)
	k.routes[p] = r
	k.counts[r.state]++
	if r.set != nil {
		r.set.users++
	}
}

func (k *Kernel) drop(p netip.Prefix) {
	old := k.routes[p]
	if old == nil {
		return
	}
	delete(k.routes, p)
	k.counts[old.state]--
	if s := old.set; s != nil {
		if s.users--; s.users == 0 {
			delete(k.sets, key(s.hops))
		}
	}
}

func (k *Kernel) mark(r *route, s state) {
	k.counts[r.state]--
	r.state = s
	k.counts[s]++
}

func key(hops []bgp.NextHop) string {
	var b strings.Builder
	for _, h := range hops {
		fmt.Fprintf(&b, "%s %t %d,", h.Address, h.Direct, h.Weight)
	}
	return b.String()
}

func (k *Kernel) setOf(hops []bgp.NextHop) *hopSet {
	name := key(hops)
	s := k.sets[name]
	if s == nil {
		s = &hopSet{hops: slices.Clone(hops)}
		s.resolved = k.resolve(s.hops)
		k.sets[name] = s
	}
	return s
}

func metricOf(r *bgp.Route) uint32 {
	m := uint32(metricExternal)
	switch {
	case r.Unreachable:
		m = metricAggregate
	case r.Internal:
		m = metricInternal
	}
	if r.Prefix.Addr().Is6() {
		m += metricIPv6
	}
	return m
}

// Change brings the table to the routes.
func (k *Kernel) Change(routes []bgp.Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := &changes{k: k}
	for i := range routes {
		k.plan(&routes[i], b)
	}
	return b.carryOut()
}

// plan says what must be done for a route.
func (k *Kernel) plan(want *bgp.Route, b *changes) {
	p, old := want.Prefix, k.routes[want.Prefix]
	there := old != nil && (old.state == installed || old.state == stale)
	if !want.Unreachable && len(want.NextHops) == 0 {
		if there {
			b.add(nl.RouteDelete, message(p, old), nil)
		}
		k.drop(p)
		return
	}
	news := &route{metric: metricOf(want)}
	if !want.Unreachable {
		news.set = k.setOf(want.NextHops)
	}
	switch {
	case news.set != nil && len(news.set.resolved) == 0:
		news.state = unresolved
		if there {
			b.add(nl.RouteDelete, message(p, old), nil)
		}
	case there && old.metric == news.metric:
		if old.state == installed && old.set == news.set {
			return
		}
		b.add(nl.RouteReplace, message(p, news), news)
	default:
		// The new one first: there is always a way.
		b.add(nl.RouteAdd, message(p, news), news)
		if there {
			b.add(nl.RouteDelete, message(p, old), nil)
		}
	}
	k.put(p, news)
}

// message is a route in the kernel's terms.
func message(p netip.Prefix, r *route) nl.Route {
	m := nl.Route{Dst: p, Metric: r.metric, Protocol: nl.ProtocolBGP, Unreachable: r.set == nil}
	if r.set == nil {
		return m
	}
	if hops := r.set.resolved; len(hops) == 1 {
		m.Via, m.Link = hops[0].Via, hops[0].Link
	} else {
		m.NextHops = hops
	}
	return m
}

// changes gathers what goes to the kernel in one go.
type changes struct {
	k     *Kernel
	list  []nl.RouteChange
	of    []*route // whose; nil where failing means nothing
	quiet bool     // a refusal is no news
}

func (c *changes) add(op nl.RouteOp, m nl.Route, r *route) {
	c.list = append(c.list, nl.RouteChange{Op: op, Route: m})
	c.of = append(c.of, r)
}

func (c *changes) carryOut() error {
	if len(c.list) == 0 {
		return nil
	}
	var errs []error
	err := c.k.w.ChangeRoutes(c.list, func(i int, err error) {
		r := c.of[i]
		err = fmt.Errorf("route %s: %w", c.list[i].Route, err)
		if r == nil {
			c.k.last = err
			return
		}
		if errors.Is(err, unix.EEXIST) {
			c.k.mark(r, conflict)
		} else {
			c.k.mark(r, unresolved)
		}
		if c.k.last = err; len(errs) < 3 && !c.quiet {
			errs = append(errs, err)
		}
	})
	if err != nil {
		return err
	}
	return errors.Join(errs...)
}

// Prune removes what is stale.
func (k *Kernel) Prune() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := &changes{k: k}
	for p, r := range k.routes {
		if r.state == stale {
			b.add(nl.RouteDelete, message(p, r), nil)
			k.drop(p)
		}
	}
	return b.carryOut()
}

// State counts routes.
func (k *Kernel) State() bgp.FIBState {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := bgp.FIBState{
		Installed: k.counts[installed], Unresolved: k.counts[unresolved], Stale: k.counts[stale], Conflicts: k.counts[conflict], Repaired: k.fixed,
	}
	if k.last != nil {
		s.LastError = k.last.Error()
	}
	return s
}

// Close removes the routes unless they are to stay, and frees what Kernel holds.
func (k *Kernel) Close(keep bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	var err error
	if !keep {
		b := &changes{k: k}
		for p, r := range k.routes {
			if r.state == installed || r.state == stale {
				b.add(nl.RouteDelete, message(p, r), nil)
			}
		}
		err = b.carryOut()
	}
	k.w.Close()
	k.h.Close()
	return err
}

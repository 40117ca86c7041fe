package control

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/compartments"
	"github.com/hnvgate/hnvgate/hnv"
)

// reach finds out which provider addresses of other hosts cannot be reached,
// where a host has several to choose from: it asks each for an echo, as its
// kernel answers. An address that has never answered is taken to be one that
// does not, and to be there: its host may be of another make.
//
//	unknown --reply--> up --3 lost in a row--> down --2 replies in a row--> up
type reach struct {
	c *Controller

	mu    sync.Mutex
	pulse map[netip.Addr]*pulse
}

const (
	reachInterval = time.Second     // between echoes to one address
	reachTimeout  = time.Second     // for its reply
	reachSurvey   = 5 * time.Second // between looks at which addresses there are
	reachMax      = 1024            // addresses that are asked
	lostIsDown    = 3
	repliesAreUp  = 2
)

// pulse is what is known of one address.
type pulse struct {
	answered, down bool
	lost, replies  int // in a row
	stop           context.CancelFunc
}

// beat takes the outcome of an echo, and tells whether the address has changed
// between up and down.
func (p *pulse) beat(reply bool) (changed bool) {
	if reply {
		p.answered, p.lost = true, 0
		p.replies++
		if p.down && p.replies >= repliesAreUp {
			p.down = false
			return true
		}
		return false
	}
	p.replies = 0
	p.lost++
	if p.answered && !p.down && p.lost >= lostIsDown {
		p.down = true
		return true
	}
	return false
}

func newReach(c *Controller) *reach { return &reach{c: c, pulse: map[netip.Addr]*pulse{}} }

func (r *reach) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	seen := int64(-1)
	for {
		if rev := r.c.o.Store.Revision(); rev != seen {
			seen = rev
			r.survey(ctx, &wg)
		}
		if !sleep(ctx, reachSurvey, nil) {
			return
		}
	}
}

// survey starts to ask the addresses that are new, and ceases to ask those that
// no record names any more.
func (r *reach) survey(ctx context.Context, wg *sync.WaitGroup) {
	var want []netip.Addr
	r.c.o.Store.View(func(f *hnv.Fabric) { want = f.RemoteTeams(reachMax) })
	r.mu.Lock()
	gone := false
	for a, p := range r.pulse {
		if !slices.Contains(want, a) {
			p.stop()
			delete(r.pulse, a)
			gone = gone || p.down
		}
	}
	for _, a := range want {
		if r.pulse[a] != nil {
			continue
		}
		mine, stop := context.WithCancel(ctx)
		p := &pulse{stop: stop}
		r.pulse[a] = p
		wg.Go(func() { r.ask(mine, a, p) })
	}
	r.mu.Unlock()
	if gone {
		r.tell()
	}
}

// ask keeps asking one address until ctx ends.
func (r *reach) ask(ctx context.Context, a netip.Addr, p *pulse) {
	for {
		if from, ok := r.source(a); ok {
			res, err := r.c.o.Compartments.Ping(ctx, compartments.PingSpec{From: from, To: a, Count: 1, Timeout: reachTimeout}, func(compartments.PingReply) {})
			if ctx.Err() != nil {
				return
			}
			r.mu.Lock()
			changed := p.beat(err == nil && res.Received > 0)
			down := p.down
			r.mu.Unlock()
			if changed {
				r.c.o.Log.Warn("provider address of another host", "address", a, "reachable", !down)
				r.tell()
			}
		}
		if !sleep(ctx, reachInterval, nil) {
			return
		}
	}
}

// source picks an address of ours that works to ask from, one of the same network
// if there is one.
func (r *reach) source(to netip.Addr) (from netip.Addr, ok bool) {
	state := r.c.o.Compartments.ProviderState()
	r.c.o.Store.View(func(f *hnv.Fabric) {
		for _, own := range f.ProviderAddresses() {
			a := own.Addr.Addr()
			if a.Is4() != to.Is4() || state.IsDown(a) {
				continue
			}
			if !ok || own.Addr.Contains(to) {
				from, ok = a, true
			}
		}
	})
	return from, ok
}

// tell hands the dataplane the addresses that cannot be reached.
func (r *reach) tell() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var down []netip.Addr
	for a, p := range r.pulse {
		if p.down {
			down = append(down, a)
		}
	}
	slices.SortFunc(down, netip.Addr.Compare)
	r.c.o.Wiring.Unreachable(down)
}

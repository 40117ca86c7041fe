package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

// FIB is where best routes go. Its methods are called one at a time.
type FIB interface {
	// Start takes over what an earlier process left, and says how many routes that is.
	Start() (left int, err error)
	// Change puts each route in place of what is there for its prefix; one without
	// next hops that is not Unreachable removes it. What cannot be done now is tried
	// again by Retry and Repair.
	Change(routes []bgp.Route) error
	// Prune removes what Start found and Change did not confirm.
	Prune() error
	// Retry tries again what could not be done.
	Retry() error
	// Repair compares all with what really is, and mends it.
	Repair() error
	// Changes tells when Repair should be called.
	Changes() <-chan struct{}
	State() bgp.FIBState
	// Close removes all routes, or leaves them in place.
	Close(keep bool) error
}

// Options are for New.
type Options struct {
	Log *slog.Logger // nil: none
	FIB FIB          // nil: routes are only told
	// OnRoutes is told of changed routes, each by its last state, after the FIB has
	// them. It must not call the Speaker.
	OnRoutes func([]bgp.Route)
	// OnChange is told that routes, or a session, have changed. It must not wait.
	OnChange func()
}

// ErrClosed is returned after Close.
var ErrClosed = errors.New("the speaker is closed")

// Speaker is one compartment's.
type Speaker struct {
	o      Options
	rib    *rib
	cancel context.CancelFunc
	done   chan struct{} // the worker has ended
	// sessionChanged wakes what keeps BFD in step with the sessions; detected: that has ended.
	sessionChanged, detected chan struct{}
	// generation counts the times that routes changed.
	generation atomic.Uint64

	mu         sync.Mutex
	closed     bool
	srv        *gobgp.Server // nil until the first Apply
	spec       bgp.Spec
	plan       plan
	originated map[netip.Prefix]gobgp.Origination
	known      map[netip.Prefix]bool // aggregates that are originated
	resets     map[string]direction  // still to be done, by peer
	whole      bool                  // spec was carried out without error
	silent     []netip.Prefix        // next hops that do not forward
	left       int                   // routes of an earlier process, while they stay

	eventMu  sync.Mutex
	sessions map[netip.Addr]*session
	waiting  map[endOfRIB]bool // what ends the restart
	restart  time.Time         // when it ends at the latest; zero: no restart
	verdicts []netip.Addr      // dynamic neighbours to be sent away
	wanted   []bgp.Peer
}

// session is what is known of a neighbour apart from gobgp's tables.
type session struct {
	group     string
	up        bool
	reason    string
	overLimit bool
	retry     time.Time
	watch     watch
	nth       uint64 // of the sessions with the neighbour
	detected  uint64 // the one that BFD was switched on for; 0: it is off
}

type endOfRIB struct {
	peer   netip.Addr
	family bgp.Family
}

// New makes a speaker that does nothing yet. Close it.
func New(_ context.Context, o Options) (*Speaker, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.FIB == nil {
		o.FIB = nowhere{}
	}
	if o.OnChange == nil {
		o.OnChange = func() {}
	}
	s := &Speaker{
		o: o, rib: newRIB(), done: make(chan struct{}), sessionChanged: make(chan struct{}, 1), detected: make(chan struct{}),
		originated: map[netip.Prefix]gobgp.Origination{},
		resets:     map[string]direction{}, sessions: map[netip.Addr]*session{}, waiting: map[endOfRIB]bool{},
	}
	left, err := o.FIB.Start()
	if err != nil {
		return nil, fmt.Errorf("start speaker: %w", err)
	}
	s.left = left
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.work(ctx)
	go s.detect(ctx)
	return s, nil
}

// Close ends the speaker. With keepFIB the routes stay, and neighbours that agreed
// on graceful restart are left to think that we will be back: for a restart.
func (s *Speaker) Close(keepFIB bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	srv := s.srv
	s.mu.Unlock()
	// The worker first: what sessions' ends withdraw must not leave the FIB.
	s.cancel()
	<-s.done
	<-s.detected
	var err error
	if srv != nil {
		err = srv.Stop(keepFIB)
	}
	return errors.Join(err, s.o.FIB.Close(keepFIB))
}

// checkHere says what is wrong with the Spec in this namespace.
func checkHere(spec *bgp.Spec) error {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list own addresses: %w", err)
	}
	var errs []error
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		own, _ := netip.AddrFromSlice(n.IP)
		for _, p := range spec.Peers {
			if p.Address.WithZone("") == own.Unmap() {
				errs = append(errs, fmt.Errorf("peer %s address: %s is an address of this compartment", p.Name, p.Address))
			}
		}
	}
	return errors.Join(errs...)
}

// nowhere is the FIB of a speaker that only tells.
type nowhere struct{}

func (nowhere) Start() (int, error)      { return 0, nil }
func (nowhere) Change([]bgp.Route) error { return nil }
func (nowhere) Prune() error             { return nil }
func (nowhere) Retry() error             { return nil }
func (nowhere) Repair() error            { return nil }
func (nowhere) Changes() <-chan struct{} { return nil }
func (nowhere) State() bgp.FIBState      { return bgp.FIBState{} }
func (nowhere) Close(bool) error         { return nil }

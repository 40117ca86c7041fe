package peers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/store"
)

// Store is the desired state of this machine; *store.Store is one.
type Store interface {
	// View calls fn with the present state, which fn must not change or keep.
	View(fn func(f *hnv.Fabric))
	// Revision is that of the present state.
	Revision() int64
	// Watch delivers every transaction from now on, a resync marker first.
	Watch(ctx context.Context) <-chan store.Event
	// UpdateFunc carries out the changes that plan makes of the present state,
	// all or none. A refusal wraps the hnv errors.
	UpdateFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) (int64, error)
}

// Remote is the interface of a peer; *client.Client is one.
type Remote interface {
	LearnedRecords(ctx context.Context, pas []string) (v1.LearnedState, error)
	ReportLearned(ctx context.Context, r v1.LearnedReport) (v1.LearnedResult, error)
}

// Peer is a machine that gets what this one learns.
type Peer struct {
	Name   string
	Target string // where it is, for people
	Remote Remote
}

// Limits bound what is learned and told. Zero values take the defaults.
type Limits struct {
	PerTenant int // own records of a tenant that are reported (4096)
	PerPeer   int // records of a tenant that one machine may have here (4096)
	Reported  int // records of a tenant that all of them may have here (65536)
	Waiting   int // records that wait for one peer before it is asked anew (8192)
	Batch     int // records in one report (256)

	Moves      int           // changes of a record in MoveWindow that are told at once (5)
	MoveWindow time.Duration // (3 min)

	Gather   time.Duration // what more comes after the first change (50 ms)
	Beat     time.Duration // between looks at a peer (30 s)
	Soon     time.Duration // before the first new try of what a peer does not take; doubles (1 s)
	Rarely   time.Duration // the longest between such tries (5 min)
	Anew     time.Duration // between comparisons of everything (10 min)
	Timeout  time.Duration // of one request (15 s)
	Retry    time.Duration // after the first failure; doubles (500 ms)
	MaxRetry time.Duration // (60 s)
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		v   *int
		def int
	}{{&l.PerTenant, 4096}, {&l.PerPeer, 4096}, {&l.Reported, 65536}, {&l.Waiting, 8192}, {&l.Batch, 256}, {&l.Moves, 5}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&l.MoveWindow, 3 * time.Minute}, {&l.Gather, 50 * time.Millisecond}, {&l.Beat, 30 * time.Second}, {&l.Soon, time.Second}, {&l.Rarely, 5 * time.Minute},
		{&l.Anew, 10 * time.Minute}, {&l.Timeout, 15 * time.Second}, {&l.Retry, 500 * time.Millisecond}, {&l.MaxRetry, time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
}

// Options are the Exchange's parts.
type Options struct {
	// Origin names this machine among all of the datacenter: printable ASCII
	// without spaces, at most 128 bytes.
	Origin string
	Store  Store
	Peers  []Peer
	Limits Limits
	Log    *slog.Logger // nil: slog.Default
}

// Exchange reports to peers, and takes over what others report. Its methods may
// be called from several goroutines at once.
type Exchange struct {
	o        Options
	epoch    string
	ledger   *ledger
	sessions []*session
}

var errNotLoaded = errors.New("the learned records are not read yet: try again")

// New prepares an Exchange; Run sets it to work.
func New(o Options) (*Exchange, error) {
	if !validOrigin(o.Origin) {
		return nil, fmt.Errorf("peers: the name %q of this machine is not 1 to %d printable characters without spaces", o.Origin, maxOrigin)
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Limits.defaults()
	x := &Exchange{o: o, epoch: newEpoch(), ledger: newLedger(o.Store, o.Limits)}
	for _, p := range o.Peers {
		x.sessions = append(x.sessions, newSession(x, p))
	}
	x.ledger.sessions = x.sessions
	return x, nil
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Run works until ctx ends, and everything it started has ended.
func (x *Exchange) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { x.ledger.follow(ctx) })
	for _, s := range x.sessions {
		wg.Go(func() { s.run(ctx) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// Learned sums up what was learned, here and elsewhere.
func (x *Exchange) Learned() v1.LearnedStatus {
	l := x.ledger
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := v1.LearnedStatus{Own: len(l.claims)}
	for _, w := range l.waiting {
		out.OverLimit += len(w)
	}
	out.Own += out.OverLimit
	for _, n := range l.total {
		out.Reported += n
	}
	for _, c := range l.claims {
		if now.Before(c.notBefore) {
			out.Unsteady++
		}
	}
	return out
}

// Peers gives the state of all peers, in the order of Options.Peers.
func (x *Exchange) Peers() []v1.PeerStatus {
	out := []v1.PeerStatus{}
	for _, s := range x.sessions {
		out = append(out, s.status())
	}
	return out
}

// HeldLearned gives the reported records at these provider addresses.
func (x *Exchange) HeldLearned(ctx context.Context, pas []netip.Addr) (v1.LearnedState, error) {
	l := x.ledger
	out := v1.LearnedState{Epoch: x.epoch, Revision: x.o.Store.Revision(), Items: []v1.LookupRecord{}}
	if len(pas) == 0 {
		return out, nil
	}
	if err := l.caughtUp(ctx); err != nil {
		return out, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if e.origin == "" {
			continue
		}
		for _, pa := range pas {
			if at(e.rec, pa) {
				out.Items = append(out.Items, v1.NewLookupRecord(e.rec, e.tenant.String(), v1.OriginConfigured))
				break
			}
		}
	}
	return out, nil
}

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hnvgate/hnvgate/hnv"
)

// Options says how to open a store.
type Options struct {
	Dir  string       // state directory; the store lives in its folder "store"
	Site hnv.Site     // what objects may name on this machine
	Log  *slog.Logger // nil: slog.Default

	unsynced bool // writes do not wait for the disk, for tests of what does not depend on it
}

// Store is the desired state. Its methods may be called from several
// goroutines at once.
type Store struct {
	client *clientv3.Client
	member *member // nil with an external cluster
	site   hnv.Site
	log    *slog.Logger

	writer chan struct{} // holds one token: the right to write

	mu         sync.RWMutex
	fabric     *hnv.Fabric
	generation int64         // ModRevision of the generation key that fabric holds
	moved      chan struct{} // closed and renewed whenever revision moves
	broken     error         // why fabric cannot follow etcd; nil: it does
	subs       map[*subscriber]struct{}

	revision atomic.Int64 // of fabric; written with mu held

	sinceCompact int // operations committed since the last compaction; with writer

	stop   context.CancelFunc
	done   sync.WaitGroup
	closed sync.Once
}

// Open starts an etcd of this process' own with its data under o.Dir and reads
// the state. An object that cannot be read, or that contradicts the others or
// the site, is an error that names its key: nothing is dropped in silence.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Dir == "" {
		return nil, errors.New("open store: the state directory is not given")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	m, err := startMember(ctx, filepath.Join(o.Dir, "store"), o.Log.With("component", "etcd"), o.unsynced)
	if err != nil {
		return nil, err
	}
	s, err := New(ctx, m.client, o)
	if err != nil {
		m.close()
		return nil, err
	}
	s.member = m
	return s, nil
}

// New reads the state from a cluster by its client, which Close leaves open.
// The cluster must take transactions as large as the ones used here
// (--max-txn-ops, --max-request-bytes). o.Dir is not used.
func New(ctx context.Context, client *clientv3.Client, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Store{
		client: client,
		site:   o.Site,
		log:    o.Log.With("component", "store"),
		writer: make(chan struct{}, 1),
		moved:  make(chan struct{}),
		subs:   map[*subscriber]struct{}{},
	}
	s.writer <- struct{}{}
	start := time.Now()
	read, err := s.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("read desired state: %w", err)
	}
	s.mu.Lock()
	s.adopt(read)
	s.mu.Unlock()
	s.log.Debug("desired state read", "objects", read.objects, "revision", read.generation, "took", time.Since(start))

	follow, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.done.Go(func() { s.follow(follow, read.header+1) })
	return s, nil
}

// View calls fn with the present state. fn must neither change nor keep it nor
// call the store, except for Revision, which inside fn is that of the state.
func (s *Store) View(fn func(f *hnv.Fabric)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	fn(s.fabric)
}

// Revision is that of the last transaction that the state holds; 0: none yet.
func (s *Store) Revision() int64 { return s.revision.Load() }

// Healthy is nil while the state follows etcd, and else says why it cannot.
func (s *Store) Healthy() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.broken
}

// Close ends the subscriptions and, for an embedded store, stops etcd. No other
// method may run at the time or be called later.
func (s *Store) Close() { s.closed.Do(s.close) }

func (s *Store) close() {
	s.stop()
	s.done.Wait()
	s.mu.Lock()
	for sub := range s.subs {
		sub.end()
	}
	s.mu.Unlock()
	if s.member != nil {
		s.member.close()
	}
}

package capture

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// MaxSessions is how many captures may run at the same time on one Tap.
const MaxSessions = 8

// The errors of Tap.Run.
var (
	ErrTooMany = errors.New("too many captures are running: stop one of them first")
	ErrUsed    = errors.New("a capture session can be run only once")
)

// Tap is where workers offer packets and sessions come to get them. The zero Tap
// is ready for use.
type Tap struct {
	mu  sync.Mutex // held by writers of sessions
	now atomic.Pointer[Sessions]
}

// Sessions is an immutable set of sessions.
type Sessions struct {
	all    []*Session
	points uint8 // that any of them wants packets of
}

// Sessions gives those that run at present; nil if there are none, which is all
// that it costs then: one atomic load. A worker may hold the set for a batch.
func (t *Tap) Sessions() *Sessions { return t.now.Load() }

// Want tells whether any session wants packets of the point, before the work of
// describing one is done.
func (s *Sessions) Want(p Point) bool { return s.points&(1<<p) != 0 }

// Offer gives each session a copy of the packet that it wants: of at most its
// SnapLen bytes. It neither waits nor allocates and keeps neither m nor packet.
func (s *Sessions) Offer(m *Meta, packet []byte) {
	for _, one := range s.all {
		one.offer(m, packet)
	}
}

// Running lists the sessions that run at present.
func (t *Tap) Running() []*Session {
	if s := t.now.Load(); s != nil {
		return slices.Clone(s.all)
	}
	return nil
}

// Run captures into the session until ctx ends or one of its limits is reached,
// which is no error, or until it cannot be written. What the workers had offered
// by then is in the file when Run returns. Run does not close the session's
// io.Writer, and waits for it: one that may hang needs a deadline of its own.
func (t *Tap) Run(ctx context.Context, s *Session) error {
	if s.ran.Swap(true) {
		return ErrUsed
	}
	if err := t.add(s); err != nil {
		s.ran.Store(false)
		return err
	}
	return s.run(ctx, sync.OnceFunc(func() { t.remove(s) }))
}

func (t *Tap) add(s *Session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Session
	if old := t.now.Load(); old != nil {
		all = old.all
	}
	if len(all) >= MaxSessions {
		return ErrTooMany
	}
	t.publish(append(slices.Clone(all), s))
	return nil
}

func (t *Tap) remove(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.publish(slices.DeleteFunc(slices.Clone(t.now.Load().all), func(o *Session) bool { return o == s }))
}

// publish is called with mu held.
func (t *Tap) publish(all []*Session) {
	if len(all) == 0 {
		t.now.Store(nil)
		return
	}
	n := &Sessions{all: all}
	for _, s := range all {
		n.points |= s.points
	}
	t.now.Store(n)
}

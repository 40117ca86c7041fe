package capture

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/hnv"
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
	mu       sync.Mutex // held by writers of sessions
	now      atomic.Pointer[Sessions]
	onChange func(old, now *Sessions)
}

// OnChange has fn called whenever a capture has begun or ended, with the sessions
// before and after, before whoever began or ended it goes on. It is called before
// the first one begins. Calls may overlap.
func (t *Tap) OnChange(fn func(old, now *Sessions)) { t.onChange = fn }

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

// WantTenant tells whether any session may want packets of the tenant, which has the
// virtual subnets. It may be asked of no sessions at all.
func (s *Sessions) WantTenant(rdid hnv.RDID, vsids []uint32) bool {
	return s != nil && slices.ContainsFunc(s.all, func(one *Session) bool {
		f := &one.opt.Filter
		return (f.Tenant == hnv.RDID{} || f.Tenant == rdid) && (!f.VSID.IsValid() || slices.Contains(vsids, f.VSID.Uint32()))
	})
}

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
	return t.change(func(all []*Session) ([]*Session, error) {
		if len(all) >= MaxSessions {
			return nil, ErrTooMany
		}
		return append(all, s), nil
	})
}

func (t *Tap) remove(s *Session) {
	_ = t.change(func(all []*Session) ([]*Session, error) {
		return slices.DeleteFunc(all, func(o *Session) bool { return o == s }), nil
	})
}

// change publishes what fn makes of a copy of the sessions.
func (t *Tap) change(fn func([]*Session) ([]*Session, error)) error {
	t.mu.Lock()
	old := t.now.Load()
	all, err := fn(t.Running())
	var now *Sessions
	if err == nil && len(all) > 0 {
		now = &Sessions{all: all}
		for _, s := range all {
			now.points |= s.points
		}
	}
	if err == nil {
		t.now.Store(now)
	}
	t.mu.Unlock()
	if err == nil && t.onChange != nil {
		t.onChange(old, now)
	}
	return err
}

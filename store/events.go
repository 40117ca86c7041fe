package store

import (
	"context"
	"sync"

	"github.com/hnvgate/hnvgate/hnv"
)

// Event is one transaction as it was applied, or a resync marker.
type Event struct {
	Revision int64 // that of the state after it
	// Resync: what happened up to Revision is not listed. Read everything by
	// View; events up to the revision seen there add nothing new.
	Resync  bool
	Changes []Applied
}

// Applied is what became of one object. The objects are values, with defaults
// filled in; exactly one of them may be nil.
type Applied struct {
	Object hnv.Object // nil: deleted
	Old    hnv.Object // nil: created
}

// queueChanges bounds what waits for a slow subscriber, in changed objects.
// Past it the subscriber is told to read everything, which is cheaper by then.
const queueChanges = 20_000

// Watch delivers every transaction from now on, in order, none left out; where
// a slow receiver makes the queue overflow, a resync marker takes the place of
// what it held. The first event is a resync marker for the present state. The
// channel is closed when ctx is done or the store closes.
func (s *Store) Watch(ctx context.Context) <-chan Event {
	sub := &subscriber{wake: make(chan struct{}, 1), ended: make(chan struct{})}
	s.mu.Lock()
	sub.put(Event{Revision: s.revision.Load(), Resync: true})
	s.subs[sub] = struct{}{}
	s.mu.Unlock()

	out := make(chan Event)
	go func() {
		defer close(out)
		defer func() {
			s.mu.Lock()
			delete(s.subs, sub)
			s.mu.Unlock()
		}()
		sub.pump(ctx, out)
	}()
	return out
}

// publish hands an event to all subscribers; with mu.
func (s *Store) publish(e Event) {
	for sub := range s.subs {
		sub.put(e)
	}
}

type subscriber struct {
	wake  chan struct{} // something was put
	ended chan struct{} // the store closes
	once  sync.Once

	mu     sync.Mutex
	queue  []Event
	weight int
}

func (s *subscriber) end() { s.once.Do(func() { close(s.ended) }) }

func (s *subscriber) put(e Event) {
	s.mu.Lock()
	if e.Resync || s.weight+len(e.Changes) > queueChanges {
		s.queue, s.weight = s.queue[:0], 0
		e = Event{Revision: e.Revision, Resync: true}
	}
	s.queue = append(s.queue, e)
	s.weight += 1 + len(e.Changes)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscriber) get() (Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return Event{}, false
	}
	e := s.queue[0]
	s.queue[0] = Event{}
	s.queue = s.queue[1:]
	s.weight -= 1 + len(e.Changes)
	return e, true
}

func (s *subscriber) pump(ctx context.Context, out chan<- Event) {
	for {
		e, ok := s.get()
		if !ok {
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			case <-s.ended:
				return
			}
			continue
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		}
	}
}

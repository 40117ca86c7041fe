package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hnvgate/hnvgate/hnv"
)

// reloadPause is waited before everything is read again after following failed.
const reloadPause = 2 * time.Second

// follow keeps the mirror up with what others write, from etcd's revision next
// on. What this process wrote is in the mirror already and is skipped.
func (s *Store) follow(ctx context.Context, next int64) {
	for {
		err := s.followFrom(ctx, next)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("following the store broke off, reading it anew", "error", err)
		for {
			st, err := s.load(ctx)
			if err == nil {
				next = st.header + 1
				s.adoptNewer(st)
				break
			}
			if ctx.Err() != nil {
				return
			}
			s.log.Error("the store cannot be read; the last state stays, changes are refused", "error", err)
			s.mu.Lock()
			s.broken = fmt.Errorf("the store cannot be read: %w", err)
			s.mu.Unlock()
			select {
			case <-time.After(reloadPause):
			case <-ctx.Done():
				return
			}
		}
	}
}

// adoptNewer is adopt unless this process has committed since the reading, in
// which case the watch that follows delivers what lies between.
func (s *Store) adoptNewer(st *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.generation < s.revision.Load() {
		s.broken = nil
		return
	}
	s.adopt(st)
}

func (s *Store) followFrom(ctx context.Context, next int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range s.client.Watch(ctx, root, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if err := resp.Err(); err != nil {
			return err
		}
		for len(resp.Events) > 0 {
			revision := resp.Events[0].Kv.ModRevision
			n := 1
			for n < len(resp.Events) && resp.Events[n].Kv.ModRevision == revision {
				n++
			}
			if err := s.foreign(revision, resp.Events[:n]); err != nil {
				return err
			}
			resp.Events = resp.Events[n:]
		}
	}
	return errors.New("the watch ended")
}

// foreign applies one transaction of another writer to the mirror.
func (s *Store) foreign(revision int64, events []*clientv3.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision <= s.revision.Load() {
		return nil
	}
	var changes []hnv.Change
	generation := s.generation
	for _, e := range events {
		key := string(e.Kv.Key)
		if key == generationKey {
			generation = revision
			continue
		}
		if e.Type == mvccpb.Event_DELETE {
			kind, id, err := splitKey(key)
			if err != nil {
				return err
			}
			if old, ok := s.fabric.Get(kind, id); ok {
				changes = append(changes, hnv.Change{Delete: old})
			}
			continue
		}
		o, err := decode(key, e.Kv.Value)
		if err != nil {
			return err
		}
		changes = append(changes, hnv.Change{Put: o})
	}
	st, err := s.stage(changes)
	if err != nil {
		return fmt.Errorf("revision %d of another writer contradicts the state: %w", revision, err)
	}
	s.generation = generation
	s.advance(revision)
	if len(st.applied) > 0 {
		s.publish(Event{Revision: revision, Changes: st.applied})
	}
	return nil
}

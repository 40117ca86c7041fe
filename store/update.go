package store

import (
	"context"
	"fmt"
	"reflect"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hnvgate/hnvgate/hnv"
)

const (
	// commitTimeout bounds one transaction, whatever the caller's context says:
	// once sent, it is better known than cancelled.
	commitTimeout = 15 * time.Second
	// compactEvery is after how many operations old revisions are dropped, and
	// compactKeep how many of the last ones stay for a watch that lags.
	compactEvery = 20_000
	compactKeep  = 20
)

// Plan makes the changes for the state it is shown, which it must neither
// change nor keep. It may be called again after another writer came first.
type Plan func(f *hnv.Fabric) ([]hnv.Change, error)

// Update carries out all changes in one transaction, or none. A refusal wraps
// the errors of hnv; any other error is the store's own, after which the state
// is what etcd holds. Changes that change nothing write nothing. It returns the
// revision that holds the changes.
func (s *Store) Update(ctx context.Context, changes []hnv.Change) (int64, error) {
	return s.UpdateFunc(ctx, func(*hnv.Fabric) ([]hnv.Change, error) { return changes, nil })
}

// UpdateFunc is Update with changes that depend on the state: nothing comes
// between the state that plan saw and the commit. An error of plan is returned
// as it is.
func (s *Store) UpdateFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) (int64, error) {
	if err := s.acquire(ctx); err != nil {
		return 0, err
	}
	defer s.release()
	return s.update(ctx, plan)
}

// CheckFunc tells what UpdateFunc would say, without writing.
func (s *Store) CheckFunc(ctx context.Context, plan func(f *hnv.Fabric) ([]hnv.Change, error)) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, err := plan(s.fabric)
	if err != nil {
		return err
	}
	st, err := s.stage(s.fabric.WithFollowers(changes))
	if err != nil {
		return err
	}
	defer st.undo()
	_, err = st.ops()
	return err
}

func (s *Store) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.writer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) release() { s.writer <- struct{}{} }

// update tries until the state it started from is still the one in etcd; with
// writer.
func (s *Store) update(ctx context.Context, plan Plan) (int64, error) {
	for {
		revision, behind, err := s.attempt(ctx, plan)
		if err != nil || behind == 0 {
			if err == nil {
				s.compact(ctx, revision)
			}
			return revision, err
		}
		if err := s.await(ctx, behind); err != nil {
			return 0, fmt.Errorf("another writer came first, and catching up failed: %w", err)
		}
	}
}

// attempt commits once. behind is not 0 when another writer came first: the
// mirror must reach that revision before the next attempt.
func (s *Store) attempt(ctx context.Context, plan Plan) (revision, behind int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, 0, s.broken
	}
	changes, err := plan(s.fabric)
	if err != nil {
		return 0, 0, err
	}
	st, err := s.stage(s.fabric.WithFollowers(changes))
	if err != nil {
		return 0, 0, err
	}
	if len(st.applied) == 0 {
		return s.revision.Load(), 0, nil
	}
	defer func() {
		if err != nil || behind != 0 {
			st.undo()
		}
	}()
	ops, err := st.ops()
	if err != nil {
		return 0, 0, err
	}
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	resp, err := s.client.Txn(commit).
		If(clientv3.Compare(clientv3.ModRevision(generationKey), "=", s.generation)).
		Then(ops...).
		Else(clientv3.OpGet(generationKey)).
		Commit()
	if err != nil {
		// Had it been committed all the same, the watch would tell.
		return 0, 0, fmt.Errorf("write to the store: %w", err)
	}
	if !resp.Succeeded {
		kvs := resp.Responses[0].GetResponseRange().GetKvs()
		if len(kvs) == 0 {
			return 0, 0, fmt.Errorf("write to the store: its key %s is gone", generationKey)
		}
		return 0, kvs[0].ModRevision, nil
	}
	s.generation = resp.Header.Revision
	s.advance(s.generation)
	s.sinceCompact += len(ops)
	s.publish(Event{Revision: s.generation, Changes: st.applied})
	return s.generation, 0, nil
}

// await waits until the mirror holds revision.
func (s *Store) await(ctx context.Context, revision int64) error {
	for {
		s.mu.RLock()
		moved, broken, have := s.moved, s.broken, s.revision.Load()
		s.mu.RUnlock()
		switch {
		case have >= revision:
			return nil
		case broken != nil:
			return broken
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// compact drops what no watch needs any more, before the file grows with it.
// Only in our own etcd: another cluster has its own rule.
func (s *Store) compact(ctx context.Context, revision int64) {
	if s.member == nil || s.sinceCompact < compactEvery || revision <= compactKeep {
		return
	}
	if _, err := s.client.Compact(ctx, revision-compactKeep); err != nil {
		s.log.Warn("dropping old revisions failed; it is tried again", "error", err)
		return
	}
	s.sinceCompact = 0
}

// staged is a set of changes that stands in the mirror and not yet in etcd.
type staged struct {
	applied []Applied
	undo    func()
}

// stage applies the changes to the mirror and finds out what they came to, with
// defaults filled in and without those that change nothing; with mu.
func (s *Store) stage(changes []hnv.Change) (*staged, error) {
	type id struct {
		kind hnv.Kind
		key  string
	}
	touched := make([]id, 0, len(changes))
	before := make(map[id]hnv.Object, len(changes))
	for _, c := range changes {
		o := c.Put
		if o == nil {
			o = c.Delete
		}
		if o == nil {
			continue // refused by Apply, with a reason
		}
		i := id{o.Kind(), o.Key()}
		if _, seen := before[i]; seen {
			continue
		}
		old, _ := s.fabric.Get(i.kind, i.key)
		before[i] = old
		touched = append(touched, i)
	}
	undo, err := s.fabric.Apply(changes)
	if err != nil {
		return nil, err
	}
	st := &staged{undo: undo}
	for _, i := range touched {
		now, _ := s.fabric.Get(i.kind, i.key)
		if old := before[i]; !reflect.DeepEqual(old, now) {
			st.applied = append(st.applied, Applied{Object: now, Old: old})
		}
	}
	return st, nil
}

// ops gives the transaction's operations, the generation key's among them.
func (st *staged) ops() ([]clientv3.Op, error) {
	ops := make([]clientv3.Op, 0, len(st.applied)+1)
	size := 0
	for _, a := range st.applied {
		if a.Object == nil {
			key := keyOf(a.Old.Kind(), a.Old.Key())
			ops = append(ops, clientv3.OpDelete(key))
			size += len(key) + 16
			continue
		}
		key := keyOf(a.Object.Kind(), a.Object.Key())
		value, err := encode(a.Object)
		if err != nil {
			return nil, err
		}
		ops = append(ops, clientv3.OpPut(key, value))
		size += len(key) + len(value) + 24
	}
	if len(ops) > maxTxnOps || size > maxTxnBytes {
		return nil, &tooLarge{len(ops), size}
	}
	value, err := encode(nil)
	return append(ops, clientv3.OpPut(generationKey, value)), err
}

// tooLarge refuses a set of changes that does not fit into one transaction.
type tooLarge struct{ objects, bytes int }

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%d objects of %d bytes are too many for one transaction (at most %d of %d bytes): split them, or use the import for lookup records",
		e.objects, e.bytes, maxTxnOps, maxTxnBytes)
}

func (e *tooLarge) Unwrap() error { return hnv.ErrInvalid }

package store

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hnvgate/hnvgate/hnv"
)

// state is what one consistent reading of etcd gave.
type state struct {
	fabric     *hnv.Fabric
	generation int64 // ModRevision of the generation key; 0: nothing was ever written
	header     int64 // etcd's revision at which all was read
	objects    int
}

const (
	loadPage      = 5000
	maxLoadErrors = 20 // enough to see what is wrong
)

// load reads everything at one revision and checks it as if it were new.
func (s *Store) load(ctx context.Context) (*state, error) {
	gen, err := s.client.Get(ctx, generationKey)
	if err != nil {
		return nil, err
	}
	st := &state{fabric: hnv.NewFabric(s.site), header: gen.Header.Revision}
	if len(gen.Kvs) == 1 {
		st.generation = gen.Kvs[0].ModRevision
		if err := checkGeneration(gen.Kvs[0].Value); err != nil {
			return nil, err
		}
	}
	byKind := map[hnv.Kind][]hnv.Object{}
	var bad []error
	next, end := root, clientv3.GetPrefixRangeEnd(root)
	for {
		page, err := s.client.Get(ctx, next, clientv3.WithRange(end), clientv3.WithRev(st.header), clientv3.WithLimit(loadPage))
		if err != nil {
			return nil, err
		}
		for _, kv := range page.Kvs {
			key := string(kv.Key)
			next = key + "\x00"
			if key == generationKey {
				continue
			}
			o, err := decode(key, kv.Value)
			if err != nil {
				bad = append(bad, err)
				continue
			}
			byKind[o.Kind()] = append(byKind[o.Kind()], o)
		}
		if !page.More {
			break
		}
	}
	// One by one in the order of dependencies, so that a refusal is known to be
	// that of one key.
	for _, k := range hnv.Kinds() {
		for _, o := range byKind[k] {
			if len(bad) >= maxLoadErrors {
				break
			}
			if _, err := st.fabric.Apply([]hnv.Change{{Put: o}}); err != nil {
				bad = append(bad, fmt.Errorf("stored object %s is invalid: %w", keyOf(k, o.Key()), err))
			}
			st.objects++
		}
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	return st, nil
}

func checkGeneration(value []byte) error {
	var e envelope
	if err := strict(value, &e); err != nil {
		return fmt.Errorf("stored key %s is unreadable: %w", generationKey, err)
	}
	if e.Format != formatVersion {
		return fmt.Errorf("the store has format %d, this release reads format %d: start the release that wrote it", e.Format, formatVersion)
	}
	return nil
}

// adopt makes a reading the present state and tells subscribers to look anew;
// with mu.
func (s *Store) adopt(st *state) {
	s.fabric, s.generation, s.broken = st.fabric, st.generation, nil
	s.advance(st.generation)
	s.publish(Event{Revision: st.generation, Resync: true})
}

// advance notes a new revision and wakes who waits for it; with mu.
func (s *Store) advance(revision int64) {
	s.revision.Store(revision)
	close(s.moved)
	s.moved = make(chan struct{})
}

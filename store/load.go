package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	if bad = st.apply(byKind, bad); len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	return st, nil
}

// apply puts what was read in the order of dependencies, one by one, so that one
// refusal does not hide another, and what of a tenant's ways outside does not fit can
// be set aside; tenants together with their ACLs, of which each
// may name the other. It adds to the errors.
func (st *state) apply(byKind map[hnv.Kind][]hnv.Object, bad []error) []error {
	acls := map[string][]hnv.Object{} // by tenant
	for _, o := range byKind[hnv.KindACL] {
		tenant, _, _ := strings.Cut(o.Key(), "/")
		acls[tenant] = append(acls[tenant], o)
	}
	for _, k := range hnv.Kinds() {
		for _, o := range byKind[k] {
			if len(bad) >= maxLoadErrors {
				return bad
			}
			set := []hnv.Change{{Put: o}}
			switch k {
			case hnv.KindTenant:
				for _, a := range acls[o.Key()] {
					set = append(set, hnv.Change{Put: a})
				}
				delete(acls, o.Key())
			case hnv.KindACL:
				if tenant, _, _ := strings.Cut(o.Key(), "/"); acls[tenant] == nil {
					continue // put with its tenant
				}
			}
			st.objects += len(set)
			if err := st.fabric.Load(set); err != nil {
				bad = append(bad, inStore(k, o, err)...)
			}
		}
	}
	return bad
}

// inStore says of each refusal which key of etcd it is about.
func inStore(k hnv.Kind, o hnv.Object, err error) []error {
	all := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all = joined.Unwrap()
	}
	for i, e := range all {
		key := keyOf(k, o.Key())
		var of *hnv.ObjectError
		if errors.As(e, &of) {
			key = keyOf(of.Kind, of.Key)
		}
		all[i] = fmt.Errorf("stored object %s is invalid: %w", key, e)
	}
	return all
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

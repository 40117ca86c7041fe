package store

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/hnvgate/hnvgate/hnv"
)

func next(t *testing.T, ch <-chan Event) Event {
	t.Helper()
	select {
	case e, ok := <-ch:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return e
	case <-time.After(time.Minute):
		t.Fatal("no event")
	}
	return Event{}
}

func TestWatchTellsEveryChangeInOrder(t *testing.T) {
	a := fresh(t)
	if _, err := a.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), a.client, Options{Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	// What one store writes, its own watcher and the other's see alike.
	for _, s := range []*Store{a, b} {
		own, other := a.Watch(ctx), b.Watch(ctx)
		for _, ch := range []<-chan Event{own, other} {
			if e := next(t, ch); !e.Resync || len(e.Changes) > 0 {
				t.Fatalf("first event %+v is no resync marker", e)
			}
		}
		r1 := record(5001, "10.1.1.50", "00:15:5d:00:00:50", hnv.RuleNVGRE)
		r2 := r1
		r2.PA = netip.MustParseAddr("192.168.1.20")
		steps := []struct {
			change hnv.Change
			want   Applied
		}{
			{hnv.Change{Put: r1}, Applied{Object: r1}},
			{hnv.Change{Put: &r2}, Applied{Object: r2, Old: r1}},
			{hnv.Change{Delete: r1}, Applied{Old: r2}},
		}
		for _, st := range steps {
			rev, err := s.Update(t.Context(), []hnv.Change{st.change})
			if err != nil {
				t.Fatal(err)
			}
			want := Event{Revision: rev, Changes: []Applied{st.want}}
			for _, ch := range []<-chan Event{own, other} {
				if e := next(t, ch); !reflect.DeepEqual(e, want) {
					t.Errorf("event %+v, want %+v", e, want)
				}
			}
		}
		waitFor(t, func() bool { return a.Revision() == b.Revision() })
	}
}

func TestSlowWatcherIsToldToResync(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ch := s.Watch(ctx)
	next(t, ch)
	// One that the pump holds, one that waits, then more than the queue takes.
	var rev int64
	for i, n := range []int{1, 1, queueChanges - 10, 100, 1} {
		var err error
		if rev, err = importAll(t.Context(), s, manyRecords(byte(20+i), n)); err != nil {
			t.Fatal(err)
		}
	}
	seen, resyncs := 0, 0
	for last := int64(0); last < rev; {
		e := next(t, ch)
		if e.Revision <= last {
			t.Fatalf("revision %d after %d", e.Revision, last)
		}
		last = e.Revision
		seen += len(e.Changes)
		if e.Resync {
			resyncs++
		}
	}
	if resyncs != 1 || seen >= queueChanges {
		t.Errorf("%d resync markers and %d changes", resyncs, seen)
	}
	cancel()
	waitFor(t, func() bool {
		select {
		case _, ok := <-ch:
			return !ok
		default:
			return false
		}
	})
}

func TestCloseEndsWatch(t *testing.T) {
	s := open(t, t.TempDir())
	ch := s.Watch(context.Background())
	s.Close()
	for range ch {
	}
}

// byHand commits what another program could write.
func byHand(t *testing.T, s *Store, ops ...clientv3.Op) {
	t.Helper()
	value, err := encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client.Txn(t.Context()).Then(append(ops, clientv3.OpPut(generationKey, value))...).Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestForeignNonsenseStopsWritingAndIsOvercome(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	before := contents(s)
	const key = "/hnvgate/v1/record/7001/10.1.1.12"
	byHand(t, s, clientv3.OpPut(key, `{"format":1,"object":{"vsid":"7001","ca":"10.1.1.12","mac":"00:15:5d:00:00:01","pa":"192.168.1.10","rule":"nvgre","type":"static"}}`))
	waitFor(t, func() bool { return s.Healthy() != nil })
	if !strings.Contains(s.Healthy().Error(), key) {
		t.Errorf("Healthy: %v", s.Healthy())
	}
	if !reflect.DeepEqual(contents(s), before) {
		t.Error("the mirror took what contradicts it")
	}
	add := put(record(5001, "10.1.1.13", "00:15:5d:00:00:03", hnv.RuleNVGRE))
	if _, err := s.Update(t.Context(), add); err == nil {
		t.Error("it writes on top of what it does not understand")
	}
	byHand(t, s, clientv3.OpDelete(key))
	waitFor(t, func() bool { return s.Healthy() == nil })
	if _, err := s.Update(t.Context(), add); err != nil {
		t.Error(err)
	}
	if len(contents(s)) != len(before)+1 {
		t.Errorf("%d objects", len(contents(s)))
	}
}

func TestFallingBehindTheHistory(t *testing.T) {
	a := fresh(t)
	start, err := a.Update(t.Context(), put(twoTenants()...))
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(t.Context(), a.client, Options{Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.stop() // as if it were cut off for long
	b.done.Wait()
	rev, err := importAll(t.Context(), a, manyRecords(1, 3000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.client.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	ch := b.Watch(t.Context())
	next(t, ch)
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	b.done.Go(func() { b.follow(ctx, start+1) })
	if e := next(t, ch); !e.Resync || e.Revision != rev {
		t.Errorf("%+v is no resync marker for %d", e, rev)
	}
	if !reflect.DeepEqual(contents(a), contents(b)) {
		t.Error("the stores differ")
	}
}

// manyRecords gives n records of contoso; series tells sets of them apart.
func manyRecords(series byte, n int) []hnv.Record {
	out := make([]hnv.Record, n)
	for i := range out {
		out[i] = record(5001, fmt.Sprintf("10.1.%d.%d", int(series)%2*128+i/250%128, i%250+2),
			fmt.Sprintf("00:15:5d:%02x:%02x:%02x", series, i>>8&0xff, i&0xff), hnv.RuleNVGRE)
	}
	return out
}

func importAll(ctx context.Context, s *Store, records []hnv.Record) (int64, error) {
	return s.ImportFunc(ctx, func(*hnv.Fabric) ([]hnv.Change, error) {
		var out []hnv.Change
		for _, r := range records {
			out = append(out, hnv.Change{Put: r})
		}
		return out, nil
	}, false)
}

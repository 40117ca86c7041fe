package control

import (
	"context"
	"errors"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
)

// learning takes what the dataplane learned into the store: there it is part of
// the desired state, survives a restart, and is what peers are told.
type learning struct {
	c     *Controller
	queue chan dataplane.LearnEvent
}

const (
	maxLearnEvents = 4096 // that may wait for the store
	learnBatch     = 256  // written at once
	learnRetry     = time.Second
)

func newLearning(c *Controller) *learning {
	return &learning{c: c, queue: make(chan dataplane.LearnEvent, maxLearnEvents)}
}

// Learned takes an event of the dataplane. It does not wait: what does not fit is
// lost, and learned again when the station next speaks.
func (c *Controller) Learned(e dataplane.LearnEvent) {
	switch e.Kind {
	case dataplane.LearnDuplicate, dataplane.LearnOverLimit, dataplane.LearnConfigured:
		c.o.Log.Warn("an address was not learned", "why", e.Kind, "rdid", e.RDID, "vsid", e.Record.VSID, "ca", e.Record.CA, "mac", e.Record.MAC, "port", e.Port)
		return
	}
	select {
	case c.learning.queue <- e:
	default:
		c.o.Log.Warn("too much was learned at once", "rdid", e.RDID, "vsid", e.Record.VSID, "ca", e.Record.CA)
	}
}

func (l *learning) run(ctx context.Context) {
	for {
		var batch []dataplane.LearnEvent
		select {
		case <-ctx.Done():
			return
		case e := <-l.queue:
			batch = append(batch, e)
		}
		for len(batch) < learnBatch && len(l.queue) > 0 {
			batch = append(batch, <-l.queue)
		}
		if !l.write(ctx, batch) {
			return
		}
	}
}

// write stores a batch; false when ctx has ended. Where one event is refused, the
// others are not.
func (l *learning) write(ctx context.Context, batch []dataplane.LearnEvent) bool {
	for {
		_, err := l.c.o.Store.UpdateFunc(ctx, func(f *hnv.Fabric) ([]hnv.Change, error) { return learnChanges(f, batch), nil })
		switch {
		case err == nil:
			return true
		case refused(err) && len(batch) > 1:
			for i := range batch {
				if !l.write(ctx, batch[i:i+1]) {
					return false
				}
			}
			return true
		}
		l.c.o.Log.Error("write what was learned", "addresses", len(batch), "err", err)
		if refused(err) {
			return true // the station will speak again
		}
		if !sleep(ctx, learnRetry, nil) {
			return false
		}
	}
}

func refused(err error) bool {
	for _, kind := range []error{hnv.ErrInvalid, hnv.ErrConflict, hnv.ErrNotFound, hnv.ErrInUse} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// learnChanges gives what the events change: the last word about an address
// counts, and what was configured stays.
func learnChanges(f *hnv.Fabric, events []dataplane.LearnEvent) []hnv.Change {
	last := map[hnv.RecordKey]dataplane.LearnEvent{}
	var order []hnv.RecordKey
	for _, e := range events {
		k := e.Record.RecordKey()
		if _, twice := last[k]; !twice {
			order = append(order, k)
		}
		last[k] = e
	}
	var out []hnv.Change
	for _, k := range order {
		e := last[k]
		t, ok := f.TenantOfVSID(e.Record.VSID)
		if !ok || t.RDID != e.RDID {
			continue // gone meanwhile
		}
		o, exists := f.Get(hnv.KindRecord, e.Record.Key())
		var is hnv.Record
		if exists {
			is = o.(hnv.Record)
			if is.Type != hnv.Dynamic {
				continue
			}
		}
		switch {
		case e.Kind == dataplane.LearnedAged:
			if exists && is.MAC == e.Record.MAC && is.PA == e.Record.PA {
				out = append(out, hnv.Change{Delete: is})
			}
		case !exists || !is.Equal(e.Record):
			out = append(out, elsewhere(f, e.Record)...)
			out = append(out, hnv.Change{Put: e.Record})
		}
	}
	return out
}

// elsewhere takes back what was learned of the same station at another host: it
// is here now.
func elsewhere(f *hnv.Fabric, r hnv.Record) []hnv.Change {
	var out []hnv.Change
	for _, o := range f.StationRecords(r.VSID, r.MAC) {
		if o.Type == hnv.Dynamic && o.PA != r.PA && o.CA != r.CA {
			out = append(out, hnv.Change{Delete: o})
		}
	}
	return out
}

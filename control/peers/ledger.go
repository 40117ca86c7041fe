package peers

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/store"
)

// ledger knows the learned records of the local store, whose they are and since
// when, and which of them this machine claims: those at its own PAs.
type ledger struct {
	store  Store
	limits Limits

	mu       sync.Mutex
	revision int64         // of the store that is accounted for
	moved    chan struct{} // closed and renewed whenever revision moves
	loaded   bool          // the state was read once

	own     map[netip.Addr]bool // this machine's PAs
	former  map[netip.Addr]bool // PAs that it had since gatewayd was started
	tenants map[hnv.VSID]hnv.Name

	all      map[hnv.RecordKey]entry
	stations map[station]map[hnv.RecordKey]bool
	reported map[share]int // records that came as reports, by PA
	total    map[hnv.Name]int

	claims  map[hnv.RecordKey]*claim
	claimed map[hnv.Name]int                    // number of claims
	waiting map[hnv.Name]map[hnv.RecordKey]bool // own records past the limit
	steady  steadiness
	version uint64

	sessions []*session
}

// entry is a learned record of the local store.
type entry struct {
	rec    hnv.Record
	since  time.Time // when it was learned; zero: longer ago than is known
	origin string    // who reported it; empty: nobody
	tenant hnv.Name
}

// station is a MAC in a virtual subnet.
type station struct {
	vsid hnv.VSID
	mac  hnv.MAC
}

// share is a tenant's reported records at one PA.
type share struct {
	tenant hnv.Name
	pa     netip.Addr
}

func newLedger(s Store, limits Limits) *ledger {
	return &ledger{
		store: s, limits: limits, moved: make(chan struct{}),
		own: map[netip.Addr]bool{}, former: map[netip.Addr]bool{}, tenants: map[hnv.VSID]hnv.Name{},
		all: map[hnv.RecordKey]entry{}, stations: map[station]map[hnv.RecordKey]bool{}, reported: map[share]int{}, total: map[hnv.Name]int{},
		claims: map[hnv.RecordKey]*claim{}, claimed: map[hnv.Name]int{}, waiting: map[hnv.Name]map[hnv.RecordKey]bool{},
		steady: steadiness{limits: limits, moves: map[hnv.RecordKey]moves{}},
	}
}

// follow keeps the ledger up with the store until ctx ends.
func (l *ledger) follow(ctx context.Context) {
	for e := range l.store.Watch(ctx) {
		if e.Resync {
			l.reload()
		} else {
			l.apply(e)
		}
	}
}

// reload reads everything.
func (l *ledger) reload() {
	var revision int64
	var pas []netip.Addr
	var learned []hnv.Record
	tenants := map[hnv.VSID]hnv.Name{}
	l.store.View(func(f *hnv.Fabric) {
		revision = l.store.Revision()
		pas = addresses(f)
		learned = f.DynamicRecords()
		for _, t := range f.Tenants() {
			for _, s := range t.Subnets {
				tenants[s.VSID] = t.Name
			}
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tenants = tenants
	l.setOwn(pas)
	there := make(map[hnv.RecordKey]bool, len(learned))
	for _, r := range learned {
		there[r.RecordKey()] = true
		l.put(r, l.loaded)
	}
	for k := range l.all {
		if !there[k] {
			l.remove(k)
		}
	}
	l.loaded = true
	l.advance(revision)
}

func addresses(f *hnv.Fabric) []netip.Addr {
	var out []netip.Addr
	for _, p := range f.ProviderAddresses() {
		out = append(out, p.Addr.Addr())
	}
	return out
}

// apply takes account of one transaction.
func (l *ledger) apply(e store.Event) {
	var pas []netip.Addr
	moved := false
	for _, c := range e.Changes {
		_, was := c.Old.(hnv.ProviderAddress)
		_, is := c.Object.(hnv.ProviderAddress)
		moved = moved || was || is
	}
	if moved {
		l.store.View(func(f *hnv.Fabric) { pas = addresses(f) })
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Revision <= l.revision {
		return // reload saw it
	}
	for _, c := range e.Changes {
		l.renameVSIDs(c)
	}
	if moved {
		l.setOwn(pas)
	}
	for _, c := range e.Changes {
		if r, ok := c.Object.(hnv.Record); ok && r.Type == hnv.Dynamic {
			l.put(r, true)
		} else if r, ok := c.Old.(hnv.Record); ok {
			l.remove(r.RecordKey())
		}
	}
	l.advance(e.Revision)
}

// renameVSIDs notes which tenant a virtual subnet belongs to.
func (l *ledger) renameVSIDs(c store.Applied) {
	if t, ok := c.Old.(hnv.Tenant); ok {
		for _, s := range t.Subnets {
			if l.tenants[s.VSID] == t.Name {
				delete(l.tenants, s.VSID)
			}
		}
	}
	if t, ok := c.Object.(hnv.Tenant); ok {
		for _, s := range t.Subnets {
			l.tenants[s.VSID] = t.Name
		}
	}
}

func (l *ledger) advance(revision int64) {
	if revision > l.revision || l.revision == 0 {
		l.revision = revision
	}
	close(l.moved)
	l.moved = make(chan struct{})
}

// caughtUp waits until the ledger accounts for the store's present state. It
// does not insist: a state that never arrives is one without learned records.
func (l *ledger) caughtUp(ctx context.Context) error {
	want := l.store.Revision()
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	for {
		l.mu.Lock()
		moved, done, loaded := l.moved, l.revision >= want, l.loaded
		l.mu.Unlock()
		if done && loaded {
			return nil
		}
		select {
		case <-moved:
		case <-patience.C:
			if loaded {
				return nil
			}
			return errNotLoaded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// setOwn takes note of this machine's PAs; with mu.
func (l *ledger) setOwn(pas []netip.Addr) {
	if len(pas) == len(l.own) && !slices.ContainsFunc(pas, func(a netip.Addr) bool { return !l.own[a] }) {
		return
	}
	for a := range l.own {
		l.former[a] = true
	}
	l.own = map[netip.Addr]bool{}
	for _, a := range pas {
		l.own[a] = true
		delete(l.former, a)
	}
	for k := range l.all {
		l.claim(k)
	}
}

// put takes account of a learned record. fresh: it was written just now; with
// mu.
func (l *ledger) put(r hnv.Record, fresh bool) {
	k := r.RecordKey()
	old, had := l.all[k]
	e := entry{rec: r, tenant: l.tenants[r.VSID]}
	if m, ok := parseMark(r.Context); ok {
		e.origin, e.since = m.origin, m.at
		if fresh && l.isOwn(r) {
			e.since = time.Now() // not a report: the operator moved the station here
		}
	} else if had && old.origin == "" && sameMapping(old.rec, r) {
		e.since = old.since
	} else if fresh {
		e.since = time.Now()
	}
	if had {
		l.forget(k, old)
	}
	l.all[k] = e
	at := station{r.VSID, r.MAC}
	if l.stations[at] == nil {
		l.stations[at] = map[hnv.RecordKey]bool{}
	}
	l.stations[at][k] = true
	l.count(e, 1)
	l.claim(k)
}

// remove takes account of a record that is not, or not a learned one, any more;
// with mu.
func (l *ledger) remove(k hnv.RecordKey) {
	e, ok := l.all[k]
	if !ok {
		return
	}
	l.forget(k, e)
	delete(l.all, k)
	l.claim(k)
}

func (l *ledger) forget(k hnv.RecordKey, e entry) {
	l.count(e, -1)
	at := station{e.rec.VSID, e.rec.MAC}
	delete(l.stations[at], k)
	if len(l.stations[at]) == 0 {
		delete(l.stations, at)
	}
}

// count adds a reported record up, or takes it off.
func (l *ledger) count(e entry, n int) {
	if e.origin == "" {
		return
	}
	s := share{e.tenant, e.rec.PA}
	if l.reported[s] += n; l.reported[s] == 0 {
		delete(l.reported, s)
	}
	if l.total[e.tenant] += n; l.total[e.tenant] == 0 {
		delete(l.total, e.tenant)
	}
}

// isOwn tells whether this machine has authority over the record.
func (l *ledger) isOwn(r hnv.Record) bool {
	return l.own[r.PA] || slices.ContainsFunc(r.TeamPAs, func(a netip.Addr) bool { return l.own[a] })
}

// at tells whether the PA is one of the record's.
func at(r hnv.Record, pa netip.Addr) bool { return r.PA == pa || slices.Contains(r.TeamPAs, pa) }

package offload

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/hnv"
)

// source is where the mirror reads how things stand; *dataplane.Switch is one.
type source interface {
	View(rdid hnv.RDID) (dataplane.TenantView, bool)
	PortView(id dataplane.PortID) (dataplane.PortView, bool)
	ProviderView() dataplane.Provider
	SourcePA(six bool) lookup.Addr
	Restore(v dataplane.FlowVerdict) (generation uint64, ok bool)
	Uptime() time.Duration
}

// mirror writes the tables. Within a tenant the order is:
//
//  1. what nothing leads to yet: the tenant's number and share of user space,
//     sets of next hops, teams of PAs, hosts
//  2. records, and the routers' addresses
//  3. routes, the longest prefixes first
//  4. virtual subnets, then ports and stations
//  5. stations and ports that are gone, then virtual subnets
//  6. routes that are gone, the shortest prefixes first
//  7. records that are gone, then hosts
//
// Each address then leads, between any two writes, where it led before or where
// it leads afterwards: what is new is complete before anything leads to it, and
// nothing leads any more to what is taken out. Of routes, the longest come first
// and the shortest go first, so that an address whose way stays the same is not
// found meanwhile by a shorter prefix whose way is another one.
//
// Some changes cannot be cut into such steps: where prefixes move between virtual
// subnets of a tenant, or a record becomes another one just as a route ceases to
// lead to it, records and routes change together. All of the tenant's packets go to
// user space then until it is done.
//
// A tenant whose tables cannot be written, as when one is full, stays with user
// space as a whole until a later change succeeds.
type mirror struct {
	sw  source
	t   tables
	log *slog.Logger

	mu      sync.Mutex
	tenants map[hnv.RDID]*mirrored
	ports   map[dataplane.PortID]*plug
	byIndex map[uint32]dataplane.PortID
	// settled tells that the tables hold nothing of an earlier process that we
	// were not told of as well.
	settled bool
	// inherited tells that there was something of an earlier process.
	inherited bool

	// Until the fabric's side is known, tenants wait: their records say which of
	// them are here.
	known   bool
	waiting map[hnv.RDID]bool

	fabric    *Fabric // nil: not known yet
	puntIndex int     // of the interface to user space
	limits    Limits
	pas       map[addr]paValue
	own       map[lookup.Addr]bool // PAs of ours, as records were written by
	down      map[addr]bool        // PAs, as teams were written by; nil: not known
	settings  settingsValue
	current   uint32 // which of the two places they are in

	last    uint32 // the tenant number given out last
	numbers map[rdid]uint32
	slots   slots
	teams   interner[teamValue]
	hopSets interner[hopSet]

	verdicts *verdicts
	rates    *rates
}

func newMirror(sw source, t tables, s Sizes, l Limits, log *slog.Logger) (*mirror, error) {
	m := &mirror{
		sw: sw, t: t, log: log, limits: l.fill(),
		tenants: map[hnv.RDID]*mirrored{}, waiting: map[hnv.RDID]bool{}, ports: map[dataplane.PortID]*plug{}, byIndex: map[uint32]dataplane.PortID{},
		pas: map[addr]paValue{}, own: map[lookup.Addr]bool{},
		numbers: map[rdid]uint32{}, slots: newSlots(s.VSIDs),
		teams: newInterner(t.teams, s.Teams), hopSets: newInterner(t.hopSets, s.HopSets),
	}
	m.teams.shape = teamShape
	if err := m.inherit(); err != nil {
		return nil, fmt.Errorf("read the fast path's tables: %w", err)
	}
	var err error
	if m.verdicts, err = newVerdicts(t.verdicts, s.Verdicts, log); err != nil {
		return nil, fmt.Errorf("read the fast path's tables: %w", err)
	}
	m.rates = newRates(t.rates, sw.Uptime)
	// Nobody's packets have a share too.
	if err := put(t.buckets, 0, bucketValue{}); err != nil {
		return nil, fmt.Errorf("write the fast path's tables: %w", err)
	}
	return m, nil
}

// inherit reads what an earlier process has given out.
func (m *mirror) inherit() error {
	numbers := m.t.numbers.all(func(r rdid, n uint32) bool {
		m.inherited = true
		if m.last = max(m.last, n); r != (rdid{}) {
			m.numbers[r] = n
		}
		return true
	})
	vsids := m.t.vsids.all(func(v uint32, s subnetValue) bool {
		if s.Slot != 0 {
			m.slots.take(v, s.Slot)
		}
		return true
	})
	now := m.t.now.all(func(_, at uint32) bool {
		m.current = at & 1
		return true
	})
	pas := m.t.pas.all(func(a addr, v paValue) bool {
		m.pas[a] = v
		return true
	})
	return errors.Join(numbers, vsids, now, pas, m.teams.inherit(), m.hopSets.inherit())
}

// TenantChanged, PortChanged and ProviderChanged make it a dataplane.Follower.
func (m *mirror) TenantChanged(r hnv.RDID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known {
		m.waiting[r] = true
		return
	}
	m.updateTenant(r)
}

// updateTenant brings a tenant's tables in line, and tells where it cannot.
func (m *mirror) updateTenant(r hnv.RDID) {
	if err := m.tenant(r); err != nil {
		m.log.Error("the fast path cannot take all of a tenant: its packets go through user space", "rdid", r, "err", err)
	}
}

// PortChanged brings a port's entries in line.
func (m *mirror) PortChanged(id dataplane.PortID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.ports[id]
	if p == nil {
		return
	}
	if err := m.port(p); err != nil {
		m.log.Error("the fast path cannot take a change of a port", "port", id, "err", err)
	}
}

// ProviderChanged brings in line what depends on our PAs.
func (m *mirror) ProviderChanged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.provider(); err != nil {
		m.log.Error("the fast path cannot take a change of the fabric's side", "err", err)
	}
}

// put and erase write one entry.
func put[K comparable, V any](t table[K, V], k K, v V) error { return t.put([]K{k}, []V{v}) }

func erase[K comparable, V any](t table[K, V], k K) error { return t.delete([]K{k}) }

// batch writes entries, many at once, in the order in which they were added.
type batch[K comparable, V any] struct {
	t      table[K, V]
	keys   []K
	values []V
	err    error // the first one
}

const batchSize = 4096

func (b *batch[K, V]) add(k K, v V) {
	b.keys, b.values = append(b.keys, k), append(b.values, v)
	if len(b.keys) == batchSize {
		_ = b.flush()
	}
}

// flush writes what is left; it gives the error of all that was written.
func (b *batch[K, V]) flush() error {
	if len(b.keys) > 0 && b.err == nil {
		b.err = b.t.put(b.keys, b.values)
	}
	b.keys, b.values = b.keys[:0], b.values[:0]
	return b.err
}

// SetFabric sets which addresses of the fabric are ours, and where.
func (m *mirror) SetFabric(f Fabric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fabric = &f
}

// Plug brings a port of the Switch into the tables, which is behind the link.
func (m *mirror) Plug(id dataplane.PortID, l Link) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plug(id, l)
}

// Unplug takes it out.
func (m *mirror) Unplug(id dataplane.PortID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unplug(id)
}

package offload

import (
	"errors"
	"slices"

	"github.com/hnvgate/hnvgate/dataplane/lookup"
)

// Settle takes out what an earlier process left in the tables and we were not
// told of. It is called once all tenants and ports are known.
func (m *mirror) Settle() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settled {
		return nil
	}
	if err := m.verdicts.settle(); err != nil {
		return err
	}
	m.rates.settle()
	if !m.inherited {
		return m.settleOwn()
	}
	err := m.sweep(func(uint32) bool { return true })
	var gone []rdid
	for r := range m.numbers {
		if !m.has(r) {
			gone = append(gone, r)
			delete(m.numbers, r)
		}
	}
	err = errors.Join(err, m.t.numbers.delete(gone), m.release())
	m.settled = err == nil
	return err
}

// settleOwn is for tables that nobody else ever wrote: only what could not be
// written as a whole may have left something.
func (m *mirror) settleOwn() error {
	extra := map[uint32]bool{}
	for _, t := range m.tenants {
		if t.extra {
			extra[t.number] = true
		}
	}
	if len(extra) > 0 {
		if err := m.sweep(func(n uint32) bool { return extra[n] }); err != nil {
			return err
		}
	}
	m.settled = true
	return nil
}

func (m *mirror) has(r rdid) bool {
	for t := range m.tenants {
		if rdid(t.Bytes()) == r {
			return true
		}
	}
	return false
}

// release gives back the sets and teams that nothing names.
func (m *mirror) release() error {
	teams, sets := map[uint32]bool{}, map[uint32]bool{}
	var errs []error
	if len(m.teams.taken) > 0 { // there may be a million records
		errs = append(errs, m.t.records.all(func(_ recordKey, v recordValue) bool { teams[v.Team] = true; return true }))
	}
	if len(m.hopSets.taken) > 0 {
		errs = append(errs,
			m.t.routes.all(func(_ routeKey, v routeValue) bool { sets[v.Set] = true; return true }),
			m.t.vsids.all(func(_ uint32, v subnetValue) bool { sets[v.Wild4], sets[v.Wild6] = true, true; return true }))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(m.teams.release(teams), m.hopSets.release(sets))
}

// sweep takes out, of the tenants with the numbers, what is not theirs now.
func (m *mirror) sweep(ours func(number uint32) bool) error {
	byNumber := map[uint32]*mirrored{}
	for _, t := range m.tenants {
		byNumber[t.number] = t
	}
	prefixes := map[uint32]map[routeKey]bool{}
	return errors.Join(
		sweep(m.t.stations, func(_ stationKey, v portValue) bool { return ours(v.Tenant) && !m.plugged(v) }),
		sweep(m.t.ports, func(_ uint32, v portValue) bool { return ours(v.Tenant) && !m.plugged(v) }),
		sweep(m.t.vsids, func(k uint32, v subnetValue) bool {
			t := byNumber[v.Tenant]
			if !ours(v.Tenant) || t != nil && t.subnets[k] == v {
				return false
			}
			m.slots.free(k)
			return true
		}),
		sweep(m.t.routes, func(k routeKey, _ routeValue) bool {
			n := k.tenant()
			t := byNumber[n]
			if !ours(n) || t != nil && t.domain == nil {
				return false
			}
			if t != nil && prefixes[n] == nil {
				prefixes[n] = map[routeKey]bool{}
				for p := range t.domain.Routes() {
					prefixes[n][routeKeyOf(n, p)] = true
				}
			}
			return !prefixes[n][k]
		}, func(a, b routeKey) int { return int(a.Bits) - int(b.Bits) }),
		sweep(m.t.records, func(k recordKey, v recordValue) bool {
			t := byNumber[k.Tenant]
			if !ours(k.Tenant) || t != nil && (t.domain == nil || t.domain.At(lookup.KeyOf(v.VSID, k.CA.netip())) != nil) {
				return false
			}
			return t == nil || !isKnown(t.domain, k.CA.netip())
		}),
		sweep(m.t.hosts, func(k hostKey, _ uint8) bool {
			t := byNumber[k.Tenant]
			return ours(k.Tenant) && (t == nil || t.domain != nil && !t.domain.Hosts(k.PA.lookup()))
		}),
		sweep(m.t.buckets, func(k uint32, _ bucketValue) bool { return ours(k) && byNumber[k] == nil && k != 0 }),
		sweep(m.t.events, func(k eventKey, _ uint64) bool { return k.VSID != 0 && m.slots.of[k.VSID] == 0 }),
	)
}

// plugged tells whether the entry is one that we wrote of a port.
func (m *mirror) plugged(v portValue) bool {
	p := m.ports[m.byIndex[v.Ifindex]]
	return p != nil && p.there && p.value == v
}

// sweep deletes the entries that are stale, in the order of compare.
func sweep[K comparable, V any](t table[K, V], stale func(K, V) bool, compare ...func(a, b K) int) error {
	var gone []K
	if err := t.all(func(k K, v V) bool {
		if stale(k, v) {
			gone = append(gone, k)
		}
		return true
	}); err != nil {
		return err
	}
	for _, c := range compare {
		slices.SortStableFunc(gone, c)
	}
	return t.delete(gone)
}

//go:build linux

package offload

import (
	"errors"
	"sync"
)

// epoch is a number that is another one after each write to the tables by which
// packets find their way: the programs believe what they found in the same one.
type epoch struct {
	t table[uint32, uint64]

	mu sync.Mutex
	n  uint64
}

// newEpoch begins another one than any before.
func newEpoch(t table[uint32, uint64]) (*epoch, error) {
	n, _, err := t.get(0)
	e := &epoch{t: t, n: n}
	return e, errors.Join(err, e.next())
}

func (e *epoch) next() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	return put(e.t, 0, e.n)
}

// dated is a table whose writes begin another epoch. Those that fail do too: a part
// may have been written.
type dated[K comparable, V any] struct {
	table[K, V]
	e *epoch
}

func (d dated[K, V]) put(keys []K, values []V) error {
	return errors.Join(d.table.put(keys, values), d.e.next())
}

func (d dated[K, V]) delete(keys []K) error {
	if len(keys) == 0 {
		return nil
	}
	return errors.Join(d.table.delete(keys), d.e.next())
}

// date has the tables' writes begin other epochs.
func (t tables) date(e *epoch) tables {
	t.pas, t.vsids = dated[addr, paValue]{t.pas, e}, dated[uint32, subnetValue]{t.vsids, e}
	t.ports, t.stations = dated[uint32, portValue]{t.ports, e}, dated[stationKey, portValue]{t.stations, e}
	t.records, t.hosts = dated[recordKey, recordValue]{t.records, e}, dated[hostKey, uint8]{t.hosts, e}
	t.teams, t.routes = dated[uint32, teamValue]{t.teams, e}, dated[routeKey, routeValue]{t.routes, e}
	t.hopSets, t.settings = dated[uint32, hopSet]{t.hopSets, e}, dated[uint32, settingsValue]{t.settings, e}
	t.now = dated[uint32, uint32]{t.now, e}
	return t
}

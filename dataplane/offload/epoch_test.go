//go:build linux

package offload

import "testing"

// Every write to the tables by which packets find their way begins another epoch,
// also one that fails, and so does every process.
func TestEpoch(t *testing.T) {
	f := newFakes()
	numbers := newFake[uint32, uint64](f)
	f.records.limit = 1
	last := uint64(0)
	for range 3 {
		e, err := newEpoch(&numbers)
		if err != nil {
			t.Fatal(err)
		}
		tables := f.tables().date(e)
		next := func(what string) {
			t.Helper()
			if numbers.m[0] <= last {
				t.Errorf("%s: still epoch %d", what, last)
			}
			last = numbers.m[0]
		}
		next("another process")
		for what, write := range map[string]func() error{
			"pas":       func() error { return put(tables.pas, addr{}, paValue{}) },
			"vsids":     func() error { return put(tables.vsids, 1, subnetValue{}) },
			"ports":     func() error { return put(tables.ports, 1, portValue{}) },
			"stations":  func() error { return erase(tables.stations, stationKey{}) },
			"records":   func() error { return put(tables.records, recordKey{Tenant: 1}, recordValue{}) },
			"no record": func() error { return erase(tables.records, recordKey{Tenant: 2}) },
			"hosts":     func() error { return put(tables.hosts, hostKey{}, 1) },
			"teams":     func() error { return put(tables.teams, 1, teamValue{}) },
			"routes":    func() error { return put(tables.routes, routeKey{}, routeValue{}) },
			"hop sets":  func() error { return put(tables.hopSets, 1, hopSet{}) },
			"settings":  func() error { return put(tables.settings, 0, settingsValue{}) },
			"now":       func() error { return put(tables.now, 0, 1) },
		} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
			next(what)
		}
		if put(tables.records, recordKey{Tenant: 3}, recordValue{}) == nil {
			t.Fatal("the table takes more than it has room for")
		}
		next("a write that failed")
	}
}

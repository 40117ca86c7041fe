package offload

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
)

// fake is a table in memory. It tells of each write of an entry.
type fake[K comparable, V any] struct {
	m     map[K]V
	wrote func()
	limit int // of entries; 0: none
}

type refused struct{ limit int }

func (r refused) Error() string { return fmt.Sprintf("the table is full with %d entries", r.limit) }

func (f *fake[K, V]) put(keys []K, values []V) error {
	for i, k := range keys {
		if _, there := f.m[k]; !there && f.limit > 0 && len(f.m) >= f.limit {
			return refused{f.limit}
		}
		f.m[k] = values[i]
		f.wrote()
	}
	return nil
}

func (f *fake[K, V]) delete(keys []K) error {
	for _, k := range keys {
		if _, there := f.m[k]; there {
			delete(f.m, k)
			f.wrote()
		}
	}
	return nil
}

func (f *fake[K, V]) get(k K) (v V, ok bool, err error) {
	v, ok = f.m[k]
	return v, ok, nil
}

func (f *fake[K, V]) all(yield func(K, V) bool) error {
	for k, v := range f.m {
		if !yield(k, v) {
			break
		}
	}
	return nil
}

// fakes are all tables in memory.
type fakes struct {
	pas      fake[addr, paValue]
	vsids    fake[uint32, subnetValue]
	ports    fake[uint32, portValue]
	stations fake[stationKey, portValue]
	records  fake[recordKey, recordValue]
	hosts    fake[hostKey, uint8]
	teams    fake[uint32, teamValue]
	routes   fake[routeKey, routeValue]
	hopSets  fake[uint32, hopSet]
	settings fake[uint32, settingsValue]
	now      fake[uint32, uint32]
	buckets  fake[uint32, bucketValue]
	numbers  fake[rdid, uint32]
	traffic  fake[uint32, trafficValue]
	events   fake[eventKey, uint64]
	verdicts fake[verdictKey, verdictValue]
	rates    []rateValue

	watch func() // is called after each write
}

func newFake[K comparable, V any](f *fakes) fake[K, V] {
	return fake[K, V]{m: map[K]V{}, wrote: func() {
		if f.watch != nil {
			f.watch()
		}
	}}
}

func newFakes() *fakes {
	f := &fakes{}
	f.pas, f.vsids, f.ports, f.stations = newFake[addr, paValue](f), newFake[uint32, subnetValue](f), newFake[uint32, portValue](f), newFake[stationKey, portValue](f)
	f.records, f.hosts, f.teams, f.routes = newFake[recordKey, recordValue](f), newFake[hostKey, uint8](f), newFake[uint32, teamValue](f), newFake[routeKey, routeValue](f)
	f.hopSets, f.settings, f.now, f.buckets = newFake[uint32, hopSet](f), newFake[uint32, settingsValue](f), newFake[uint32, uint32](f), newFake[uint32, bucketValue](f)
	f.verdicts = newFake[verdictKey, verdictValue](f)
	f.rates = make([]rateValue, 64)
	f.numbers, f.traffic, f.events = newFake[rdid, uint32](f), newFake[uint32, trafficValue](f), newFake[eventKey, uint64](f)
	return f
}

func (f *fakes) tables() tables {
	return tables{
		pas: &f.pas, vsids: &f.vsids, ports: &f.ports, stations: &f.stations, records: &f.records, hosts: &f.hosts,
		teams: &f.teams, routes: &f.routes, hopSets: &f.hopSets, settings: &f.settings, now: &f.now, buckets: &f.buckets,
		numbers: &f.numbers, traffic: &f.traffic, events: &f.events, verdicts: &f.verdicts,
		rates: rateMemory{entries: f.rates},
	}
}

// text lists all entries, with what numbers stand for in their places, so that
// tables written along different ways can be compared.
func (f *fakes) text() []string {
	names := map[uint32]string{}
	for r, n := range f.numbers.m {
		if r != (rdid{}) {
			names[n] = fmt.Sprintf("%x", r[:3])
		}
	}
	var out []string
	line := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	hops := func(set uint32) string {
		s := f.hopSets.m[set]
		var b strings.Builder
		for _, h := range s.Hop[:s.N] {
			fmt.Fprintf(&b, " %d/%s", h.VSID, h.CA.netip())
		}
		return b.String()
	}
	for a, v := range f.pas.m {
		line("pa %s %+v", a.netip(), v)
	}
	for k, v := range f.vsids.m {
		line("vsid %d: tenant %s, wild%s,%s rule %d flags %x", k, names[v.Tenant], hops(v.Wild4), hops(v.Wild6), v.Rule, v.Flags)
	}
	port := func(v portValue) string {
		return fmt.Sprintf("tenant %s vsid %d mtu %d ifindex %d mac %x flags %x dscp %d", names[v.Tenant], v.VSID, v.MTU, v.Ifindex, v.MAC, v.Flags, v.DSCP)
	}
	for k, v := range f.ports.m {
		line("port %d: %s", k, port(v))
	}
	for k, v := range f.stations.m {
		line("station %d %x: %s", k.VSID, k.MAC, port(v))
	}
	for k, v := range f.records.m {
		line("record %s %s: %s %d %s %+v %x rule %d flags %x", names[k.Tenant], k.CA.netip(), names[v.Tenant], v.VSID, v.PA.netip(), f.teams.m[v.Team], v.MAC, v.Rule, v.Flags)
	}
	for k := range f.hosts.m {
		line("host %s %s", names[k.Tenant], k.PA.netip())
	}
	for k, v := range f.routes.m {
		line("route %s %s/%d: kind %d vsid %d n %d hop %d/%s set%s", names[k.tenant()], k.CA.netip(), k.Bits, v.Kind, v.VSID, v.N, v.Hop.VSID, v.Hop.CA.netip(), hops(v.Set))
	}
	for k := range f.buckets.m {
		line("bucket %s", names[k])
	}
	line("settings %+v", f.settings.m[f.now.m[0]])
	slices.Sort(out)
	return out
}

func newTestMirror(t testing.TB, sw *dataplane.Switch, f *fakes) *mirror {
	t.Helper()
	m, err := newMirror(sw, f.tables(), Sizes{}.fill(), Limits{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

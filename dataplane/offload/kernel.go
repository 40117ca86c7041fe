//go:build linux

package offload

import (
	"bytes"
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
)

// kernel is the programs and the maps, loaded.
type kernel struct {
	maps       map[string]*ebpf.Map
	fabric     *ebpf.Program // for interfaces with PAs
	port       *ebpf.Program // for ports
	hold       *ebpf.Program // bound to the maps that are kept
	collection *ebpf.Collection
	nat        bool // established connections are translated
	rates      rateMemory
}

// The maps that are the next process's too. The others hold nothing that outlives
// a packet.
var kept = []string{
	"pas", "vsids", "ports", "stations", "records", "hosts", "teams", "routes", "hop_sets", "settings", "settings_now",
	"buckets", "traffic", "events", "verdicts", "rates", numbersMap, hooksMap,
	"externals", "shares", "forwards", "exit_counts", "nat_exits", "nat_slots", "epoch",
}

// These are for user space alone.
const (
	numbersMap = "numbers"
	// hooksMap has the interfaces to which this instance gave clsact, by index.
	hooksMap = "hooks"
)

// loadOptions say how to load.
type loadOptions struct {
	sizes Sizes
	// observed lets the programs tell what they did, for tests.
	observed bool
	// object has the programs; nil is ours. Tests have others.
	object []byte
	// familyUnset is for kernels whose adjust_room does not set the packet's
	// family.
	familyUnset bool
	// unmarks is for those whose adjust_room takes the mark of a tunnel off.
	unmarks bool
	// find gives the maps of an earlier process that fit, if there are any.
	find func(specs map[string]*ebpf.MapSpec) (map[string]*ebpf.Map, error)
	// nat has established connections translated.
	nat bool
}

// load brings the programs and maps into the kernel.
func load(o loadOptions) (*kernel, error) {
	if o.object == nil {
		o.object = object
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.object))
	if err != nil {
		return nil, fmt.Errorf("read the fast path's object: %w", err)
	}
	spec.Maps[hooksMap] = &ebpf.MapSpec{Name: hooksMap, Type: ebpf.Hash, KeySize: 4, ValueSize: 1, Flags: noPrealloc}
	spec.Maps[numbersMap] = &ebpf.MapSpec{Name: numbersMap, Type: ebpf.Hash, KeySize: 16, ValueSize: 4, Flags: noPrealloc}
	if !o.nat {
		o.sizes.Flows = 1
	}
	o.sizes.set(spec)
	for name, value := range map[string]bool{"observed": o.observed, "decap_sets_family": !o.familyUnset, "decap_unmarks": o.unmarks, "nat_offload": o.nat} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	k := &kernel{maps: map[string]*ebpf.Map{}, nat: o.nat}
	if o.find != nil {
		found, err := o.find(spec.Maps)
		if err != nil {
			return nil, err
		}
		maps.Copy(k.maps, found)
	}
	for _, name := range kept {
		if k.maps[name] != nil {
			continue
		}
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make map %s: %w", name, err), k.close())
		}
		k.maps[name] = m
	}
	if k.rates, err = mapRates(k.maps["rates"]); err != nil {
		return nil, errors.Join(err, k.close())
	}
	k.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps.Clone(k.maps)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load the fast path's programs: %w", err), k.close())
	}
	p := k.collection.Programs
	k.fabric, k.port, k.hold = p[progFabric], p[progPort], p[progHold]
	for _, name := range kept {
		if err := k.hold.BindMap(k.maps[name]); err != nil {
			return nil, errors.Join(fmt.Errorf("bind map %s: %w", name, err), k.close())
		}
	}
	return k, nil
}

// close lets go of programs and maps. What is pinned or attached stays.
func (k *kernel) close() error {
	var errs []error
	if k.collection != nil {
		k.collection.Close()
	}
	return errors.Join(append(errs, closeMaps(k.maps))...)
}

const noPrealloc = 1 // BPF_F_NO_PREALLOC

// set makes the maps of these sizes, as far as they are said.
func (s Sizes) set(spec *ebpf.CollectionSpec) {
	for name, n := range map[string]uint32{
		"vsids": s.VSIDs, "traffic": s.VSIDs, "events": s.VSIDs, "ports": s.Ports, "stations": s.Ports, "records": s.Records,
		"hosts": s.Hosts, "teams": s.Teams, "routes": s.Routes, "hop_sets": s.HopSets, "buckets": s.Tenants, numbersMap: s.Tenants,
		hooksMap: s.Ports, "pas": s.PAs, "externals": s.Externals, "shares": s.Externals, "forwards": s.Externals, "exit_counts": s.Exits, "nat_exits": s.Exits, "nat_slots": 2 * s.Exits,
		"nat_flows": s.Flows, "verdicts": s.Verdicts, "rates": s.Rates,
	} {
		if n > 0 {
			spec.Maps[name].MaxEntries = n
		}
	}
}

// tables gives the maps for the mirror.
func (k *kernel) tables() tables {
	return tables{
		pas: kernelTable[addr, paValue]{k.maps["pas"]}, vsids: kernelTable[uint32, subnetValue]{k.maps["vsids"]},
		ports: kernelTable[uint32, portValue]{k.maps["ports"]}, stations: kernelTable[stationKey, portValue]{k.maps["stations"]},
		records: kernelTable[recordKey, recordValue]{k.maps["records"]}, hosts: kernelTable[hostKey, uint8]{k.maps["hosts"]},
		teams: kernelTable[uint32, teamValue]{k.maps["teams"]}, routes: kernelTable[routeKey, routeValue]{k.maps["routes"]},
		hopSets:  kernelTable[uint32, hopSet]{k.maps["hop_sets"]},
		settings: kernelTable[uint32, settingsValue]{k.maps["settings"]}, now: kernelTable[uint32, uint32]{k.maps["settings_now"]},
		buckets: kernelTable[uint32, bucketValue]{k.maps["buckets"]}, numbers: kernelTable[rdid, uint32]{k.maps[numbersMap]},
		verdicts: kernelTable[verdictKey, verdictValue]{k.maps["verdicts"]}, rates: k.rates,
		traffic: summedTable[uint32, trafficValue]{k.maps["traffic"], func(sum *trafficValue, v trafficValue) { sum.add(v) }},
		events:  summedTable[eventKey, uint64]{k.maps["events"], func(sum *uint64, v uint64) { *sum += v }},
	}
}

// kernelTable is a map of the kernel's.
type kernelTable[K comparable, V any] struct{ m *ebpf.Map }

func (t kernelTable[K, V]) put(keys []K, values []V) error {
	if len(keys) > 1 {
		_, err := t.m.BatchUpdate(keys, values, nil)
		if !errors.Is(err, ebpf.ErrNotSupported) {
			return t.failed("write", err)
		}
	}
	for i := range keys {
		if err := t.m.Put(&keys[i], &values[i]); err != nil {
			return t.failed("write", err)
		}
	}
	return nil
}

func (t kernelTable[K, V]) delete(keys []K) error {
	for i := range keys {
		if err := t.m.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return t.failed("delete from", err)
		}
	}
	return nil
}

func (t kernelTable[K, V]) get(k K) (v V, ok bool, err error) {
	if err := t.m.Lookup(&k, &v); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return v, false, nil
		}
		return v, false, t.failed("read", err)
	}
	return v, true, nil
}

func (t kernelTable[K, V]) all(yield func(K, V) bool) error {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, batchSize), make([]V, batchSize)
	for first := true; ; first = false {
		n, err := t.m.BatchLookup(&cursor, keys, values, nil)
		if first && errors.Is(err, ebpf.ErrNotSupported) {
			return t.each(yield)
		}
		for i := range n {
			if !yield(keys[i], values[i]) {
				return nil
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) { // that was all
			return nil
		}
		if err != nil {
			return t.failed("read", err)
		}
	}
}

func (t kernelTable[K, V]) each(yield func(K, V) bool) error {
	var k K
	var v V
	it := t.m.Iterate()
	for it.Next(&k, &v) {
		if !yield(k, v) {
			return nil
		}
	}
	return t.failed("read", it.Err())
}

func (t kernelTable[K, V]) failed(what string, err error) error { return mapError(t.m, what, err) }

func mapError(m *ebpf.Map, what string, err error) error {
	if err == nil {
		return nil
	}
	name := m.String()
	if info, ierr := m.Info(); ierr == nil {
		name = info.Name
	}
	return fmt.Errorf("%s map %s: %w", what, name, err)
}

// summedTable is a map with an entry for each processor, of which user space sees
// the sums.
type summedTable[K comparable, V any] struct {
	m   *ebpf.Map
	add func(sum *V, v V)
}

func (t summedTable[K, V]) put(keys []K, values []V) error {
	n, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	all := make([]V, n)
	for i := range keys {
		all[0] = values[i]
		if err := t.m.Put(&keys[i], all); err != nil {
			return mapError(t.m, "write", err)
		}
	}
	return nil
}

func (t summedTable[K, V]) delete(keys []K) error { return kernelTable[K, V]{t.m}.delete(keys) }

func (t summedTable[K, V]) get(k K) (sum V, ok bool, err error) {
	var all []V
	if err := t.m.Lookup(&k, &all); err != nil {
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return sum, false, nil
		}
		return sum, false, mapError(t.m, "read", err)
	}
	for _, v := range all {
		t.add(&sum, v)
	}
	return sum, true, nil
}

func (t summedTable[K, V]) all(yield func(K, V) bool) error {
	var k K
	var all []V
	it := t.m.Iterate()
	for it.Next(&k, &all) {
		var sum V
		for _, v := range all {
			t.add(&sum, v)
		}
		if !yield(k, sum) {
			return nil
		}
	}
	return mapError(t.m, "read", it.Err())
}

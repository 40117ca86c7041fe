//go:build linux

package offload

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// uplinkObject has the programs of the routed uplink.
//
//go:embed bpf/uplink.o
var uplinkObject []byte

// The maps of the routed uplink that are the next process's too.
var keptUplink = []string{"externals", "shares", "exit_counts"}

// uplinkKernel is the routed uplink's programs and maps, loaded.
type uplinkKernel struct {
	maps       map[string]*ebpf.Map
	inward     *ebpf.Program // for interfaces to the outside
	outward    *ebpf.Program // for the gateway-side ends of compartments' ext
	collection *ebpf.Collection
}

// loadUplink brings the programs and maps into the kernel.
func loadUplink(s UplinkSizes, observed bool) (*uplinkKernel, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(uplinkObject))
	if err != nil {
		return nil, fmt.Errorf("read the uplink's object: %w", err)
	}
	s.set(spec)
	if err := spec.Variables["observed"].Set(observed); err != nil {
		return nil, fmt.Errorf("set observed: %w", err)
	}
	k := &uplinkKernel{maps: map[string]*ebpf.Map{}}
	for _, name := range keptUplink {
		m, err := ebpf.NewMap(spec.Maps[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make map %s: %w", name, err), k.close())
		}
		k.maps[name] = m
	}
	// Of the headers that both objects share, these have maps of their own only to
	// be compiled.
	for name := range spec.Maps {
		if k.maps[name] == nil && name != "outcomes" && name != ".rodata" {
			delete(spec.Maps, name)
		}
	}
	k.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: k.maps})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load the uplink's programs: %w", err), k.close())
	}
	k.inward, k.outward = k.collection.Programs["from_uplink"], k.collection.Programs["from_external"]
	return k, nil
}

// close lets go of programs and maps. What is pinned or attached stays.
func (k *uplinkKernel) close() error {
	var errs []error
	if k.collection != nil {
		k.collection.Close()
	}
	for _, m := range k.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// UplinkSizes bound the tables of the routed uplink. The zero value is good.
type UplinkSizes struct{ Addresses, Ranges, Exits uint32 }

// The sizes where nothing is said. A range is up to 30 entries.
const (
	DefaultAddresses = 1 << 16
	DefaultRanges    = 1 << 16
	DefaultExits     = 1 << 14
)

func (s UplinkSizes) set(spec *ebpf.CollectionSpec) {
	for name, n := range map[string][2]uint32{
		"externals": {s.Addresses, DefaultAddresses}, "shares": {s.Ranges, DefaultRanges}, "exit_counts": {s.Exits, DefaultExits},
	} {
		if n[0] == 0 {
			n[0] = n[1]
		}
		spec.Maps[name].MaxEntries = n[0]
	}
}

// tables gives the maps for exits.
func (k *uplinkKernel) tables() exitTables {
	return exitTables{
		externals: kernelTable[addr, externalValue]{k.maps["externals"]},
		shares:    kernelTable[shareKey, externalValue]{k.maps["shares"]},
		counts:    summedTable[uint32, exitCount]{k.maps["exit_counts"], func(sum *exitCount, v exitCount) { sum.add(v) }},
	}
}

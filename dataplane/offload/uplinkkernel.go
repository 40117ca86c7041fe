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

// uplinkKernel is the routed uplink's programs and maps, loaded.
type uplinkKernel struct {
	maps       map[string]*ebpf.Map
	inward     *ebpf.Program // for interfaces to the outside
	outward    *ebpf.Program // for the gateway-side ends of compartments' ext
	collection *ebpf.Collection
	nat        bool
}

// uplinkOptions say how to load.
type uplinkOptions struct {
	sizes Sizes
	// with is whose maps are used as well; nil: there are others.
	with *kernel
	// observed lets the programs tell what they did, for tests.
	observed bool
}

// The maps that both objects have, if they work together.
var common = append([]string{"nat_flows"}, kept...)

// loadUplink brings the programs and maps into the kernel.
func loadUplink(o uplinkOptions) (*uplinkKernel, error) {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(uplinkObject))
	if err != nil {
		return nil, fmt.Errorf("read the uplink's object: %w", err)
	}
	sizes := o.sizes.fill()
	for _, name := range []string{"externals", "shares", "forwards"} {
		spec.Maps[name].MaxEntries = sizes.Externals
	}
	spec.Maps["exit_counts"].MaxEntries = sizes.Exits
	k := &uplinkKernel{maps: map[string]*ebpf.Map{}, nat: o.with != nil && o.with.nat}
	for name, value := range map[string]bool{"observed": o.observed, "nat_offload": k.nat} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	shared := map[string]*ebpf.Map{}
	for _, name := range common {
		if o.with != nil && spec.Maps[name] != nil {
			shared[name] = o.with.collection.Maps[name]
			spec.Maps[name].MaxEntries = shared[name].MaxEntries()
		}
	}
	k.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load the uplink's programs: %w", err), k.close())
	}
	k.maps = k.collection.Maps
	k.inward, k.outward = k.collection.Programs["from_uplink"], k.collection.Programs["from_external"]
	return k, nil
}

// close lets go of programs and maps. What is pinned or attached stays.
func (k *uplinkKernel) close() error {
	if k.collection != nil {
		k.collection.Close()
	}
	return nil
}

// tables gives the maps for exits.
func (k *uplinkKernel) tables() exitTables {
	t := exitTables{
		externals: kernelTable[addr, externalValue]{k.maps["externals"]},
		shares:    kernelTable[shareKey, externalValue]{k.maps["shares"]},
		forwards:  kernelTable[forwardKey, forwardValue]{k.maps["forwards"]},
		counts:    summedTable[uint32, exitCount]{k.maps["exit_counts"], func(sum *exitCount, v exitCount) { sum.add(v) }},
	}
	if k.nat {
		t.nat = &natTables{kernelTable[uint32, natExit]{k.maps["nat_exits"]}, kernelTable[uint32, uint32]{k.maps["nat_slots"]}}
	}
	return t
}

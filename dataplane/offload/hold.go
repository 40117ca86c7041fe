//go:build linux

package offload

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// The tables outlive a process without pins in a file system: a program that all
// of them are bound to is attached at the punt link, and holds them for as long as
// that is there. Who wants them looks there. So they go with the namespace, and
// need no file system that processes share.

// progHold is the name of that program; its filter's tells the layout too.
const progHold = "hold"

func holdName(instance string) string {
	return filterName(instance, fmt.Sprintf("%s.v%d", progHold, layoutVersion))
}

// held gives the maps of an earlier process, by name; none if they have another
// layout than ours, or other sizes.
func held(h *nl.Handle, instance string, link int, specs map[string]*ebpf.MapSpec) (map[string]*ebpf.Map, error) {
	program, name, err := holder(h, instance, link)
	if err != nil || name != holdName(instance) {
		return nil, err
	}
	maps, err := mapsOf(program)
	if err != nil || fit(maps, specs) == nil {
		return maps, err
	}
	return nil, closeMaps(maps)
}

// holder finds the program that holds the tables, of whatever layout; its name is
// "" if there is none.
func holder(h *nl.Handle, instance string, link int) (id ebpf.ProgramID, name string, err error) {
	filters, _, err := h.Filters(link)
	if err != nil {
		return 0, "", err
	}
	for _, f := range filters {
		if isMark(f.Name, instance) {
			return ebpf.ProgramID(f.Program), f.Name, nil
		}
	}
	return 0, "", nil
}

// mapsOf opens the maps that a program is bound to.
func mapsOf(id ebpf.ProgramID) (map[string]*ebpf.Map, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("look at program %d: %w", id, err)
	}
	ids, _ := info.MapIDs()
	maps := map[string]*ebpf.Map{}
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err == nil {
			var info *ebpf.MapInfo
			if info, err = m.Info(); err == nil {
				maps[info.Name] = m
				continue
			}
			_ = m.Close()
		}
		return nil, errors.Join(fmt.Errorf("open map %d: %w", id, err), closeMaps(maps))
	}
	return maps, nil
}

// fit tells why the maps cannot be used for what the specs say; nil: they can.
func fit(maps map[string]*ebpf.Map, specs map[string]*ebpf.MapSpec) error {
	for _, name := range kept {
		m, ok := maps[name]
		if !ok {
			return fmt.Errorf("there is no map %s", name)
		}
		if err := specs[name].Compatible(m); err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
	}
	return nil
}

func closeMaps(maps map[string]*ebpf.Map) error {
	var errs []error
	for _, m := range maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// keep has the tables outlive this process, and those of an earlier one not.
func (f *FastPath) keep() error {
	f.mergeless = "the kernel cannot"
	if has(f.capabilities, capSockets) {
		f.mergeless = f.openSockets()
	}
	for _, index := range f.sockets {
		if err := f.holdAt(index, filterName(f.instance, progHold)); err != nil {
			return err
		}
	}
	return f.holdAt(f.punt.in.Index, holdName(f.instance))
}

// holdAt has the interface's packets end there.
func (f *FastPath) holdAt(index int, name string) error {
	_, err := f.h.AddClsact(index)
	if err == nil {
		err = f.h.SetFilter(nl.Filter{Link: index, Priority: filterPriority, Handle: filterHandle, Name: name}, f.k.hold.FD())
	}
	if err != nil {
		return fmt.Errorf("hold the tables: %w", err)
	}
	return nil
}

//go:build linux

package offload

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// The programs of the fabric's side, as filters name them.
const (
	progFabric = "from_fabric"
	progPort   = "from_port"
)

// The place of our filters among others at an interface's ingress. They let pass
// what is not theirs: an interface may be the fabric's and an uplink.
const (
	filterPriority = 1000
	uplinkPriority = 1001
	filterHandle   = 1
)

func priorityOf(program string) uint16 {
	if program == progUplink {
		return uplinkPriority
	}
	return filterPriority
}

// filterName marks a filter as the instance's.
func filterName(instance, program string) string { return "hnv:" + instance + ":" + program }

func isMark(name, instance string) bool { return strings.HasPrefix(name, filterName(instance, "")) }

// hooks are where an instance attaches programs.
type hooks struct {
	h        *nl.Handle
	instance string
	// made notes the interfaces that have clsact from the instance; nil: it is not
	// noted, and clsact is the instance's wherever nothing else is.
	made table[uint32, uint8]
	// turn is whose it is to make or remove filters and clsact, and to note it: several
	// tenants have one uplink attached at once.
	turn *sync.Mutex
}

// numbered is a program with the kernel's number of it, 0 where that is not known:
// to ask for it takes longer than to look at a filter.
type numbered struct {
	*ebpf.Program
	id ebpf.ProgramID
}

func numberOf(p *ebpf.Program) numbered { return numbered{p, idOf(p)} }

// set puts the program at the interface's ingress, in the place of what an earlier
// process of the instance had there, unless it is there.
func (k hooks) set(ifindex int, program string, p numbered) error {
	want := nl.Filter{Link: ifindex, Priority: priorityOf(program), Handle: filterHandle, Name: filterName(k.instance, program)}
	there, err := k.h.FiltersAt(ifindex, want.Priority)
	if err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	// Where there is one, there is clsact; one beside it may come first.
	if len(there) == 1 && there[0].Name == want.Name && there[0].Handle == want.Handle {
		if ebpf.ProgramID(there[0].Program) != p.id || p.id == 0 {
			err = k.h.SetFilter(want, p.FD())
		}
		if err != nil {
			return fmt.Errorf("attach %s: %w", program, err)
		}
		return nil
	}
	return k.place(want, program, p)
}

// place is set where the filter is not there.
func (k hooks) place(want nl.Filter, program string, p numbered) error {
	k.turn.Lock()
	defer k.turn.Unlock()
	ifindex := want.Link
	have, _, err := k.h.Filters(ifindex)
	if err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	for _, o := range have {
		if o.Priority == want.Priority && !isMark(o.Name, k.instance) {
			return fmt.Errorf("attach %s: interface %d has a filter %q of priority %d already: it must go first", program, ifindex, o.Name, o.Priority)
		}
	}
	if err := k.makeRoom(ifindex); err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	if err := k.h.SetFilter(want, p.FD()); err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	return nil
}

// makeRoom gives the interface clsact, and notes whether it was without: before it
// is made, lest nobody knew of it if we died in between. With turn.
func (k hooks) makeRoom(ifindex int) error {
	if k.made == nil {
		_, err := k.h.AddClsact(ifindex)
		return err
	}
	_, noted, err := k.made.get(uint32(ifindex))
	if err == nil && !noted {
		err = put(k.made, uint32(ifindex), 1)
	}
	if err != nil {
		return err
	}
	made, err := k.h.AddClsact(ifindex)
	if made || noted {
		return err
	}
	return errors.Join(err, erase(k.made, uint32(ifindex)))
}

// remove takes the instance's filters off the interface, those of the programs or
// else all, and clsact if that is the instance's and nothing else is there. It is
// no error if the interface is gone.
func (k hooks) remove(ifindex int, programs ...string) (removed []string, err error) {
	k.turn.Lock()
	defer k.turn.Unlock()
	all, others, err := k.h.Filters(ifindex)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		is := func(program string) bool { return f.Name == filterName(k.instance, program) }
		if !isMark(f.Name, k.instance) || len(programs) > 0 && !slices.ContainsFunc(programs, is) {
			others++
			continue
		}
		if err := k.h.DelFilter(f); err != nil {
			return removed, err
		}
		removed = append(removed, fmt.Sprintf("filter %s of interface %d", f.Name, ifindex))
	}
	if others > 0 {
		return removed, nil
	}
	if k.made == nil {
		if len(removed) == 0 {
			return nil, nil
		}
		return removed, k.h.DelClsact(ifindex)
	}
	if _, made, err := k.made.get(uint32(ifindex)); err != nil || !made {
		return removed, err
	}
	return removed, errors.Join(k.h.DelClsact(ifindex), erase(k.made, uint32(ifindex)))
}

// attach has the program take the interface's packets, as soon as our tables are
// in force; with links.
func (f *FastPath) attach(ifindex int, program string) error {
	if !f.taking {
		if err := f.hook(ifindex, program); err != nil {
			return err
		}
	}
	f.attached[ifindex] = program
	return nil
}

// hook attaches the program now.
func (f *FastPath) hook(ifindex int, program string) error {
	return f.hooks.set(ifindex, program, f.program(program))
}

// rehook attaches our programs wherever something else is in their place, and
// tells where that was.
func (f *FastPath) rehook() (done []string, err error) {
	var errs []error
	for ifindex, program := range f.attached {
		all, _, err := f.h.Filters(ifindex)
		name, id := filterName(f.instance, program), f.program(program).id
		if err == nil && slices.ContainsFunc(all, func(x nl.Filter) bool { return x.Name == name && ebpf.ProgramID(x.Program) == id }) {
			continue
		}
		if err == nil {
			err = f.hook(ifindex, program)
		}
		if errors.Is(err, nl.ErrNotFound) {
			continue // whoever gave the interface to us takes it back
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, fmt.Sprintf("filter %s of interface %d", name, ifindex))
	}
	return done, errors.Join(errs...)
}

func (f *FastPath) program(name string) numbered { return f.programs[name] }

// idOf gives a program's number; 0 where the kernel does not tell.
func idOf(p *ebpf.Program) ebpf.ProgramID {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return id
}

// detach takes it off; with links.
func (f *FastPath) detach(ifindex int, program string) error {
	if f.attached[ifindex] == program {
		delete(f.attached, ifindex)
	}
	if _, err := f.hooks.remove(ifindex, program); err != nil {
		return fmt.Errorf("detach %s: %w", program, err)
	}
	return nil
}

// sweepHooks takes our filters off the interfaces that are not ours any more.
func (f *FastPath) sweepHooks() error {
	at, err := f.h.Clsacts()
	if err != nil {
		return err
	}
	var errs []error
	for _, ifindex := range at {
		if f.attached[ifindex] == "" && ifindex != f.punt.in.Index {
			_, err := f.hooks.remove(ifindex, progFabric, progPort)
			errs = append(errs, err)
		}
	}
	f.hooks.turn.Lock()
	defer f.hooks.turn.Unlock()
	if at, err = f.h.Clsacts(); err != nil { // there may be more by now
		return errors.Join(append(errs, err)...)
	}
	there := map[uint32]bool{}
	for _, ifindex := range at {
		there[uint32(ifindex)] = true
	}
	return errors.Join(append(errs, sweep(f.hooks.made, func(k uint32, _ uint8) bool { return !there[k] }))...)
}

// oldHooks gives what an earlier process noted; done lets go of it.
func oldHooks(h *nl.Handle, instance string, punt puntLink) (made table[uint32, uint8], done func(), err error) {
	nobody := func() {}
	if punt.in.Index == 0 {
		return nil, nobody, nil
	}
	program, name, err := holder(h, instance, punt.in.Index)
	if err != nil || name == "" {
		return nil, nobody, err
	}
	maps, err := mapsOf(program)
	if err != nil {
		return nil, nobody, err
	}
	if m := maps[hooksMap]; m != nil && m.KeySize() == 4 && m.ValueSize() == 1 {
		made = kernelTable[uint32, uint8]{m}
	}
	return made, func() { _ = closeMaps(maps) }, nil
}

// inheritHooks takes over an earlier process's notes, if not its tables.
func (f *FastPath) inheritHooks() error {
	old, done, err := oldHooks(f.h, f.instance, f.punt)
	if err != nil || old == nil {
		return err
	}
	defer done()
	b := batch[uint32, uint8]{t: f.hooks.made}
	if err := old.all(func(k uint32, v uint8) bool { b.add(k, v); return true }); err != nil {
		return err
	}
	return b.flush()
}

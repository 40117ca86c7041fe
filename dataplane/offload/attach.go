//go:build linux

package offload

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// The programs, as filters name them.
const (
	progFabric = "from_fabric"
	progPort   = "from_port"
)

// The place of our filters among others at an interface's ingress. They let pass
// what is not the fast path's.
const (
	filterPriority = 1000
	filterHandle   = 1
)

// filterName marks a filter as the instance's.
func filterName(instance, program string) string { return "hnv:" + instance + ":" + program }

func (k *kernel) program(name string) *ebpf.Program {
	if name == progFabric {
		return k.fabric
	}
	return k.port
}

// attach puts the program at the interface's ingress, in the place of what an
// earlier process of the instance had there; with links.
func (f *FastPath) attach(ifindex int, program string) error {
	want := nl.Filter{Link: ifindex, Priority: filterPriority, Handle: filterHandle, Name: filterName(f.instance, program)}
	have, _, err := f.h.Filters(ifindex)
	if err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	for _, o := range have {
		if o.Priority == want.Priority && !isMark(o.Name, f.instance) {
			return fmt.Errorf("attach %s: interface %d has a filter %q of priority %d already: it must go first", program, ifindex, o.Name, o.Priority)
		}
	}
	if _, err := f.h.AddClsact(ifindex); err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	if err := f.h.SetFilter(want, f.k.program(program).FD()); err != nil {
		return fmt.Errorf("attach %s: %w", program, err)
	}
	f.attached[ifindex] = program
	return nil
}

// detach takes it off; with links. It is no error if the interface is gone.
func (f *FastPath) detach(ifindex int, program string) error {
	if f.attached[ifindex] == program {
		delete(f.attached, ifindex)
	}
	if _, err := removeFilters(f.h, f.instance, nl.Link{Index: ifindex}); err != nil {
		return fmt.Errorf("detach %s: %w", program, err)
	}
	return nil
}

func isMark(name, instance string) bool { return strings.HasPrefix(name, filterName(instance, "")) }

// removeFilters takes the instance's filters off the link, and clsact if nothing
// else is there.
func removeFilters(h *nl.Handle, instance string, l nl.Link) (removed []string, err error) {
	all, others, err := h.Filters(l.Index)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if !isMark(f.Name, instance) {
			others++
			continue
		}
		if err := h.DelFilter(f); err != nil {
			return removed, err
		}
		removed = append(removed, fmt.Sprintf("filter %s of interface %s", f.Name, l.Name))
	}
	if len(removed) > 0 && others == 0 {
		return removed, h.DelClsact(l.Index)
	}
	return removed, nil
}

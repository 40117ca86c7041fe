//go:build privileged && linux

package nl

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// program is one that gives every packet to the stack.
func program(t *testing.T) (*ebpf.Program, uint32) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	info, err := p.Info()
	must(t, err)
	id, _ := info.ID()
	return p, uint32(id)
}

func TestFilters(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.AddVeth(LinkEnd{Name: "a"}, LinkEnd{Name: "b"}))
	a, b := link(t, h, "a").Index, link(t, h, "b").Index
	one, oneID := program(t)
	two, twoID := program(t)
	f := Filter{Link: a, Priority: 1000, Handle: 1, Name: "hnv:test:one"}
	if err := h.SetFilter(f, one.FD()); err == nil {
		t.Error("a filter on a link without clsact")
	}
	if list, others, err := h.Filters(a); err != nil || len(list) != 0 || others != 0 {
		t.Errorf("without clsact: %v, %d, %v", list, others, err)
	}
	for i, want := range []bool{true, false} {
		if made, err := h.AddClsact(a); err != nil || made != want {
			t.Errorf("AddClsact %d: %v, %v", i, made, err)
		}
	}
	if got, err := h.Clsacts(); err != nil || !slices.Equal(got, []int{a}) {
		t.Errorf("Clsacts: %v, %v", got, err)
	}

	expect := func(want ...Filter) {
		t.Helper()
		for _, priority := range []uint16{999, 1000, 1001} {
			var at []Filter
			for _, w := range want {
				if w.Priority == priority {
					at = append(at, w)
				}
			}
			got, err := h.FiltersAt(a, priority)
			for i := range got {
				got[i].Tag = [8]byte{}
			}
			if err != nil || !slices.Equal(got, at) {
				t.Errorf("at %d: %+v, %v; want %+v", priority, got, err, at)
			}
		}
		got, _, err := h.Filters(a)
		must(t, err)
		if len(got) != len(want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
		for i, g := range got {
			if g.Tag == [8]byte{} {
				t.Errorf("%+v has no tag", g)
			}
			if g.Tag = [8]byte{}; g != want[i] {
				t.Errorf("%+v, want %+v", g, want[i])
			}
		}
	}
	for _, p := range []*ebpf.Program{one, two, one} { // one after the other, in its place
		must(t, h.SetFilter(f, p.FD()))
	}
	must(t, h.SetFilter(f, two.FD()))
	f.Program = twoID
	expect(f)
	g := Filter{Link: a, Priority: 1001, Handle: 1, Name: "another's"}
	must(t, h.SetFilter(g, one.FD()))
	g.Program = oneID
	expect(f, g)
	beside := Filter{Link: a, Priority: 1000, Handle: 7, Name: "beside"}
	must(t, h.SetFilter(beside, two.FD()))
	if got, err := h.FiltersAt(a, 1000); err != nil || len(got) != 2 {
		t.Errorf("two of one priority: %+v, %v", got, err)
	}
	must(t, h.DelFilter(beside))
	for range 2 {
		must(t, h.DelFilter(f))
		expect(g)
	}
	for range 2 {
		must(t, h.DelClsact(a))
	}
	expect()
	must(t, h.DelFilter(g))
	must(t, h.DelClsact(1<<20))
	if _, err := h.AddClsact(1 << 20); !errors.Is(err, ErrNotFound) {
		t.Errorf("clsact on no link: %v", err)
	}
	if err := h.SetFilter(Filter{Link: b, Priority: 1, Handle: 1}, one.FD()); err == nil || errors.Is(err, unix.ENODEV) {
		t.Errorf("no clsact: %v", err)
	}
}

//go:build privileged && linux

package nl

import (
	"net/netip"
	"testing"
)

// A change of an address is known as soon as it is made, also when more were made
// than there is room to note.
func TestAddrChanges(t *testing.T) {
	h, _ := namespace(t)
	other, err := Open(h.Namespace())
	must(t, err)
	defer other.Close()
	lo := link(t, h, "lo").Index
	c, err := h.AddrChanges()
	must(t, err)
	defer c.Close()
	if c.Any() {
		t.Error("a change before there was one")
	}
	a := Addr{Prefix: netip.MustParsePrefix("192.0.2.1/32"), Link: lo}
	for range 1500 {
		must(t, other.AddAddr(a))
		must(t, other.DelAddr(a))
	}
	for _, change := range []func() error{func() error { return other.AddAddr(a) }, func() error { return other.DelAddr(a) }} {
		if !c.Any() {
			t.Error("changes are not noted")
		}
		if c.Any() {
			t.Error("changes are told twice")
		}
		must(t, change())
	}
	if !c.Any() {
		t.Error("the last change is not noted")
	}
}

//go:build privileged && linux

package nl

import (
	"errors"
	"strconv"
	"testing"
)

// Whatever handle opened another one, and however many it has opened, settings are
// those of the namespace that was asked for.
func TestIntoManyNamespaces(t *testing.T) {
	out, _ := namespace(t)
	var values []string
	var handles []*Handle
	for _, v := range []string{"17", "18", "19"} {
		h, _ := namespace(t)
		must(t, h.SetSysctl("ipv4/ip_default_ttl", v))
		handles, values = append(handles, h), append(values, v)
	}
	for n := range viewUses + 7 {
		i := n % len(handles)
		in, err := out.Into(handles[i].Namespace())
		must(t, err)
		if got, err := in.Sysctl("ipv4/ip_default_ttl"); err != nil || got != values[i] {
			t.Fatalf("look %d at namespace %d: %q, %v; want %s", n, i, got, err, values[i])
		}
		if n >= viewUses {
			values[i] = strconv.Itoa(100 + n)
			must(t, in.SetSysctl("ipv4/ip_default_ttl", values[i]))
		}
		if _, err := in.Sysctl("ipv4/none-such"); !errors.Is(err, ErrNotFound) {
			t.Errorf("a setting that is not there: %v", err)
		}
		if _, err := in.Sysctl("none-such/at-all"); !errors.Is(err, ErrNotFound) {
			t.Errorf("settings that are not there: %v", err)
		}
		in.Close()
	}
	for i, h := range handles {
		if got, err := h.Sysctl("ipv4/ip_default_ttl"); err != nil || got != values[i] {
			t.Errorf("namespace %d: %q, %v; want %s", i, got, err, values[i])
		}
	}
	if got, err := out.Sysctl("ipv4/ip_default_ttl"); err != nil || got == values[0] {
		t.Errorf("the first namespace: %q, %v", got, err)
	}
}

// Where there can be no instance of /proc of one's own, the one is used that is there.
func TestViewsWithoutAnInstance(t *testing.T) {
	h, _ := namespace(t)
	must(t, h.SetSysctl("ipv4/ip_default_ttl", "21"))
	out := &Handle{views: &views{fd: -1, none: true}}
	in, err := out.Into(h.Namespace())
	must(t, err)
	defer in.Close()
	if got, err := in.Sysctl("ipv4/ip_default_ttl"); err != nil || got != "21" {
		t.Errorf("%q, %v", got, err)
	}
}

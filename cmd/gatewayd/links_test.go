package main

import (
	"net"
	"testing"
)

// One interface is told of as package net tells of it.
func TestLinkState(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, i := range all {
		mtu, up, err := linkState(i.Name)
		if err != nil || mtu != i.MTU || up != (i.Flags&net.FlagUp != 0) {
			t.Errorf("%s: MTU %d, up %v, %v; want %+v", i.Name, mtu, up, err, i)
		}
	}
	for _, name := range []string{"", "none-such", "much-too-long-for-a-name"} {
		if mtu, up, err := linkState(name); err == nil {
			t.Errorf("%q: MTU %d, up %v", name, mtu, up)
		}
	}
}

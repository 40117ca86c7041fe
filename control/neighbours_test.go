package control

import (
	"errors"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/forwarder"
)

func TestNeighbours(t *testing.T) {
	with := func(four, six uint32, err error) *neighbours {
		return &neighbours{ask: func() (forwarder.NeighbourTable, forwarder.NeighbourTable, error) {
			return forwarder.NeighbourTable{Max: four}, forwarder.NeighbourTable{Max: six}, err
		}}
	}
	for _, c := range []struct {
		four, six uint32
		tenants   int
		each      uint32
		reason    string // "": no condition
		says      string
	}{
		{1024, 1024, 0, 256, "", ""},
		{1024, 1024, 1, 256, "Fits", "the tenant in physical networks may have 256"},
		{1024, 1024, 4, 256, "Fits", "room for 1024 neighbours of IPv4"},
		{1024, 1024, 5, 256, "TooSmall", "gc_thresh3 to 32768 or more"},
		{65536, 1024, 5, 256, "TooSmall", "1024 of IPv6"},
		{65536, 0, 16, 4096, "Fits", ""},
		{65536, 65536, 17, 4096, "TooSmall", "131072"},
		{16, 1 << 20, 1, 64, "TooSmall", ""},
	} {
		n := with(c.four, c.six, nil)
		if got := n.each(); got != c.each {
			t.Errorf("%+v: each may have %d", c, got)
		}
		cond, ok := n.condition(c.tenants)
		if ok != (c.reason != "") || cond.Reason != c.reason || ok && cond.Status != (c.reason == "Fits") || !strings.Contains(cond.Message, c.says) {
			t.Errorf("%+v: %v, %+v", c, ok, cond)
		}
	}
	n := with(0, 0, errors.New("no netlink"))
	if cond, ok := n.condition(1); n.each() != 0 || !ok || cond.Status || cond.Message != "no netlink" {
		t.Errorf("%+v", cond)
	}
	if n := (&neighbours{}); n.each() != 0 {
		t.Error("nobody told, and there is a bound")
	}
	// What was enough is enough: the bound grows with the table, up to its maximum.
	for tenants := 1; tenants < 5000; tenants += 7 {
		n := with(uint32(roomFor(tenants)), uint32(roomFor(tenants)), nil)
		if cond, _ := n.condition(tenants); !cond.Status {
			t.Fatalf("%d tenants: %s", tenants, cond.Message)
		}
	}
}

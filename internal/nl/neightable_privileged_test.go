//go:build privileged && linux

package nl

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The kernel tells of its tables in any namespace.
func TestNeighbourTables(t *testing.T) {
	h, _ := namespace(t)
	four, six, err := h.NeighbourTables()
	must(t, err)
	for family, table := range map[string]NeighbourTable{"ipv4": four, "ipv6": six} {
		b, err := os.ReadFile("/proc/sys/net/" + family + "/neigh/default/gc_thresh3")
		must(t, err)
		want, err := strconv.Atoi(strings.TrimSpace(string(b)))
		must(t, err)
		if int(table.Max) != want {
			t.Errorf("%s: room for %d, not %d", family, table.Max, want)
		}
	}
	// Others make entries meanwhile; one of our own is there in any case.
	must(t, h.AddVeth(LinkEnd{Name: "n0", Up: true}, LinkEnd{Name: "n1", Up: true}))
	must(t, h.SetNeighbour(Neighbour{Addr: netip.MustParseAddr("192.0.2.1"), Link: link(t, h, "n0").Index, MAC: [6]byte{2, 0, 0, 0, 0, 1}}))
	if four, _, err = h.NeighbourTables(); err != nil || four.Used == 0 {
		t.Errorf("%+v, %v", four, err)
	}
}

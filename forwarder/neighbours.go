//go:build linux

package forwarder

import (
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Neighbours asks the kernel for its tables of neighbours, of IPv4 and of IPv6, which
// all namespaces share.
func Neighbours() (four, six NeighbourTable, err error) {
	err = netns.Scratch(func() error { // which has no links to be told of
		h, err := nl.Open("")
		if err != nil {
			return err
		}
		defer h.Close()
		a, b, err := h.NeighbourTables()
		four, six = NeighbourTable(a), NeighbourTable(b)
		return err
	})
	return four, six, err
}

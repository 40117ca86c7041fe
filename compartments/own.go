//go:build linux

package compartments

import (
	"sync"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// ownAddrs are the addresses on the gateway's interfaces. Reading them takes the
// kernel a walk over all links, of which each compartment has two, and they hardly
// ever change: they are read when they do.
type ownAddrs struct {
	h       *nl.Handle
	changes *nl.Changes

	mu    sync.Mutex
	known bool
	list  []nl.Addr // never changed in place
}

func (o *ownAddrs) get() ([]nl.Addr, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changes.Any() || !o.known { // in this order: what changes from now on is told next time
		o.known = false
		list, err := o.h.Addrs(0)
		if err != nil {
			return nil, err
		}
		o.list, o.known = list, true
	}
	return o.list, nil
}

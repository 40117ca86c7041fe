//go:build linux

package offload

import (
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
)

// Link tells what is to be known of an interface before a port behind it is plugged
// in. The other end of a veth gets packets directly where it is in another
// namespace; the kernel drops them where it is in the same.
func (f *FastPath) Link(ifindex int) (Link, error) {
	l, err := f.h.LinkByIndex(ifindex)
	if err != nil {
		return Link{}, fmt.Errorf("look at interface %d: %w", ifindex, err)
	}
	return Link{Ifindex: ifindex, Peer: l.Kind == "veth" && l.ParentElsewhere}, nil
}

// Slow tells why all of a tenant's packets go to user space, as its tables could
// not be written; nil: they do not.
func (f *FastPath) Slow(rdid hnv.RDID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.tenants[rdid]; t != nil {
		return t.slow
	}
	return nil
}

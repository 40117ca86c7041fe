//go:build !linux

package gobgp

import "net/netip"

// hangUp leaves the sessions to the library.
func hangUp([]netip.Prefix) {}

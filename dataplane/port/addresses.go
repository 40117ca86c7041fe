package port

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// MaxAddresses bounds what one machine is addressed by on the fabric, with an IPv6
// address counted as three; the filter for it then stays within the kernel's 4096
// instructions.
const MaxAddresses = 900

// room is what an address counts as.
func room(a netip.Addr) int {
	if a.Is6() && !a.Is4In6() {
		return 3
	}
	return 1
}

// PA is an address and the interface that it is on.
type PA struct {
	Addr netip.Addr
	// Interface is asked for where packets go to a multicast group, which no
	// route leads to. "" leaves it to the kernel, which for IPv6 does not know.
	Interface string
}

// Group is a multicast group of the fabric and the interface on which it is
// joined and read; with "" it is read on all, and joined by somebody else.
type Group struct {
	Addr      netip.Addr
	Interface string
}

// Addresses are what the machine is addressed by on the fabric. Provider addresses
// may be on whichever of the Provider's interfaces, and packets to them are read
// from all of them.
type Addresses struct {
	// Tunnel are provider addresses: of packets to them, those of tunnels are
	// read.
	Tunnel []PA
	// Rewrite are provider addresses that stand for one CA each: every IP packet
	// to them is read, fragments too, but for neighbor discovery.
	Rewrite []PA
	// Groups are multicast groups that carry tunnel packets. On several interfaces
	// of one network, a group's packets are read as many times.
	Groups []Group
}

// On gives Addresses for tunnels alone, whose interfaces are of no interest.
func On(tunnel ...netip.Addr) Addresses {
	var a Addresses
	for _, addr := range tunnel {
		a.Tunnel = append(a.Tunnel, PA{Addr: addr})
	}
	return a
}

// Bounded gives as many as can be served: all for tunnels before those for CAs,
// and groups last. left is how many are not among them.
func (a Addresses) Bounded() (kept Addresses, left int) {
	free := MaxAddresses
	fits := func(addr netip.Addr) bool {
		if n := room(addr); n <= free {
			free -= n
			return true
		}
		left++
		return false
	}
	for _, pa := range a.Tunnel {
		if fits(pa.Addr) {
			kept.Tunnel = append(kept.Tunnel, pa)
		}
	}
	for _, pa := range a.Rewrite {
		if fits(pa.Addr) {
			kept.Rewrite = append(kept.Rewrite, pa)
		}
	}
	for _, g := range a.Groups {
		if fits(g.Addr) {
			kept.Groups = append(kept.Groups, g)
		}
	}
	return kept, left
}

// class is what packets to an address may be.
type class uint8

const (
	tunnelPA class = iota
	rewritePA
	groupPA
	classes
)

// classified gives the class of each address that is read on the interface, in
// plain form. All are checked.
func (a Addresses) classified(ifname string) (map[netip.Addr]class, error) {
	out := map[netip.Addr]class{}
	add := func(addr netip.Addr, c class) error {
		plain := addr.Unmap().WithZone("")
		old, twice := out[plain]
		switch {
		case !plain.IsValid():
			return errors.New("filter provider addresses: an address is unset")
		case plain.IsMulticast() != (c == groupPA):
			return fmt.Errorf("filter provider addresses: %s stands among addresses of the other kind: multicast groups are apart", addr)
		case twice && old != c:
			return fmt.Errorf("filter provider addresses: %s cannot be for tunnels and for one CA at once", addr)
		}
		out[plain] = c
		return nil
	}
	var errs []error
	for _, pa := range a.Tunnel {
		errs = append(errs, add(pa.Addr, tunnelPA))
	}
	for _, pa := range a.Rewrite {
		errs = append(errs, add(pa.Addr, rewritePA))
	}
	for _, g := range a.Groups {
		errs = append(errs, add(g.Addr, groupPA))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	needed := 0
	for addr := range out {
		needed += room(addr)
	}
	if needed > MaxAddresses {
		return nil, fmt.Errorf("filter provider addresses: there are %d, with IPv6 counted thrice, at most %d can be served", needed, MaxAddresses)
	}
	maps.DeleteFunc(out, func(addr netip.Addr, c class) bool {
		return c == groupPA && !slices.ContainsFunc(a.Groups, func(g Group) bool {
			return g.Addr.Unmap().WithZone("") == addr && (g.Interface == "" || g.Interface == ifname)
		})
	})
	return out, nil
}

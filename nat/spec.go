package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
)

// Spec is the whole wanted state of one compartment's rules: what is translated,
// what is forwarded as it is, and what the compartment itself may say and hear.
type Spec struct {
	Name            hnv.Name
	Namespace       string // path of the compartment's network namespace
	Inside, Outside string // its links towards the tenant and the uplink
	// InsidePrefixes are the sources that may leave the inside.
	InsidePrefixes []netip.Prefix
	// InsideAddrs are the compartment's own addresses inside.
	InsideAddrs []netip.Addr
	// Pool is what is translated to; without one nothing is, but for Mappings.
	Pool     []hnv.ExternalRange
	Mappings []hnv.NATMapping
	// Forward are links to physical networks, Tunnels those to the tenant's sites:
	// inside and all of them are routed to each other without translation.
	Forward []Link
	Tunnels []Tunnel
	// Services are what the compartment itself speaks with others.
	Services  []Service
	InsideMTU int
	// OnLink are the networks on the compartment's links, but for Outside, whose hosts
	// the kernel asks for their MAC addresses.
	OnLink []netip.Prefix
	// Neighbours bounds to how many hosts of OnLink, of each family, packets go within
	// NeighbourTime; 0 is DefaultNeighbours.
	Neighbours uint32
	// ConnectionLimit bounds the tracked connections; 0 is the default.
	ConnectionLimit uint32
}

// MinMTU is the least MTU that leaves room for a TCP segment of IPv6's minimum.
const MinMTU = 1280

// Check tells what cannot be programmed. The desired state as a whole was
// checked before it came here; this guards the edges of this package.
func (s Spec) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for what, name := range map[string]string{"inside": s.Inside, "outside": s.Outside} {
		if name == "" || len(name) > 15 {
			bad("name %q of the %s link is not an interface's", name, what)
		}
	}
	if s.Inside == s.Outside {
		bad("inside and outside are the same link %q", s.Inside)
	}
	if s.InsideMTU < MinMTU || s.InsideMTU > 65535 {
		bad("inside MTU %d is out of range: use %d to 65535", s.InsideMTU, MinMTU)
	}
	for _, p := range s.InsidePrefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("inside prefix %s is malformed", p)
		}
	}
	for i, r := range s.Pool {
		if !r.Addr.IsValid() || r.Addr.Is4In6() || r.Addr.Zone() != "" {
			bad("external address %s is malformed", r)
		}
		if lo, hi := r.Ports(); lo > hi || lo == 0 {
			bad("external address %s has no ports", r)
		}
		for _, o := range s.Pool[:i] {
			if o.Addr == r.Addr && (o.Whole() || r.Whole() || o.Lo <= r.Hi && r.Lo <= o.Hi) {
				bad("external addresses %s and %s overlap", o, r)
			}
		}
	}
	seen := map[string]bool{}
	for _, m := range s.Mappings {
		if seen[m.Key()] {
			bad("mapping %s is given twice", m.Key())
		}
		seen[m.Key()] = true
		if m.Proto != hnv.TCP && m.Proto != hnv.UDP {
			bad("mapping %s: protocol %q cannot be mapped", m.Key(), m.Proto)
		}
		if !m.External.IsValid() || !m.Internal.IsValid() || m.External.Addr().Is4() != m.Internal.Addr().Is4() {
			bad("mapping %s: its ends are not of one address family", m.Key())
		}
		if !s.reachable(m.External) {
			bad("mapping %s: %s is not within the external addresses", m.Key(), m.External)
		}
	}
	for _, p := range s.OnLink {
		if !p.IsValid() || p.Addr().Is4In6() {
			bad("network %s is malformed", p)
		}
	}
	errs = append(errs, s.checkWays()...)
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("NAT of tenant %s: %w", s.Name, err)
	}
	return nil
}

// external tells whether an address and port is one to translate to.
func (s Spec) external(a netip.AddrPort) bool {
	return slices.ContainsFunc(s.Pool, func(r hnv.ExternalRange) bool { return r.Contains(a) })
}

// reachable tells whether others can reach an address and port: it is external, or
// the address of an attachment.
func (s Spec) reachable(a netip.AddrPort) bool {
	return s.external(a) || slices.ContainsFunc(s.Forward, func(l Link) bool { return slices.Contains(l.Addresses, a.Addr()) })
}

func (s Spec) limit() uint32 {
	if s.ConnectionLimit == 0 {
		return hnv.DefaultConnectionLimit
	}
	return s.ConnectionLimit
}

// merge gives the fewest prefixes that hold the same addresses, of one family:
// an interval set must not hold an address twice.
func merge(prefixes []netip.Prefix, six bool) []netip.Prefix {
	var ps []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is6() == six {
			ps = append(ps, p.Masked())
		}
	}
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, p := range ps {
		if n := len(out); n > 0 && out[n-1].Contains(p.Addr()) {
			continue
		}
		out = append(out, p)
		for len(out) > 1 { // two halves make their whole
			a, b := out[len(out)-2], out[len(out)-1]
			if a.Bits() != b.Bits() || a.Bits() == 0 {
				break
			}
			whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:len(out)-2], whole)
		}
	}
	return out
}

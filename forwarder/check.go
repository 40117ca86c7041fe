package forwarder

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	// ipv6MTU is the least that IPv6 can do with (RFC 8200 section 5); minMTU is
	// what the kernel takes.
	ipv6MTU = 1280
	minMTU  = 68
	maxMTU  = 65535
	maxVLAN = 4094
)

// Limits of one compartment.
const (
	MaxAttachments = 64
	MaxRoutes      = 4096
)

// Check tells all that is wrong with the spec, apart from what only the kernel
// knows.
func (s Spec) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !s.Tenant.IsValid() {
		bad("the tenant's name is missing")
	}
	if len(s.Attachments) > MaxAttachments {
		bad("%d attachments are too many: a compartment can have %d", len(s.Attachments), MaxAttachments)
	}
	routes := 0
	for i, a := range s.Attachments {
		routes += len(a.Routes)
		for _, err := range a.check() {
			bad("attachment %s: %w", a.Name, err)
		}
		for _, o := range s.Attachments[:i] {
			for _, err := range clash(o, a) {
				bad("attachments %s and %s: %w", o.Name, a.Name, err)
			}
		}
	}
	if routes > MaxRoutes {
		bad("%d static routes are too many: a compartment can have %d", routes, MaxRoutes)
	}
	return errors.Join(errs...)
}

func (a Attachment) check() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !a.Name.IsValid() {
		bad("it has no name")
	}
	if !linkName(a.Link) || a.Link == "lo" || a.Link == "ext" || strings.HasPrefix(a.Link, "wnv") {
		bad("%q cannot be the name of its link", a.Link)
	}
	if !linkName(a.Parent) {
		bad("%q is not the name of an interface", a.Parent)
	}
	switch a.Kind {
	case KindVLAN:
		if a.VLAN == 0 || a.VLAN > maxVLAN {
			bad("VLAN %d: an uplink of kind vlan needs one of 1 to %d", a.VLAN, maxVLAN)
		}
	case KindMACVLAN, KindBridge:
		if a.VLAN != 0 {
			bad("VLAN %d: only an uplink of kind %s has VLANs, this one is of kind %s", a.VLAN, KindVLAN, a.Kind)
		}
	default:
		bad("kind %q is unknown: use %s, %s or %s", a.Kind, KindVLAN, KindMACVLAN, KindBridge)
	}
	if a.MTU != 0 && (a.MTU < minMTU || a.MTU > maxMTU) {
		bad("MTU %d is out of range: use %d to %d, or 0 for the uplink's", a.MTU, minMTU, maxMTU)
	}
	switch a.ReversePath {
	case "", Strict, Loose, Off:
	default:
		bad("reverse path check %q is unknown: use %s, %s or %s", a.ReversePath, Strict, Loose, Off)
	}
	return append(append(errs, a.checkAddresses()...), a.checkRoutes()...)
}

func linkName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\n\x00")
}

func (a Attachment) checkAddresses() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, p := range a.Addresses {
		ip := p.Addr()
		switch {
		case !p.IsValid() || ip.Zone() != "" || ip.Is4In6():
			bad("address %s is malformed", p)
			continue
		case ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || p.Bits() == 0:
			bad("address %s cannot be a station's", p)
		case ip.Is4() && p.Bits() < 31 && (ip == p.Masked().Addr() || ip == broadcast(p)):
			bad("address %s is that of the network or of all stations in it", p)
		case ip.Is6() && a.MTU != 0 && a.MTU < ipv6MTU:
			bad("address %s: MTU %d is too small for IPv6, which needs %d", p, a.MTU, ipv6MTU)
		}
		if slices.ContainsFunc(a.Addresses[:i], func(q netip.Prefix) bool { return q.Addr() == ip }) {
			bad("address %s is given twice", ip)
		}
	}
	return errs
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func (a Attachment) checkRoutes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i, r := range a.Routes {
		switch {
		case !r.Prefix.IsValid() || r.Prefix.Addr().Is4In6():
			bad("a route's prefix is malformed")
			continue
		case r.Prefix != r.Prefix.Masked():
			bad("route %s: the prefix has bits beyond its length: write %s", r.Prefix, r.Prefix.Masked())
		case r.Prefix.Addr().IsMulticast() || r.Prefix.Addr().IsLoopback():
			bad("route %s: multicast and loopback addresses are not routed", r.Prefix)
		case !r.NextHop.IsValid():
			bad("route %s names no next hop", r.Prefix)
		case r.NextHop.Is4() != r.Prefix.Addr().Is4():
			bad("route %s via %s: the next hop is of the other address family", r.Prefix, r.NextHop)
		case a.own(r.NextHop):
			bad("route %s via %s: the next hop is the attachment itself", r.Prefix, r.NextHop)
		case !a.onLink(r.NextHop):
			bad("route %s via %s: the next hop is in none of the attachment's networks (%s)", r.Prefix, r.NextHop, prefixes(a.Addresses))
		}
		if slices.Contains(a.Routes[:i], r) {
			bad("route %s via %s is given twice", r.Prefix, r.NextHop)
		}
	}
	return errs
}

func (a Attachment) own(ip netip.Addr) bool {
	return slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr() == ip })
}

// onLink: every IPv6 link has the link-local addresses (RFC 4291 section 2.8),
// but one without an IPv6 address does not speak IPv6.
func (a Attachment) onLink(ip netip.Addr) bool {
	if ip.Zone() != "" || ip.IsMulticast() || ip.IsUnspecified() {
		return false
	}
	return slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool {
		return p.Contains(ip) || ip.Is6() && ip.IsLinkLocalUnicast() && p.Addr().Is6()
	})
}

func prefixes(ps []netip.Prefix) string {
	if len(ps) == 0 {
		return "it has no address"
	}
	words := make([]string, len(ps))
	for i, p := range ps {
		words[i] = p.Masked().String()
	}
	return strings.Join(words, ", ")
}

// clash tells why two attachments cannot be in one compartment.
func clash(a, b Attachment) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if a.Name == b.Name {
		bad("the name is given twice")
	}
	if a.Link == b.Link {
		bad("both have the link %s", a.Link)
	}
	if a.Kind == KindVLAN && b.Kind == KindVLAN && a.Parent == b.Parent && a.VLAN == b.VLAN {
		bad("both are in VLAN %d of %s", a.VLAN, a.Parent)
	}
	for _, p := range a.Addresses {
		for _, q := range b.Addresses {
			switch {
			case !p.IsValid() || !q.IsValid() || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
			case p.Addr() == q.Addr():
				bad("both have the address %s", p.Addr())
			case p.Masked() == q.Masked():
				bad("both are in the network %s: the kernel would send over one of them only", p.Masked())
			}
		}
	}
	return errs
}

package hnv

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
)

// The kinds of uplink.
const (
	UplinkRouted  = "routed"  // addresses are answered for on the interface, packets are routed
	UplinkVLAN    = "vlan"    // an 802.1Q link for each attachment
	UplinkMACVLAN = "macvlan" // a MAC address on the interface for each attachment
	UplinkBridge  = "bridge"  // a port of a Linux bridge for each attachment
)

// Attachment is a compartment's foot in a physical network, to and from which
// packets are forwarded without being translated.
type Attachment struct {
	Tenant Name   `json:"tenant"`
	Name   Name   `json:"name"`
	Uplink string `json:"uplink"`
	// VLAN is the 802.1Q tag, of uplinks of kind vlan.
	VLAN uint16 `json:"vlan,omitempty"`
	// Addresses of the compartment there, with the length of the on-link prefix; on a
	// routed uplink single addresses.
	Addresses []netip.Prefix `json:"addresses"`
	// MTU in bytes; 0 is the uplink's.
	MTU         int               `json:"mtu,omitempty"`
	Routes      []AttachmentRoute `json:"routes,omitempty"`
	ReversePath ReversePath       `json:"reversePath"`
}

// AttachmentRoute leads to what is behind the physical network.
type AttachmentRoute struct {
	Prefix netip.Prefix `json:"prefix"`
	// NextHop is on-link; on a routed uplink it is unset: the gateway's own routes
	// lead on.
	NextHop netip.Addr `json:"nextHop,omitzero"`
	Metric  uint32     `json:"metric,omitempty"`
}

// ReversePath is the check of sources that come from outside (RFC 3704).
type ReversePath string

// The checks: the way back leads over the same link, over any link, or is not
// looked at.
const (
	ReversePathStrict ReversePath = "strict"
	ReversePathLoose  ReversePath = "loose"
	ReversePathOff    ReversePath = "off"
)

// Bounds of an attachment.
const (
	maxAttachmentAddrs  = 16
	maxAttachmentRoutes = 1024
	minIPv6MTU          = 1280
	maxLinkMTU          = 9216
)

// Kind is KindAttachment.
func (Attachment) Kind() Kind { return KindAttachment }

// Key is TENANT/NAME.
func (a Attachment) Key() string { return a.Tenant.s + "/" + a.Name.s }

// Link is the name of the attachment's link in the compartment, where its uplink
// is not a routed one.
func (a Attachment) Link() string { return linkName("fw-", a.Name) }

// linkName gives a name that Linux takes and that no other Name has, but by an
// accident of 48 bits.
func linkName(prefix string, n Name) string {
	if len(prefix)+len(n.s) <= 15 {
		return prefix + n.s
	}
	sum := sha256.Sum256([]byte(n.s))
	return prefix + hex.EncodeToString(sum[:6])
}

// Defaulted fills in what may be left out.
func (a Attachment) Defaulted() Attachment {
	if a.ReversePath == "" {
		a.ReversePath = ReversePathStrict
	}
	a.Addresses = unlessEmpty(a.Addresses)
	a.Routes = unlessEmpty(a.Routes)
	return a
}

// Check holds what must be true of the attachment alone.
func (a Attachment) Check() error {
	if !a.Tenant.IsValid() || !a.Name.IsValid() {
		return invalidf("an attachment needs a tenant and a name")
	}
	bad := func(format string, args ...any) error {
		return invalidf("attachment "+a.Key()+": "+format, args...)
	}
	switch {
	case a.Uplink == "":
		return bad("it names no uplink")
	case a.VLAN > 4094:
		return bad("VLAN %d is out of range: use 1 to 4094", a.VLAN)
	case len(a.Addresses) == 0:
		return bad("it has no address")
	case len(a.Addresses) > maxAttachmentAddrs:
		return bad("%d addresses are more than %d", len(a.Addresses), maxAttachmentAddrs)
	case len(a.Routes) > maxAttachmentRoutes:
		return bad("%d routes are more than %d", len(a.Routes), maxAttachmentRoutes)
	case a.MTU != 0 && (a.MTU < minIPv6MTU || a.MTU > maxLinkMTU):
		return bad("MTU %d is out of range: use %d to %d, or 0 for the uplink's", a.MTU, minIPv6MTU, maxLinkMTU)
	case !slices.Contains([]ReversePath{ReversePathStrict, ReversePathLoose, ReversePathOff}, a.ReversePath):
		return bad("reverse path check %q is unknown: use strict, loose or off", a.ReversePath)
	}
	for i, p := range a.Addresses {
		if !p.IsValid() {
			return bad("an address is missing or malformed: write it with its prefix length, as 198.51.100.2/24")
		}
		if err := checkPlain("address", p.Addr()); err != nil {
			return bad("%v", err)
		}
		if p.Addr().BitLen()-p.Bits() >= 2 {
			if err := checkHostAddr(p.Addr(), p.Masked()); err != nil {
				return bad("address: %v", err)
			}
		}
		if slices.ContainsFunc(a.Addresses[:i], func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
			return bad("address %s is given twice", p.Addr())
		}
	}
	for i, r := range a.Routes {
		if err := a.checkRoute(r, a.Routes[:i]); err != nil {
			return bad("%v", err)
		}
	}
	return nil
}

func (a Attachment) checkRoute(r AttachmentRoute, before []AttachmentRoute) error {
	switch {
	case !r.Prefix.IsValid() || r.Prefix.Addr().Is4In6():
		return invalidf("a route's prefix is missing or malformed")
	case r.Prefix != r.Prefix.Masked():
		return invalidf("route %s: the prefix has host bits set: write %s", r.Prefix, r.Prefix.Masked())
	case r.Prefix.Addr().IsMulticast() || r.Prefix.Addr().IsLoopback():
		return invalidf("route %s: the prefix is not one of unicast addresses", r.Prefix)
	}
	if slices.ContainsFunc(before, func(o AttachmentRoute) bool { return o.Prefix == r.Prefix && o.NextHop == r.NextHop }) {
		return invalidf("route %s: it is given twice", r.Prefix)
	}
	if !r.NextHop.IsValid() {
		return nil
	}
	if err := checkPlain("next hop", r.NextHop); err != nil {
		return invalidf("route %s: %v", r.Prefix, err)
	}
	if r.NextHop.Is4() != r.Prefix.Addr().Is4() {
		return invalidf("route %s: next hop %s is not of the prefix's address family", r.Prefix, r.NextHop)
	}
	onLink := slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Contains(r.NextHop) && p.Addr() != r.NextHop })
	if !onLink {
		return invalidf("route %s: next hop %s is on-link at none of the attachment's addresses, or is one of them", r.Prefix, r.NextHop)
	}
	return nil
}

package compartments

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// Config says what the engine works with.
type Config struct {
	// Instance tells this gateway's objects from those of others on the machine.
	Instance string
	// Namespace is the path of the gateway's network namespace; "" is that of
	// the thread that calls New.
	Namespace    string
	Uplinks      []Uplink
	PAInterfaces []string // where provider addresses may be
	Log          *slog.Logger
}

// Uplink is a way to the outside.
type Uplink struct {
	Name string
	// Kind is Routed, VLAN, MACVLAN or Bridge.
	Kind      string
	Interface string
}

// The kinds of uplinks.
const (
	// Routed: the compartments' external addresses are answered for on the
	// interface, and packets are routed. Through the interface nothing is forwarded
	// but the packets of this gateway's compartments.
	Routed = "routed"
	// VLAN, MACVLAN and Bridge are for attachments: links of their own in the
	// compartments, which package forwarder makes. Nothing is done to the interface.
	VLAN    = "vlan"
	MACVLAN = "macvlan"
	Bridge  = "bridge"
)

var kinds = []string{Routed, VLAN, MACVLAN, Bridge}

// Spec is the whole of one compartment.
type Spec struct {
	Name hnv.Name
	RDID hnv.RDID
	VSID hnv.VSID // the gateway subnet
	MAC  hnv.MAC  // of wnv<VSID>
	MTU  int      // of wnv<VSID>
	// Whole: what leaves by wnv has the size of frames on a wire and all its
	// checksums, for a dataplane that could not take super-packets as fast.
	Whole  bool
	CAs    []netip.Prefix // the compartment's addresses with the subnet's length
	Routes []Route
	Uplink string
	// External are the addresses, or ranges of their ports, that the
	// compartment has outside.
	External []hnv.ExternalRange
	// Forwarded are prefixes of the tenant, disjoint from those of all others on
	// the uplink, that go over it as they are, to and fro, beside External.
	Forwarded []netip.Prefix
}

// Route leads a prefix of the tenant over the distributed router's address in
// the gateway subnet.
type Route struct {
	Prefix netip.Prefix
	Via    netip.Addr
}

// Result is what Apply has to tell.
type Result struct {
	Namespace string // path
	Port      string // the gateway-side link of wnv<VSID>
	Exit      Exit
	// Repaired says in words what was changed; empty when all was right.
	Repaired []string
}

// Exit is a compartment's way outside as the gateway's namespace has it: what a
// fast path past the rules and routes there needs to know.
type Exit struct {
	Link    int     // index of the gateway-side end of ext
	Port    int     // index of the gateway-side link of wnv<VSID>
	Uplink  int     // index of the uplink's interface
	MAC     [6]byte // of ext
	PeerMAC [6]byte // of its gateway-side end
	MTU     int     // of ext
	Netns   int     // the number that the gateway's namespace has for the compartment's
}

// ProviderSpec is the whole of the provider side.
type ProviderSpec struct {
	Addresses []hnv.ProviderAddress
	Routes    []hnv.ProviderRoute
	// VSIDs are the virtual subnets that the dataplane knows: their tunnel packets
	// are kept from the gateway's own stack, which has all others.
	VSIDs []hnv.VSID
	// Rewrite are provider addresses that stand for one CA each: the kernel answers
	// for them, and knows nothing else of them.
	Rewrite []RewriteAddress
	// Groups are multicast groups that carry tunnel packets.
	Groups []netip.Addr
}

// RewriteAddress is a provider address that stands for one CA of a VM.
type RewriteAddress struct {
	Addr netip.Addr
	// Port is the VM's interface: the address is on this machine as long as the
	// VM is. "" is for always.
	Port string
}

func (c Config) check() error {
	errs := []error{names{c.Instance}.check()}
	seen := map[string]bool{}
	for _, u := range c.Uplinks {
		switch {
		case u.Name == "":
			errs = append(errs, fmt.Errorf("the uplink on interface %q has no name", u.Interface))
		case seen[u.Name]:
			errs = append(errs, fmt.Errorf("uplink %s is given twice", u.Name))
		case !slices.Contains(kinds, u.Kind):
			errs = append(errs, fmt.Errorf("uplink %s: kind %q is unknown: use %s", u.Name, u.Kind, strings.Join(kinds, ", ")))
		case u.Interface == "":
			errs = append(errs, fmt.Errorf("uplink %s names no interface", u.Name))
		case slices.Contains(c.PAInterfaces, u.Interface):
			errs = append(errs, fmt.Errorf("uplink %s: interface %s carries provider addresses too; the outside and the fabric need an interface (or a VLAN link) each", u.Name, u.Interface))
		}
		seen[u.Name] = true
	}
	return errors.Join(errs...)
}

func (c Config) uplink(name string) (Uplink, bool) {
	for _, u := range c.Uplinks {
		if u.Name == name {
			return u, true
		}
	}
	return Uplink{}, false
}

func (s Spec) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !s.Name.IsValid() || !s.VSID.IsValid() || !s.MAC.IsValid() {
		bad("name, VSID and MAC address must be set")
	}
	if s.MTU < 576 || s.MTU > 65535 {
		bad("MTU %d is out of range: the provider addresses' MTU must leave at least 576 bytes", s.MTU)
	}
	onLink := func(a netip.Addr) bool {
		return slices.ContainsFunc(s.CAs, func(ca netip.Prefix) bool { return ca.Contains(a) && ca.Addr() != a })
	}
	for _, ca := range s.CAs {
		if !ca.IsValid() {
			bad("a customer address is malformed")
		}
		if ca.Addr().Is6() && s.MTU < 1280 {
			bad("MTU %d is too small for IPv6, which needs 1280", s.MTU)
		}
	}
	for _, r := range s.Routes {
		switch {
		case !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked():
			bad("route %s: the prefix is malformed", r.Prefix)
		case r.Prefix.Bits() == 0:
			bad("route %s: the default route leads to the uplink", r.Prefix)
		case !onLink(r.Via):
			bad("route %s via %s: the next hop is not in the gateway subnet", r.Prefix, r.Via)
		case r.Via.Is4() != r.Prefix.Addr().Is4():
			bad("route %s via %s: the next hop is of the other address family", r.Prefix, r.Via)
		}
	}
	for _, e := range s.External {
		if !e.Addr.IsValid() || !e.Whole() && (e.Lo == 0 || e.Hi < e.Lo) {
			bad("external address %s is malformed", e)
		}
	}
	for _, p := range s.Forwarded {
		switch {
		case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6():
			bad("forwarded prefix %s is malformed", p)
		case p.Bits() == 0:
			bad("forwarded prefix %s: a tenant cannot have all addresses", p)
		case !slices.ContainsFunc(s.External, func(r hnv.ExternalRange) bool { return r.Addr.Is4() == p.Addr().Is4() }):
			bad("forwarded prefix %s: the tenant has no external address of its family, without which there is no way outside", p)
		}
		for _, e := range s.External {
			if p.Contains(e.Addr) {
				bad("forwarded prefix %s holds the external address %s", p, e)
			}
		}
	}
	return errors.Join(errs...)
}

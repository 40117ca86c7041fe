package compartments

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

// ExternalLink is the uplink's name inside every compartment.
const ExternalLink = "ext"

// overlayLinks is what the names of compartments' links to the overlay start with.
const overlayLinks = "wnv"

// OverlayLink is the name, inside a compartment, of the link to the overlay.
func OverlayLink(v hnv.VSID) string { return overlayLinks + v.String() }

// ProviderLink is the interface that carries a provider address: the one it
// names, or the VLAN link on it.
func ProviderLink(a hnv.ProviderAddress) string {
	if a.VLAN == 0 {
		return a.Interface
	}
	name := a.Interface + "." + strconv.Itoa(int(a.VLAN))
	if len(name) > 15 {
		name = "v" + hash(a.Interface)[:8] + "." + strconv.Itoa(int(a.VLAN))
	}
	return name
}

// names derives every name from that of the instance.
type names struct{ instance string }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func (n names) hash4() string { return hash(n.instance)[:4] }

// namespace names a compartment's; ip-netns(8) shows it.
func (n names) namespace(t hnv.Name) string { return n.instance + "-" + t.String() }

// overlayPeers and uplinkPeers are what the gateway-side links' names start with.
func (n names) overlayPeers() string { return "w" + n.hash4() }
func (n names) uplinkPeers() string  { return "x" + n.hash4() }

func (n names) overlayPeer(v hnv.VSID) string { return n.overlayPeers() + v.String() }
func (n names) uplinkPeer(v hnv.VSID) string  { return n.uplinkPeers() + v.String() }

// steerIn and steerOut are the two ends of the link over which packets to
// shared external addresses pass the steering rules.
func (n names) steerIn() string  { return "h" + n.hash4() + "a" }
func (n names) steerOut() string { return "h" + n.hash4() + "b" }

// reserved tells whether a link's name is one of ours, as the rules see it.
func (n names) reserved(link string) bool {
	return strings.HasPrefix(link, n.overlayPeers()) || strings.HasPrefix(link, n.uplinkPeers()) ||
		link == n.steerIn() || link == n.steerOut()
}

// alias marks a link as ours: of a compartment with the role "wnv" or "ext", of
// the gateway itself with no tenant.
func (n names) alias(tenant, role string) string {
	return "hnv:" + n.instance + ":" + tenant + ":" + role
}

// providerAlias marks a VLAN link as ours.
func (n names) providerAlias() string { return n.alias("", "pa") }

// marks tells whether a link's alias is one that this instance gives.
func (n names) marks(alias string) bool { return strings.HasPrefix(alias, "hnv:"+n.instance+":") }

// marker is the alias of a compartment's lo.
func (n names) marker(t hnv.Name) string { return n.alias(t.String(), "lo") }

// tenant reads an alias of ours back.
func (n names) tenant(alias string) (t hnv.Name, role string, ok bool) {
	rest, ok := strings.CutPrefix(alias, "hnv:"+n.instance+":")
	if !ok {
		return t, "", false
	}
	name, role, ok := strings.Cut(rest, ":")
	if !ok {
		return t, "", false
	}
	t, err := hnv.ParseName(name)
	return t, role, err == nil
}

// table names the nftables tables in the gateway's namespace.
func (n names) table() string {
	return "hnv_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, n.instance)
}

func (n names) check() error {
	bad := n.instance == "" || len(n.instance) > 32 || strings.Trim(n.instance, "-") != n.instance
	for _, r := range n.instance {
		bad = bad || !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if bad {
		return fmt.Errorf("instance name %q: use 1 to 32 lower-case letters, digits, inner hyphens and underscores", n.instance)
	}
	return nil
}

// The MACs of the links between gateway and compartment; nobody else sees them.
func linkMAC(kind byte, v hnv.VSID) [6]byte {
	m := hnv.CompartmentMAC(v).Bytes()
	m[2] = kind
	return m
}

const (
	macOverlayPeer = 'w'
	macUplinkPeer  = 'x'
	macExternal    = 'e'
)

// The next hops on the link between gateway and compartment. They are addresses
// of nobody: permanent neighbour entries stand for them on both sides.
var (
	gatewayHop4     = netip.MustParseAddr("169.254.0.1")
	gatewayHop6     = netip.MustParseAddr("fe80::1")
	compartmentHop4 = netip.MustParseAddr("169.254.0.2")
	compartmentHop6 = netip.MustParseAddr("fe80::2")
)

// linkLocal is the address that a MAC gives (RFC 4291 appendix A).
func linkLocal(m [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

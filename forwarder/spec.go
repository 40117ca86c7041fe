package forwarder

import (
	"log/slog"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
)

// RouteProtocol marks the routes of this package in the kernel.
const RouteProtocol = 204

// Config says what the engine works with.
type Config struct {
	// Instance tells this gateway's objects from those of others on the machine.
	Instance string
	// Machine tells this machine's MAC addresses from those of others in the same
	// physical network; "" is /etc/machine-id.
	Machine string
	// Namespace is the path of the gateway's network namespace; "" is that of the
	// thread that calls New.
	Namespace string
	Log       *slog.Logger
}

// Kinds of uplinks that attachments can have links of their own on.
const (
	KindVLAN    = "vlan"
	KindMACVLAN = "macvlan"
	KindBridge  = "bridge"
)

// How the source of a packet that comes in is held against the routes.
const (
	// Strict: packets back to it would go out where it came in. The default.
	Strict = "strict"
	// Loose: there is a way back, wherever it leads.
	Loose = "loose"
	// Off: not at all.
	Off = "off"
)

// NeighbourTable is one of the kernel's: Max entries there may be, for all namespaces
// together (gc_thresh3), Used there are.
type NeighbourTable struct{ Max, Used uint32 }

// Spec is the whole of one compartment's attachments.
type Spec struct {
	Tenant      hnv.Name
	Namespace   string // path of the compartment's
	Attachments []Attachment
}

// Attachment is one foot of a compartment in a physical network.
type Attachment struct {
	Name hnv.Name // unique in the compartment
	Link string   // the link's name inside, at most 15 bytes
	Kind string
	// Parent is the interface in the gateway's namespace: the one that a VLAN or
	// macvlan link is on, or the Linux bridge.
	Parent string
	VLAN   uint16 // 1 to 4094, of kind vlan only
	MTU    int    // bytes; 0 is the parent's
	// MAC is the link's address; unset: one is derived from the machine, instance,
	// tenant and name, so that it is the same after a restart.
	MAC hnv.MAC
	// Addresses have the length of the prefix that is on the link.
	Addresses   []netip.Prefix
	Routes      []Route
	ReversePath string // of IPv4; "" is Strict
}

// Route is a static route over an attachment. Routes to one prefix with one
// metric, also of several attachments, share the flows among their next hops.
type Route struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
	Metric  uint32 // the lowest goes first; of IPv6, 0 becomes 1024
}

// Result is what Apply has to tell.
type Result struct {
	// Repaired says in words what was changed; empty when all was right.
	Repaired []string
	// Failed has the attachments that are not as they should be, and why; Apply's
	// error has all of them.
	Failed map[hnv.Name]error
}

// LinkState is an attachment's link as it is.
type LinkState struct {
	Link    string `json:"link"`
	Kind    string `json:"kind"`
	Up      bool   `json:"up"`
	Carrier bool   `json:"carrier"` // frames can pass: the parent has a carrier too
	MAC     string `json:"mac"`
	MTU     int    `json:"mtu"` // bytes
	// Addresses that are on the link, link-local ones of IPv6 included.
	Addresses []netip.Prefix `json:"addresses"`
	Counters  Counters       `json:"counters"`
}

// Counters of a link, since it was made.
type Counters struct {
	RxPackets uint64 `json:"rxPackets"`
	RxBytes   uint64 `json:"rxBytes"`
	RxDropped uint64 `json:"rxDropped"`
	TxPackets uint64 `json:"txPackets"`
	TxBytes   uint64 `json:"txBytes"`
	TxDropped uint64 `json:"txDropped"`
}

// Feature is something the kernel may or may not offer.
type Feature struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Note says what is missing, and what to do about it.
	Note string `json:"note,omitempty"`
}

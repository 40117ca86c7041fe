// Package s2s runs a tenant's encrypted site-to-site tunnels inside its
// compartment: WireGuard, the kernel's own or embedded (golang.zx2c4.com/wireguard) on
// a TUN link, with routes to the prefixes behind each peer. Which of the two is chosen
// for each tunnel (wireguard.go). Links outlive the process, the kernel's with their
// sessions.
//
// Apply takes the whole wanted state of one compartment, is idempotent, and
// changes one peer without touching another. Prefixes that several tunnels offer
// are redundant ways to one site: the way with the lowest priority that answers
// its probes is taken, several of one priority share the flows. Liveness is
// probed by ICMP echo through the tunnel itself, so that what is found alive is
// forwarding and not the session.
//
// Translation of prefixes one to one, the limits and the MSS clamp happen on the
// packets between TUN link and encryption (packet.go, policy.go), or for the kernel's
// tunnels by nftables (shaping.go, but for prefixes): without state,
// so that a flow may change tunnels at any time.
//
// Keys are of the types Key and Secret. A Secret shows itself nowhere but in
// Encode, whose output is to be sealed or sent over a private socket.
//
// The package opens its sockets in the namespace of Options; it needs
// CAP_NET_ADMIN and CAP_NET_RAW there. It imports hnv and internal;
// cmd/compartmentd and test import it. Lock order: Engine.mu is the only lock;
// probes report to the engine without holding one of their own.
package s2s

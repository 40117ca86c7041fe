// Package forwarder connects compartments to physical networks without address
// translation. An attachment is a link inside a compartment that is a station of
// the physical network behind an uplink of the gateway:
//
//   - vlan: an 802.1Q link on the uplink's interface. One tenant has a VLAN.
//   - macvlan: a MAC address of its own on the uplink's interface.
//   - bridge: a veth whose other end is a port of a Linux bridge in the gateway's
//     namespace.
//
// Tenants on one uplink of the last two kinds reach the physical network and not
// each other, nor the gateway itself. (On an uplink of kind routed there is
// nothing to be made here: packets go over the compartment's ext.)
//
// The engine sees to the links, their addresses, MTU, IPv4 reverse path check and
// the static routes over them, route protocol 204. What of it passes is the
// compartment's nftables rules to say (package nat), and the reverse path check of
// IPv6 is done there too.
//
// Apply takes all attachments of one compartment. What is right is left alone,
// also after a restart; what drifted is set right and reported; what is ours (the
// alias "hnv:<instance>:<tenant>:fw") and no longer wanted is removed. The state is
// read, compared by a pure planner (plan.go), changed step by step, and read again
// until nothing is left to do. One attachment that cannot be made holds no other
// up. Everything goes with the compartment's namespace.
//
// Explain tells which way the kernel sends a packet, and which routes stand behind
// that one.
//
// Locks: one for each tenant. Imports hnv and internal packages only; control
// imports it.
package forwarder

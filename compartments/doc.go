// Package compartments makes and keeps the compartments of a gateway: one named
// network namespace per routing domain, with the overlay link wnv<VSID> towards
// the dataplane and the uplink ext towards the outside, their addresses, routes
// and settings; the gateway's own namespace around them, in which the `routed`
// uplink forwards and checks what leaves; and the provider side, the addresses
// and routes on the datacenter fabric.
//
// The provider side shares its interfaces with the machine's own stack. What is
// the dataplane's of the packets there, tunnel packets of virtual subnets that it
// knows and everything to an address that stands for a CA, is kept from the stack
// behind the packet sockets (table.go); the rest is the stack's. Several
// interfaces in one network behave as one machine's: each address is answered for
// and sent from on its own, and moves when that fails (place.go, sourceroutes.go,
// follow.go). Ping tries the way from one provider address to another.
//
// Apply takes the whole state of one compartment. What is right is left alone,
// also after a restart and whoever made it, so that connections go on; what
// drifted is set right and reported; what is ours and no longer wanted is
// removed. Ours is what carries our mark: the alias "hnv:<instance>:..." on a
// link (in a namespace: on its lo), route, address, rule and neighbour protocol
// 201, the nftables tables hnv_<instance>. Nothing else is changed, except
// settings of the interfaces that the configuration hands over: uplinks are made
// to forward and to answer by proxy, PA interfaces not to forward, to keep little
// for neighbours that do not answer, and where several are in one network, to
// speak for their own addresses only.
//
// The state is read, compared by a pure planner (plan.go, outside.go,
// providerplan.go) and changed step by step; then it is read again until nothing is
// left to do. A crash between two steps leaves a state like any other.
//
// Locks: a compartment's lock, then the gateway's. Imports hnv and internal
// packages only; control imports it.
package compartments

// Package dataplane is the complete and reference packet path of the gateway:
// a Switch that takes tunnel packets from the fabric and frames from the ports
// of VMs and compartments, and passes each on within its own routing domain or
// drops it for a reason.
//
//	fabric --> FromProvider --> provider.go  codec, tenant, source --.
//	                            rewrite.go   IP rewrite -------------+--> flow table of the port
//	                                                                 |      | hit: replay
//	port   --> FromPort -----> port.go       source -----------------'      v miss: decide
//	             |                                                  layers of the port (policy.go)
//	             |--> proxy.go      ARP and ND answered                     |
//	             |--> replicate.go  broadcast, multicast                    v
//	             `--> learn.go      claims, to the learner          router.go, bridge
//	                                                                        |
//	                            output.go  another port, or the fabric <----'
//
// A port's layers are compiled by package vfp and its flows kept by package flow;
// flows.go says how both go together.
//
// # Isolation
//
// The VSID of a tunnel packet, or the port of a frame, names one tenant. From
// there on all decisions are made in a single immutable lookup.Domain, which
// knows of no other. Five things must hold, whatever a packet says:
//
//  1. The source is checked by the way back to it: the record of the source
//     address, or of the next hop that leads to it, must name the outer PA, the
//     tunnel and the MAC that the packet came with (source.go).
//  2. The destination is checked by the way to it: the record of the destination
//     address, or of the next hop that leads to it, must name the VSID and MAC
//     of the port that gets the packet.
//  3. A port belongs to one RDID from AddPort on; a VSID that moves to another
//     RDID does not take the port along.
//  4. What came out of a tunnel goes to local ports or nowhere (split horizon).
//  5. ARP and neighbor discovery are answered from the records, so no station can
//     tell another one where a third lives. Only where addresses are learned do
//     questions that nobody can answer go on, to the stations whose addresses are
//     not known.
//  6. A flow's action is no leave: the source and the destination of each packet
//     are checked against the mappings as they are.
//
// Packets outside follow RFC 7637 (NVGRE) and RFC 7348 (VXLAN), congestion marks
// RFC 6040 in normal mode; the outer DSCP is what the tenant's QoS says. ICMP
// follows RFC 1812 and RFC 4443.
//
// # Concurrency
//
// Configuration is published as immutable snapshots behind atomic pointers, and
// each packet reads the latest: a migrated record counts for the next packet.
// Workers share the Writers, and the ports' flow tables, which they read without
// locks; for the packets of known flows they neither lock nor allocate. Lock
// order: learner.mu before Switch.mu before counters.mu.
//
// cmd, control and tests may import this package; it imports hnv and its own
// children only.
package dataplane

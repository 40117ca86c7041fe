// Package dataplane is the complete and reference packet path of the gateway:
// a Switch that takes tunnel packets from the fabric and frames from the ports
// of VMs and compartments, and passes each on within its own routing domain or
// drops it for a reason.
//
//	fabric --> FromProvider --> provider.go: codec, tenant, source, port --> local port
//	port   --> FromPort     --> port.go: source --> proxy.go   ARP, ND answered
//	                                           |--> bridge     same virtual subnet
//	                                           `--> router.go  other one, or off-link
//	                                                  --> output.go --> local port or fabric
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
//  4. What came out of a tunnel goes to a local port or nowhere (split horizon).
//  5. ARP and neighbor discovery are answered from the records, never passed on,
//     so no station can tell another one where a third lives.
//
// Packets outside follow RFC 7637 (NVGRE) and RFC 7348 (VXLAN), congestion marks
// RFC 6040 in normal mode; DSCP is the fabric's own and not copied. ICMP follows
// RFC 1812 and RFC 4443.
//
// # Concurrency
//
// Configuration is published as immutable snapshots behind atomic pointers, and
// each packet reads the latest: a migrated record counts for the next packet.
// Workers share nothing else but the Writers; they neither lock nor allocate
// per packet. Lock order: Switch.mu before counters.mu.
//
// cmd, control and tests may import this package; it imports hnv and its own
// children only.
package dataplane

// Package packet reads, writes and changes packets in place without allocating:
// the Frame that carries one, the Headers found in it, the Internet checksum,
// ARP, neighbor discovery, ICMP, DHCP, and the segmentation and fragmentation of
// what is too big for the fabric.
//
// Specifications: RFC 791 and RFC 8200 (IP), RFC 826 (ARP), RFC 792, RFC 1812
// and RFC 4443 (ICMP), RFC 4861 (neighbor discovery), RFC 2131, RFC 2132 and RFC
// 8415 (DHCP), RFC 1071 and RFC 1624 (checksum), RFC 6040 (congestion marks of
// tunnels), virtio 1.2 section 5.1.6 (offloads).
//
// Nothing here keeps a slice it was given beyond the call, unless the type says
// so. A Frame belongs to one goroutine.
//
// dataplane and its children import packet; packet imports dataplane/drop only.
package packet

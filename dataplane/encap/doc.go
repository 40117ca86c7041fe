// Package encap is the codec of the two tunnels: NVGRE (RFC 7637, over GRE as
// in RFC 2784 and RFC 2890) and VXLAN (RFC 7348), over IPv4 or IPv6.
//
// Parse checks everything that can be known of a tunnel packet without tables;
// each fault has its own drop reason. Push writes the outer headers in front of
// an inner Ethernet frame.
//
// Decisions where the specifications leave a choice:
//
//   - GRE bits 1, 4 and 5 are refused and bits 6 to 12 ignored, as RFC 2784
//     section 2.3 says of a receiver; C and S are refused and K is required, as
//     RFC 7637 section 3.2 says. VXLAN's reserved bits are ignored (RFC 7348
//     section 5), as is the reserved byte behind the VNI.
//   - A UDP checksum on receipt is not verified, which RFC 7348 section 5 allows
//     ("MAY choose"). It often cannot be: on a packet that the kernel merged
//     from several, or that a local sender left for the device to finish, the
//     field holds a partial sum. The kernel or the NIC has looked at it before;
//     the outer IPv4 header and the inner packet have checksums of their own.
//   - A UDP checksum on sending is 0 over IPv4 (RFC 7348 section 5) and computed
//     over IPv6, which without one would lose every packet at receivers that
//     follow RFC 8200 section 8.1, Linux with its defaults among them.
//   - Outer fragments are refused. RFC 7348 section 4.3 lets a receiver do so,
//     and RFC 7637 section 4.4 has the sender keep below the fabric's MTU.
//   - Outer packets carry DF over IPv4, and so ID 0 (RFC 6864 section 4.1),
//     which keeps them mergeable in the receiver.
//
// dataplane and its children import encap; encap imports hnv, dataplane/drop
// and dataplane/packet.
package encap

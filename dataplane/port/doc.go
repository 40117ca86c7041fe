// Package port is where packets enter and leave the dataplane on Linux.
//
// A Link carries Ethernet frames to and from one interface: the gateway side of
// a compartment's overlay interface, or a VM's. A Provider carries the outer IP
// packets of the fabric: one ProviderReader for each interface with provider
// addresses, and one writer for all of them, which leaves routing and neighbour
// resolution to the kernel.
//
// # Reading
//
// Frames are read in batches by recvmmsg(2) from AF_PACKET sockets bound to all
// protocols (in front of nftables' ingress hook), with a virtio_net_hdr before
// each frame, so that what the kernel left undone, segmentation and checksums,
// arrives as packet.Offload. (Before Linux 6.2 the kernel cannot say so of UDP
// super-packets; they are dropped and counted as Unsupported.) ReadBatch waits in Go's poller; Close ends the
// wait. An interface that is down is waited for; one that is gone ends the
// reader with ErrGone. A ReadBatch may change the order of the slice it is
// given, never its elements.
//
// Where a fast path in the kernel takes an interface's frames, its Link is
// WriteOnly, and what the fast path leaves comes from PuntReaders on a link of the
// fast path's own.
//
// # Writing
//
// WriteBatch never waits. What the kernel does not take at once, because the
// socket's buffer or the device's queue is full, is dropped and counted: a slow
// receiver must not hold up the other tenants of the worker. It returns how many
// frames the kernel took, which are not necessarily the first ones, and an error
// only when the port itself cannot be used: ErrDown, ErrGone or net.ErrClosed.
// Any number of goroutines may write at once; each call takes its own message
// headers from a small free list, and the kernel is entered without a lock.
//
// The Provider's packets leave through raw IP sockets: the kernel fills in the
// IPv4 checksum, takes the way's MTU from its routes, and neither fragments what
// has DF set nor learns an MTU from ICMP messages about tunnel packets, which
// belong to no socket. A narrower way must be told to it by the route.
//
// # Namespaces
//
// A socket belongs to the network namespace in which it was opened. The option
// Do enters that namespace; afterwards any goroutine may use the port.
//
// The sources are packet(7), raw(7), the kernel's net/packet/af_packet.c and
// include/linux/virtio_net.h, and virtio 1.2 section 5.1.6 for the meaning of the
// header. The gateway's wiring and its tests may import this package; it imports
// dataplane/packet only.
package port

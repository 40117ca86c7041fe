// Package offload is the fast path of the dataplane on Linux: eBPF programs at
// the ingress of the fabric's interfaces and of the ports, and the tables by which
// they decide.
//
//	Switch --> mirror --> tables (maps of the kernel) <-- programs (bpf/)
//	  ^                                                       |
//	  `---- punt link: packets that the programs leave -------'
//
// The programs have tables and no policy. Whatever they do with a packet, the
// Switch would do likewise, byte for byte and drop reason for drop reason; what
// they do not do (broadcast, fragments, options, ICMP errors, ...)
// they take to the Switch as it came, each tenant within a rate. So the fast path
// may be off, or gone, for a port, a tenant or the machine, and nothing changes but
// the speed.
//
// # Tables
//
// tables.go has the entries as the programs read them (bpf/tables.h); a test
// compares both by the object's BTF. The mirror is their only writer: the Switch
// tells it of each change (dataplane.Follower), and it writes what is different
// before the change's caller goes on.
//
// An entry is written in one piece, but no two entries are. The order in which the
// mirror writes (mirror.go) is such that a packet whose way is the same before and
// after a change takes that way at each moment between.
//
// What a port's access control lists say of a flow, the Switch says: where it has
// (verdict.go), the programs go by that, and else they ask it by leaving the packet
// to it.
//
// Rates hold for what the programs let pass and what the Switch does together: the
// buckets are memory that both change (rates.go).
//
// A mirror takes over tables that an earlier one has written: it writes what it is
// told again, and takes out what it was not told of (Settle).
//
// # In the kernel
//
// A FastPath attaches the programs as filters at the ingress of the interfaces
// (clsact and cls_bpf in direct action, tc-bpf(8)), with the name
// "hnv:INSTANCE:PROGRAM" and a priority of their own. Tables are filled before a
// port's filter goes on and emptied after it is off. What the programs leave to
// user space they send over the punt link, a veth pair of the instance's. Filters
// and links outlive the process; Uninstall takes them away.
//
// Super-packets stay whole in both directions. For the kernel to merge VXLAN packets
// on receipt, the instance has devices with a UDP socket on their port
// (tunnelsocket.go).
//
// The tables are held by a program at the punt link (hold.go), where the next
// process finds them. If they are of its kind, it goes on with them, and each of
// its calls takes effect at once. If not, it fills tables of its own, and has them
// take the place of the others when it is told that they are complete (Settle).
//
// # The routed uplink
//
// Uplink has two more programs, for the other side: from_uplink at the ingress of
// interfaces to the outside, and from_external at that of the gateway-side ends of
// compartments' ext. There the kernel's forwarding is the reference, with the rules
// and routes of package compartments, and what the programs do not take is left to
// it. One table says whose an external address, or a range of its ports, is
// (exits.go): by it packets are steered, and by it is decided what may leave.
//
// # Requirements
//
// Linux 5.15 or later with BTF, on a little-endian machine, and CAP_SYS_ADMIN. The
// object is built by clang-16 (bpf/build) and committed.
//
// Locks: FastPath.links, held while interfaces are attached; under it mirror.mu,
// held while tables are written; Switch.mu may be taken under it. verdicts.mu is the
// last one: nothing is called with it held but the kernel.
//
// The gateway's wiring and tests may import this package; it imports dataplane,
// its children, hnv, and internal/nl for links and filters.
package offload

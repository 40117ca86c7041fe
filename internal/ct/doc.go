// Package ct reads and deletes entries of the kernel's connection tracking in
// one network namespace, with everything a session list needs: both tuples, so
// that translations can be seen, the state of TCP, and what was counted.
//
// Format: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
//
// Package nat imports it.
package ct

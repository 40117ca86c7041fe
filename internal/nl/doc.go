// Package nl is the one wrapper round rtnetlink (github.com/vishvananda/netlink
// writes the messages), ethtool and the /proc/sys/net tree: links, addresses,
// routes, neighbours, BPF filters, offloads and settings of one network namespace, in types
// of its own so that nothing else depends on that library.
//
// A Handle is bound to the namespace it was opened in, whatever thread uses it,
// and may be used by several goroutines. Interrupted calls and dumps are
// retried. Errors carry the kernel's errno for errors.Is and, where the kernel
// gives one, its explanation.
//
// Anything may import this package.
package nl

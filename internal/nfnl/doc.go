// Package nfnl carries messages to and from the kernel's netfilter subsystems
// over netlink: requests, dumps and atomic batches, and the attributes in them.
// It knows nothing of what the messages mean; nft and ct do.
//
// Format: include/uapi/linux/netlink.h and linux/netfilter/nfnetlink.h. Numbers
// in the netlink header are in host order, those of netfilter in network order.
//
// Only internal/nft and internal/ct import it.
package nfnl

package offload

import "fmt"

// Why tells why a packet was taken to user space: enum punt of bpf/headers.h.
type Why uint8

// The reasons.
const (
	WhyARP      Why = iota + 1 // ARP and neighbor discovery
	WhyGroup                   // broadcast and multicast
	WhyFragment                //
	WhyOptions                 // IPv4 options, IPv6 extension headers
	WhyDHCP                    //
	WhyRouter                  // it is for the distributed router itself
	WhyTTL                     // its sender is to be told that it ends here
	WhyTooBig                  // it is to be cut, or its sender to be told
	WhyUnknown                 // its sender is to be told, or a station to be found
	WhyRewrite                 // it travels without a tunnel
	WhyShape                   // padding, merged packets, checksums that are not made in the kernel
	WhyPolicy                  // a port's layers
	WhySlow                    // all of the tenant's are
	WhyNeighbor                // the way over the fabric is not known in the kernel's tables
	WhyICMP                    // errors, and pings of the dataplane's own
	whys
)

var whyNames = [whys]string{
	WhyARP: "arp", WhyGroup: "group", WhyFragment: "fragment", WhyOptions: "options", WhyDHCP: "dhcp", WhyRouter: "router",
	WhyTTL: "ttl", WhyTooBig: "too-big", WhyUnknown: "unknown", WhyRewrite: "rewrite", WhyShape: "shape", WhyPolicy: "policy",
	WhySlow: "slow", WhyNeighbor: "neighbor", WhyICMP: "icmp",
}

func (w Why) String() string {
	if w < whys && whyNames[w] != "" {
		return whyNames[w]
	}
	return fmt.Sprintf("why-%d", uint8(w))
}

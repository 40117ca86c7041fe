// Package lab builds a small datacenter out of network namespaces: a provider
// fabric of two routed subnets, tenant hosts on it, their VMs, a gateway, an
// Internet behind the gateway, and the tenants' own sites behind that. Every machine is a namespace of its own and
// nothing is ever placed in the namespace of the caller.
//
// Hosts come in three kinds. Two are independent implementations and judge the
// product: Open vSwitch with its userspace datapath speaks NVGRE (RFC 7637),
// the kernel's vxlan device speaks VXLAN (RFC 7348). The third runs gatewayd
// as a pure host. Each of them is a complete HNV host: it answers ARP for the
// subnet's gateway and for known customer addresses, routes between the
// virtual subnets of a tenant and towards the tenant's gateway, and
// encapsulates with the destination's VSID.
//
// A site's router holds its ends of tunnels by Debian's wireguard-go and speaks BGP
// by FRR, BIRD or Debian's gobgpd: no part of it is the product's.
//
// A Topology says what a lab consists of; Lab creates it, runs programs in it,
// captures packets, and removes it again, also after a run that was killed.
//
// Only programs and tests under test/ import lab. It uses the commands ip,
// bridge, nsenter, sysctl, ethtool, nft, tcpdump, tshark and Open vSwitch's,
// not the project's own netlink packages, so that it fails independently of
// what it tests.
package lab

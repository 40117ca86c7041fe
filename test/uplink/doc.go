// Package uplink tries the gateway's uplink on real packets: tenants' hosts on a
// fabric, compartments with NAT, and the outside, each in namespaces of their own,
// with the eBPF programs of package offload between them.
//
// It has tests only.
package uplink

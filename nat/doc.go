// Package nat holds the rules of a tenant's compartment, with nftables and the
// kernel's connection tracking: what is translated, what is forwarded as it is
// over attachments and tunnels, and what the compartment itself says and hears.
// Whatever none of it allows is dropped and counted.
//
// Which of them a packet meets is a matter of routes: over the uplink packets are
// translated, but for what an attachment there forwards; over all other links they
// go as they are. Connections over these are in a zone of their own (Zone).
//
// Apply takes the whole wanted state of one compartment. A pure builder turns
// it into a table (inet hnv) that internal/nft brings the kernel to in one
// atomic batch; then connections are forgotten whose translation is no longer
// wanted, and no others. The kernel follows established connections by itself,
// so nothing of this package has to run for traffic to flow.
//
// Rules are read and compared again only after somebody changed the namespace's
// ruleset; a chain without rules seals those that an earlier process left right
// (docs/adr/0028).
//
// The compartment's sysctls are the business of package compartments:
// nf_conntrack_tcp_be_liberal and nf_conntrack_tcp_ignore_invalid_rst must be 1,
// else the last segments of a connection can be taken for invalid and dropped.
//
// Behaviour towards applications follows RFC 4787, RFC 5382 and RFC 5508 as far
// as the kernel allows; RFCS.md lists where it does not.
//
// It imports hnv and internal; control and test import it.
package nat

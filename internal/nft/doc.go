// Package nft is the one door to nftables. A Table is a plain description of a
// whole table; String gives it in nft's own syntax, and Conn.Apply makes the
// kernel's table equal to it in one atomic batch, touching only what differs:
// counters and the state of rules that are already right stay as they are.
//
// Apply reads back what the kernel holds and compares it rule by rule and
// element by element, so a ruleset changed by someone else is found and set
// right, whatever was changed.
//
// Format: include/uapi/linux/netfilter/nf_tables.h; syntax: nft(8).
//
// Engines (compartments, nat) import it; nothing else imports google/nftables.
package nft

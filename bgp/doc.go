// Package bgp holds what a compartment's BGP speaker tells about itself (State,
// Route, Path); what it should do are the words of package hnv/peering, which are
// here under the same names. It has no engine: package bgp/speaker runs one, over
// gobgp, and is linked only by what runs inside a compartment.
package bgp

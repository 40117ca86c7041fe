// Package peering holds the words of a compartment's BGP speaker: what it should do
// (Spec), and when that makes sense (Spec.Check). Whoever computes, stores or shows
// desired state needs this package alone; bgp/speaker carries it out.
//
// A Spec is the whole desired state of one compartment. The rules that Check
// applies are those of RFC 4271 (BGP-4), RFC 6793 (four-octet AS numbers), RFC
// 7607 (AS 0), RFC 7300 (last AS numbers), RFC 2385 (TCP MD5), RFC 5082 (GTSM),
// RFC 4724 and RFC 9494 (graceful restart), RFC 1997 and RFC 8092 (communities),
// RFC 5880 and RFC 5881 (BFD), and those of gobgp where it is narrower.
//
// It imports the standard library only.
package peering

// Package bgp holds the words of a compartment's BGP speaker: what it should do
// (Spec), when that makes sense (Spec.Check), and what it tells about itself
// (State, Route). It has no engine: package bgp/speaker runs one, over gobgp, and
// is linked only by what runs inside a compartment; whoever computes, stores or
// shows desired state needs this package alone.
//
// A Spec is the whole desired state of one compartment. The rules that Check
// applies are those of RFC 4271 (BGP-4), RFC 6793 (four-octet AS numbers), RFC
// 7607 (AS 0), RFC 7300 (last AS numbers), RFC 2385 (TCP MD5), RFC 5082 (GTSM),
// RFC 4724 and RFC 9494 (graceful restart), RFC 1997 and RFC 8092 (communities),
// RFC 5880 and RFC 5881 (BFD), and those of gobgp where it is narrower.
//
// It imports the standard library only.
package bgp

// Package scenario proves the product on real packets: each test is one thing
// the gateway must do, on a lab of network namespaces in which gatewayd is the
// gateway and two of the four tenant hosts, and independent implementations
// are the other two. tshark judges the wire.
//
// The tests need root and carry the build tag privileged. They share one lab;
// each leaves it as it found it.
package scenario

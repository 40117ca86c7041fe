// Package client speaks the REST interface under /v1 for Go programs;
// gatewayctl is one. It builds on every operating system.
//
// A refusal is a *v1.Problem; a gateway that cannot be reached is an
// *Unreachable. Anybody may import it.
package client

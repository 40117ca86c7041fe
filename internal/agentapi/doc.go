// Package agentapi has what gatewayd and a compartment's agent (compartmentd) say
// to each other: JSON over HTTP on a unix socket that only their user can open.
//
//	PUT    /v1/desired          Desired; 200 with State, 422 if it is refused whole
//	GET    /v1/state            State
//	DELETE /v1/agent?keep=BOOL  the agent ends; with keep, what it made in the
//	                            kernel stays for the one that comes after
//	...    /v1/PART/...         what a part offers besides
//
// Errors have an Error as their body.
//
// The parts' own types are left as they are in JSON: who supervises agents need
// not know the engines, and no engine knows another. Anything may import this
// package.
package agentapi

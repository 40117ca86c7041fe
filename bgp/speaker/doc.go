// Package speaker runs a compartment's BGP speaker: sessions and tables by gobgp
// (bgp/internal/gobgp), best routes into the compartment's kernel.
//
// A Speaker takes intent: Apply with the whole Spec, as often as one likes. It
// changes what differs and nothing else; in particular
//
//   - a change of policies, networks, limits or BFD leaves all sessions up;
//   - any other change of a peer restarts the session of that peer alone;
//   - a change of AS number, router ID or own port restarts all.
//
// It must run in a process of its own inside the compartment's namespace: gobgp
// dials and listens on any thread, and keeps some options in globals.
//
//	neighbours <--TCP--> gobgp --best paths--> rib --changed prefixes--> worker
//	                       ^                                              |  |
//	                       '--------------- aggregates ------------------'   v
//	                                                            Kernel (netlink), OnRoutes
//
// The worker takes what changed since it last looked, so that a flapping route
// costs no more than its last word, and a slow kernel holds no session up.
//
// Beside the worker, another goroutine runs BFD of a peer while its session does.
//
// Locks: Speaker.mu, then rib.mu or Kernel.mu. gobgp's callbacks take rib.mu and
// Speaker.eventMu only.
//
// It imports bgp and internal; cmd/compartmentd imports it.
package speaker

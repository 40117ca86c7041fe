// Package gobgp is the only place that knows github.com/osrg/gobgp/v4. It turns a
// bgp.Peer, the policies of a bgp.Spec and originated routes into that library's
// types by pure functions (peer.go, policy.go, path.go), and its tables and events
// into ours.
//
// The library keeps options of the best path selection in globals of the process:
// one Server a process. It dials and listens in the network namespace of whatever
// thread it runs on, so the whole process must be in the compartment's.
//
// What it does its own way, and how this package lives with it:
//   - Policies hang on its one table, not on peers. There is one import and one
//     export policy, whose statements each name the peer that they are for.
//   - Deleting a peer does not take its MD5 key from the listening socket. The key is
//     taken by changing the peer first.
//   - Past a prefix limit a peer stays down until it is enabled (package speaker
//     does).
//   - A received MED is not passed on to eBGP neighbours; its own are.
//
// Only bgp/speaker imports it.
package gobgp

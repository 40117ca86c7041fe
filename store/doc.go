// Package store keeps the desired state: an hnv.Fabric whose every change is
// committed to etcd before anybody sees it succeed.
//
// By default etcd runs inside the process, one member, no socket at all, its
// data under the state directory. The same code works on a client of an
// external cluster (New): a transaction compares a generation key, so that of
// two writers who started from the same state only one commits, and the other
// catches up by the watch and tries again.
//
//	/hnvgate/v1/<kind>/<key>   {"format":1,"object":{...}}   one object
//	/hnvgate/v1/generation     {"format":1}                  written by every transaction
//
// Locks, in order: Store.writer (one writer at a time), Store.mu (the mirror),
// subscriber.mu. Nobody waits for etcd with a subscriber's lock held.
//
// Only control (through an interface of its own) and cmd/gatewayd use it.
package store

// Package servertest holds a store and a gateway without etcd, kernel or
// packets, for tests of the server and of what speaks to it.
//
// Only tests import it.
package servertest

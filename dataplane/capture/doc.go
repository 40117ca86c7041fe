// Package capture copies packets out of the dataplane into pcapng files that say
// of each packet whose it is, where it was seen and, if it was dropped, why.
//
//	worker --+
//	worker --+-- Tap --> Session: Filter --> ring --> Run --> Writer --> io.Writer
//	worker --+           (workers)           bounded   (one goroutine)
//
// A worker asks the Tap for sessions, which is one atomic load where nobody
// captures, describes the packet in a Meta and offers it. Each session that
// wants it copies the first bytes into a ring that was made with the session:
// no lock, no allocation, no waiting. What finds no room is lost and counted,
// in the file too. Session.Run, on a goroutine of its own, writes.
//
// Whoever reads a capture reads other people's packets: sessions are for the
// provider, and where a tenant is to have one, the Filter must name the tenant.
//
// The format is draft-ietf-opsawg-pcapng. Reader reads such files back, and those
// of the older format that others make, for packets to be traced. Only the
// dataplane and those who start captures or read them import this package; it
// imports hnv, packet and drop.
package capture

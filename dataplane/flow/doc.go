// Package flow is the unified flow table (UFT) of a port: what the layers have
// decided for the first packet of a flow, kept for the packets that follow.
//
// A Table maps the Key of a packet, its addresses, ports and direction at the
// port, to an Entry with the action that was composed. Flows are added in pairs:
// the key of the packet at hand and that of its replies, which pass because the
// flow was let pass. What changes in an Entry is its action, when the policy has
// changed and the packet at hand was decided anew under it (Entry.Gen).
//
// # States
//
// The first packet opens a flow; the half that it belongs to is the opener.
// Packets of either half, counted by Entry.Hit, move both of them on:
//
//	              the reply           the opener again
//	     +-----+  half sends +---------+  (with ACK) +-------------+
//	---->| new |------------>| replied |------------>| established |
//	     +-----+             +---------+             +-------------+
//	        ^                     |                      |    ^
//	        |                     |                  FIN |    | RST was forged
//	        |                     |                      v    |
//	        |                     |  RST             +-------------+
//	        |                     |                  | half-closed |
//	        |                     v                  +-------------+
//	        |  SYN           +---------+   RST, or FIN of  |
//	        +----------------| closing |<--the other end---+
//	                         +---------+
//
// Only TCP gets to half-closed and closing. TCP is established when both ends
// have sent ACK, the opener after it was answered; that is so of the handshake
// of RFC 9293 section 3.5 and of a simultaneous open (its figure 7), and of a
// connection that is met midway, because the table was lost or the flow was
// idle for too long. There are no sequence numbers in it. So a FIN or RST might
// be forged by whoever can send with the right addresses and ports; all that it
// achieves is a shorter timeout:
//
//   - A RST counts once the flow is replied, the RST of a refusal being a reply.
//     If both ends then go on as if nothing had been, nothing has been.
//   - A SYN on a closing flow begins another connection (TIME-WAIT reused, RFC
//     9293 section 3.6.1). Which end may open one is for the policy to say:
//     Entry.Reopens asks for that.
//
// # Timeouts
//
// A flow ends when neither half was seen for as long as its state allows
// (Timeouts, DefaultTimeouts):
//
//	                    new    replied  established  half-closed  closing
//	TCP                 30 s   30 s     30 min       4 min        10 s
//	UDP                 30 s   30 s     180 s
//	ICMP, ICMPv6        10 s   10 s     10 s
//	other protocols     60 s   60 s     60 s
//	fragments           5 s
//
// The end of a flow does no harm but for replies that come later, as the next
// packet of the opener is decided as the first one was. That is why the times
// are shorter than those that bind a NAT, whose mappings cannot be had back: 2 h
// 4 min for established TCP and 4 min otherwise (RFC 5382 REQ-5), 2 min for UDP
// (RFC 4787 REQ-5), 60 s for ICMP queries (RFC 5508 REQ-2). Half-closed, where
// an end may be silent for long and rightly so, has the 4 min. Packets of either
// direction keep a flow (RFC 4787 REQ-6 asks it of the inside ones). Who puts
// NAT ports into actions should set the Timeouts to those of the RFCs.
//
// # Bounds
//
// A table has at most Options.Max flows, a pair counting as one: 208 bytes, 128
// without a reply, and some 50 for its slots. It begins at less than a kilobyte,
// doubles as flows come, and Sweep gives the memory back after they went.
//
// A new flow in a full table takes the place of another one, which a clock hand
// looks for in up to 16 windows of 16 slots. In the first window that has any, it
// takes the first of these that there is, and of equals the one that was idle for
// longest:
//
//  1. a flow that is idle for too long
//  2. a closing one
//  3. a new one, that nobody has answered
//  4. a replied one; TCP: half-open
//
// Established and half-closed flows stay until they are idle for too long: no
// flood of new flows pushes them out. If there is nothing else, the new flow is
// refused (ErrFull).
//
// Keys are chosen by whoever sends packets. Each table draws the secret of its
// hash (NH of RFC 4418), so that nobody can choose such as meet in one place.
//
// # Concurrency
//
// All methods may be called by several goroutines at once. Lookup, Hit and the
// other methods of Entry take no lock and allocate nothing: an entry never moves
// while a reader may come by, and slots are rebuilt aside and then published.
// Insertion and removal lock the shards of the keys, one of 16 each. Lock order:
// the sweep's lock, then shards in ascending order; a shard's lock is held for
// no longer than its slots take to be changed, or rebuilt. OnEvict is called
// with no lock held but the sweep's, so it may use the table, a Sweep within a
// Sweep doing nothing.
//
// A flow is removed by whoever first marks it, and so OnEvict is called once.
// Lookup finds it no more from that moment on; a worker that has found it before
// goes on with an entry that is no longer in the table.
//
// The dataplane alone imports flow; flow imports dataplane/packet only.
package flow

// Package peers brings what this machine learned to the machines that need it,
// and takes over what they learned.
//
// A learned lookup record (type dynamic) is in the store of the machine that
// learned it, written there by others. From there it goes to each peer: a
// machine whose API is reached by a socket or over TLS. Each peer has a
// goroutine of its own (session); one that is dead or slow delays no other.
//
// # Whose a record is
//
// The machine that owns a provider address says what is behind it, and nobody
// else does. So only records at an own PA (or with one in their team) are
// reported, and what came as a report is never passed on: reports do not travel
// in circles. A report may replace or withdraw a record at the sender's PAs
// only; where the address has moved to another PA meanwhile, a withdrawal finds
// nothing to do.
//
// The peer's copy says in its context who learned it and when,
// "learned-by:hnv@host7 at 2026-11-20T09:30:56.123Z", by the peer's clock: the
// report tells an age. Records without that mark are the operator's and are not
// withdrawn.
//
// Two machines that learned the same address: the later one has it. After a move
// the new host's report replaces the old host's record everywhere, at the old
// host too, which thereby ceases to own one and withdraws what is left of its
// reports. A report that was held up, or made again after an outage, carries the
// age it has by then and does not win against a later one; one whose age is not
// known (learned before gatewayd was started) replaces nothing of others. Of the
// records of one MAC in one VSID the same holds: a station is in one place, so
// its later report takes the earlier ones along. What is configured at the peer
// wins in any case.
//
// # One record at one peer
//
//	 learned                report                  taken over
//	--------> [ pending ] ---------> (in flight) -------------> [ pushed ]
//	             ^  ^ |                   |                        |   |
//	             |  | `- gone -> (none)   | not taken over         |   |
//	             |  |                     v                        |   |
//	             |  `---- changed --- [ held ]                     |   |
//	             |  `---- rarely, where static, unneeded,          |   |
//	             |        the peer      superseded, limit,         |   |
//	             |        changed       refused                    |   |
//	             |                        | gone -> (none)         |   |
//	             |                                                 |   |
//	             `------------------- changed ---------------------'   |
//	                                                                   |
//	  (none) <--- withdrawn, or left to its new owner --- [ gone ] <---'
//	                                           aged, deleted, moved, PA given up
//
// # One peer
//
//	            asked what it holds of ours
//	[ unknown ] --------------------------> [ in step ] --. reports, looks after
//	     ^       answered: differences are      |    ^    |  it every 30 s
//	     |       reported and withdrawn         |    `----'
//	     |                                      |
//	     |  back-off, doubling with jitter      | a request failed, the peer was
//	     `---------- [ failing ] <--------------' started anew, too much waits,
//	                                              or ten minutes are over
//
// Every way back into step asks anew, so what a former run or a lost answer left
// at the peer is found and withdrawn.
//
// # Bounds
//
// A tenant's own records that are reported, those that a machine may have here,
// those of all machines together, what waits for a peer, and how often a record
// may move before it is left alone for a while (two machines that claim the same
// address): see Limits. A refusal of the peer is counted and shown, not retried
// until the record or the peer changed.
//
// Locks, in order: the store's (View, plan), ledger.mu, session.mu. None is held
// while a peer is waited for.
//
// Only cmd/gatewayd imports peers.
package peers

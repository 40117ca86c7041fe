package flow

import "sync/atomic"

// Entry is one direction of a flow: all packets with its key. Either half of a
// pair leads to the other. What an Entry is about never changes; its action, and
// the generation of the policy that the action comes from, do.
//
// An Entry that has left its table stays as it is for whoever holds it.
type Entry[A any] struct {
	key    Key
	flow   *flow[A]
	action atomic.Pointer[A]

	// Gen is the generation of the policy that the action was composed under.
	// Whoever revalidates an entry sets the action first.
	Gen atomic.Uint64

	packets, bytes atomic.Uint64

	tag   uint32
	shard uint8

	// Reply tells the reply half of a pair. It does not change.
	Reply bool
}

// flow is what the halves of a pair have in common. A flow of one direction
// has no reply.
type flow[A any] struct {
	expires atomic.Int64
	word    atomic.Uint32
	tcp     bool
	limits  *limits
	reply   *Entry[A]
	opener  Entry[A]
}

// pair is a flow with both halves in one piece of memory.
type pair[A any] struct {
	flow[A]
	answer Entry[A]
}

// noteEvery is how much later a flow must have been seen for that to be
// written, in nanoseconds: a busy flow's memory is not written for every packet.
const noteEvery = 1e6

// Hit takes a packet into account: its length in bytes, and of TCP its flags.
// now is the clock of Lookup. What Reopens speaks of should not come this far;
// if it does, a SYN of the opener makes the flow new, and one of the other end
// changes nothing.
func (e *Entry[A]) Hit(now int64, bytes int, tcpFlags uint8) {
	e.packets.Add(1)
	e.bytes.Add(uint64(bytes))
	f := e.flow
	w, moved := word(f.word.Load()), false
	if w.next(f.tcp, e.Reply, tcpFlags) != w {
		w, moved = f.advance(e.Reply, tcpFlags), true
	}
	for {
		// Only another state may bring the end nearer, or workers whose clocks
		// differ by a little would write in turn.
		expires := now + f.limits[w.state()]
		if !moved && expires-f.expires.Load() < noteEvery {
			return
		}
		f.expires.Store(expires)
		// What was stored must be the timeout of the state that was reached last.
		latest := word(f.word.Load())
		if latest.state() == w.state() {
			return
		}
		w, moved = latest, true
	}
}

// advance makes the transition for good, whoever else is at it.
func (f *flow[A]) advance(reply bool, flags uint8) word {
	for {
		w := word(f.word.Load())
		n := w.next(f.tcp, reply, flags)
		if n == w || f.word.CompareAndSwap(uint32(w), uint32(n)) {
			return n
		}
	}
}

// Reopens tells whether a TCP packet with these flags begins a new connection
// on a flow whose connection is over. It is to be decided as the first packet of
// a flow is, whichever end it comes from: the entry removed, and inserted anew.
func (e *Entry[A]) Reopens(tcpFlags uint8) bool {
	return opens(tcpFlags) && e.flow.tcp && e.State() == StateClosing
}

// Key gives the key.
func (e *Entry[A]) Key() Key { return e.key }

// Action gives what is to be done with the packets.
func (e *Entry[A]) Action() *A { return e.action.Load() }

// SetAction replaces the action, for the next packet.
func (e *Entry[A]) SetAction(a *A) { e.action.Store(a) }

// Opener gives the half that the flow began with: e itself unless it is the
// reply half.
func (e *Entry[A]) Opener() *Entry[A] { return &e.flow.opener }

// Peer gives the other half, nil where the flow has one direction only.
func (e *Entry[A]) Peer() *Entry[A] {
	if e.Reply {
		return &e.flow.opener
	}
	return e.flow.reply
}

// Counters gives packets and bytes of this half.
func (e *Entry[A]) Counters() (packets, bytes uint64) { return e.packets.Load(), e.bytes.Load() }

// State gives the state of the flow, which its halves share.
func (e *Entry[A]) State() State { return word(e.flow.word.Load()).state() }

// Expires gives the time from which on the flow counts as gone, if it stays idle.
func (e *Entry[A]) Expires() int64 { return e.flow.expires.Load() }

// LastSeen gives the time of the last packet of either half, to a millisecond.
func (e *Entry[A]) LastSeen() int64 { return e.flow.lastSeen(word(e.flow.word.Load())) }

func (f *flow[A]) lastSeen(w word) int64 { return f.expires.Load() - f.limits[w.state()] }

// live tells whether the flow is there at a time.
func (f *flow[A]) live(now int64) bool {
	return word(f.word.Load())&dead == 0 && f.expires.Load() > now
}

// claim marks the flow as removed if it still is as w says. Who succeeds has to
// take it out of the table.
func (f *flow[A]) claim(w word) bool { return f.word.CompareAndSwap(uint32(w), uint32(w|dead)) }

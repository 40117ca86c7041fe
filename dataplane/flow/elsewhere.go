package flow

import "github.com/hnvgate/hnvgate/dataplane/packet"

// Packets of a flow may be forwarded elsewhere, such as by programs in the kernel.
// These tell the flow of them.

// Seen takes packets into account that passed elsewhere, the last of them at a
// time of Lookup's clock. TCP's opened and closed nothing.
func (e *Entry[A]) Seen(at int64, packets, bytes uint64) {
	if packets == 0 {
		return
	}
	e.packets.Add(packets)
	e.bytes.Add(bytes)
	e.flow.keep(at, e.flow.advance(e.Reply, 0))
}

// Establish makes a new flow one that both ends have taken part in, as it is known
// to be from elsewhere. It counts nothing.
func (e *Entry[A]) Establish(now int64) {
	f := e.flow
	f.advance(false, packet.TCPAck)
	f.advance(true, packet.TCPAck)
	f.keep(now, f.advance(false, packet.TCPAck))
}

// keep puts the flow's end off to when its state w allows after a packet at a
// time, if that is later.
func (f *flow[A]) keep(at int64, w word) {
	for {
		expires := at + f.limits[w.state()]
		for {
			old := f.expires.Load()
			if expires <= old || f.expires.CompareAndSwap(old, expires) {
				break
			}
		}
		// A state that was reached meanwhile may have a shorter time.
		latest := word(f.word.Load())
		if latest.state() == w.state() {
			return
		}
		w = latest
		f.expires.Store(at + f.limits[w.state()])
	}
}

// Gone tells whether the entry has left the table.
func (e *Entry[A]) Gone() bool { return word(e.flow.word.Load())&dead != 0 }

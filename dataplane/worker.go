package dataplane

import (
	"errors"
	"net"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/lookup"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// BatchSize is how many frames a Reader is asked for at once.
const BatchSize = 64

// Writer takes packets, without waiting, and tells how many it took: not
// necessarily the first ones. An error says that the port itself is of no use
// at present. The frames are the caller's again on return. Any number of
// goroutines may write at the same time.
type Writer interface {
	WriteBatch(frames []*packet.Frame) (sent int, err error)
}

// Reader waits for packets and fills the first n frames with them, resetting
// them before. It may change the order of the slice. It ends with an error that
// is net.ErrClosed when it is closed.
type Reader interface {
	ReadBatch(frames []*packet.Frame) (n int, err error)
}

// QuietReader is a Reader that may have nothing to read for good.
type QuietReader interface {
	Reader
	// Quiet tells whether packets are not to be expected.
	Quiet() bool
	// Wait returns when there is something to read all the same. It fails as ReadBatch
	// does.
	Wait() error
}

// Worker takes packets through a Switch. It is one goroutine's: all it has is
// its own, but for the Writers and the published configuration.
//
// Frames given to FromProvider and FromPort are changed in place and stay the
// Worker's until the next Flush.
type Worker struct {
	sw  *Switch
	now int64 // nanoseconds, of the batch
	up  int64 // the same by Switch.Uptime

	nowhere *cell
	cells   map[*tenant]*cell
	recent  *tenant
	counted *cell // cells[recent]

	outer   encap.Header
	x       transit
	verdict vfp.Composed      // of the port's layers about it
	replies vfp.Transposition // what replies to the rewritten packet need
	fabric  queue
	queues  []portQueue // of ports with packets waiting
	idle    [][]*packet.Frame

	spare, lent []*packet.Frame
	complained  time.Time
	pieces      pieces
	ahead       *ahead // nil until there is need of it
	many        bool   // packets from the fabric came for crowded ports

	onlookers
	// tr is set while a single packet is traced: whatever has an effect on
	// anything but the packet asks first whether it is nil.
	tr *tracer
}

// transit is the one packet under way and all that its decisions are made by.
type transit struct {
	f    *packet.Frame
	h    packet.Headers // of the inner frame
	in   *port          // nil: from the fabric
	vsid uint32         // the virtual subnet that it came by
	pa   lookup.Addr    // the outer source, from the fabric
	rule lookup.Rule    // how it came, from the fabric

	srcRule, dstRule lookup.Rule // of the records of both ends, from the fabric

	nameless bool  // it is for a station whose CAs are not known
	at       *port // whose layers have the packet; nil: no port's yet
	outer    bool  // f is still as it came from the fabric

	tenant   *tenant
	domain   *lookup.Domain // the only one that decides about the packet
	provider *provider
	c        *cell
}

// queue holds packets for the fabric and the cells of their tenants.
type queue struct {
	w      Writer
	frames []*packet.Frame
	cells  []*cell
}

type portQueue struct {
	port   *port
	c      *cell
	frames []*packet.Frame
}

const (
	// So many packets are sent before the next one is looked at, so that a
	// batch of super-packets needs no end of memory.
	maxQueued = 256
	// So many frames of its own a Worker keeps; what it needs beyond that it
	// shares with the others.
	maxSpare = 32
)

// NewWorker makes a Worker that sends to the fabric by provider.
func (s *Switch) NewWorker(provider Writer) *Worker {
	w := &Worker{sw: s, cells: map[*tenant]*cell{}, fabric: queue{w: provider}}
	w.nowhere = s.nowhere.counters.newCell()
	w.tick()
	return w
}

// Close hands the Worker's counters over. It must not be used any more.
func (w *Worker) Close() {
	w.Flush()
	w.sw.nowhere.counters.retire(w.nowhere)
	for t, c := range w.cells {
		t.counters.retire(c)
	}
	w.cells, w.recent, w.counted = nil, nil, nil
}

func (w *Worker) tick() {
	now := w.sw.opt.Now()
	w.now, w.up = now.UnixNano(), int64(now.Sub(w.sw.made))
	w.lookOut()
}

// cellOf gives the Worker's own counters of a tenant.
func (w *Worker) cellOf(t *tenant) *cell {
	if t == w.recent {
		return w.counted
	}
	c := w.cells[t]
	if c == nil {
		if c = w.tr.cell(); c == nil {
			w.forget()
			c = t.counters.newCell()
		}
		w.cells[t] = c
	}
	w.recent, w.counted = t, c
	return c
}

// forget lets go of tenants that were removed. It runs when a tenant is met for
// the first time.
func (w *Worker) forget() {
	for t, c := range w.cells {
		if t.domain.Load() == nil {
			t.counters.retire(c)
			delete(w.cells, t)
		}
	}
}

// lend gives an empty frame of the Worker's own for size bytes, until Flush.
func (w *Worker) lend(size int) *packet.Frame {
	const least = 2048
	var f *packet.Frame
	if n := len(w.spare); n > 0 {
		f, w.spare = w.spare[n-1], w.spare[:n-1]
	} else {
		f, _ = w.sw.scratch.Get().(*packet.Frame)
	}
	if f == nil || len(f.Buf)-packet.Headroom < size {
		f = packet.NewFrame(max(least, size))
	}
	f.Reset()
	w.lent = append(w.lent, f)
	return f
}

// toFabric queues an outer packet.
func (w *Worker) toFabric(c *cell, f *packet.Frame) {
	if w.watched && w.seeFabricOut(f) {
		return
	}
	w.fabric.frames = append(w.fabric.frames, f)
	w.fabric.cells = append(w.fabric.cells, c)
}

// toPort queues a frame. The port belongs to the tenant whose cell c is.
func (w *Worker) toPort(p *port, c *cell, f *packet.Frame) {
	if w.watched && w.seePortOut(p, f) {
		return
	}
	for i := range w.queues {
		if q := &w.queues[i]; q.port == p {
			q.frames = append(q.frames, f)
			return
		}
	}
	var frames []*packet.Frame
	if n := len(w.idle); n > 0 {
		frames, w.idle = w.idle[n-1], w.idle[:n-1]
	}
	w.queues = append(w.queues, portQueue{p, c, append(frames, f)})
}

// relieve flushes if much is waiting.
func (w *Worker) relieve() {
	if len(w.fabric.frames) >= maxQueued || len(w.lent) >= maxQueued {
		w.flush()
	}
}

// Flush sends what is waiting. The frames given to the Worker since the last
// Flush are the caller's again.
func (w *Worker) Flush() {
	w.flush()
	w.lookAway()
}

func (w *Worker) flush() {
	w.flushFabric()
	for i := range w.queues {
		q := &w.queues[i]
		bytes := 0
		for _, f := range q.frames {
			bytes += f.Len()
		}
		sent, err := q.port.w.WriteBatch(q.frames)
		q.c.add(toPorts, uint64(sent))
		if sent == len(q.frames) {
			q.c.add(toPorts+1, uint64(bytes))
		} else {
			q.c.add(toPorts+1, uint64(bytes*sent/len(q.frames)))
			q.c.drop(refused(err, drop.PortDown), len(q.frames)-sent)
			w.complain(q.port.spec.Name, err)
		}
		clear(q.frames)
		w.idle = append(w.idle, q.frames[:0])
	}
	clear(w.queues)
	w.queues = w.queues[:0]
	for _, f := range w.lent {
		if len(w.spare) < maxSpare {
			w.spare = append(w.spare, f)
		} else {
			w.sw.scratch.Put(f)
		}
	}
	clear(w.lent)
	w.lent = w.lent[:0]
}

// flushFabric sends what waits for the fabric. Where the Writer did not take
// all, it cannot tell whose packets they were: they are counted for the tenant
// if the batch had one only, and for nobody otherwise.
func (w *Worker) flushFabric() {
	q := &w.fabric
	if len(q.frames) == 0 {
		return
	}
	one := q.cells[0]
	for i, c := range q.cells {
		c.traffic(toFabric, q.frames[i].Len())
		if c != one {
			one = w.nowhere
		}
	}
	if sent, err := q.w.WriteBatch(q.frames); sent < len(q.frames) {
		one.drop(refused(err, drop.TransmitError), len(q.frames)-sent)
		w.complain("provider", err)
	}
	clear(q.frames)
	clear(q.cells)
	q.frames, q.cells = q.frames[:0], q.cells[:0]
}

func refused(err error, down drop.Reason) drop.Reason {
	if err == nil {
		return drop.QueueFull
	}
	return down
}

// complain tells of an error, at most once a second.
func (w *Worker) complain(port string, err error) {
	if err == nil || w.sw.opt.OnError == nil || errors.Is(err, net.ErrClosed) {
		return
	}
	if now := w.sw.opt.Now(); now.Sub(w.complained) >= time.Second {
		w.complained = now
		w.sw.opt.OnError(port, err)
	}
}

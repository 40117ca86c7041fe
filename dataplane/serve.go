package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

const (
	// frameSize holds the greatest packet that a kernel hands over in one
	// piece, with the outer headers and an Ethernet header.
	frameSize = packet.MaxPacket + 1 + 128

	// A reader that fails so many times in a row, with a pause after each, is
	// given up.
	maxFailures = 10
	firstPause  = 5 * time.Millisecond
	lastPause   = time.Second
)

// ServeProvider takes packets from the fabric by r, sends what goes there by w,
// and returns when ctx has ended and the caller has closed r, or when r is of no
// use any more. Several may run at once, with a Reader each.
func (s *Switch) ServeProvider(ctx context.Context, r Reader, provider Writer) error {
	w := s.NewWorker(provider)
	defer w.Close()
	return s.serve(ctx, "provider", r, w, w.FromProvider)
}

// ServePort does the same for the frames of a port.
func (s *Switch) ServePort(ctx context.Context, id PortID, r Reader, provider Writer) error {
	w := s.NewWorker(provider)
	defer w.Close()
	return s.serve(ctx, s.portName(id), r, w, func(frames []*packet.Frame) { w.FromPort(id, frames) })
}

// PuntReader is a Reader of what a fast path leaves to the Switch. It also tells
// which port sent each packet: Fabric, and it is as from a Reader of the fabric, or
// a port's ID. Packets of an ID that is no port's are dropped as such.
type PuntReader interface {
	ReadPunted(frames []*packet.Frame, from []PortID) (n int, err error)
}

// Fabric stands for the fabric where a port's ID would tell who sent a packet.
const Fabric PortID = 0

// ServePunted does the same for what a fast path leaves to the Switch, whoever
// sent it.
func (s *Switch) ServePunted(ctx context.Context, r PuntReader, provider Writer) error {
	w := s.NewWorker(provider)
	defer w.Close()
	p := punted{PuntReader: r}
	return s.serve(ctx, "punt link", &p, w, func(frames []*packet.Frame) { p.deal(frames, w) })
}

// punted is a Reader that remembers where its last packets came from.
type punted struct {
	PuntReader
	from [BatchSize]PortID
}

func (p *punted) ReadBatch(frames []*packet.Frame) (int, error) {
	return p.ReadPunted(frames, p.from[:])
}

// deal gives the packets to the Worker, those of one sender together.
func (p *punted) deal(frames []*packet.Frame, w *Worker) {
	for start := 0; start < len(frames); {
		end := start + 1
		for end < len(frames) && p.from[end] == p.from[start] {
			end++
		}
		if id := p.from[start]; id == Fabric {
			w.FromProvider(frames[start:end])
		} else {
			w.FromPort(id, frames[start:end])
		}
		start = end
	}
}

func (s *Switch) serve(ctx context.Context, name string, r Reader, w *Worker, take func([]*packet.Frame)) error {
	b := newBatch(&s.frames)
	defer b.close()
	failures := 0
	for pause := firstPause; ; {
		n, err := b.read(r)
		if n > 0 {
			take(b.all[:n])
			w.Flush()
			failures, pause = 0, firstPause
		}
		b.had(n)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		}
		if failures++; failures == maxFailures {
			return fmt.Errorf("read packets of %s: %w", name, err)
		}
		w.complain(name, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

// batch holds a reader's frames: as many as it got lately, so that a reader
// where little happens holds one and not BatchSize of them.
type batch struct {
	pool *sync.Pool
	all  []*packet.Frame
	idle int // reads in a row that used less than a quarter
}

// idleReads is after how many such reads half of the frames are given back.
const idleReads = 64

func newBatch(pool *sync.Pool) *batch {
	return &batch{pool: pool, all: make([]*packet.Frame, 0, BatchSize)}
}

// read fills the frames. While there is nothing to read for good it holds none.
func (b *batch) read(r Reader) (int, error) {
	if q, ok := r.(QuietReader); ok && q.Quiet() {
		b.shrink(0)
		if err := q.Wait(); err != nil {
			return 0, err
		}
	}
	return r.ReadBatch(b.next())
}

// next gives the frames to read into.
func (b *batch) next() []*packet.Frame {
	if len(b.all) == 0 {
		b.grow(1)
	}
	return b.all
}

// had tells how many of them were used.
func (b *batch) had(n int) {
	switch {
	case n == len(b.all):
		b.idle = 0
		b.grow(min(n, BatchSize-n))
	case n < len(b.all)/4:
		if b.idle++; b.idle == idleReads {
			b.idle = 0
			b.shrink(len(b.all) / 2)
		}
	default:
		b.idle = 0
	}
}

func (b *batch) grow(n int) {
	for range n {
		f, ok := b.pool.Get().(*packet.Frame)
		if !ok {
			f = packet.NewFrame(frameSize)
		}
		f.Reset()
		b.all = append(b.all, f)
	}
}

func (b *batch) shrink(to int) {
	for _, f := range b.all[to:] {
		b.pool.Put(f)
	}
	clear(b.all[to:])
	b.all = b.all[:to]
}

func (b *batch) close() { b.shrink(0) }

package capture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync/atomic"

	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// The bounds of a session.
const (
	DefaultSnapLen = 2048 // holds every packet of a fabric with an MTU of 1500
	MaxSnapLen     = packet.MaxPacket + packet.EthernetLen
	DefaultQueue   = 1024
	MaxMemory      = 64 << 20 // bytes of packets in the queue
	maxInterfaces  = 1024     // ports with an interface of their own in one file
)

// Options say what a session keeps and when it ends by itself. Zero values take
// the defaults.
type Options struct {
	Filter  Filter
	SnapLen int // bytes kept of a packet
	Queue   int // packets that may wait for the writer; rounded up to a power of two

	MaxPackets uint64 // written; 0: any number
	MaxBytes   uint64 // written, checked before each packet; 0: any number

	Application string // who writes the file, with version
}

// Stats is what became of the packets that a session wanted.
type Stats struct {
	Packets uint64 // written
	Bytes   uint64 // written, of the file
	Lost    uint64 // the queue was full
}

// Session is one capture: a Filter, a queue, and where it is written to.
type Session struct {
	opt    Options
	points uint8
	w      io.Writer
	ring   *ring

	lost           atomic.Uint64
	packets, bytes atomic.Uint64

	idle atomic.Bool // the reader sleeps, or is about to
	wake chan struct{}
	ran  atomic.Bool

	// Of Run.
	out        *Writer
	interfaces map[place]*seen
	order      []*seen
	accounted  uint64 // of lost
	last       int64  // the time of the last packet
	comment    []byte
}

// place is what gets an interface of its own in the file.
type place struct {
	link LinkType
	rdid hnv.RDID
	port string
}

// seen is an interface in the file.
type seen struct {
	id      uint32
	packets uint64
}

// NewSession prepares a capture to w and takes the memory for its queue. It gives
// all that is wrong with the options.
func NewSession(w io.Writer, o Options) (*Session, error) {
	if o.SnapLen == 0 {
		o.SnapLen = DefaultSnapLen
	}
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	errs := []error{o.Filter.check()}
	if o.SnapLen < 0 || o.SnapLen > MaxSnapLen {
		errs = append(errs, fmt.Errorf("capture %d bytes of a packet: use 1 to %d", o.SnapLen, MaxSnapLen))
	}
	if o.Queue < 0 || o.Queue > MaxMemory/max(1, o.SnapLen) {
		errs = append(errs, fmt.Errorf("queue %d packets of %d bytes: the queue must not exceed %d bytes", o.Queue, o.SnapLen, MaxMemory))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("new capture: %w", err)
	}
	o.Queue = 1 << bits.Len(uint(max(2, o.Queue)-1))
	return &Session{
		opt: o, points: o.Filter.points(), w: w,
		ring: newRing(o.Queue, o.SnapLen),
		wake: make(chan struct{}, 1), interfaces: map[place]*seen{},
	}, nil
}

// Stats gives what was written and lost so far.
func (s *Session) Stats() Stats {
	return Stats{Packets: s.packets.Load(), Bytes: s.bytes.Load(), Lost: s.lost.Load()}
}

// Filter gives what the session wants.
func (s *Session) Filter() Filter { return s.opt.Filter }

// offer takes the packet if the session wants it. Any number of workers may
// offer at the same time.
func (s *Session) offer(m *Meta, packet []byte) {
	if s.points&(1<<m.Point) == 0 || !s.opt.Filter.match(m) {
		return
	}
	if !s.ring.put(m, packet, s.lost.Load()) {
		s.lost.Add(1)
		return
	}
	if s.idle.Load() && s.idle.CompareAndSwap(true, false) {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// run writes what is offered until ctx ends or a limit is reached, then calls
// stop, after which nothing more is offered, and writes what still waits.
func (s *Session) run(ctx context.Context, stop func()) error {
	defer stop()
	buf := bufio.NewWriterSize(s.w, 1<<16)
	comment := "capture of " + s.opt.Filter.String()
	out, err := NewWriter(buf, s.opt.Application, comment)
	if err != nil {
		return err
	}
	s.out = out
	for ctx.Err() == nil {
		done, err := s.drain()
		if err == nil {
			err = s.flush(buf)
		}
		if err != nil || done {
			stop()
			return s.finish(buf, err)
		}
		s.idle.Store(true)
		if s.ring.first() != nil {
			s.idle.Store(false)
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
	stop()
	_, err = s.drain()
	return s.finish(buf, err)
}

// drain writes what waits, but no more than the ring holds, so that a flood
// does not keep it from looking at ctx; done once a limit is reached.
func (s *Session) drain() (done bool, _ error) {
	for range s.ring.slots {
		o := &s.opt
		if o.MaxPackets != 0 && s.packets.Load() >= o.MaxPackets || o.MaxBytes != 0 && s.out.Written() >= o.MaxBytes {
			return true, nil
		}
		k := s.ring.first()
		if k == nil {
			return false, nil
		}
		err := s.write(k)
		s.ring.release()
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

func (s *Session) write(k *slot) error {
	i, err := s.interfaceOf(&k.meta)
	if err != nil {
		return err
	}
	s.comment = k.meta.appendComment(s.comment[:0])
	p := Packet{
		Interface: i.id, Time: k.meta.Time, Data: k.data[:k.n], Length: k.length,
		Direction: k.meta.Point.direction(), Comment: string(s.comment),
	}
	if k.lost > s.accounted { // workers may have overtaken each other
		p.Lost, s.accounted = k.lost-s.accounted, k.lost
	}
	if err := s.out.WritePacket(&p); err != nil {
		return err
	}
	i.packets++
	s.last = max(s.last, k.meta.Time)
	s.packets.Add(1)
	s.bytes.Store(s.out.Written())
	return nil
}

// interfaceOf gives the interface of the file that the packet was seen at: each
// port is one, and so is the fabric. Ports beyond maxInterfaces share one.
func (s *Session) interfaceOf(m *Meta) (*seen, error) {
	at := place{link: m.Link}
	d := Interface{Name: "fabric", Description: "provider addresses", Link: m.Link, SnapLen: uint32(s.opt.SnapLen)}
	if m.Link != RawIP {
		d.Name, d.Description = "fabric-inner", "what came out of tunnels"
		if m.Port != "" {
			at.rdid, at.port = m.RDID, m.Port
			d.Name, d.Description = clip(m.Port), "port of tenant "+m.Tenant.String()
			if _, known := s.interfaces[at]; !known && len(s.order) >= maxInterfaces {
				at.rdid, at.port = hnv.RDID{}, "ports"
				d.Name, d.Description = "ports", "further ports, named in the comments"
			}
		}
	}
	if i := s.interfaces[at]; i != nil {
		return i, nil
	}
	id, err := s.out.AddInterface(d)
	if err != nil {
		return nil, err
	}
	i := &seen{id: id}
	s.interfaces[at] = i
	s.order = append(s.order, i)
	return i, nil
}

func (s *Session) flush(buf *bufio.Writer) error {
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write capture: %w", err)
	}
	return nil
}

// finish says at the end of the file how much it holds and lacks.
func (s *Session) finish(buf *bufio.Writer, err error) error {
	if err != nil {
		return err
	}
	comment := ""
	if n := s.lost.Load(); n > 0 {
		comment = fmt.Sprintf("%d packets were lost, of all interfaces together: the queue was full", n)
	}
	for _, i := range s.order {
		if err := s.out.WriteStatistics(i.id, s.last, i.packets, comment); err != nil {
			return err
		}
	}
	s.bytes.Store(s.out.Written())
	return s.flush(buf)
}

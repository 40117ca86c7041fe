package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// Defaults of the options.
const (
	DefaultBatch  = 64
	DefaultBuffer = 4 << 20
	maxBatch      = 1024 // UIO_MAXIOV, the most that recvmmsg takes
)

// LinkOptions say how to open a Link. The zero value is fit for use.
type LinkOptions struct {
	Batch       int // frames for one system call, at most 1024; 0: DefaultBatch
	ReadBuffer  int // bytes the kernel may hold for us; 0: DefaultBuffer
	WriteBuffer int // bytes the kernel may still have to send; 0: DefaultBuffer
	// Promiscuous makes the interface take frames to any MAC address: for a
	// port with filtering hardware. A veth or TAP needs it not.
	Promiscuous bool
	// WriteOnly is for an interface whose frames somebody else takes, in the
	// kernel: ReadBatch only waits for the interface's or the Link's end, until
	// SetWriteOnly says otherwise.
	WriteOnly bool
	// Do runs its argument in the network namespace of the interface; nil
	// means the calling thread's.
	Do func(func() error) error
}

func bounds(batch, read, write int) (b, r, w int) {
	b, r, w = batch, read, write
	if b <= 0 {
		b = DefaultBatch
	}
	if r <= 0 {
		r = DefaultBuffer
	}
	if w <= 0 {
		w = DefaultBuffer
	}
	return min(b, maxBatch), r, w
}

// Link is a port of Ethernet frames on one interface. Its methods may be called
// by several goroutines at once; concurrent readers take turns.
type Link struct {
	name  string
	index int
	s     *socket
	read  sync.Mutex // held by the goroutine in ReadBatch
	in    *recvBatch // made when it is first needed
	batch int
	quiet atomic.Bool // nobody's frames are read
	rc    readCounters
	out   pool[sendBatch]
	wc    writeCounters
}

// OpenLink opens the interface for Ethernet frames. The interface may be down.
func OpenLink(ifname string, o LinkOptions) (*Link, error) {
	batch, rbuf, wbuf := bounds(o.Batch, o.ReadBuffer, o.WriteBuffer)
	l := &Link{name: ifname, batch: batch}
	l.quiet.Store(o.WriteOnly)
	s, err := openPacket(packetOptions{
		ifname: ifname, do: o.Do, read: rbuf, write: wbuf, protocol: heard(o.WriteOnly),
		setup: func(fd, index int) error {
			l.index = index
			if err := withAuxdata(fd, index); err != nil || !o.Promiscuous {
				return err
			}
			m := &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
			if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, m); err != nil {
				return fmt.Errorf("setsockopt PACKET_ADD_MEMBERSHIP: %w", err)
			}
			return nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open port %s: %w", ifname, err)
	}
	l.s = s
	l.out.make = func() *sendBatch { return newPacketBatch(batch) }
	return l, nil
}

// heard is the protocol whose frames are read. A socket of no protocol is not told
// of its interface's end; one of a protocol that nobody speaks is, and as the
// kernel asks it last, it costs the frames of others nothing.
func heard(writeOnly bool) uint16 {
	const nobodys = 0x88b6 // the second of IEEE 802's local experimental ones
	if writeOnly {
		return nobodys
	}
	return unix.ETH_P_ALL
}

// Index is the interface's.
func (l *Link) Index() int { return l.index }

// SetWriteOnly changes LinkOptions.WriteOnly. What has arrived before may still be
// read.
func (l *Link) SetWriteOnly(on bool) error {
	if err := l.s.control(func(fd int) error { return bindPacket(fd, l.index, heard(on)) }); err != nil {
		return fmt.Errorf("change what is read of port %s: %w", l.name, err)
	}
	l.quiet.Store(on)
	return nil
}

// Quiet tells whether the link is only written to.
func (l *Link) Quiet() bool { return l.quiet.Load() }

// Wait waits for something to read, as ReadBatch does, without frames to read it into:
// a thousand links of which nothing is read need not hold a frame each.
func (l *Link) Wait() error {
	l.read.Lock()
	defer l.read.Unlock()
	if err := l.s.waitRead(); err != nil {
		return fmt.Errorf("read port %s: %w", l.name, err)
	}
	return nil
}

// ReadBatch waits for at least one frame and returns how many of frames it
// filled, from the first on. A frame that does not fit is dropped and counted:
// room for packet.MaxPacket bytes and an Ethernet header with a VLAN tag is
// enough for whatever the kernel gives.
func (l *Link) ReadBatch(frames []*packet.Frame) (int, error) {
	l.read.Lock()
	defer l.read.Unlock()
	if l.in == nil {
		l.in = newRecvBatch(l.batch, true)
	}
	frames = frames[:min(len(frames), len(l.in.msgs))]
	if len(frames) == 0 {
		return 0, nil
	}
	for {
		for i, f := range frames {
			f.Reset()
			l.in.set(i, f.Buf[f.Off:])
		}
		got, err := l.s.readBatch(l.in, len(frames), &l.rc)
		if err != nil {
			return 0, fmt.Errorf("read port %s: %w", l.name, err)
		}
		n := 0
		for i := range got {
			if l.take(i, frames[i]) {
				frames[n], frames[i] = frames[i], frames[n]
				n++
			}
		}
		if n > 0 {
			l.rc.frames.Add(uint64(n))
			return n, nil
		}
	}
}

// take makes a frame of message i, which was read into f's buffer.
func (l *Link) take(i int, f *packet.Frame) bool {
	n, truncated := l.in.length(i)
	switch {
	case truncated:
		l.rc.truncated.Add(1)
		return false
	case n < ethLen:
		l.rc.malformed.Add(1)
		return false
	}
	f.End = f.Off + n
	if !offload(l.in.vnet[i][:], f, &l.rc) {
		return false
	}
	if tpid, tci, ok := l.in.vlan(i); ok && !restoreTag(f, tpid, tci) {
		l.rc.malformed.Add(1)
		return false
	}
	return true
}

// offload sets f's Offload from the kernel's header.
func offload(vnet []byte, f *packet.Frame, c *readCounters) bool {
	switch err := parseVnetHdr(vnet, f.Len(), &f.Offload); {
	case err == nil:
		return true
	case errors.Is(err, errUnsupported):
		c.unsupported.Add(1)
	default:
		c.malformed.Add(1)
	}
	return false
}

// restoreTag puts a VLAN tag that the kernel took out back in its place, so that
// the dataplane sees the frame as it was sent, and does not take a tagged frame
// for an untagged one.
func restoreTag(f *packet.Frame, tpid, tci uint16) bool {
	const macs, tag = 12, 4
	if f.Prepend(tag) == nil {
		return false
	}
	b := f.Bytes()
	copy(b, b[tag:tag+macs])
	binary.BigEndian.PutUint16(b[macs:], tpid)
	binary.BigEndian.PutUint16(b[macs+2:], tci)
	return true
}

// WriteBatch sends the frames, with whatever their Offload leaves to the kernel.
func (l *Link) WriteBatch(frames []*packet.Frame) (int, error) {
	b := l.out.get()
	defer l.out.put(b)
	total := 0
	for len(frames) > 0 {
		for len(frames) > 0 && !b.full() {
			f := frames[0]
			frames = frames[1:]
			if f.Len() < ethLen || !putVnetHdr(b.vnet[b.n][:], &f.Offload, f.Bytes()) {
				l.wc.refused.Add(1)
				continue
			}
			b.add(f.Bytes())
		}
		sent, err := l.s.sendAll(b, &l.wc)
		total += sent
		if err != nil {
			l.wc.refused.Add(uint64(len(frames)))
			return total, err // as it is: made for each batch, a sentence would cost
		}
	}
	return total, nil
}

// ReadCounters tell of the frames read so far.
func (l *Link) ReadCounters() ReadCounters {
	l.s.missed(&l.rc)
	return l.rc.snapshot()
}

// WriteCounters tell of the frames written so far.
func (l *Link) WriteCounters() WriteCounters { return l.wc.snapshot() }

// Close closes the port; a goroutine that waits in ReadBatch returns
// net.ErrClosed, as does every later call.
func (l *Link) Close() error { return l.s.close() }

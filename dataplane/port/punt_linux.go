package port

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// PuntOptions say how to open a PuntReader, and what of. The zero value reads the
// odd queue of all tenants.
type PuntOptions struct {
	Queue PuntQueue
	// Share and Of say which tenants' packets: those whose number leaves Share
	// when divided by Of. Of is at most 256; 0 is 1: all.
	Share, Of  int
	Batch      int // packets for one system call, at most 1024; 0: DefaultBatch
	ReadBuffer int // bytes the kernel may hold for us; 0: DefaultBuffer
	// Do runs its argument in the network namespace of the link; nil means the
	// calling thread's.
	Do func(func() error) error
}

// PuntReader reads what a fast path leaves to user space. Several may be open on
// one link, each with a queue or a share of it: what fills one's buffer leaves
// those of the others alone. Its methods may be called by several goroutines at
// once; concurrent readers take turns.
type PuntReader struct {
	name string
	s    *socket
	read sync.Mutex // held by the goroutine in ReadBatch
	in   *recvBatch
	rc   readCounters
}

// OpenPunt opens the end of the link at which the packets arrive. The interface
// may be down.
func OpenPunt(ifname string, o PuntOptions) (*PuntReader, error) {
	batch, rbuf, wbuf := bounds(o.Batch, o.ReadBuffer, 0)
	filter, err := puntFilter(o.Queue, o.Share, max(1, o.Of))
	if err != nil {
		return nil, fmt.Errorf("open punt link %s: %w", ifname, err)
	}
	s, err := openPacket(packetOptions{
		ifname: ifname, do: o.Do, read: rbuf, write: wbuf, protocol: unix.ETH_P_ALL, filter: filter, setup: withAuxdata,
	})
	if err != nil {
		return nil, fmt.Errorf("open punt link %s: %w", ifname, err)
	}
	return &PuntReader{name: ifname, s: s, in: newRecvBatch(batch, true)}, nil
}

// ReadBatch waits for at least one packet and returns how many of frames, and of
// punts, it filled, from the first on. A packet reads as from the ProviderReader
// or the Link where it arrived. One that does not fit is dropped and counted, as
// is what is not the fast path's.
func (r *PuntReader) ReadBatch(frames []*packet.Frame, punts []Punt) (int, error) {
	r.read.Lock()
	defer r.read.Unlock()
	frames = frames[:min(len(frames), len(punts), len(r.in.msgs))]
	if len(frames) == 0 {
		return 0, nil
	}
	for {
		for i, f := range frames {
			// What will be cut off goes into the headroom.
			f.Reset()
			f.Off = max(0, f.Off-puntLen-ethLen)
			r.in.set(i, f.Buf[f.Off:])
		}
		got, err := r.s.readBatch(r.in, len(frames), &r.rc)
		if err != nil {
			return 0, fmt.Errorf("read punt link %s: %w", r.name, err)
		}
		n := 0
		for i := range got {
			if r.take(i, frames[i], &punts[n]) {
				frames[n], frames[i] = frames[i], frames[n]
				n++
			}
		}
		if n > 0 {
			r.rc.frames.Add(uint64(n))
			return n, nil
		}
	}
}

// take makes a packet of message i, which was read into f's buffer.
func (r *PuntReader) take(i int, f *packet.Frame, p *Punt) bool {
	n, truncated := r.in.length(i)
	if truncated {
		r.rc.truncated.Add(1)
		return false
	}
	f.End = f.Off + n
	if !offload(r.in.vnet[i][:], f, &r.rc) {
		return false
	}
	var err error
	if *p, err = unwrap(f); err != nil {
		r.rc.malformed.Add(1)
		return false
	}
	// The tag that the kernel took out of a port's frame stood behind its
	// addresses.
	if tpid, tci, ok := r.in.vlan(i); ok && p.Origin == PuntPort && !restoreTag(f, tpid, tci) {
		r.rc.malformed.Add(1)
		return false
	}
	return true
}

// ReadCounters tell of the packets read so far.
func (r *PuntReader) ReadCounters() ReadCounters {
	r.s.missed(&r.rc)
	return r.rc.snapshot()
}

// Close closes the reader; a goroutine that waits in ReadBatch returns
// net.ErrClosed, as does every later call.
func (r *PuntReader) Close() error { return r.s.close() }

package port

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadCounters tell what happened to frames on their way in.
type ReadCounters struct {
	Frames      uint64 // handed to the caller
	Missed      uint64 // not taken over by the kernel: the socket's buffer was full
	Truncated   uint64 // longer than the buffer of the Frame
	Unsupported uint64 // with an offload that virtio_net_hdr or packet.Offload cannot say
	Malformed   uint64 // shorter than an Ethernet header, or with an offload outside the frame
}

// WriteCounters tell what happened to frames on their way out. A frame is
// counted once, in one of the fields.
type WriteCounters struct {
	Frames  uint64            // taken by the kernel
	Refused uint64            // not offered: an Offload that does not fit the frame or the port, or no IP header
	Errors  map[string]uint64 // refused by the kernel, by name of the errno: EMSGSIZE, ENOBUFS, ...
}

type readCounters struct {
	frames, missed, truncated, unsupported, malformed atomic.Uint64
}

func (c *readCounters) snapshot() ReadCounters {
	return ReadCounters{
		Frames:      c.frames.Load(),
		Missed:      c.missed.Load(),
		Truncated:   c.truncated.Load(),
		Unsupported: c.unsupported.Load(),
		Malformed:   c.malformed.Load(),
	}
}

// maxErrno is one more than the last errno, EHWPOISON; what an odd architecture
// has beyond it is counted under 0.
const maxErrno = 134

type writeCounters struct {
	frames, refused atomic.Uint64
	errnos          [maxErrno]atomic.Uint64
}

func (c *writeCounters) errno(e syscall.Errno, n int) {
	if e >= maxErrno {
		e = 0
	}
	c.errnos[e].Add(uint64(n))
}

func (c *writeCounters) snapshot() WriteCounters {
	s := WriteCounters{Frames: c.frames.Load(), Refused: c.refused.Load()}
	for e := range c.errnos {
		n := c.errnos[e].Load()
		if n == 0 {
			continue
		}
		name := unix.ErrnoName(syscall.Errno(e))
		if name == "" {
			name = "unknown"
		}
		if s.Errors == nil {
			s.Errors = make(map[string]uint64)
		}
		s.Errors[name] = n
	}
	return s
}

//go:build linux

package nl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// socket talks with rtnetlink: one request and its answers at a time. The kernel
// answers before it returns from being asked, so nothing is gained by waiting in
// Go's poller; and the library's own way takes 64 kB anew for each datagram.
type socket struct {
	fd int

	mu  sync.Mutex
	seq uint32
	in  []byte // made when it is first needed
}

// datagram is how much of a dump the kernel gives at once, at most.
const datagram = 32 << 10

var (
	// errInterrupted: what was dumped changed meanwhile.
	errInterrupted = errors.New("the list changed while it was read")
	// errTruncated: an answer did not fit; the buffer is greater now.
	errTruncated = errors.New("an answer did not fit the buffer")
)

// openSocket opens one in the calling thread's namespace.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	limit := unix.NsecToTimeval(answerTimeout.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // errors need not quote the request
	)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set up netlink socket: %w", err)
	}
	// Kernel-side filters in dumps (5.0); without them the callers filter.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<20)
	return &socket{fd: fd}, nil
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}

// exchange sends the request and gives the answers of the type; 0: there are none
// but whether it was done.
func (s *socket) exchange(r *vnl.NetlinkRequest, answer uint16) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, os.ErrClosed
	}
	if s.in == nil {
		s.in = make([]byte, datagram)
	}
	s.seq++
	r.Seq = s.seq
	if err := s.send(r.Serialize()); err != nil {
		return nil, err
	}
	var out [][]byte
	var failed error
	for {
		n, err := s.receive()
		if errors.Is(err, errTruncated) {
			failed = err
			if r.Flags&unix.NLM_F_DUMP == 0 {
				return nil, failed // that was all
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		// What is kept is kept together, as the next datagram takes its place.
		var kept []byte
		for b := s.in[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return nil, errors.New("malformed netlink message")
			}
			typ, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
			body, seq := b[unix.NLMSG_HDRLEN:size], binary.NativeEndian.Uint32(b[8:])
			b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
			if seq != s.seq {
				continue // the rest of an answer that somebody gave up on
			}
			if flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil {
				failed = errInterrupted
			}
			if typ == unix.NLMSG_DONE || typ == unix.NLMSG_ERROR {
				if err := answered(flags, body); err != nil {
					return nil, err
				}
				return out, failed
			}
			if answer != 0 && typ == answer {
				if kept == nil {
					kept = make([]byte, 0, n)
				}
				at := len(kept)
				kept = append(kept, body...)
				out = append(out, kept[at:len(kept):len(kept)])
			}
			if flags&unix.NLM_F_MULTI == 0 {
				return out, failed
			}
		}
	}
}

func (s *socket) send(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// receive reads one datagram of the kernel's.
func (s *socket) receive() (int, error) {
	for {
		n, from, err := unix.Recvfrom(s.fd, s.in, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("no answer from the kernel within %v", answerTimeout)
		case err != nil:
			return 0, os.NewSyscallError("recvfrom", err)
		case n > len(s.in):
			s.in = make([]byte, n)
			return 0, errTruncated
		}
		if a, ok := from.(*unix.SockaddrNetlink); ok && a.Pid == 0 {
			return n, nil
		}
	}
}

// answered reads struct nlmsgerr, or the number in NLMSG_DONE, with what the kernel
// has to say about it; nil is success.
func answered(flags uint16, body []byte) error {
	const (
		ackTLVs = 0x200 // NLM_F_ACK_TLVS
		text    = 1     // NLMSGERR_ATTR_MSG
	)
	if len(body) < 4 {
		return nil
	}
	n := int32(binary.NativeEndian.Uint32(body))
	if n >= 0 {
		return nil
	}
	err := error(syscall.Errno(-n))
	if rest := body[4:]; flags&ackTLVs != 0 && len(rest) > unix.NLMSG_HDRLEN {
		at, bad := attrs(rest[unix.NLMSG_HDRLEN:]) // after the request's header
		if bad == nil && len(at[text]) > 0 {
			err = fmt.Errorf("%w: %s", err, unix.ByteSliceToString(at[text]))
		}
	}
	return err
}

package port

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// downPoll is how often a reader whose interface is down looks whether the
// interface still exists: the kernel tells that a socket's interface went down,
// but is silent when one that is down is deleted.
const downPoll = 100 * time.Millisecond

// socket is a non-blocking socket in Go's poller.
type socket struct {
	file   *os.File
	rc     syscall.RawConn
	closed atomic.Bool
	doubt  atomic.Bool // the reader knows, or is to find out, that the interface is not well
}

// openSocket makes a socket in the namespace that do enters and lets setup
// prepare it.
func openSocket(do func(func() error) error, domain, typ, proto int, setup func(fd int) error) (*socket, error) {
	fd := -1
	open := func() (err error) {
		fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: the capability CAP_NET_RAW is needed", err)
		}
		return os.NewSyscallError("socket", err)
	}
	if do == nil {
		do = func(f func() error) error { return f() }
	}
	err := do(open)
	if err == nil {
		err = setup(fd)
	}
	if err != nil {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), "socket")}
	if s.rc, err = s.file.SyscallConn(); err != nil {
		_ = s.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	return s.file.Close()
}

// control runs f with the descriptor, which stays open meanwhile.
func (s *socket) control(f func(fd int) error) error {
	var err error
	if cerr := s.rc.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return s.pollError(cerr)
	}
	return err
}

// pollError turns an error of Go's poller into one of this package.
func (s *socket) pollError(err error) error {
	if s.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// setBuffers sets the sizes of the socket's buffers, beyond the machine's limit
// where the caller may.
func setBuffers(fd, read, write int) error {
	for _, b := range []struct{ size, force, plain int }{
		{read, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
		{write, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.force, b.size)
		if errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.plain, b.size)
		}
		if err != nil {
			return fmt.Errorf("set socket buffer to %d bytes: %w", b.size, err)
		}
	}
	return nil
}

// attachFilter puts the program in the place of the one attached before.
func attachFilter(fd int, prog []bpf.Instruction) error {
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return fmt.Errorf("assemble socket filter: %w", err)
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{
		Len:    uint16(len(raw)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(raw))), // of one layout: struct sock_filter
	})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

// packetOptions say which frames an AF_PACKET socket gets: those of one interface
// and of the protocol, as far as the filter, if there is one, lets them pass.
type packetOptions struct {
	ifname      string
	do          func(func() error) error
	read, write int
	protocol    uint16
	filter      []bpf.Instruction
	setup       func(fd, ifindex int) error // nil: nothing more
}

func openPacket(o packetOptions) (*socket, error) {
	// With protocol 0 the socket gets nothing until it is bound.
	return openSocket(o.do, unix.AF_PACKET, unix.SOCK_RAW, 0, func(fd int) error {
		index, err := interfaceIndex(fd, o.ifname)
		if err != nil {
			return err
		}
		if err := setBuffers(fd, o.read, o.write); err != nil {
			return err
		}
		if o.filter != nil {
			if err := attachFilter(fd, o.filter); err != nil {
				return err
			}
		}
		for _, o := range []struct {
			opt  int
			name string
		}{{unix.PACKET_VNET_HDR, "PACKET_VNET_HDR"}, {unix.PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"}} {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, o.opt, 1); err != nil {
				return os.NewSyscallError("setsockopt "+o.name, err)
			}
		}
		if o.setup != nil {
			if err := o.setup(fd, index); err != nil {
				return err
			}
		}
		if err := bindPacket(fd, index, o.protocol); err != nil {
			return err
		}
		return checkEthernet(fd)
	})
}

// bindPacket makes the socket get frames of the protocol, and no others any more.
func bindPacket(fd, index int, protocol uint16) error {
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: index}))
}

// withAuxdata has the kernel say which VLAN tag it took out of a frame.
func withAuxdata(fd, _ int) error {
	return os.NewSyscallError("setsockopt PACKET_AUXDATA", unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
}

func htons(v uint16) uint16 {
	var b [2]byte
	b[0], b[1] = byte(v>>8), byte(v)
	return *(*uint16)(unsafe.Pointer(&b))
}

func interfaceIndex(fd int, ifname string) (int, error) {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil || ifname == "" {
		return 0, errors.New("not an interface name: 1 to 15 characters are allowed")
	}
	switch err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); {
	case errors.Is(err, unix.ENODEV):
		return 0, fmt.Errorf("there is no such interface in this network namespace: %w", err)
	case err != nil:
		return 0, os.NewSyscallError("ioctl SIOCGIFINDEX", err)
	}
	return int(ifr.Uint32()), nil
}

// checkEthernet refuses interfaces whose frames have another header.
func checkEthernet(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch t := sa.(*unix.SockaddrLinklayer).Hatype; t {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return nil
	default:
		return fmt.Errorf("not an Ethernet interface (its hardware type is %d)", t)
	}
}

// linkState asks whether the interface of an AF_PACKET socket is there and up.
// The socket itself knows: its index becomes -1 when the interface goes.
func linkState(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	index := sa.(*unix.SockaddrLinklayer).Ifindex
	if index <= 0 {
		return ErrGone
	}
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
		return ErrGone // between the two questions
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return ErrGone
	}
	if ifr.Uint16()&unix.IFF_UP == 0 {
		return ErrDown
	}
	return nil
}

// readBatch fills the first messages of b, waiting for at least one. The caller
// holds b.
func (s *socket) readBatch(b *recvBatch, want int, c *readCounters) (int, error) {
	for {
		b.want, b.waits, b.errno, b.got = want, 0, 0, 0
		err := s.rc.Read(b.do)
		switch {
		case err == nil && b.errno == 0:
			return b.got, nil
		case err == nil && b.errno == unix.EINTR:
			continue
		case err == nil && b.errno == unix.EINVAL:
			// The kernel could not describe a frame in a virtio_net_hdr, and
			// has let go of it.
			c.unsupported.Add(1)
			continue
		case s.closed.Load():
			return 0, net.ErrClosed
		case err == nil && b.errno != unix.EAGAIN && b.errno != unix.ENETDOWN:
			return 0, os.NewSyscallError("recvmmsg", b.errno)
		}
		if err := s.lookAgain(err); err != nil {
			return 0, err
		}
	}
}

// waitRead returns when there is something that readBatch would read. The caller reads
// nothing else meanwhile.
func (s *socket) waitRead() error {
	var b [64]byte // a frame's beginning, with its virtio_net_hdr
	var errno error
	waits := 0
	peek := func(fd uintptr) bool {
		_, _, errno = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if errno != unix.EAGAIN {
			return true
		}
		waits++
		return waits > 1
	}
	for {
		errno, waits = nil, 0
		err := s.rc.Read(peek)
		switch {
		case err == nil && (errno == nil || errno == unix.EINVAL): // the latter readBatch counts
			return nil
		case err == nil && errno == unix.EINTR:
			continue
		case s.closed.Load():
			return net.ErrClosed
		case err == nil && errno != unix.EAGAIN && errno != unix.ENETDOWN:
			return os.NewSyscallError("recvfrom", errno)
		}
		if err := s.lookAgain(err); err != nil {
			return err
		}
	}
}

// lookAgain follows a reader's being told that the interface is down, or being woken
// up without a frame: by a writer, by downPoll, or by an error that a writer saw first.
// read is what the poller said.
func (s *socket) lookAgain(read error) error {
	if err := s.checkLink(); err != nil {
		return err
	}
	if read != nil && !errors.Is(read, os.ErrDeadlineExceeded) {
		// Go's poller does not wait on a socket whose last event was
		// nothing but an error; the next event ends that.
		time.Sleep(downPoll)
	}
	return nil
}

// checkLink fails if the interface is gone. While it is down the reader is woken
// up to ask again; once it is up the reader waits for frames alone. A writer's
// doubt that comes before the deadline is lifted is settled by the question
// after it, a later one wakes the reader again.
func (s *socket) checkLink() error {
	s.doubt.Store(false)
	_ = s.file.SetReadDeadline(time.Time{}) // fails only when closed, as the next read will
	err := s.control(linkState)
	switch {
	case err == nil:
	case errors.Is(err, ErrDown):
		s.doubt.Store(true)
		_ = s.file.SetReadDeadline(time.Now().Add(downPoll))
		return nil
	default:
		_ = s.file.SetReadDeadline(time.Now()) // a reader that tries again must not wait
	}
	return err
}

// doubtLink makes the reader look after the interface: the kernel reports an
// error once, and a writer that met it has taken it from the reader.
func (s *socket) doubtLink() {
	if !s.doubt.Swap(true) {
		_ = s.file.SetReadDeadline(time.Now())
	}
}

// sendAll hands b's messages to the kernel, counts what became of each, and
// empties b. An error is one of the whole socket.
func (s *socket) sendAll(b *sendBatch, c *writeCounters) (sent int, err error) {
	n := b.n
	b.n = 0
	retried := false
	for at := 0; at < n; {
		b.todo = b.msgs[at:n]
		if cerr := s.rc.Control(b.do); cerr != nil {
			c.refused.Add(uint64(n - at))
			return sent, s.pollError(cerr)
		}
		switch e := b.errno; e {
		case 0:
			at += b.sent
			sent += b.sent
			c.frames.Add(uint64(b.sent))
			retried = false
			continue
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			// The socket's buffer is full: so it is for the rest.
			c.errno(e, n-at)
			return sent, nil
		case unix.ENOBUFS, unix.EMSGSIZE, unix.EPERM:
			c.errno(e, 1) // this frame's: no room, too long, or against the machine's packet filter
		default:
			if b.vnet != nil && (e == unix.ENETDOWN || e == unix.ENXIO) {
				s.doubtLink()
			}
			// It may be an error that was waiting on the socket, and not
			// this frame's.
			if !retried {
				retried = true
				continue
			}
			if err := linkError(b, e); err != nil {
				c.errno(e, n-at)
				return sent, err
			}
			c.errno(e, 1)
		}
		at++
		retried = false
	}
	return sent, nil
}

// linkError tells what an errno says of the interface of an AF_PACKET socket; a
// raw IP socket has none.
func linkError(b *sendBatch, e syscall.Errno) error {
	switch {
	case b.vnet == nil:
	case e == unix.ENETDOWN:
		return ErrDown
	case e == unix.ENXIO:
		return ErrGone
	}
	return nil
}

// missed adds what the kernel has dropped for want of buffer since it was last
// asked; it forgets the number when telling it.
func (s *socket) missed(c *readCounters) {
	_ = s.control(func(fd int) error { // fails only when closed
		st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			c.missed.Add(uint64(st.Drops))
		}
		return err
	})
}

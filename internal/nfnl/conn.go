//go:build linux

package nfnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

const (
	messageHeader = 16 // struct nlmsghdr
	nfgenHeader   = 4  // struct nfgenmsg

	batchBegin   = 0x10
	batchEnd     = 0x11
	batchGenID   = 1 // NFNL_BATCH_GENID
	receiveBytes = 1 << 20
	timeout      = 10 // seconds the kernel gets for an answer
)

// Errors that a caller can do something about.
var (
	// ErrInterrupted: what was dumped changed meanwhile; dump again.
	ErrInterrupted = errors.New("dump was interrupted by a change")
	// ErrChanged: the generation a batch was made for is over; plan again.
	ErrChanged = errors.New("ruleset changed since it was read")
)

// A Message is one request. What names it in errors ("add chain forward").
type Message struct {
	Type   uint16 // subsystem << 8 | message
	Flags  uint16 // beyond NLM_F_REQUEST
	Family uint8
	Data   []byte // attributes
	What   string
}

// A Reply is one message of an answer; Data points into the receive buffer and
// is valid only until the callback returns.
type Reply struct {
	Type   uint16
	Family uint8
	Data   []byte
}

// Conn is a socket in one network namespace. Its methods may be called from any
// thread and exclude each other.
type Conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// Dial opens a socket in the namespace at nsPath; "" is the caller's own.
func Dial(nsPath string) (*Conn, error) {
	c := &Conn{fd: -1, buf: make([]byte, 64<<10)}
	err := netns.Do(nsPath, func() (err error) {
		c.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netfilter socket: %w", err)
	}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up netfilter socket: %w", err), c.Close())
	}
	return c, nil
}

func (c *Conn) prepare() error {
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	tv := unix.Timeval{Sec: timeout}
	return errors.Join(
		unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBytes),
		unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // errors need not quote the request
	)
}

// Cookie tells the socket's namespace from all others that there were since the
// machine started; 0 where the kernel does not tell (before 5.14).
func (c *Conn) Cookie() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	const netnsCookie = 71 // SO_NETNS_COOKIE
	n, err := unix.GetsockoptUint64(c.fd, unix.SOL_SOCKET, netnsCookie)
	if err != nil {
		return 0
	}
	return n
}

// Close closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	return unix.Close(fd)
}

func (c *Conn) append(b []byte, m Message, seq uint32, resource uint16) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(messageHeader+nfgenHeader+len(m.Data)))
	b = binary.NativeEndian.AppendUint16(b, m.Type)
	b = binary.NativeEndian.AppendUint16(b, m.Flags|unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0) // to the kernel
	b = append(b, m.Family, 0)                 // NFNETLINK_V0
	b = binary.BigEndian.AppendUint16(b, resource)
	b = append(b, m.Data...)
	return append(b, make([]byte, align(len(b))-len(b))...)
}

func (c *Conn) send(b []byte) error {
	if c.fd < 0 {
		return os.ErrClosed
	}
	// The whole batch must fit the socket's send buffer at once.
	if n := 2*len(b) + 4096; n > 200<<10 {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, n); err != nil {
			return err
		}
	}
	for {
		err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Dump asks for all objects of a kind and hands each to the callback. After
// ErrInterrupted the callback has seen an inconsistent picture.
func (c *Conn) Dump(m Message, each func(Reply) error) error {
	m.Flags |= unix.NLM_F_DUMP
	return c.exchange(m, each)
}

// Get asks for one object.
func (c *Conn) Get(m Message, each func(Reply) error) error {
	m.Flags |= unix.NLM_F_ACK
	return c.exchange(m, each)
}

func (c *Conn) exchange(m Message, each func(Reply) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	seq := c.seq
	if err := c.send(c.append(nil, m, seq, 0)); err != nil {
		return fmt.Errorf("%s: %w", m.What, err)
	}
	var failed error
	for {
		done, err := c.receive(func(h header, body []byte) (bool, error) {
			switch {
			case h.seq != seq:
				return false, nil // the rest of an answer someone gave up on
			case h.flags&unix.NLM_F_DUMP_INTR != 0 && failed == nil:
				failed = ErrInterrupted
			}
			switch h.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return true, kernelError(body)
			}
			if failed == nil && len(body) >= nfgenHeader {
				failed = each(Reply{h.typ, body[0], body[nfgenHeader:]})
			}
			return false, nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", m.What, err)
		}
		if done {
			if failed != nil {
				return fmt.Errorf("%s: %w", m.What, failed)
			}
			return nil
		}
	}
}

// Batch carries out all messages for a subsystem or none. A generation other
// than 0 must still be the current one, else nothing happens and the error is
// ErrChanged.
func (c *Conn) Batch(subsystem uint16, generation uint32, msgs []Message) error {
	if len(msgs) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.seq + 1
	c.seq += uint32(len(msgs)) + 2
	begin := Message{Type: batchBegin}
	if generation != 0 {
		begin.Data = AppendUint32(nil, batchGenID, generation)
	}
	b := c.append(nil, begin, first, subsystem)
	last := first + uint32(len(msgs))
	for i, m := range msgs {
		if i == len(msgs)-1 {
			m.Flags |= unix.NLM_F_ACK // one answer is enough; errors come unasked
		}
		b = c.append(b, m, first+1+uint32(i), 0)
	}
	b = c.append(b, Message{Type: batchEnd}, last+1, subsystem)
	if err := c.send(b); err != nil {
		return fmt.Errorf("send batch of %d messages: %w", len(msgs), err)
	}
	var errs []error
	for {
		done, err := c.receive(func(h header, body []byte) (bool, error) {
			if h.typ != unix.NLMSG_ERROR || h.seq < first || h.seq > last+1 {
				return false, nil
			}
			err := kernelError(body)
			if h.seq == first || h.seq == last+1 { // the batch as a whole was refused
				return true, err
			}
			if err != nil && len(errs) < 10 {
				errs = append(errs, fmt.Errorf("%s: %w", msgs[h.seq-first-1].What, err))
			}
			return h.seq == last, nil
		})
		switch {
		case errors.Is(err, unix.ERESTART):
			return ErrChanged
		case err != nil:
			return errors.Join(append(errs, err)...)
		case done:
			return errors.Join(errs...)
		}
	}
}

type header struct {
	typ, flags uint16
	seq        uint32
}

// receive reads one datagram and hands its messages to the callback until that
// says it is done.
func (c *Conn) receive(each func(h header, body []byte) (done bool, err error)) (bool, error) {
	if c.fd < 0 {
		return false, os.ErrClosed
	}
	n, err := c.read()
	if err != nil {
		return false, err
	}
	for b := c.buf[:n]; len(b) >= messageHeader; {
		n := int(binary.NativeEndian.Uint32(b))
		if n < messageHeader || n > len(b) {
			return false, errors.New("truncated netlink message")
		}
		h := header{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:])}
		if done, err := each(h, b[messageHeader:n]); done || err != nil {
			return done, err
		}
		b = b[min(align(n), len(b)):]
	}
	return false, nil
}

func (c *Conn) read() (int, error) {
	for {
		n, _, flags, _, err := unix.Recvmsg(c.fd, c.buf, nil, unix.MSG_TRUNC|unix.MSG_PEEK)
		if err == nil && flags&unix.MSG_TRUNC != 0 {
			c.buf = make([]byte, n)
			continue
		}
		if err == nil {
			n, _, err = unix.Recvfrom(c.fd, c.buf, 0)
		}
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("no answer from the kernel within %d s", timeout)
		}
		return n, err
	}
}

// kernelError reads struct nlmsgerr or the number in NLMSG_DONE; nil is success.
func kernelError(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(body)); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

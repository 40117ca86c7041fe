//go:build linux

package nl

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	vnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// Protocol marks routes, addresses and neighbours as made by the gateway.
const Protocol = 201

// ProtocolBGP marks routes that a compartment's BGP speaker learned.
const ProtocolBGP = 203

// ErrNotFound is returned where the object named does not exist.
var ErrNotFound = errors.New("not found")

const (
	interruptedDumps = 20 // a dump raced by changes is started anew so often
	answerTimeout    = 30 * time.Second
	typeMask         = 0x3fff // NLA_TYPE_MASK
)

// The library finds out the byte order when it is first asked and keeps it in a
// variable: several goroutines must not be first.
var _ = vnl.NativeEndian()

// Handle is rtnetlink in one namespace.
type Handle struct {
	route  *socket
	ioctl  int // a datagram socket for ethtool
	packet int // for sending frames, once needed
	ns     netns.NS
	views  *views // of the handles that are opened by this one
	turn   *turn  // with those that are opened by this one

	read  *settings
	write *settings

	mu   sync.Mutex
	done bool
}

// Open makes a handle on the namespace at nsPath; "" is the calling thread's.
// The handle keeps the namespace alive until Close.
func Open(nsPath string) (*Handle, error) { return open(nsPath, (*Handle).open) }

// Into opens a handle on another namespace, whose settings will be read and written as
// well: for one that is opened again and again, beside many others.
func (h *Handle) Into(nsPath string) (*Handle, error) {
	return open(nsPath, func(in *Handle) error {
		in.turn = h.turn
		return errors.Join(in.open(), in.openSettings(h.views))
	})
}

func open(nsPath string, do func(*Handle) error) (*Handle, error) {
	h := &Handle{ioctl: -1, packet: -1, views: &views{fd: -1}, turn: &turn{}, read: newSettings(openPrivate), write: newSettings(openPublic)}
	err := netns.Do(nsPath, func() error { return do(h) })
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return h, nil
}

func (h *Handle) open() error {
	var err error
	if h.ns, err = netns.Current(); err != nil {
		return err
	}
	if h.route, err = openSocket(); err != nil {
		return err
	}
	h.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	return os.NewSyscallError("socket", err)
}

// openSettings opens the directories of settings at once, while the thread is in the
// namespace.
func (h *Handle) openSettings(v *views) error {
	h.read = newSettings(v.open)
	h.write = h.read
	for _, top := range []string{"ipv4", "ipv6", "netfilter"} {
		f, err := v.open(top)
		if err := h.read.take(top, f, err); err != nil {
			return err
		}
	}
	return nil
}

// Namespace gives a path to the handle's namespace, valid in this process
// until Close.
func (h *Handle) Namespace() string { return h.ns.Path() }

// ID identifies the handle's namespace.
func (h *Handle) ID() (netns.ID, error) { return h.ns.ID() }

// Close frees the handle's sockets and files.
func (h *Handle) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done {
		return
	}
	h.done = true
	if h.route != nil {
		h.route.close()
	}
	h.views.close()
	for _, fd := range []int{h.ioctl, h.packet} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	h.read.close()
	h.write.close()
	if h.ns != (netns.NS{}) {
		_ = h.ns.Close()
	}
}

// ask sends a request that build fills in, and gives the answers of type
// answer. An interrupted dump is repeated: half of one is worse than none.
func (h *Handle) ask(typ, flags int, answer uint16, build func(*vnl.NetlinkRequest)) ([][]byte, error) {
	for try := 1; ; try++ {
		r := vnl.NewNetlinkRequest(typ, flags)
		build(r)
		var msgs [][]byte
		var err error
		if typ == unix.RTM_GETLINK {
			h.turn.take(func() { msgs, err = h.route.exchange(r, answer) })
		} else {
			msgs, err = h.route.exchange(r, answer)
		}
		if (errors.Is(err, errInterrupted) || errors.Is(err, errTruncated)) && try < interruptedDumps {
			continue
		}
		return msgs, err
	}
}

// tell sends a request that is only acknowledged. It is not repeated: a change
// that was interrupted before it was sent says so by its error.
func (h *Handle) tell(typ, flags int, build func(*vnl.NetlinkRequest)) error {
	r := vnl.NewNetlinkRequest(typ, flags|unix.NLM_F_ACK)
	build(r)
	var err error
	h.turn.take(func() { _, err = h.route.exchange(r, 0) })
	return err
}

// turn lets one at a time do what the kernel has one lock for, over all namespaces:
// whoever waits for that lock there, or for a setting tries it again and again, keeps a
// processor busy meanwhile.
type turn struct{ mu sync.Mutex }

func (t *turn) take(do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	do()
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// attrs splits a message's attributes by type; flags in the type are cleared.
// The library's own walk panics where the last one is not padded.
func attrs(b []byte) (map[uint16][]byte, error) {
	const header = 4
	m := map[uint16][]byte{}
	for e := vnl.NativeEndian(); len(b) >= header; {
		n := int(e.Uint16(b))
		if n < header || n > len(b) {
			return nil, errors.New("malformed netlink attributes")
		}
		m[e.Uint16(b[2:])&typeMask] = b[header:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return m, nil
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return vnl.NativeEndian().Uint32(b)
}

func addr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func text(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

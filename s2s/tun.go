//go:build linux

package s2s

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/hnvgate/hnvgate/internal/netns"
)

const tunPath = "/dev/net/tun"

// attachFor is how long a TUN link may be held by a process that is ending.
const attachFor = 3 * time.Second

// openTUN attaches to the TUN link with the name in the namespace, and makes it
// if there is none. The link outlives the process, with its addresses and
// routes. It takes super-packets (VNET_HDR).
func openTUN(ns netns.NS, name string) (tun.Device, error) {
	var dev tun.Device
	err := ns.Do(func() error { // the file belongs to the namespace it was opened in
		fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: tunPath, Err: err}
		}
		if err := attach(fd, name); err != nil {
			_ = unix.Close(fd)
			return err
		}
		dev, _, err = tun.CreateUnmonitoredTUNFromFD(fd) // fd is its own from here on
		return err
	})
	return dev, err
}

func attach(fd int, name string) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		if errors.Is(err, unix.EBUSY) && wait < attachFor {
			time.Sleep(wait)
			continue
		}
		if err != nil {
			return fmt.Errorf("attach to link %s: %w", name, os.NewSyscallError("TUNSETIFF", err))
		}
		return os.NewSyscallError("TUNSETPERSIST", unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
	}
}

// device is a TUN link as WireGuard sees it: packets pass the policy, and the
// MTU is what it was told.
type device struct {
	tun.Device
	more    func() bool // whether another packet waits; nil: not known
	apart   bool        // packets are not read together
	lone    int64       // when a big packet is to go alone
	held    [][]byte    // packets that were read, and let one go before them
	policy  atomic.Pointer[policy]
	start   time.Time
	events  chan tun.Event
	close   sync.Once
	strange atomic.Uint64 // reads of which nothing could be made
}

func newDevice(t tun.Device, p *policy) *device {
	d := &device{Device: t, more: waiting(t.File()), start: time.Now(), events: make(chan tun.Event, 1)}
	d.policy.Store(p)
	return d
}

func (d *device) now() int64 { return int64(time.Since(d.start)) }

// Read gives packets of the tenant that may pass.
func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(d.held) > 0 {
		return d.release(bufs, sizes, offset), nil
	}
	n, err := d.Device.Read(bufs, sizes, offset)
	now := d.now()
	if n > 0 && sizes[0] > MinMTU && now >= d.lone {
		d.lone = now + int64(loneEvery)
		d.hold(bufs[1:n], sizes[1:n], offset)
		n = min(n, 1)
	} else {
		n, err = d.gather(n, err, bufs, sizes, offset)
	}
	p := d.policy.Load()
	for i := range n {
		if !p.outbound(bufs[i][offset:offset+sizes[i]], now) {
			sizes[i] = 0
		}
	}
	var broken *os.PathError
	if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, tun.ErrTooManySegments) && !errors.As(err, &broken) {
		// A packet that cannot be split must not end the tunnel.
		d.strange.Add(1)
		return n, nil
	}
	return n, err
}

// loneEvery is how often a big packet goes alone. Packets that are sent together
// (UDP_SEGMENT) may be fragmented on their way, as the kernel takes all of them for
// one that is too big anyway; only for one that is sent alone does it ask routers to
// say what does not fit (DF), which is how the path's MTU is found out.
const loneEvery = time.Second

// hold keeps packets for the next read.
func (d *device) hold(bufs [][]byte, sizes []int, offset int) {
	for i, b := range bufs {
		d.held = append(d.held, bytes.Clone(b[offset:offset+sizes[i]]))
	}
}

func (d *device) release(bufs [][]byte, sizes []int, offset int) (n int) {
	p, now := d.policy.Load(), d.now()
	for n < len(bufs) && len(d.held) > 0 {
		sizes[n] = copy(bufs[n][offset:], d.held[0])
		if !p.outbound(bufs[n][offset:offset+sizes[n]], now) {
			sizes[n] = 0
		}
		d.held = d.held[1:]
		n++
	}
	if len(d.held) == 0 {
		d.held = nil
	}
	return n
}

// gather fills a batch, of which n packets were read, with what waits: a packet that
// goes through encryption and its queues alone costs far more than in company.
// Half of the batch is left to a super-packet, which needs room for all its segments.
func (d *device) gather(n int, err error, bufs [][]byte, sizes []int, offset int) (int, error) {
	for n > 0 && err == nil && n < len(bufs)/2 && !d.apart && d.more != nil && d.more() {
		var got int
		got, err = d.Device.Read(bufs[n:], sizes[n:], offset)
		n += got
		d.apart = errors.Is(err, tun.ErrTooManySegments) // segments this small need the whole batch
	}
	return n, err
}

// waiting tells whether the file has something to read.
func waiting(f *os.File) func() bool {
	if f == nil {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	fds := []unix.PollFd{{Events: unix.POLLIN}}
	ready := false
	look := func(fd uintptr) {
		fds[0].Fd = int32(fd)
		n, err := unix.Poll(fds, 0)
		ready = err == nil && n == 1 && fds[0].Revents&unix.POLLIN != 0
	}
	return func() bool {
		ready = false
		return raw.Control(look) == nil && ready
	}
}

// Write takes packets of the site, and passes on those that may.
func (d *device) Write(bufs [][]byte, offset int) (int, error) {
	p, now := d.policy.Load(), d.now()
	pass := bufs[:0]
	for _, b := range bufs {
		if p.inbound(b[offset:], now) {
			pass = append(pass, b)
		}
	}
	if len(pass) == 0 {
		return 0, nil
	}
	return d.Device.Write(pass, offset)
}

func (d *device) MTU() (int, error) { return d.policy.Load().mtu, nil }

// set puts a policy in the place of the old one.
func (d *device) set(p *policy) {
	old := d.policy.Swap(p)
	if old.mtu == p.mtu {
		return
	}
	select {
	case d.events <- tun.EventMTUUpdate:
	default: // one is waiting, and will find the new MTU
	}
}

func (d *device) Events() <-chan tun.Event { return d.events }

func (d *device) Close() error {
	err := d.Device.Close()
	d.close.Do(func() { close(d.events) })
	return err
}

//go:build linux

package s2s

import (
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
	policy  atomic.Pointer[policy]
	start   time.Time
	events  chan tun.Event
	close   sync.Once
	strange atomic.Uint64 // reads of which nothing could be made
}

func newDevice(t tun.Device, p *policy) *device {
	d := &device{Device: t, start: time.Now(), events: make(chan tun.Event, 1)}
	d.policy.Store(p)
	return d
}

func (d *device) now() int64 { return int64(time.Since(d.start)) }

// Read gives packets of the tenant that may pass.
func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	n, err := d.Device.Read(bufs, sizes, offset)
	p, now := d.policy.Load(), d.now()
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

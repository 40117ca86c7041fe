//go:build linux

package s2s

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/nl"
)

const (
	// headroom is what a packet grows by in a tunnel: the outer header of IPv6
	// (40), which a roaming peer may come by, UDP (8) and WireGuard (32).
	headroom = 80
	// headroom4 is the same over IPv4.
	headroom4 = 60
	// ethernetMTU is assumed where the way to a peer is not known.
	ethernetMTU = 1500
)

// keepNarrow is how long a narrow path counts as one after it was found out, as
// RFC 1191 (6.3) has it. The kernel forgets what it knows of paths as soon as any
// link's MTU changes: the tunnel's own, for one.
const keepNarrow = 10 * time.Minute

// mtuOf gives the running tunnel's MTU: what the Spec says, or what is derived and was
// found to pass.
func (e *Engine) mtuOf(t Tunnel, run *tunnel, now time.Time) int {
	if t.MTU != 0 {
		run.narrowed, run.derived = time.Time{}, 0
		return t.MTU
	}
	mtu := e.derive(t)
	switch {
	case run.derived == 0:
	case mtu < run.derived:
		run.narrowed = now
	case mtu > run.derived && now.Sub(run.narrowed) < keepNarrow:
		mtu = run.derived
	}
	run.derived = mtu
	if run.inherited >= MinMTU {
		mtu = min(mtu, run.inherited)
	}
	for _, pr := range run.probers {
		if passes := pr.passes(); passes != 0 {
			mtu = min(mtu, passes)
		}
	}
	return mtu
}

// derive gives what the narrowest of the ways to the peers leaves, as far as the
// kernel knows them: it knows the MTU of the link, and of a path of which a router
// complained.
func (e *Engine) derive(t Tunnel) int {
	least := MaxMTU
	for _, p := range t.Peers {
		path := ethernetMTU
		if p.Endpoint.IsValid() {
			if known, err := e.pathMTU(p.Endpoint); err == nil && known > 0 {
				path = known
			}
		}
		least = min(least, room(path, p.Endpoint))
	}
	if len(t.Peers) == 0 {
		least = room(ethernetMTU, netip.AddrPort{})
	}
	return max(least, MinMTU)
}

// followPaths brings the MTUs in line that are derived.
func (e *Engine) followPaths(r *Result) error {
	var errs []error
	clamp := false
	for _, t := range e.spec.Tunnels {
		run := e.tunnels[t.Interface]
		if t.MTU != 0 || run == nil {
			continue
		}
		now := time.Now()
		mtu := e.mtuOf(t, run, now)
		for _, pr := range run.probers {
			for _, size := range pr.sizes(now, run.derived) {
				if err := e.sendSize(run, pr, size); err != nil {
					errs = append(errs, fmt.Errorf("tunnel %s: %w", t.Name, err))
				}
			}
		}
		if mtu == run.mtu {
			continue
		}
		run.shape(t, mtu)
		clamp = clamp || run.wg.kind() == Kernel
		if err := e.nl.SetLink(run.index, nl.LinkChange{MTU: mtu}); err != nil {
			errs = append(errs, fmt.Errorf("tunnel %s: %w", t.Name, err))
			continue
		}
		r.add("MTU of %s is %d", t.Interface, mtu)
	}
	if clamp {
		errs = append(errs, e.shape(r))
	}
	return errors.Join(errs...)
}

// sendSize asks the peer to answer a packet of the size. One that is larger than the
// tunnel's own leaves while the link takes it, which is not long enough for others to.
func (e *Engine) sendSize(run *tunnel, pr *prober, size int) error {
	if size <= run.mtu {
		pr.sendSize(size)
		return nil
	}
	if err := e.nl.SetLink(run.index, nl.LinkChange{MTU: size}); err != nil {
		return err
	}
	pr.sendSize(size)
	return e.nl.SetLink(run.index, nl.LinkChange{MTU: run.mtu})
}

// room is what a path leaves for a tunnel. A path that is narrower than Ethernet
// is used to the full; else there is room for the peer to move to IPv6.
func room(path int, to netip.AddrPort) int {
	if path < ethernetMTU && to.IsValid() && to.Addr().Is4() {
		return path - headroom4
	}
	return path - headroom
}

// pathMTU asks the kernel what a packet to the address may measure now.
func (e *Engine) pathMTU(to netip.AddrPort) (mtu int, err error) {
	err = e.ns.Do(func() error {
		family, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU
		var sa unix.Sockaddr
		if to.Addr().Is4() {
			sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		} else {
			family, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU
			sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, sa); err != nil {
			return os.NewSyscallError("connect", err)
		}
		mtu, err = unix.GetsockoptInt(fd, level, opt)
		return err
	})
	return mtu, err
}

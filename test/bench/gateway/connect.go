//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// connect measures how many new connections a second the gateway lets through: TCP
// connections with a byte each way, and flows of a single packet.
func connect(ctx context.Context, r *rig, o Options, put put) error {
	c, err := r.tcpConnections(ctx, o.Time)
	if err != nil {
		return err
	}
	put("tcp_new", "connection/s", c.rate())
	put("tcp_new_cpu", "us/connection", c.cost()/1000)
	return r.withGenerator(ctx, func() error {
		c, err := r.udpFlows(ctx, o.Time)
		if err != nil {
			return err
		}
		put("udp_new", "flow/s", c.rate())
		put("udp_new_cpu", "us/flow", c.cost()/1000)
		return nil
	})
}

const (
	// clients and servers are threads: enough of them to keep the gateway busy while
	// others wait for answers.
	clients, servers = 16, 4
	// fewFlows is how many flows are made before they are forgotten again. More would
	// fill the gateway's tables and measure how it makes room.
	fewFlows = 50_000
)

// udpFlows counts flows of one packet each, in bursts between which the gateway's
// connection tracking is emptied.
func (r *rig) udpFlows(ctx context.Context, t time.Duration) (all count, err error) {
	g, err := r.newGenerator(0, r.site.strangers.Addr())
	if err != nil {
		return all, err
	}
	defer g.close()
	for all.time < t {
		if err := r.forget(ctx); err != nil {
			return all, err
		}
		c, err := r.fewFlows(ctx, g, t-all.time)
		if err != nil {
			return all, err
		}
		all = count{all.time + c.time, all.work + c.work, all.right + c.right, 0}
	}
	return all, r.forget(ctx)
}

// fewFlows counts from the first packet on, until there are enough or the time is
// over.
func (r *rig) fewFlows(ctx context.Context, g *generator, t time.Duration) (c count, err error) {
	begin, err := r.mark()
	if err != nil {
		return c, err
	}
	stop, err := g.start(0)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	wait := func(n uint64, end time.Time) error {
		for {
			right, _, err := r.sink.taken()
			if err != nil || right-begin.right >= n || time.Now().After(end) {
				return err
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	if err := wait(1, time.Now().Add(5*time.Second)); err != nil {
		return c, err
	}
	from, err := r.mark()
	if err != nil {
		return c, err
	}
	if err := wait(fewFlows, from.at.Add(t)); err != nil {
		return c, err
	}
	return r.since(from)
}

// forget empties the connection tracking of whoever translates.
func (r *rig) forget(ctx context.Context) error {
	if r.compartment == "" {
		return nil
	}
	_, err := r.lab.Exec(ctx, r.compartment, "conntrack", "-F")
	return err
}

// tcpConnections counts connections that the VM opens, one after the other in every
// thread. The server closes first, so that the waiting for stray packets is on its
// side and the VM does not run out of ports.
func (r *rig) tcpConnections(ctx context.Context, t time.Duration) (c count, err error) {
	listener, err := r.listen()
	if err != nil {
		return c, err
	}
	var wg sync.WaitGroup
	for range servers {
		wg.Go(func() { serve(listener) })
	}
	defer func() {
		// Whoever waits in accept is woken by the end of listening, and only by that.
		err = errors.Join(err, unix.Shutdown(listener, unix.SHUT_RDWR))
		wg.Wait()
		err = errors.Join(err, unix.Close(listener))
	}()
	work, err := r.work()
	if err != nil {
		return c, err
	}
	var done atomic.Uint64
	var over atomic.Bool
	errs := make(chan error, clients)
	begin := time.Now()
	for range clients {
		go func() {
			errs <- r.within(vmMachine, func() error {
				for !over.Load() {
					if err := r.exchange(); err != nil {
						return err
					}
					done.Add(1)
				}
				return nil
			})
		}()
	}
	err = pause(ctx, t)
	over.Store(true)
	c = count{time: time.Since(begin), right: done.Load()}
	for range clients {
		err = errors.Join(err, <-errs)
	}
	after, workErr := r.work()
	c.work = after - work
	if err == nil && c.right == 0 {
		err = errors.New("no connection came about")
	}
	return c, errors.Join(err, workErr)
}

// listen opens the server's socket in the Internet.
func (r *rig) listen() (fd int, err error) {
	err = r.within(inetMachine, func() error {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, sockaddr(r.site.service, r.site.tcpPort)),
			unix.Listen(fd, 1024))
		if err != nil {
			_ = unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("listen: %w", err)
	}
	return fd, nil
}

// serve answers each connection's byte by one and closes it, until listening ends.
func serve(listener int) {
	var b [1]byte
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return
		}
		// A client may be gone without a word.
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
		n, err := unix.Read(fd, b[:])
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(fd, b[:])
		}
		if n == 1 && err == nil {
			_, _ = unix.Write(fd, b[:]) // the client finds out
		}
		_ = unix.Close(fd)
	}
}

// exchange opens a connection, sends a byte, waits for one and for the end.
func (r *rig) exchange() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// Three requests to connect take seven seconds; after that nothing may take five.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(r.site.service, r.site.tcpPort)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	b := [1]byte{'x'}
	if _, err := unix.Write(fd, b[:]); err != nil {
		return fmt.Errorf("send a byte: %w", err)
	}
	for want := 1; want >= 0; want-- { // the byte, then the end
		n, err := unix.Read(fd, b[:])
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(fd, b[:])
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if n != want {
			return fmt.Errorf("receive: got %d bytes, want %d", n, want)
		}
	}
	return nil
}

func sockaddr(a netip.Addr, port uint16) unix.Sockaddr {
	return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}
}

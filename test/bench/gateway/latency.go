//go:build linux

package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// halfLoadFlows is how many flows the load has that latency is measured under.
const halfLoadFlows = 256

// lost ends the name of a share of what was sent, which should be zero.
const lost = "_lost"

// latency measures round trips between the VM and the Internet while the gateway has
// half the packets to forward that it can.
func latency(ctx context.Context, r *rig, o Options, put put) error {
	return r.withGenerator(ctx, func() (err error) {
		// This also has the flows answered, which others may have forgotten since, or
		// what is forwarded would not be what the rate is of.
		c, err := r.packets(ctx, halfLoadFlows, o.Time/2)
		if err != nil {
			return err
		}
		g, err := r.newGenerator(halfLoadFlows, r.site.service)
		if err != nil {
			return err
		}
		defer g.close()
		stop, err := g.start(c.rate() / 2)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		if err := pause(ctx, settling); err != nil {
			return err
		}
		for _, p := range []struct {
			metric string
			open   func(*rig) (probe, error)
		}{{"udp_echo", (*rig).echoProbe}, {"ping", (*rig).pingProbe}} {
			trips, missed, err := r.trips(p.open, o.Time)
			if err != nil {
				return fmt.Errorf("%s: %w", p.metric, err)
			}
			putQuantiles(put, p.metric, trips)
			put(p.metric+lost, "of all", float64(missed)/float64(missed+len(trips)))
		}
		return nil
	})
}

// quantile gives the value that the share q of the sorted values does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// probe is a socket of the VM that sends something numbered and gets it back.
type probe struct {
	fd     int
	to     unix.Sockaddr
	packet func(n uint32) []byte
	number func(answer []byte) (uint32, bool) // of what was sent
	close  func() error
}

const (
	// tripsApart is the time between an answer and the next packet.
	tripsApart = 200 * time.Microsecond
	// lostAfter is how long an answer is waited for.
	lostAfter = 100 * time.Millisecond
)

// trips sends one packet after the other and gives the times until each came back.
func (r *rig) trips(open func(*rig) (probe, error), t time.Duration) (trips []time.Duration, missed int, err error) {
	p, err := open(r)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	wait := unix.NsecToTimeval(lostAfter.Nanoseconds())
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return nil, 0, err
	}
	buf := make([]byte, 2048)
	for end, n := time.Now().Add(t), uint32(0); time.Now().Before(end); n++ {
		sent := time.Now()
		if err := unix.Sendto(p.fd, p.packet(n), 0, p.to); err != nil {
			return nil, 0, err
		}
		if p.answered(buf, n, sent.Add(lostAfter)) {
			trips = append(trips, time.Since(sent))
		} else {
			missed++
		}
		time.Sleep(tripsApart)
	}
	if len(trips) == 0 {
		return nil, missed, fmt.Errorf("no answer to any of %d packets", missed)
	}
	return trips, missed, nil
}

// answered waits for the answer to the packet with the number.
func (p probe) answered(buf []byte, n uint32, until time.Time) bool {
	for time.Now().Before(until) {
		size, _, err := unix.Recvfrom(p.fd, buf, 0)
		if err != nil {
			continue // EINTR, or the time is over
		}
		if got, ok := p.number(buf[:size]); ok && got == n {
			return true
		}
	}
	return false
}

// echoProbe starts a UDP echo server in the Internet (RFC 862) and opens a socket
// of the VM's to talk to it.
func (r *rig) echoProbe() (p probe, err error) {
	var server int
	err = r.within(inetMachine, func() error {
		if server, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(server, sockaddr(r.site.service, r.site.echoPort))
	})
	if err != nil {
		return p, err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); echo(server) }()
	fd, err := r.vmSocket(unix.SOCK_DGRAM, 0)
	if err != nil {
		return p, errors.Join(err, unix.Shutdown(server, unix.SHUT_RDWR))
	}
	return probe{
		fd: fd, to: sockaddr(r.site.service, r.site.echoPort),
		packet: func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) },
		number: func(b []byte) (uint32, bool) {
			if len(b) != 4 {
				return 0, false
			}
			return binary.BigEndian.Uint32(b), true
		},
		close: func() error {
			// It ends whoever waits, though it is an error where nobody is connected.
			_ = unix.Shutdown(server, unix.SHUT_RDWR)
			<-ended
			return errors.Join(unix.Close(server), unix.Close(fd))
		},
	}, nil
}

// echo sends back what comes, until the socket is shut down: then nothing comes, from
// nobody.
func echo(fd int) {
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || from == nil {
			return
		}
		_ = unix.Sendto(fd, buf[:n], 0, from) // lost, as any packet may be
	}
}

// pingProbe opens a socket of the VM's for echo requests (RFC 792).
func (r *rig) pingProbe() (probe, error) {
	fd, err := r.vmSocket(unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err != nil {
		return probe{}, err
	}
	id := uint16(os.Getpid())
	return probe{
		fd: fd, to: sockaddr(r.site.service, 0),
		packet: func(n uint32) []byte { return echoRequest(id, n) },
		number: func(b []byte) (uint32, bool) { return echoReply(b, id) },
		close:  func() error { return unix.Close(fd) },
	}, nil
}

func (r *rig) vmSocket(kind, proto int) (fd int, err error) {
	err = r.within(vmMachine, func() error {
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, proto)
		return err
	})
	return fd, err
}

// echoRequest makes an ICMP echo request with the number behind its header.
func echoRequest(id uint16, n uint32) []byte {
	b := []byte{8, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = binary.BigEndian.AppendUint32(b, n)
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum(b)))
	return b
}

// echoReply gives the number in the answer to an echo request, which stands behind an
// IP header without options.
func echoReply(b []byte, id uint16) (uint32, bool) {
	if len(b) != 32 || b[0] != 0x45 || b[20] != 0 || binary.BigEndian.Uint16(b[24:]) != id {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[28:]), true
}

//go:build linux

package s2s

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// prober sends echo requests to one peer through its tunnel, and knows whether
// the peer is alive.
type prober struct {
	source netip.Addr
	target netip.Addr
	key    Key // the peer's
	probe  Probe
	file   *os.File
	fd     int
	id     uint16
	nonce  uint64 // in each request: an answer to somebody else's is none of ours
	turned func() // called when the liveness has changed
	// shook tells when the last handshake with the peer was done.
	shook func() time.Time

	mu   sync.Mutex
	d    *detector
	path pathSearch

	end context.CancelFunc
	wg  sync.WaitGroup
}

// echo request:
//
//	 0      8      16           32
//	+------+------+-------------+
//	| type | code |  checksum   |
//	+------+------+-------------+
//	|     id      | sequence    |
//	+-------------+-------------+
//	| nonce                  64 |
//	| number                 64 |
//	+---------------------------+
//	| zeros, where it is the    |
//	| size that is probed       |
//	+---------------------------+
const probeLen = 24

// sizeMark is the bit in the number of requests that probe for a size, which is the
// rest of it.
const sizeMark = 1 << 63

// startProber opens a socket bound to the link and probes until stop.
func startProber(ns netns.NS, link string, source, target netip.Addr, p Probe, turned func(), shook func() time.Time) (*prober, error) {
	pr := &prober{source: source, target: target, probe: p, turned: turned, shook: shook, d: newDetector(p, time.Now())}
	var seed [10]byte
	_, _ = rand.Read(seed[:]) // never fails
	pr.id, pr.nonce = binary.BigEndian.Uint16(seed[:]), binary.BigEndian.Uint64(seed[2:])
	err := ns.Do(func() (err error) {
		pr.fd, err = probeSocket(link, source)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe %s on link %s: %w", target, link, err)
	}
	pr.file = os.NewFile(uintptr(pr.fd), "probes on "+link)
	ctx, cancel := context.WithCancel(context.Background())
	pr.end = cancel
	pr.wg.Go(func() { pr.send(ctx) })
	pr.wg.Go(pr.receive)
	return pr, nil
}

func probeSocket(link string, source netip.Addr) (int, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	if source.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := setUpProbe(fd, link, source); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setUpProbe(fd int, link string, source netip.Addr) error {
	if err := unix.BindToDevice(fd, link); err != nil {
		return os.NewSyscallError("SO_BINDTODEVICE", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
	// What was told of a path within the tunnel says nothing about the tunnel's own;
	// there, IPv4's routers may cut a probe.
	level, opt := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if source.Is6() {
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	if err := unix.SetsockoptInt(fd, level, opt, unix.IP_PMTUDISC_INTERFACE); err != nil {
		return os.NewSyscallError("MTU_DISCOVER", err)
	}
	if source.Is4() {
		const icmpFilter, solRaw = 1, 255
		if err := unix.SetsockoptInt(fd, solRaw, icmpFilter, ^(1 << 0)); err != nil { // all but echo replies
			return os.NewSyscallError("ICMP_FILTER", err)
		}
		return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: source.As4()}))
	}
	filter := unix.ICMPv6Filter{}
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0)
	}
	filter.Data[129>>5] &^= 1 << (129 & 31)
	if err := unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter); err != nil {
		return os.NewSyscallError("ICMP6_FILTER", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet6{Addr: source.As16()}))
}

func (p *prober) stop() {
	p.end()
	_ = p.file.Close()
	p.wg.Wait()
}

func (p *prober) send(ctx context.Context) {
	tick := time.NewTicker(p.probe.interval())
	defer tick.Stop()
	for {
		now := time.Now()
		var seq uint64
		p.update(func(d *detector) { seq = d.probed(now) })
		p.sendOne(seq)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *prober) sendOne(seq uint64) {
	var b [probeLen]byte
	p.request(b[:], seq)
}

// sendSize sends a request that makes an IP packet of the size.
func (p *prober) sendSize(size int) {
	header := 20
	if p.target.Is6() {
		header = 40
	}
	p.request(make([]byte, max(size-header, probeLen)), sizeMark|uint64(size))
}

// request makes and sends one in b, which is all zeros.
func (p *prober) request(b []byte, seq uint64) {
	b[0] = 8
	if p.target.Is6() {
		b[0] = 128
	}
	binary.BigEndian.PutUint16(b[4:], p.id)
	binary.BigEndian.PutUint16(b[6:], uint16(seq))
	binary.BigEndian.PutUint64(b[8:], p.nonce)
	binary.BigEndian.PutUint64(b[16:], seq)
	// A request that cannot be sent is one without an answer.
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if p.target.Is6() { // the kernel adds ICMPv6's checksum
			_ = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, &unix.SockaddrInet6{Addr: p.target.As16()})
			return
		}
		binary.BigEndian.PutUint16(b[2:], ^sum(b))
		_ = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: p.target.As4()})
	})
}

// sum is the Internet checksum before its last complement.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func (p *prober) receive() {
	b := make([]byte, 512)
	for {
		n, err := p.file.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil { // as the link's going down: wait for it
			time.Sleep(10 * time.Millisecond)
			continue
		}
		now := time.Now()
		switch seq, ok := p.reply(b[:n]); {
		case !ok:
		case seq&sizeMark != 0:
			p.mu.Lock()
			p.path.answered(int(seq&^sizeMark), now)
			p.mu.Unlock()
		default:
			waited := p.waited(seq, now)
			p.update(func(d *detector) { d.answered(seq, now, waited) })
		}
	}
}

// waited tells whether the probe was sent before the session was there that carried it.
// WireGuard is asked only where the answer took long.
func (p *prober) waited(seq uint64, now time.Time) bool {
	p.mu.Lock()
	sent, odd := p.d.odd(seq, now)
	p.mu.Unlock()
	return odd && sent.Before(p.shook())
}

// reply reads an echo reply: with its IP header where that is IPv4's.
func (p *prober) reply(b []byte) (seq uint64, ok bool) {
	want := byte(129)
	if p.target.Is4() {
		want = 0
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return 0, false
		}
		b = b[int(b[0]&15)*4:]
	}
	if len(b) < probeLen || b[0] != want || b[1] != 0 ||
		binary.BigEndian.Uint16(b[4:]) != p.id || binary.BigEndian.Uint64(b[8:]) != p.nonce {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[16:]), true
}

// update changes the detector, and tells if the peer has turned.
func (p *prober) update(change func(*detector)) {
	p.mu.Lock()
	before := p.d.state
	change(p.d)
	after := p.d.state
	p.mu.Unlock()
	if before.usable() != after.usable() {
		p.turned()
	}
}

// sizes gives those of which requests are to be sent now, for a tunnel of the MTU.
func (p *prober) sizes(now time.Time, mtu int) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path.tick(now, mtu, p.d.state == Up)
}

// follow goes on with what another prober of the peer found.
func (p *prober) follow(s pathSearch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.path = s
}

// passes is the largest size that was found to get to the peer; 0: all do.
func (p *prober) passes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.path.passes
}

// look gives a copy of what the detector knows.
func (p *prober) look() detector {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.d
}

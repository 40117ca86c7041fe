//go:build linux

package compartments

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// pingSocket is an ordinary ICMP socket from one address to another. Its errors,
// those that routers report too, come by its error queue.
type pingSocket struct {
	fd    int
	spec  PingSpec
	token [10]byte // of the identifier and of the data: what comes back must have it
	buf   []byte
	oob   []byte
	out   []byte
	kept  []report // that came while another one was looked for
}

// report is an error about a request of ours.
type report struct {
	seq   uint16
	reply PingReply
}

// ICMP of both families (RFC 792, RFC 4443), and what golang.org/x/sys/unix has
// no names for.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	icmpHeader               = 8
	tokenBytes               = 8

	solRaw      = 255
	icmpFilter  = 1
	icmp6Filter = 1

	originLocal = 1 // SO_EE_ORIGIN_LOCAL
)

func openPing(ns netns.NS, s PingSpec) (*pingSocket, error) {
	// A reply is as long as the request; an error quotes less than 1280 bytes.
	p := &pingSocket{fd: -1, spec: s, buf: make([]byte, max(1500, s.Size+128)), oob: make([]byte, 512)}
	_, _ = rand.Read(p.token[:])
	p.out = make([]byte, icmpHeader+s.Size)
	copy(p.out[icmpHeader:], p.token[2:])
	copy(p.out[4:6], p.token[:2])
	err := doIn(ns, func() (err error) {
		family, proto := unix.AF_INET, unix.IPPROTO_ICMP
		if s.To.Is6() {
			family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		}
		p.fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		return os.NewSyscallError("socket", err)
	})
	if err == nil {
		err = p.setUp()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// doIn runs f in the namespace, for which it takes a thread of its own only where
// it must: some ping every second.
func doIn(ns netns.NS, f func() error) error {
	here, err := netns.Current()
	if err != nil {
		return err
	}
	defer here.Close()
	a, err := here.ID()
	if err != nil {
		return err
	}
	b, err := ns.ID()
	if err != nil {
		return err
	}
	if a == b {
		return f()
	}
	return ns.Do(f)
}

// setUp fixes both ends: what the socket is then given is from the other one, or
// an error about what was sent there.
func (p *pingSocket) setUp() error {
	set := func(level, opt, v int) error {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(p.fd, level, opt, v))
	}
	var errs []error
	if p.spec.To.Is6() {
		p.out[0] = echoRequest6
		pmtu := unix.IPV6_PMTUDISC_DONT
		if p.spec.DontFragment {
			pmtu = unix.IPV6_PMTUDISC_PROBE // what was told of the way before does not count
			errs = append(errs, set(unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
		}
		var block [8]uint32
		for i := range block {
			block[i] = ^uint32(0)
		}
		block[echoReply6>>5] &^= 1 << (echoReply6 & 31)
		errs = append(errs,
			set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, pmtu),
			set(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1),
			set(unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1),
			unix.SetsockoptICMPv6Filter(p.fd, unix.IPPROTO_ICMPV6, icmp6Filter, &unix.ICMPv6Filter{Data: block}))
	} else {
		p.out[0] = echoRequest4
		pmtu := unix.IP_PMTUDISC_DONT
		if p.spec.DontFragment {
			pmtu = unix.IP_PMTUDISC_PROBE
		}
		all := ^uint32(0)
		errs = append(errs,
			set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, pmtu),
			set(unix.IPPROTO_IP, unix.IP_RECVERR, 1),
			set(solRaw, icmpFilter, int(int32(all&^(1<<echoReply4)))))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := unix.Bind(p.fd, sockaddr(p.spec.From)); err != nil {
		return fmt.Errorf("%s is no address of this machine: %w", p.spec.From, err)
	}
	if err := unix.Connect(p.fd, sockaddr(p.spec.To)); err != nil {
		return fmt.Errorf("no way there: %w", err)
	}
	return nil
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is6() {
		return &unix.SockaddrInet6{Addr: a.As16()}
	}
	return &unix.SockaddrInet4{Addr: a.As4()}
}

func (p *pingSocket) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
	}
}

// wait waits until something comes.
func (p *pingSocket) wait(d time.Duration) error {
	ms := int(d.Milliseconds())
	if d > 0 && ms == 0 {
		ms = 1
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, max(ms, 0))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return os.NewSyscallError("poll", err)
	}
	return nil
}

// send sends one request. The answer is not nil if it was refused here.
func (p *pingSocket) send(seq uint16) (*PingReply, error) {
	binary.BigEndian.PutUint16(p.out[6:], seq)
	if p.spec.To.Is4() { // the kernel does IPv6's
		p.out[2], p.out[3] = 0, 0
		binary.BigEndian.PutUint16(p.out[2:], checksum(p.out))
	}
	for range 8 { // an error that waits on the socket is another packet's
		err := unix.Send(p.fd, p.out, 0)
		switch {
		case err == nil:
			return nil, nil
		case errors.Is(err, unix.EMSGSIZE):
			return p.refused(), nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPROTO), errors.Is(err, unix.EACCES):
			continue
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.EPERM), errors.Is(err, unix.EADDRNOTAVAIL):
			return &PingReply{From: p.spec.From, Err: fmt.Errorf("%w from here: %w", ErrUnreachable, err)}, nil
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			return nil, nil // lost on the way
		default:
			return nil, os.NewSyscallError("send", err)
		}
	}
	return &PingReply{From: p.spec.From, Err: fmt.Errorf("%w from here", ErrUnreachable)}, nil
}

// refused tells of a packet that is too long for the interface: how long one may
// be stands in the error queue.
func (p *pingSocket) refused() *PingReply {
	a := PingReply{From: p.spec.From, Err: fmt.Errorf("%w for the interface here", ErrTooBig)}
	for {
		r, e, ok := p.readError()
		switch {
		case !ok:
			return &a
		case e.Origin == originLocal && e.Errno == uint32(unix.EMSGSIZE):
			a.MTU = int(e.Info)
			return &a
		case r != nil:
			p.kept = append(p.kept, *r)
		}
	}
}

// receive gives what became of one request; nil if nothing has come.
func (p *pingSocket) receive() (seq uint16, a *PingReply, err error) {
	for {
		if r := p.nextReport(); r != nil {
			return r.seq, &r.reply, nil
		}
		n, oobn, _, from, err := unix.Recvmsg(p.fd, p.buf, p.oob, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return 0, nil, nil
		case err != nil && p.reported(err):
			continue // it is in the error queue too
		case err != nil:
			return 0, nil, os.NewSyscallError("recvmsg", err)
		}
		b := p.buf[:n]
		var reply PingReply
		kind, ok := byte(echoReply6), true
		switch sa := from.(type) {
		case *unix.SockaddrInet4:
			reply.From, kind = netip.AddrFrom4(sa.Addr), echoReply4
			reply.TTL, b, ok = behindIPv4(b)
		case *unix.SockaddrInet6:
			reply.From, reply.TTL = netip.AddrFrom16(sa.Addr), hopLimit(p.oob[:oobn])
		}
		if !ok {
			continue
		}
		if seq, ok := p.mine(b, kind); ok {
			return seq, &reply, nil
		}
	}
}

// behindIPv4 takes the IP header off, which a raw socket of IPv4 gets too.
func behindIPv4(b []byte) (ttl int, icmp []byte, ok bool) {
	const least = 20
	if len(b) < least {
		return 0, nil, false
	}
	n := int(b[0]&15) * 4
	if n < least || n > len(b) {
		return 0, nil, false
	}
	return int(b[8]), b[n:], true
}

// reported tells whether an error is one that a packet of ours met.
func (p *pingSocket) reported(err error) bool {
	for _, e := range []error{unix.EINTR, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNREFUSED, unix.EMSGSIZE, unix.EPROTO, unix.EACCES, unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EHOSTDOWN, unix.ENONET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// mine tells whether an ICMP message is of this Ping, and which one.
func (p *pingSocket) mine(b []byte, kind byte) (seq uint16, ok bool) {
	n := min(tokenBytes, p.spec.Size, max(0, len(b)-icmpHeader))
	if len(b) < icmpHeader || b[0] != kind || [2]byte(b[4:6]) != [2]byte(p.token[:2]) ||
		string(b[icmpHeader:icmpHeader+n]) != string(p.token[2:2+n]) {
		return 0, false
	}
	return binary.BigEndian.Uint16(b[6:]), true
}

// nextReport gives one error about a request of ours, nil if there is none.
func (p *pingSocket) nextReport() *report {
	if len(p.kept) > 0 {
		r := p.kept[0]
		p.kept = p.kept[1:]
		return &r
	}
	for {
		if r, _, ok := p.readError(); r != nil || !ok {
			return r
		}
	}
}

// readError takes one error from the queue, and reads it as a report about a
// request of ours if it is one.
func (p *pingSocket) readError() (r *report, e extendedError, ok bool) {
	n, oobn, _, _, err := unix.Recvmsg(p.fd, p.buf, p.oob, unix.MSG_ERRQUEUE)
	if err != nil {
		return nil, e, false
	}
	e, is := p.extended(p.oob[:oobn])
	seq, mine := p.mine(p.buf[:n], p.out[0])
	if !is || !mine || e.Origin == originLocal {
		return nil, e, true
	}
	a := PingReply{From: e.offender, Err: fmt.Errorf("%w: %w", ErrUnreachable, unix.Errno(e.Errno))}
	const exceeded4, exceeded6 = 11, 3
	switch {
	case e.Errno == uint32(unix.EMSGSIZE):
		a.Err, a.MTU = ErrTooBig, int(e.Info)
	case p.spec.To.Is4() && e.Type == exceeded4, p.spec.To.Is6() && e.Type == exceeded6:
		a.Err = ErrTTL
	}
	return &report{seq, a}, e, true
}

// extendedError is struct sock_extended_err with the address of who reported.
type extendedError struct {
	unix.SockExtendedErr
	offender netip.Addr
}

func (p *pingSocket) extended(oob []byte) (e extendedError, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return e, false
	}
	for _, m := range msgs {
		v4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		const size = int(unsafe.Sizeof(unix.SockExtendedErr{}))
		if !v4 && !v6 || len(m.Data) < size {
			continue
		}
		e.SockExtendedErr = unix.SockExtendedErr{
			Errno: binary.NativeEndian.Uint32(m.Data), Origin: m.Data[4], Type: m.Data[5], Code: m.Data[6],
			Info: binary.NativeEndian.Uint32(m.Data[8:]), Data: binary.NativeEndian.Uint32(m.Data[12:]),
		}
		sa := m.Data[size:]
		switch {
		case len(sa) >= unix.SizeofSockaddrInet4 && binary.NativeEndian.Uint16(sa) == unix.AF_INET:
			e.offender = netip.AddrFrom4([4]byte(sa[4:8]))
		case len(sa) >= unix.SizeofSockaddrInet6 && binary.NativeEndian.Uint16(sa) == unix.AF_INET6:
			e.offender = netip.AddrFrom16([16]byte(sa[8:24]))
		}
		return e, true
	}
	return e, false
}

func hopLimit(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range msgs {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT && len(m.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return 0
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		sum += w
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

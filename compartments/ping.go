//go:build linux

package compartments

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
)

// PingSpec describes echo requests between provider addresses, sent by the
// machine's own stack: whether the fabric carries packets, how long it takes, and
// up to which size.
type PingSpec struct {
	From netip.Addr // an address of this machine
	To   netip.Addr
	// Count is how many are sent, Interval apart (0 is a second), Timeout how long
	// an answer is waited for (0 is a second). A Count of 0 goes on until the
	// context ends.
	Count             int
	Interval, Timeout time.Duration
	// Size is the length of the data in bytes, less than 65000; the IP packet is
	// longer by PingOverhead. DontFragment has packets that are too long for the
	// fabric reported and not cut.
	Size         int
	DontFragment bool
}

// The IP and ICMP headers of an echo request.
const (
	pingOverhead4 = 20 + 8
	pingOverhead6 = 40 + 8
	maxPing       = 65000
)

// PingOverhead is what an IP packet is longer than the Size of a PingSpec.
func PingOverhead(to netip.Addr) int {
	if to.Is6() {
		return pingOverhead6
	}
	return pingOverhead4
}

// What may have become of an echo request.
var (
	ErrNoReply     = errors.New("no reply")
	ErrUnreachable = errors.New("unreachable")
	ErrTooBig      = errors.New("packet too big")
	ErrTTL         = errors.New("time to live exceeded")
)

// PingReply tells what became of one echo request.
type PingReply struct {
	Seq  int // 1 is the first
	From netip.Addr
	RTT  time.Duration // 0 without an answer
	TTL  int           // of the reply, or hop limit
	Err  error         // nil: there was a reply; else it wraps one of the above
	MTU  int           // with ErrTooBig: how long a packet may be, 0 if it was not told
}

// PingResult sums up.
type PingResult struct {
	Sent, Received int
	Min, Avg, Max  time.Duration
}

func (s PingSpec) check() error {
	switch {
	case !s.From.IsValid() || !s.To.IsValid() || s.From.Is4() != s.To.Is4():
		return fmt.Errorf("from %s to %s: two addresses of one family are needed", s.From, s.To)
	case s.To.IsMulticast():
		return fmt.Errorf("to %s: that is a multicast group", s.To)
	case s.Size < 0 || s.Size > maxPing || s.Count < 0 || s.Interval < 0 || s.Timeout < 0:
		return fmt.Errorf("the size is 0 to %d bytes, and nothing is less than 0", maxPing)
	}
	return nil
}

// Ping sends echo requests from a provider address and tells each of what became
// of it, in the order in which that is known.
func (e *Engine) Ping(ctx context.Context, s PingSpec, each func(PingReply)) (PingResult, error) {
	res, err := ping(ctx, e.ns, s, each)
	if err != nil {
		return res, fmt.Errorf("ping %s from %s: %w", s.To, s.From, err)
	}
	return res, nil
}

func ping(ctx context.Context, ns netns.NS, s PingSpec, each func(PingReply)) (PingResult, error) {
	if err := s.check(); err != nil {
		return PingResult{}, err
	}
	if s.Interval == 0 {
		s.Interval = time.Second
	}
	if s.Timeout == 0 {
		s.Timeout = time.Second
	}
	sock, err := openPing(ns, s)
	if err != nil {
		return PingResult{}, err
	}
	defer sock.close()
	p := pinger{spec: s, sock: sock, each: each, waiting: map[uint16]request{}}
	err = p.run(ctx)
	if p.res.Received > 0 {
		p.res.Avg /= time.Duration(p.res.Received)
	}
	return p.res, err
}

// request is one that is waited for.
type request struct {
	n    int
	sent time.Time
}

// pinger is one Ping under way.
type pinger struct {
	spec    PingSpec
	sock    *pingSocket
	each    func(PingReply)
	waiting map[uint16]request // by the sequence number on the wire
	res     PingResult         // with the sum in Avg
}

// glance bounds how long the end of the context goes unnoticed.
const glance = 50 * time.Millisecond

func (p *pinger) run(ctx context.Context) error {
	next := time.Now()
	// What is still waited for when the context ends was not given its time: it is
	// not told of.
	for ctx.Err() == nil {
		now := time.Now()
		more := p.spec.Count == 0 || p.res.Sent < p.spec.Count
		if more && !now.Before(next) {
			if err := p.send(now); err != nil {
				return err
			}
			next = next.Add(p.spec.Interval)
			if next.Before(now) {
				next = now
			}
			continue
		}
		p.expire(now)
		if !more && len(p.waiting) == 0 {
			return nil
		}
		wait := glance
		if more {
			wait = min(wait, next.Sub(now))
		}
		for _, r := range p.waiting {
			wait = min(wait, r.sent.Add(p.spec.Timeout).Sub(now))
		}
		if err := p.sock.wait(wait); err != nil {
			return err
		}
		if err := p.receive(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pinger) send(now time.Time) error {
	p.res.Sent++
	seq := uint16(p.res.Sent)
	if old, still := p.waiting[seq]; still { // its number comes again before it is given up
		p.done(seq, PingReply{Seq: old.n, Err: ErrNoReply})
	}
	p.waiting[seq] = request{p.res.Sent, now}
	answer, err := p.sock.send(seq)
	if err != nil {
		return err
	}
	if answer != nil {
		p.done(seq, *answer)
	}
	return nil
}

// receive takes all that has come.
func (p *pinger) receive() error {
	for {
		seq, answer, err := p.sock.receive()
		if err != nil || answer == nil {
			return err
		}
		p.done(seq, *answer)
	}
}

func (p *pinger) expire(now time.Time) {
	for seq, r := range p.waiting {
		if now.Sub(r.sent) >= p.spec.Timeout {
			p.done(seq, PingReply{Err: fmt.Errorf("%w within %v", ErrNoReply, p.spec.Timeout)})
		}
	}
}

// done tells of a request, unless that is done already.
func (p *pinger) done(seq uint16, a PingReply) {
	r, is := p.waiting[seq]
	if !is {
		return
	}
	delete(p.waiting, seq)
	a.Seq = r.n
	if !errors.Is(a.Err, ErrNoReply) {
		a.RTT = time.Since(r.sent)
	}
	if a.Err == nil {
		if p.res.Received == 0 || a.RTT < p.res.Min {
			p.res.Min = a.RTT
		}
		p.res.Received++
		p.res.Max = max(p.res.Max, a.RTT)
		p.res.Avg += a.RTT
	}
	if p.each != nil {
		p.each(a)
	}
}

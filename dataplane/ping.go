package dataplane

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// A ping is an ICMP echo in the name of a station of this machine that knows
// nothing of it:
//
//	Ping --> port's layers --> ... --> the destination's port --> guest
//	 ^                                          |                   |
//	 |                                  cookie: the dataplane       |
//	 |                                  of its host answers         |
//	 `--- taken here <-- port's layers <-- ... -+-------------------'
//
// The request goes through all that a packet of the station goes through. What
// comes back, the reply or an ICMP error about the request, is taken in front of
// the port. So the path is known to work, or not, whether or not there is a guest
// at either end.

// PingQuery is one echo.
type PingQuery struct {
	VSID         hnv.VSID // of the source
	SrcCA, DstCA netip.Addr
	Seq          uint16
	// Size is how many bytes of data it carries: 0 is DefaultPingSize, and
	// MinPingSize the least.
	Size         int
	DontFragment bool // IPv6 never is
	// Guest leaves the answer to the destination's guest, even if the dataplane of
	// its host could give it.
	Guest   bool
	Timeout time.Duration // 0 is DefaultPingTimeout
}

// The bounds of pings.
const (
	DefaultPingSize    = 56
	MinPingSize        = cookieLen
	MaxPingSize        = packet.MaxPacket - packet.IPv6Len - 8
	DefaultPingTimeout = time.Second
	MaxPingTimeout     = 20 * time.Second
	MaxPings           = 64 // under way at the same time

	// Replies that come later than they are waited for are still taken for a
	// while: a guest shall get none that it did not ask for.
	pingLinger = 10 * time.Second
	// So many echoes with a good cookie a second a tenant's stations are answered
	// for.
	probeRate = 100
)

// ErrPings tells that too many pings are under way.
var ErrPings = errors.New("too many pings are under way: wait for one to end")

// PingOutcome is what became of an echo.
type PingOutcome string

// The outcomes.
const (
	PingReplied PingOutcome = "reply"   // the answer came
	PingError   PingOutcome = "error"   // an ICMP error came instead
	PingDropped PingOutcome = "dropped" // this machine dropped it, or the reply: Reason says why
	PingLost    PingOutcome = "lost"    // nothing came
)

// PingResult is what became of one echo.
type PingResult struct {
	Outcome PingOutcome
	Seq     uint16
	RTT     time.Duration
	From    netip.Addr // who replied, or sent the error
	By      PingBy     // who replied
	Bytes   int        // of the reply: ICMP header and data
	TTL     uint8      // that the reply came with

	// Of an error.
	ICMPType, ICMPCode uint8
	MTU                int // where the error says that the request was too big

	// Of what was dropped here.
	Reason drop.Reason
	At     string // the port whose layers had it, if any did
	Back   bool   // it was the reply, not the request
}

// PingBy is who answered an echo.
type PingBy string

// Those who answer.
const (
	ByDataplane PingBy = "dataplane" // of the destination's host: of the guest nothing is known
	ByGuest     PingBy = "guest"     // or whoever has the address behind the port
	ByRouter    PingBy = "router"    // the distributed router, whose address it is
)

// Ping is an echo under way.
type Ping struct {
	sw       *Switch
	query    PingQuery
	port     *port
	rdid     hnv.RDID
	id       uint16
	nonce    [8]byte
	sent     time.Time
	deadline time.Time
	toRouter bool
	done     chan struct{}

	mu      sync.Mutex
	sending bool
	result  PingResult // once Outcome is set
	frags   replyFragments
}

// replyFragments is what has come of a reply in several pieces.
type replyFragments struct {
	begun      bool
	id         uint32
	got, total int // bytes of the ICMP message; total 0: not known yet
	reply      PingResult
}

// pings is an immutable set of pings: those under way, and those that have ended
// not long ago.
type pings struct{ all []*Ping }

// pinger keeps the pings of a Switch.
type pinger struct {
	mu  sync.Mutex // of writers of now
	now atomic.Pointer[pings]
	id  uint16 // of all echoes, by chance: addresses, sequence numbers and nonces tell them apart
}

// Ping sends an echo by the fabric's Writer and waits for what becomes of it.
func (s *Switch) Ping(ctx context.Context, q PingQuery, fabric Writer) (PingResult, error) {
	p, err := s.StartPing(q, fabric)
	if err != nil {
		return PingResult{}, err
	}
	return p.Wait(ctx)
}

// StartPing sends an echo; Wait tells what became of it. An error tells that the
// query cannot mean anything; that an echo goes nowhere is no error.
func (s *Switch) StartPing(q PingQuery, fabric Writer) (*Ping, error) {
	p, err := s.newPing(q)
	if err != nil {
		return nil, fmt.Errorf("ping: %w", err)
	}
	f, known := p.request()
	if !known {
		p.finish(PingResult{Outcome: PingDropped, Reason: drop.DestinationUnknown})
		return p, nil
	}
	if err := s.addPing(p); err != nil {
		return nil, err
	}
	w := s.NewWorker(fabric)
	c := w.cellOf(p.port.tenant)
	w.seePortIn(p.port, f)
	c.traffic(fromPorts, f.Len())
	r := w.send(p.port, c, f)
	at := w.x.at
	w.dropped(c, r)
	w.Close()
	p.wasSent(r, at)
	return p, nil
}

func (s *Switch) newPing(q PingQuery) (*Ping, error) {
	if q.Size == 0 {
		q.Size = DefaultPingSize
	}
	if q.Timeout == 0 {
		q.Timeout = DefaultPingTimeout
	}
	switch {
	case !q.SrcCA.IsValid() || !q.DstCA.IsValid() || q.SrcCA.Is4() != q.DstCA.Is4():
		return nil, fmt.Errorf("%s and %s are not of one address family", q.SrcCA, q.DstCA)
	case q.DstCA.IsMulticast() || q.DstCA == broadcastIP:
		return nil, fmt.Errorf("%s is not one station's address", q.DstCA)
	case q.Size < MinPingSize || q.Size > MaxPingSize:
		return nil, fmt.Errorf("%d bytes of data: use %d to %d", q.Size, MinPingSize, MaxPingSize)
	case q.Timeout < 0 || q.Timeout > MaxPingTimeout:
		return nil, fmt.Errorf("a timeout of %s: use at most %s", q.Timeout, MaxPingTimeout)
	}
	w, src, err := s.dryFor(q.VSID, q.SrcCA)
	if err != nil {
		return nil, err
	}
	x := &w.x
	if !x.isHere(src.rec) {
		return nil, fmt.Errorf("%s is at PA %s and not at this machine: ping from there: %w", q.SrcCA, src.rec.PA, ErrUnknown)
	}
	from := s.ports.Load().at(x.vsid, src.rec.MAC)
	if from == nil || from.tenant != x.tenant {
		return nil, fmt.Errorf("no port with the MAC address %s of %s is plugged in: %w", macFrom(src.rec.MAC), q.SrcCA, ErrUnknown)
	}
	p := &Ping{sw: s, query: q, port: from, rdid: x.tenant.rdid, id: s.pinger.id, sent: s.opt.Now(), sending: true, done: make(chan struct{})}
	if _, err := crand.Read(p.nonce[:]); err != nil {
		return nil, err
	}
	p.deadline = p.sent.Add(q.Timeout)
	rt, rec := x.domain.Resolve(q.DstCA)
	p.toRouter = rec == nil && rt != nil && rt.OnLink() && q.DstCA == rt.Gateway
	return p, nil
}

// request makes the echo as the station would send it; not known is whom it is to
// send it to.
func (p *Ping) request() (f *packet.Frame, known bool) {
	q := &p.query
	x := transit{domain: p.port.tenant.domain.Load()}
	if x.domain == nil || !x.domain.Has(p.port.vsid) {
		return nil, false
	}
	to, known := x.sendsTo(p.port.vsid, q.DstCA)
	if !known {
		return nil, false
	}
	kind := askDataplane
	if q.Guest {
		kind = askGuest
	}
	data := make([]byte, q.Size)
	c := newCookie(kind, p.nonce, p.sent, p.rdid, q.SrcCA, q.DstCA)
	for i := copy(data, c[:]); i < len(data); i++ {
		data[i] = byte(i)
	}
	f = packet.NewFrame(packet.EthernetLen + packet.IPv6Len + 8 + q.Size)
	if !packet.BuildEchoRequest(f, to, p.port.mac, q.SrcCA, q.DstCA, p.id, q.Seq, data) {
		return nil, false
	}
	if q.DstCA.Is4() && !q.DontFragment {
		allowFragments(f.Bytes()[packet.EthernetLen:], binary.BigEndian.Uint16(p.nonce[:]))
	}
	return f, true
}

// allowFragments clears DF, and gives the packet an ID by which its fragments are
// found (RFC 6864 section 4.1).
func allowFragments(ip []byte, id uint16) {
	binary.BigEndian.PutUint16(ip[4:], id|1)
	ip[6] &^= 0x40
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], packet.Checksum(ip[:packet.IPv4Len], 0))
}

// sendsTo gives the MAC address that a station of the virtual subnet sends
// packets for the address to: that of the address' record, if it lies in the same
// virtual subnet, or else the router's. Not known is one that nobody answers for.
func (x *transit) sendsTo(vsid uint32, a netip.Addr) (mac [6]byte, known bool) {
	if _, inside := x.subnetPrefix(vsid, a); !inside {
		return routerMAC, true
	}
	if x.domain.IsGateway(vsid, a) {
		return routerMAC, true
	}
	if rec := x.domain.Record(vsid, a); rec != nil {
		return rec.MAC, true
	}
	return mac, false
}

// addPing lets replies be taken from now on.
func (s *Switch) addPing(p *Ping) error {
	g := &s.pinger
	g.mu.Lock()
	defer g.mu.Unlock()
	now, under := s.opt.Now(), 0
	var all []*Ping
	for _, o := range g.list() {
		if now.Before(o.deadline.Add(pingLinger)) {
			all = append(all, o)
		}
		if now.Before(o.deadline) {
			under++
		}
	}
	if under >= MaxPings {
		return ErrPings
	}
	if over := len(all) - 4*MaxPings; over > 0 { // ended ones, the oldest first
		all = all[over:]
	}
	g.publish(append(all, p))
	return nil
}

// dropPings forgets the pings that drop says true of.
func (g *pinger) dropPings(drop func(*Ping) bool) {
	if g.now.Load() == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.publish(slices.DeleteFunc(slices.Clone(g.list()), drop))
}

func (g *pinger) list() []*Ping {
	if n := g.now.Load(); n != nil {
		return n.all
	}
	return nil
}

func (g *pinger) publish(all []*Ping) {
	if len(all) == 0 {
		g.now.Store(nil)
		return
	}
	g.now.Store(&pings{all})
}

// forgetPings forgets those that ended long ago; part of the Switch's upkeep.
func (s *Switch) forgetPings(now time.Time) {
	s.pinger.dropPings(func(p *Ping) bool { return now.After(p.deadline.Add(pingLinger)) })
}

// Wait waits for what becomes of the echo: until its timeout, or until ctx ends,
// which is an error.
func (p *Ping) Wait(ctx context.Context) (PingResult, error) {
	t := time.NewTimer(max(0, p.query.Timeout-p.sw.opt.Now().Sub(p.sent)))
	defer t.Stop()
	select {
	case <-p.done:
		p.sw.pinger.dropPings(func(o *Ping) bool { return o == p })
	case <-t.C:
	case <-ctx.Done():
		return PingResult{}, fmt.Errorf("ping: %w", context.Cause(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.result
	r.Seq = p.query.Seq
	if r.Outcome == "" {
		r.Outcome = PingLost
	}
	return r, nil
}

// finish tells the outcome; the first one counts.
func (p *Ping) finish(r PingResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.result.Outcome != "" {
		return
	}
	p.result = r
	if !p.sending {
		close(p.done)
	}
}

// wasSent notes what became of the request by the time that this machine was
// done with it.
func (p *Ping) wasSent(r drop.Reason, at *port) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending = false
	if r != drop.None && p.result.Outcome != PingReplied {
		p.result.Outcome, p.result.Reason = PingDropped, r
		if at != nil {
			p.result.At = at.spec.Name
		}
	}
	if p.result.Outcome != "" {
		close(p.done)
	}
}

package dataplane

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// ping starts an echo on the host, lets the fabric settle, and tells what became
// of it; a timeout of the query's 1 s is over at once.
func (h *host) ping(q PingQuery, meanwhile func()) PingResult {
	l := h.lab
	l.t.Helper()
	p, err := h.sw.StartPing(q, h.out)
	if err != nil {
		l.t.Fatal(err)
	}
	l.now = l.now.Add(3 * time.Millisecond)
	if meanwhile != nil {
		meanwhile()
	}
	l.settle()
	return l.await(p)
}

func (l *lab) await(p *Ping) PingResult {
	l.t.Helper()
	select {
	case <-p.done:
	default:
		l.now = l.now.Add(time.Second)
	}
	r, err := p.Wait(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	return r
}

func silent(t *testing.T, what string, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		for _, n := range s.nics() {
			if got := n.drain(); len(got) > 0 {
				t.Errorf("%s: a guest of %s was bothered: %s", what, s.Name, frameWords(got[0].bytes))
			}
		}
	}
}

// A destination on a host of ours is answered for by the dataplane, and no guest
// hears of it: between hosts, on one, routed, to the compartment, of both IP
// versions, encapsulated and rewritten.
func TestPingIsAnsweredByTheDataplane(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) (*lab, *site, *site){
		"encapsulated": func(t *testing.T) (*lab, *site, *site) { return exampleLab(t) },
		"rewritten":    func(t *testing.T) (*lab, *site, *site) { return rewriteLab(t) },
	} {
		t.Run(name, func(t *testing.T) {
			l, contoso, fabrikam := make(t)
			for _, s := range []*site{contoso, fabrikam} {
				l.apply(s, func(t *Tenant) { t.ACLs = []hnv.ACL{outOnly()} })
				if err := l.hosts[1].sw.SetPort(s.vm11.id, mustName("out-only"), 0, 0); err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					host     int
					vsid     uint32
					src, dst string
					by       PingBy
					ttl      uint8
				}{
					{1, s.base + 1, "10.1.1.11", "10.1.1.12", ByDataplane, 64},
					{1, s.base + 1, "10.1.1.11", "10.1.1.13", ByDataplane, 64}, // on the same host
					{1, s.base + 1, "10.1.1.11", "10.1.2.11", ByDataplane, 63},
					{2, s.base + 2, "10.1.2.11", "10.1.1.12", ByDataplane, 63}, // on the same host
					{1, s.base + 1, "10.1.1.11", "10.254.254.2", ByDataplane, 63},
					{0, s.base, "10.254.254.2", "10.1.2.11", ByDataplane, 63},
					{1, s.base + 1, "10.1.1.11", "10.1.1.1", ByRouter, 64},
					{1, s.base + 1, "10.1.1.11", "10.1.2.1", ByRouter, 64},
					{1, s.base + 1, "fd00:1::11", "fd00:1::12", ByDataplane, 64},
					{1, s.base + 1, "fd00:1::11", "fd00:2::11", ByDataplane, 63},
				} {
					r := l.hosts[c.host].ping(PingQuery{VSID: mustVSID(c.vsid), SrcCA: ip(c.src), DstCA: ip(c.dst), Seq: 7}, nil)
					what := s.Name.String() + " " + c.src + " > " + c.dst
					if r.Outcome != PingReplied || r.By != c.by || r.From != ip(c.dst) || r.TTL != c.ttl || r.Bytes != 8+DefaultPingSize || r.Seq != 7 || r.RTT < 0 || r.RTT > 3*time.Millisecond {
						t.Errorf("%s: %+v", what, r)
					}
					silent(t, what, contoso, fabrikam)
				}
			}
			for _, h := range l.hosts {
				if d := h.allDrops(); len(d) != 0 {
					t.Errorf("%s: drops %v", h.pa, d)
				}
				h.sw.Upkeep()
				if n := h.sw.pinger.list(); len(n) != 0 {
					t.Errorf("%s: %d pings are left", h.pa, len(n))
				}
			}
		})
	}
}

// answer sends the guest's reply to each echo request that it got.
func answer(t *testing.T, n *nic) (requests int) {
	t.Helper()
	for _, k := range n.drain() {
		n.send(echoReplyTo(t, k.bytes))
		requests++
	}
	return requests
}

// Where the guest is to answer, it does; other traffic of the source's guest goes
// on, replies to pings of its own among it.
func TestPingOfAGuest(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		q := PingQuery{VSID: mustVSID(s.base + 1), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Guest: true}
		r := l.hosts[1].ping(q, func() {
			id := l.hosts[1].sw.pinger.id
			s.vm11.send(ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: id}, strings.Repeat("own", 20)))
			s.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "own"))
			l.settle()
			got := s.vm12.frames
			s.vm12.frames = got[:2] // both echoes
			if n := answer(t, s.vm12); n != 2 {
				t.Errorf("the guest got %d requests, want the operator's and the other guest's", n)
			}
		})
		if r.Outcome != PingReplied || r.By != ByGuest || r.RTT != 3*time.Millisecond || r.TTL != 64 {
			t.Errorf("%s: %+v", s.Name, r)
		}
		own := s.vm11.drain()
		if len(own) != 1 || !strings.Contains(string(own[0].bytes), "ownown") {
			t.Errorf("%s: the guest got %d replies to its own ping", s.Name, len(own))
		}
		// It is down: the path is known to work, and the guest not to.
		if r := l.hosts[1].ping(q, func() { l.settle(); s.vm12.drain() }); r.Outcome != PingLost {
			t.Errorf("%s: %+v", s.Name, r)
		}
		q.Guest = false
		if r := l.hosts[1].ping(q, nil); r.By != ByDataplane {
			t.Errorf("%s: %+v", s.Name, r)
		}
		silent(t, "dead guest", contoso, fabrikam)
	}
}

// What comes too late is not the guest's either.
func TestPingLateReply(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	p, err := h1.sw.StartPing(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Guest: true}, h1.out)
	if err != nil {
		t.Fatal(err)
	}
	l.settle()
	l.now = l.now.Add(2 * time.Second)
	h1.sw.Upkeep()
	if r, err := p.Wait(t.Context()); err != nil || r.Outcome != PingLost {
		t.Errorf("%+v, %v", r, err)
	}
	answer(t, contoso.vm12)
	l.settle()
	silent(t, "late", contoso, fabrikam)
	l.now = l.now.Add(pingLinger)
	h1.sw.Upkeep()
	if h1.sw.pinger.now.Load() != nil {
		t.Error("pings that are over are still looked for")
	}
	if _, err := (&Ping{sw: h1.sw, query: PingQuery{Timeout: time.Hour}, sent: l.now, done: make(chan struct{})}).Wait(canceled()); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Why an echo, or the reply, went no further on this machine.
func TestPingSaysWhy(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h1 := l.hosts[1]
	noPing := acl("no-ping", hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Deny, Proto: "icmp"}, hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Allow})
	l.apply(contoso, func(t *Tenant) { t.ACLs = []hnv.ACL{noPing, outOnly()} })
	set := func(n *nic, list string) {
		t.Helper()
		name := hnv.Name{}
		if list != "" {
			name = mustName(list)
		}
		if err := n.host.sw.SetPort(n.id, name, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	ping := func(dst string, size int, df bool) PingResult {
		return h1.ping(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip(dst), Size: size, DontFragment: df}, nil)
	}
	set(contoso.vm11, "no-ping")
	if r := ping("10.1.1.12", 0, true); r.Outcome != PingDropped || r.Reason != drop.ACLDenied || r.At != h1.portName(contoso.vm11) || r.Back {
		t.Errorf("denied at the source: %+v", r)
	}
	set(contoso.vm11, "")
	set(contoso.vm13, "out-only")
	if r := ping("10.1.1.13", 0, true); r.Outcome != PingDropped || r.Reason != drop.ACLDenied || r.At != h1.portName(contoso.vm13) {
		t.Errorf("denied at the destination on the same host: %+v", r)
	}
	set(contoso.vm12, "out-only")
	if r := ping("10.1.1.12", 0, true); r.Outcome != PingLost {
		t.Errorf("denied at the destination on another host: %+v", r)
	}
	set(contoso.vm12, "")
	if r := ping("10.1.1.99", 0, true); r.Outcome != PingDropped || r.Reason != drop.DestinationUnknown {
		t.Errorf("nobody: %+v", r)
	}
	if r := ping("10.1.2.99", 0, true); r.Outcome != PingDropped || r.Reason != drop.DestinationUnknown || r.ICMPType != 3 {
		t.Errorf("nobody in the other subnet: %+v", r)
	}
	if r := ping("10.1.1.12", 1472, true); r.Outcome != PingDropped || r.Reason != drop.TooBig || r.MTU != 1458 {
		t.Errorf("too big: %+v", r)
	}
	if r := ping("10.1.1.12", 1430, true); r.Outcome != PingReplied || r.Bytes != 1438 {
		t.Errorf("just not too big: %+v", r)
	}
	// The reply is stopped by a rate.
	if err := h1.sw.SetPort(contoso.vm11.id, hnv.Name{}, 8, 0); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1400, 100, 1} { // until there is no room for anything
		for n := h1.drops("contoso")[drop.RateExceeded]; h1.drops("contoso")[drop.RateExceeded] == n; {
			contoso.vm13.send(udp(mac13, mac11, "10.1.1.13", "10.1.1.11", strings.Repeat("x", size)))
		}
	}
	if r := ping("10.1.1.12", 0, true); r.Outcome != PingDropped || r.Reason != drop.RateExceeded || !r.Back || r.At != h1.portName(contoso.vm11) {
		t.Errorf("the reply exceeds the rate: %+v", r)
	}
	for _, c := range []PingQuery{
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.12"), DstCA: ip("10.1.1.11")}, // not here
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.99"), DstCA: ip("10.1.1.11")},
		{VSID: mustVSID(4711), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12")},
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("fd00:1::11")},
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("224.0.0.1")},
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Size: MinPingSize - 1},
		{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Timeout: time.Hour},
	} {
		if p, err := h1.sw.StartPing(c, h1.out); err == nil {
			t.Errorf("%+v: %+v", c, p)
		}
	}
}

// A request that is too big goes in pieces if it may, and so may the reply.
func TestPingInFragments(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	r := l.hosts[1].ping(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Size: 2000}, func() {
		l.settle()
		got := contoso.vm12.drain()
		if len(got) != 2 {
			t.Fatalf("%d pieces came", len(got))
		}
		first, last := decode(t, got[0].bytes), decode(t, got[1].bytes)
		whole := slices.Concat(got[0].bytes[14:14+first.Length], got[1].bytes[last.L4:14+last.Length])
		ipHeader := whole[:20]
		binary.BigEndian.PutUint16(ipHeader[2:], uint16(len(whole)))
		ipHeader[6], ipHeader[7] = 0, 0
		if len(whole) != 20+8+2000 || packet.Checksum(whole[20:], 0) != 0 {
			t.Fatalf("%d bytes came, and their checksum is %x", len(whole), packet.Checksum(whole[20:], 0))
		}
		// The guest's reply, in two pieces as well.
		m := slices.Clone(whole[20:])
		m[0], m[2], m[3] = 0, 0, 0
		binary.BigEndian.PutUint16(m[2:], packet.Checksum(m, 0))
		for i, part := range [][]byte{m[:1400], m[1400:]} {
			b := ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 60, &layers.UDP{}, string(part[8:]))
			copy(b[34:], part)
			b[23] = packet.ProtoICMP
			binary.BigEndian.PutUint16(b[18:], 99)
			binary.BigEndian.PutUint16(b[20:], []uint16{0x2000, 1400 / 8}[i])
			b[24], b[25] = 0, 0
			binary.BigEndian.PutUint16(b[24:], packet.Checksum(b[14:34], 0))
			contoso.vm12.send(b)
		}
	})
	if r.Outcome != PingReplied || r.By != ByGuest || r.Bytes != 2008 || r.TTL != 60 {
		t.Errorf("%+v", r)
	}
	silent(t, "fragments", contoso, fabrikam)
}

// Nobody but who knows the RDID gets an answer from the dataplane: guests' own
// echoes are for guests, whatever they look like.
func TestPingCookiesAreNotForged(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	now := l.now
	asker, asked := ip("10.1.1.11"), ip("10.1.1.12")
	good := newCookie(askDataplane, [8]byte{1}, now, contoso.RDID, asker, asked)
	deliver := func(s *site, c cookie, src string, from *nic, mac hnv.MAC) (atGuest bool) {
		t.Helper()
		from.send(ipFrame(mac, mac12, src, "10.1.1.12", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 5, Seq: 1}, string(c[:])+"data"))
		l.settle()
		back := from.drain()
		got := s.vm12.drain()
		if len(got)+len(back) != 1 {
			t.Errorf("%d requests at the guest, %d replies", len(got), len(back))
		}
		return len(got) == 1
	}
	if deliver(contoso, good, "10.1.1.11", contoso.vm11, mac11) {
		t.Error("a good cookie got no answer")
	}
	for what, c := range map[string]cookie{
		"none":                 {},
		"tag":                  func() cookie { c := good; c[39] ^= 1; return c }(),
		"nonce":                func() cookie { c := good; c[9] ^= 1; return c }(),
		"another tenant's":     newCookie(askDataplane, [8]byte{1}, now, fabrikam.RDID, asker, asked),
		"other addresses":      newCookie(askDataplane, [8]byte{1}, now, contoso.RDID, asker, asker),
		"old":                  newCookie(askDataplane, [8]byte{1}, now.Add(-cookieLife-time.Second), contoso.RDID, asker, asked),
		"of the future":        newCookie(askDataplane, [8]byte{1}, now.Add(cookieLife+time.Second), contoso.RDID, asker, asked),
		"for the guest":        newCookie(askGuest, [8]byte{1}, now, contoso.RDID, asker, asked),
		"an answer":            newCookie(byDataplane, [8]byte{1}, now, contoso.RDID, asker, asked),
		"of the end of time":   newCookie(askDataplane, [8]byte{1}, time.Unix(0, -1<<63), contoso.RDID, asker, asked),
		"of the end of time 2": newCookie(askDataplane, [8]byte{1}, time.Unix(0, 1<<63-1), contoso.RDID, asker, asked),
	} {
		if !deliver(contoso, c, "10.1.1.11", contoso.vm11, mac11) {
			t.Errorf("%s: the dataplane answered", what)
		}
	}
	if !deliver(contoso, good, "10.1.1.13", contoso.vm13, mac13) {
		t.Error("replayed by another station: the dataplane answered")
	}
	if !deliver(fabrikam, good, "10.1.1.11", fabrikam.vm11, mac11) {
		t.Error("replayed by another tenant: the dataplane answered")
	}
	// What lies behind a station is not the station's.
	l.apply(contoso, func(t *Tenant) {
		t.Routes = append(t.Routes, hnv.CustomerRoute{VSID: mustVSID(5001), Prefix: netip.MustParsePrefix("172.16.0.0/12"), NextHop: ip("10.1.1.12")})
	})
	r := l.hosts[1].ping(PingQuery{VSID: mustVSID(5001), SrcCA: asker, DstCA: ip("172.16.0.9")}, func() {
		l.settle()
		if n := answer(t, contoso.vm12); n != 1 {
			t.Errorf("%d requests came to the next hop", n)
		}
	})
	if r.Outcome != PingReplied || r.By != ByGuest {
		t.Errorf("%+v", r)
	}
	// A flood with good cookies is the guest's after a while.
	l.now = l.now.Add(time.Hour)
	good = newCookie(askDataplane, [8]byte{1}, l.now, contoso.RDID, asker, asked)
	answered := 0
	for range 3 * probeRate {
		if !deliver(contoso, good, "10.1.1.11", contoso.vm11, mac11) {
			answered++
		}
	}
	if answered != probeRate {
		t.Errorf("%d of a flood were answered, want %d", answered, probeRate)
	}
}

// So many at once, and no more; they do not hear each other's answers.
func TestPingsAreBounded(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	var all []*Ping
	for i := range MaxPings {
		s := []*site{contoso, fabrikam}[i%2]
		p, err := h1.sw.StartPing(PingQuery{VSID: mustVSID(s.base + 1), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Seq: uint16(i), Guest: i%4 == 0}, h1.out)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if _, err := h1.sw.StartPing(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12")}, h1.out); !errors.Is(err, ErrPings) {
		t.Errorf("one too many: %v", err)
	}
	l.settle()
	contoso.vm12.drain() // half of the guests' are lost
	for i, p := range all {
		r := l.await(p)
		switch lost := i%4 == 0; {
		case lost && r.Outcome != PingLost, !lost && (r.Outcome != PingReplied || r.By != ByDataplane), r.Seq != uint16(i):
			t.Errorf("ping %d: %+v", i, r)
		}
	}
	for range 10 * MaxPings {
		if _, err := h1.sw.StartPing(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Guest: true, Timeout: time.Nanosecond}, h1.out); err != nil {
			t.Fatal(err)
		}
		l.now = l.now.Add(time.Microsecond)
	}
	if n := len(h1.sw.pinger.list()); n > 5*MaxPings {
		t.Errorf("%d pings are remembered", n)
	}
}

// While a ping is under way, other packets cost no more memory, and none is lost.
func TestPingDoesNotAllocateForOthers(t *testing.T) {
	l := newLoad(t)
	p, err := l.sw.StartPing(PingQuery{VSID: mustVSID(5000), SrcCA: ip("10.254.254.2"), DstCA: ip("10.1.1.11"), Timeout: MaxPingTimeout}, l.fabric)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steady {
		b := s.packet()
		l.give(s.fabric, b)
		if n := testing.AllocsPerRun(20, func() { l.give(s.fabric, b) }); n != 0 {
			t.Errorf("%s: %v allocations a batch of %d", s.name, n, BatchSize)
		}
	}
	before := l.ports.n
	l.give(true, goodNVGRE())
	if l.ports.n != before+BatchSize {
		t.Errorf("%d of %d packets came through", l.ports.n-before, BatchSize)
	}
	select {
	case <-p.done:
		t.Error("somebody else's packet ended the ping")
	default:
	}
}

// The answer in the place of a guest is one that any host takes for the guest's.
func TestPingAnswerOnTheWire(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	l.hosts[1].ping(PingQuery{VSID: mustVSID(5001), SrcCA: ip("10.1.1.11"), DstCA: ip("10.1.1.12"), Size: 100}, nil)
	if len(l.tap) != 2 {
		t.Fatalf("%d packets on the fabric", len(l.tap))
	}
	var o encap.Header
	if r := encap.Parse(l.tap[1].bytes, &o); r != drop.None {
		t.Fatal(r)
	}
	inner := l.tap[1].bytes[o.InnerOff:]
	d := decode(t, inner)
	if d.SrcMAC != mac12.Bytes() || d.DstMAC != mac11.Bytes() || d.Src != ip("10.1.1.12") || d.ICMPType != 0 || packet.Checksum(inner[d.L4:], 0) != 0 {
		t.Errorf("the answer is %s", frameWords(inner))
	}
	if n := l.hosts[2].sw.Counters()[1].Answered; n != 1 {
		t.Errorf("%d answers were counted", n)
	}
	silent(t, "answer", contoso)
}

package dataplane

import (
	"encoding/binary"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// takeReply takes a frame that is about to be given to the port if it is the
// answer to a ping in the port's name. It is called only while there are pings.
func (w *Worker) takeReply(p *port, f *packet.Frame) (taken bool) {
	b := f.Bytes()
	const proto4, proto6 = packet.EthernetLen + 9, packet.EthernetLen + 6
	if len(b) <= proto4 || b[proto4] != packet.ProtoICMP && b[proto6] != packet.ProtoICMPv6 {
		return false
	}
	var h packet.Headers
	if h.DecodeEthernet(b) != drop.None || h.Version == 0 {
		return false
	}
	for _, g := range w.pings.all {
		if g.port.id == p.id && g.query.SrcCA == h.Dst && g.takes(f, &h) {
			return true
		}
	}
	return false
}

// takes tells whether the packet answers the ping, and ends it if so.
func (p *Ping) takes(f *packet.Frame, h *packet.Headers) bool {
	switch {
	case h.Src == p.query.DstCA && h.FragOffset != 0:
		return p.takesFragment(h)
	case h.Src == p.query.DstCA && h.IsEchoReply() && packet.CompleteChecksum(f):
		return p.takesEcho(f.Bytes(), h)
	case isICMPError(h):
		return p.takesError(f.Bytes(), h)
	}
	return false
}

// takesEcho takes the reply, or the first fragment of it.
func (p *Ping) takesEcho(b []byte, h *packet.Headers) bool {
	m := b[h.L4:min(len(b), h.L3+h.Length)]
	if len(m) < 8+cookieLen || binary.BigEndian.Uint16(m[4:]) != p.id || binary.BigEndian.Uint16(m[6:]) != p.query.Seq {
		return false
	}
	c := cookie(m[8:])
	if c.nonce() != p.nonce {
		return false
	}
	now := p.sw.opt.Now()
	r := PingResult{Outcome: PingReplied, RTT: now.Sub(p.sent), From: h.Src, By: ByGuest, Bytes: len(m), TTL: h.TTL}
	switch {
	case p.toRouter:
		r.By = ByRouter
	case c.kind() == byDataplane && c.good(now.UnixNano(), p.rdid, p.query.SrcCA, p.query.DstCA):
		r.By = ByDataplane
	}
	if h.IsFragment() {
		p.mu.Lock()
		p.frags = replyFragments{begun: true, id: h.FragID, got: len(m), reply: r}
		p.mu.Unlock()
		return true
	}
	var e packet.Echo
	if e.Parse(b, h) { // a reply whose checksum is wrong is none, but nobody else's either
		p.finish(r)
	}
	return true
}

// takesFragment takes a later fragment of the reply whose first one has come.
func (p *Ping) takesFragment(h *packet.Headers) bool {
	p.mu.Lock()
	s := &p.frags
	if !s.begun || s.id != h.FragID {
		p.mu.Unlock()
		return false
	}
	n := h.L3 + h.Length - h.L4
	s.got += n
	if !h.MoreFragments {
		s.total = int(h.FragOffset) + n
	}
	whole, r := s.total > 0 && s.got >= s.total, s.reply
	r.Bytes, r.RTT = s.total, p.sw.opt.Now().Sub(p.sent)
	p.mu.Unlock()
	if whole {
		p.finish(r)
	}
	return true
}

// takesError takes an ICMP error about the request.
func (p *Ping) takesError(b []byte, h *packet.Headers) bool {
	var q packet.Headers
	ip := b[h.L3:min(len(b), h.L3+h.Length)]
	if !quote(&q, ip, h) || q.Src != p.query.SrcCA || q.Dst != p.query.DstCA || q.ICMPID != p.id || !q.IsEchoRequest() {
		return false
	}
	// As much of the echo as the error quotes: 8 bytes at least.
	echo := ip[h.L4-h.L3+8:]
	if q.Version == 4 {
		echo = echo[int(echo[0]&15)*4:]
	} else {
		echo = echo[packet.IPv6Len:]
	}
	if binary.BigEndian.Uint16(echo[6:]) != p.query.Seq || len(echo) >= 24 && [8]byte(echo[16:24]) != p.nonce {
		return false
	}
	m := b[h.L4:]
	r := PingResult{Outcome: PingError, RTT: p.sw.opt.Now().Sub(p.sent), From: h.Src, TTL: h.TTL, ICMPType: h.ICMPType, ICMPCode: h.ICMPCode}
	switch {
	case h.Version == 4 && h.ICMPType == 3 && h.ICMPCode == 4:
		r.MTU = int(binary.BigEndian.Uint16(m[6:]))
	case h.Version == 6 && h.ICMPType == 2:
		r.MTU = int(binary.BigEndian.Uint32(m[4:]))
	}
	p.finish(r)
	return true
}

// missReply notes that the packet under way, which is dropped, was the reply to a
// ping.
func (w *Worker) missReply(r drop.Reason) {
	x := &w.x
	if x.at == nil || x.f == nil || x.outer || x.in == x.at {
		return
	}
	var h packet.Headers
	if h.DecodeEthernet(x.f.Bytes()) != drop.None || !h.IsEchoReply() {
		return
	}
	for _, g := range w.pings.all {
		m := x.f.Bytes()[h.L4:min(x.f.Len(), h.L3+h.Length)]
		if g.port.id == x.at.id && g.query.SrcCA == h.Dst && g.query.DstCA == h.Src && len(m) >= 8+cookieLen && [8]byte(m[16:24]) == g.nonce {
			g.finish(PingResult{Outcome: PingDropped, Reason: r, At: x.at.spec.Name, Back: true})
		}
	}
}

// isProbe tells whether the packet under way, that is about to be given to the
// port, is an echo which the dataplane answers in the place of the port's guest.
// It is for packets of ICMP only.
func (w *Worker) isProbe(to *port) bool {
	x := &w.x
	if !x.h.IsEchoRequest() || x.h.IsFragment() || x.h.HasOptions {
		return false
	}
	m := x.f.Bytes()[x.h.L4 : x.h.L3+x.h.Length]
	if len(m) < 8+cookieLen || cookieKind(m[8:16]) != askDataplane {
		return false
	}
	// The port's own address, and none that it leads to.
	rec := x.domain.Record(to.vsid, x.h.Dst)
	if rec == nil || rec.MAC != to.mac || !w.allow(&x.tenant.probed, probeRate, probeRate) {
		return false
	}
	c := cookie(m[8:])
	return c.good(w.now, x.tenant.rdid, x.h.Src, x.h.Dst)
}

// answerProbe answers the echo as the guest would, through the port's layers;
// not done is what cannot be answered, and is the guest's.
func (w *Worker) answerProbe(to *port) (r drop.Reason, done bool) {
	x := &w.x
	var h packet.Headers
	if h.DecodeEthernet(x.f.Bytes()) != drop.None { // as the router left it
		return 0, false
	}
	dst, known := x.sendsTo(to.vsid, h.Src)
	if !known {
		return 0, false
	}
	if packet.EchoReply(x.f, &h) != drop.None {
		return 0, false
	}
	b := x.f.Bytes()
	copy(b, dst[:])
	copy(b[6:], to.mac[:])
	m := b[h.L4:]
	c := (*cookie)(m[8:])
	copy(c[:], byDataplane[:])
	c.seal(x.tenant.rdid, h.Src, h.Dst)
	m[2], m[3] = 0, 0
	sum := uint64(0)
	if h.Version == 6 {
		sum = packet.PseudoSum(h.Dst, h.Src, packet.ProtoICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], packet.Checksum(m, sum))
	x.c.add(answered, 1)
	if w.tr != nil {
		w.tr.note(StageForward, "answered", "an echo with a cookie: the dataplane answers in the place of the guest")
	}
	return w.send(to, x.c, x.f), true
}

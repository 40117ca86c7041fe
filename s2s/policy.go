package s2s

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// policy is what happens to packets between a TUN link and encryption. It is
// immutable but for its counters: a new one takes its place.
type policy struct {
	mtu               int
	out, in           rewriter
	outLimit, inLimit *limit         // nil: none
	outDrops, inDrops *atomic.Uint64 // over the limits
}

// mapping is one direction of a Map.
type mapping struct{ from, to netip.Prefix }

// rewriter translates the addresses of packets in one direction.
type rewriter struct{ src, dst []mapping }

func newRewriters(t Tunnel) (out, in rewriter) {
	for _, m := range t.LocalMaps {
		out.src = append(out.src, mapping{m.Real, m.Mapped})
		in.dst = append(in.dst, mapping{m.Mapped, m.Real})
	}
	for _, m := range t.RemoteMaps {
		out.dst = append(out.dst, mapping{m.Mapped, m.Real})
		in.src = append(in.src, mapping{m.Real, m.Mapped})
	}
	return out, in
}

func find(ms []mapping, b []byte) (to [16]byte, ok bool) {
	if len(ms) == 0 {
		return to, false
	}
	var a netip.Addr
	if len(b) == 4 {
		a = netip.AddrFrom4([4]byte(b))
	} else {
		a = netip.AddrFrom16([16]byte(b))
	}
	for i := range ms {
		if ms[i].from.Contains(a) {
			t := translate(a, ms[i].to)
			if len(b) == 4 {
				four := t.As4()
				copy(to[:], four[:])
			} else {
				to = t.As16()
			}
			return to, true
		}
	}
	return to, false
}

// apply translates a packet. What an ICMP error quotes came the other way: its
// source is translated as a destination is.
func (r *rewriter) apply(p *packet) {
	if len(r.src) == 0 && len(r.dst) == 0 {
		return
	}
	if inner, ok := p.embedded(); ok {
		d := inner.translate(r.dst, r.src)
		mend(p.l4[2:4], d)
	}
	p.translate(r.src, r.dst)
}

func (p *packet) translate(src, dst []mapping) (delta uint32) {
	if to, ok := find(src, p.src); ok {
		delta += p.rewrite(p.src, to[:len(p.src)])
	}
	if to, ok := find(dst, p.dst); ok {
		delta += p.rewrite(p.dst, to[:len(p.dst)])
	}
	return delta
}

// outbound is asked for each packet of the tenant; false drops it.
func (l *policy) outbound(b []byte, now int64) bool {
	return l.pass(b, now, &l.out, l.outLimit, l.outDrops)
}

// inbound is asked for each packet of the site; false drops it.
func (l *policy) inbound(b []byte, now int64) bool {
	return l.pass(b, now, &l.in, l.inLimit, l.inDrops)
}

func (l *policy) pass(b []byte, now int64, r *rewriter, limit *limit, drops *atomic.Uint64) bool {
	if limit != nil && !limit.take(len(b), now) {
		drops.Add(1)
		return false
	}
	p, ok := parsePacket(b)
	if !ok {
		return true // wireguard refuses it, or the kernel does
	}
	r.apply(&p)
	p.clampMSS(l.mtu)
	return true
}

// limit is a token bucket in one number: the time at which the bucket will be
// full again (GCRA).
type limit struct {
	per1024 int64 // ns for each 1024 bytes, so that high rates are exact enough
	depth   int64 // ns
	full    atomic.Int64
}

// burst is how much may pass at once: what the rate gives in this time, for TCP
// gets little through a limit that drops the first packet over it, and no
// less than minBurst bytes, which is one super-packet of TCP.
const (
	burst    = 500 * time.Millisecond
	minBurst = 64 << 10
)

// newLimit makes a limit of kbps (1000 bits a second); nil for none.
func newLimit(kbps uint64) *limit {
	if kbps == 0 {
		return nil
	}
	per := int64(8e6 * 1024 / kbps)
	return &limit{per1024: per, depth: max(int64(burst), minBurst*per/1024)}
}

// take tells whether so many bytes may pass now (nanoseconds of a clock that
// does not go back).
func (l *limit) take(bytes int, now int64) bool {
	cost := (int64(bytes)*l.per1024 + 1023) / 1024
	for {
		full := l.full.Load()
		next := max(full, now) + cost
		if next-now > l.depth {
			return false
		}
		if l.full.CompareAndSwap(full, next) {
			return true
		}
	}
}

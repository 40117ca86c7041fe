package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// icmpError tells the sender of the packet under way, in the name of the
// distributed router, why it goes no further. Only packets from ports are
// reported, to the port they came by: nothing is sent into a tunnel on the
// strength of what came out of one. Within a tenant's rate; a tenant's flood
// withholds nothing from another one.
func (w *Worker) icmpError(e packet.ICMPError, mtu int) {
	x := &w.x
	from := x.domain.Gateway(x.vsid, x.h.Src)
	if x.in == nil || !from.IsValid() {
		return
	}
	if !w.allow(&x.tenant.errors, w.sw.opt.ICMPRate, w.sw.opt.ICMPBurst) {
		x.c.add(icmpDenied, 1)
		return
	}
	if x.f.Offload.GSO == packet.GSONone {
		packet.CompleteChecksum(x.f) // for the quote
	}
	f := w.lend(0)
	if packet.BuildICMPError(f, e, x.f.Bytes(), &x.h, from, routerMAC, mtu) {
		x.c.add(icmpErrors, 1)
		w.toPort(x.in, x.c, f)
	}
}

// allow takes one event out of the limiter, if it has one left.
func (w *Worker) allow(l *limiter, rate, burst int) bool {
	if w.tr != nil {
		return l.would(w.now, rate, burst)
	}
	return l.allow(w.now, rate, burst)
}

// limiter lets through so many events a second, with bursts (the generic cell
// rate algorithm). Workers share a tenant's limiter, but touch it only where
// something is wrong.
type limiter struct {
	next atomic.Int64 // when the next event is due, were there no bursts
}

// allow tells whether an event may happen at now, in nanoseconds.
func (l *limiter) allow(now int64, rate, burst int) bool {
	return l.every(now, int64(time.Second)/int64(rate), burst)
}

// every is allow for events that are rarer, of which it tells the interval.
func (l *limiter) every(now, interval int64, burst int) bool {
	for {
		old := l.next.Load()
		at := max(old, now)
		if at-now > interval*int64(burst-1) {
			return false
		}
		if l.next.CompareAndSwap(old, at+interval) {
			return true
		}
	}
}

// would tells what allow would, and takes nothing.
func (l *limiter) would(now int64, rate, burst int) bool {
	return l.has(now, int64(time.Second)/int64(rate), burst)
}

// has tells what every would, and takes nothing.
func (l *limiter) has(now, interval int64, burst int) bool {
	return max(l.next.Load(), now)-now <= interval*int64(burst-1)
}

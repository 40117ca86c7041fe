package s2s

import "time"

// history is how many probes loss is told over.
const history = 64

// detector judges a peer by its probes. Times are those of one clock that does
// not go back.
//
//	Unknown --answer--> Up --fall probes and intervals without answer--> Down
//	Unknown --fall probes and intervals without answer--> Down
//	Down --rise answers in a row--> Up
type detector struct {
	interval time.Duration
	fall     int
	rise     int

	state   Liveness
	since   time.Time
	last    time.Time // the last answer, or the start
	inRow   int
	silent  int // probes since the last answer
	sent    uint64
	at      [history]time.Time // when the last probes were sent
	missing uint64             // a bit for each of the last probes: not answered
	rtt     time.Duration
}

func newDetector(p Probe, now time.Time) *detector {
	return &detector{interval: p.interval(), fall: p.fall(), rise: p.rise(), state: Unknown, since: now, last: now}
}

// probed is told when a probe was sent; it gives its number.
func (d *detector) probed(now time.Time) (seq uint64) {
	d.check(now)
	d.missing = d.missing<<1 | 1
	d.sent++
	d.silent++
	d.at[d.sent%history] = now
	return d.sent
}

// check looks whether answers have been missing for too long. Probes are counted
// as well as time: while this process itself was held up, nobody was asked.
func (d *detector) check(now time.Time) {
	quiet := now.Sub(d.last)
	if quiet > d.interval+d.interval/2 {
		d.inRow = 0
	}
	if d.state != Down && d.silent >= d.fall && quiet >= time.Duration(d.fall)*d.interval {
		d.become(Down, now)
	}
}

// awaited tells whether the probe with the number is one that may still be answered.
func (d *detector) awaited(seq uint64) bool {
	age := d.sent - seq
	return seq != 0 && seq <= d.sent && age < history && d.missing&(1<<age) != 0
}

// odd tells whether an answer took so much longer than those before that its probe may
// have waited for a handshake, and when that was sent.
func (d *detector) odd(seq uint64, now time.Time) (sent time.Time, odd bool) {
	if !d.awaited(seq) {
		return time.Time{}, false
	}
	sent = d.at[seq%history]
	return sent, d.rtt == 0 || now.Sub(sent) > 2*d.rtt
}

// answered is told of an answer to the probe with the number. One that comes too
// late to count, or twice, changes nothing. What waited for a handshake says nothing
// about the round trip.
func (d *detector) answered(seq uint64, now time.Time, waited bool) {
	if !d.awaited(seq) {
		return
	}
	d.missing &^= 1 << (d.sent - seq)
	rtt := now.Sub(d.at[seq%history])
	switch {
	case waited:
	case d.rtt == 0:
		d.rtt = rtt
	default:
		d.rtt += (rtt - d.rtt) / 8
	}
	if rtt >= time.Duration(d.fall)*d.interval {
		return
	}
	d.last = now
	d.silent = 0
	d.inRow++
	if d.state == Unknown || d.state == Down && d.inRow >= d.rise {
		d.become(Up, now)
	}
}

func (d *detector) become(l Liveness, now time.Time) {
	d.state, d.since = l, now
	if l == Down {
		d.inRow = 0
	}
}

// loss is the share of the last probes that were not answered; the newest one
// may still be on its way.
func (d *detector) loss() float64 {
	n := min(d.sent, history)
	if n < 2 {
		return 0
	}
	lost := 0
	for i := uint64(1); i < n; i++ {
		if d.missing&(1<<i) != 0 {
			lost++
		}
	}
	return float64(lost) / float64(n-1)
}

package s2s

import (
	"testing"
	"time"
)

func TestDetector(t *testing.T) {
	p := Probe{IntervalMS: 100, Fall: 4, Rise: 3}
	now := time.Unix(1000, 0)
	d := newDetector(p, now)
	tick := func() uint64 { now = now.Add(100 * time.Millisecond); return d.probed(now) }
	answer := func(seq uint64) { d.answered(seq, now.Add(10*time.Millisecond), false) }
	state := func(want Liveness) {
		t.Helper()
		if d.state != want {
			t.Fatalf("%s after %s, want %s", d.state, now.Sub(time.Unix(1000, 0)), want)
		}
	}
	state(Unknown)
	answer(tick())
	state(Up)
	// Three lost ones in a row are forgiven, a fourth one is not.
	for range 3 {
		tick()
		state(Up)
	}
	answer(tick())
	state(Up)
	// This process stood still: nobody was asked meanwhile.
	now = now.Add(time.Minute)
	tick()
	state(Up)
	answer(d.sent)
	state(Up)
	fell := now
	for d.state == Up {
		tick()
	}
	if took := now.Sub(fell); took > 600*time.Millisecond {
		t.Errorf("found dead after %s", took)
	}
	state(Down)
	// Two answers are too few, and a gap starts the count anew.
	answer(tick())
	answer(tick())
	state(Down)
	tick()
	tick()
	answer(tick())
	answer(tick())
	state(Down)
	answer(tick())
	state(Up)
	// The same answer again, one of the future, one of long ago: nothing.
	before := *d
	answer(d.sent)
	answer(d.sent + 1)
	answer(0)
	if *d != before {
		t.Error("a wrong answer changed something")
	}
	for range history * 2 {
		tick()
	}
	state(Down)
	if d.loss() != 1 {
		t.Errorf("loss is %v, want 1", d.loss())
	}
	for i := range history {
		if s := tick(); i%4 != 0 {
			answer(s)
		}
	}
	if l := d.loss(); l < 0.2 || l > 0.3 {
		t.Errorf("loss is %v, want a quarter", l)
	}
	if d.rtt < 9*time.Millisecond || d.rtt > 11*time.Millisecond {
		t.Errorf("round trip is %v, want 10ms", d.rtt)
	}
}

// A peer that never answers is down, not unknown for ever.
func TestDetectorNeverAnswered(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(Probe{}, now)
	for range DefaultFall + 1 {
		d.probed(now)
		now = now.Add(DefaultIntervalMS * time.Millisecond)
	}
	if d.state != Down {
		t.Errorf("state is %s", d.state)
	}
	if took := d.since.Sub(time.Unix(1000, 0)); took >= time.Second {
		t.Errorf("by default a peer is found dead after %s, want less than 1s", took)
	}
}

// Answers to what waited for a handshake count for life, and not for the round trip.
func TestDetectorLeavesOutWhatWaited(t *testing.T) {
	now := time.Unix(1000, 0)
	d := newDetector(Probe{IntervalMS: 100, Fall: 4, Rise: 1}, now)
	for range 30 {
		d.probed(now)
		now = now.Add(100 * time.Millisecond)
	}
	for seq := uint64(1); seq <= 30; seq++ {
		sent, odd := d.odd(seq, now)
		if want := time.Duration(31-seq) * 100 * time.Millisecond; !odd || now.Sub(sent) != want {
			t.Fatalf("probe %d: sent %s ago, want %s; odd is %t", seq, now.Sub(sent), want, odd)
		}
		d.answered(seq, now, true)
	}
	if d.rtt != 0 || d.state != Up || d.missing != 0 {
		t.Fatalf("round trip is %s, state %s, missing %b", d.rtt, d.state, d.missing)
	}
	seq := d.probed(now)
	d.answered(seq, now.Add(10*time.Millisecond), false)
	seq = d.probed(now)
	if _, odd := d.odd(seq, now.Add(15*time.Millisecond)); d.rtt != 10*time.Millisecond || odd {
		t.Errorf("round trip is %s, odd is %t", d.rtt, odd)
	}
	if _, odd := d.odd(seq, now.Add(25*time.Millisecond)); !odd {
		t.Error("what took so long is not looked at")
	}
}

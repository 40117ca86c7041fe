package s2s

import (
	"testing"
	"time"
)

// narrowPath answers what fits it, and loses what its test wants lost.
type narrowPath struct {
	s    pathSearch
	now  time.Time
	mtu  int
	sent int
	lose func(size int) bool
}

func (n *narrowPath) seconds(count, most int, alive bool) {
	for range count {
		n.now = n.now.Add(time.Second)
		for _, size := range n.s.tick(n.now, most, alive) {
			n.sent++
			if size <= n.mtu && (n.lose == nil || !n.lose(size)) {
				n.s.answered(size, n.now.Add(10*time.Millisecond))
			}
		}
	}
}

func TestPathSearch(t *testing.T) {
	n := &narrowPath{now: time.Unix(1000, 0), mtu: 9000}
	is := func(want int) {
		t.Helper()
		if n.s.passes != want {
			t.Fatalf("%d passes, want %d (%+v)", n.s.passes, want, n.s)
		}
	}
	n.seconds(130, 1420, true)
	is(0)
	if n.sent != 6 { // a pair each minute
		t.Errorf("%d requests of a path that is wide", n.sent)
	}
	// A router on the way begins to drop what is large.
	n.mtu = 1345
	n.seconds(60+5*sizeTries, 1420, true)
	is(1344)
	n.sent = 0
	n.seconds(300, 1420, true)
	is(1344)
	if n.sent > 12 {
		t.Errorf("%d requests while nothing changes", n.sent)
	}
	// It is wider again, which is found after ten minutes, and all of it.
	n.mtu = 9000
	n.seconds(601, 1420, true)
	is(0)
	// And narrower than it ever was.
	n.mtu = 1281
	n.seconds(60+10*sizeTries, 1420, true)
	is(MinMTU)
	// What the kernel finds itself needs no search.
	n.seconds(10, MinMTU, true)
	is(0)
}

func TestPathSearchRaisesInPart(t *testing.T) {
	n := &narrowPath{now: time.Unix(1000, 0), mtu: 1300}
	n.seconds(10*sizeTries, 1420, true)
	n.mtu = 1400
	n.seconds(700, 1420, true)
	if n.s.passes != 1392 && n.s.passes != 1400 {
		t.Errorf("%d passes a path of 1400", n.s.passes)
	}
}

// Nothing is made of requests that a peer does not answer whatever their size, of loss
// here and there, or of a peer that is away.
func TestPathSearchKnowsNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		alive bool
		lose  func(int) bool
	}{
		{"no answers to requests of any size", true, func(int) bool { return true }},
		{"away", false, nil},
		{"two of three lost", true, func() func(int) bool {
			n := 0
			return func(int) bool { n++; return n%3 != 0 }
		}()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := &narrowPath{now: time.Unix(1000, 0), mtu: 9000, lose: tt.lose}
			n.seconds(3000, 1420, tt.alive)
			if n.s.passes != 0 {
				t.Errorf("%d passes", n.s.passes)
			}
		})
	}
}

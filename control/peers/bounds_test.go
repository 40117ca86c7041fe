package peers

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func (h *host) count(v uint32) (n int) {
	for i := 1; i < 250; i++ {
		if h.has(v, fmt.Sprintf("10.%d.0.%d", v%10, i)) != "" {
			n++
		}
	}
	return n
}

// A tenant that makes one host learn without end fills nothing of another's.
func TestFloodIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		a.limits.PerTenant = 20
		defer startAll(a, b, g)()
		for i := 2; i <= 61; i++ {
			a.learn(5001, fmt.Sprintf("10.1.0.%d", i), byte(i))
		}
		a.learn(6001, "10.1.0.200", 200)
		settle()
		if n := g.count(5001); n != 20 {
			t.Errorf("g has %d records, want 20", n)
		}
		g.want("of another tenant", 6001, "10.1.0.200", paA)
		if l := a.x.Learned(); l.Own != 61 || l.OverLimit != 40 {
			t.Errorf("%+v", l)
		}
		// Room is used by those that wait.
		for i := 2; i <= 46; i++ {
			a.forget(5001, fmt.Sprintf("10.1.0.%d", i))
		}
		settle()
		if n := g.count(5001); n != 15 || a.x.Learned().OverLimit != 0 {
			t.Errorf("g has %d records, %+v", n, a.x.Learned())
		}
	})
}

// Who reports does not decide how much the other keeps.
func TestReceiverBoundsToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		g.limits.PerPeer, g.limits.Reported = 20, 30
		defer startAll(a, b, g)()
		for i := 2; i <= 41; i++ {
			a.learn(5001, fmt.Sprintf("10.1.0.%d", i), byte(i))
		}
		settle()
		if n := g.count(5001); n != 20 {
			t.Errorf("g has %d records of a, want 20", n)
		}
		if p := a.peer("g"); p.Refused != 20 || p.Pushed != 20 || p.Pending != 0 || !strings.Contains(p.LastHeld, "as many as one machine may") {
			t.Errorf("%+v", p)
		}
		for i := 101; i <= 120; i++ {
			b.learn(5001, fmt.Sprintf("10.1.0.%d", i), byte(i))
		}
		settle()
		if n := g.count(5001); n != 30 {
			t.Errorf("g has %d records, want 30", n)
		}
		// A record that moves from one machine to another needs no more room.
		b.learn(5001, "10.1.0.2", 2)
		settle()
		if pa := g.has(5001, "10.1.0.2"); pa != "" && pa != paB {
			t.Errorf("moved: at %s", pa)
		}
		for i := 2; i <= 41; i++ {
			if a.has(5001, fmt.Sprintf("10.1.0.%d", i)) == paA {
				a.forget(5001, fmt.Sprintf("10.1.0.%d", i))
			}
		}
		time.Sleep(12 * time.Minute)
		if n := g.count(5001); n != 20 { // b's 21 are one too many for one machine
			t.Errorf("when a has none any more, g has %d", n)
		}
	})
}

// What waits for a peer is bounded; past that the peer is asked anew.
func TestWaitingIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		a.limits.Waiting, a.limits.Batch = 10, 4
		defer startAll(a, b, g)()
		a.wires["g"].set(func(w *wire) { w.hang = true })
		for i := 2; i <= 101; i++ {
			a.learn(5001, fmt.Sprintf("10.1.0.%d", i), byte(i))
		}
		synctest.Wait()
		for _, s := range a.x.sessions {
			s.mu.Lock()
			if n := len(s.dirty); n > 10 {
				t.Errorf("%d records wait for %s", n, s.peer.Name)
			}
			s.mu.Unlock()
		}
		if p := a.peer("g"); p.Pending != 100 {
			t.Errorf("%+v", p)
		}
		a.wires["g"].set(func(w *wire) { w.hang = false })
		time.Sleep(time.Minute)
		if n := g.count(5001); n != 100 {
			t.Errorf("g has %d records", n)
		}
		if n := b.count(5001); n != 100 {
			t.Errorf("b has %d records", n)
		}
	})
}

// Two machines that claim one address do not keep the others awake.
func TestDuplicateAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		began := a.wires["g"].put() + b.wires["g"].put()
		for range 600 {
			a.learn(5001, "10.1.0.11", 1)
			time.Sleep(100 * time.Millisecond)
			b.learn(5001, "10.1.0.11", 2)
			time.Sleep(100 * time.Millisecond)
		}
		n := a.wires["g"].put() + b.wires["g"].put() - began
		if n < 2 || n > 12 {
			t.Errorf("%d reports of 1200 changes in two minutes", n)
		}
		if a.x.Learned().Unsteady+b.x.Learned().Unsteady == 0 {
			t.Error("nobody says that it is unsteady")
		}
		// When it ends, all agree.
		time.Sleep(12 * time.Minute)
		for _, h := range []*host{a, b} {
			h.want("in the end", 5001, "10.1.0.11", g.has(5001, "10.1.0.11"))
		}
		if a.x.Learned().Unsteady+b.x.Learned().Unsteady != 0 {
			t.Error("it is unsteady for ever")
		}
	})
}

func TestRefusedPeerIsNotAskedOften(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSession(&Exchange{o: Options{Limits: defaults()}}, Peer{})
		for n := 1; n < 40; n++ {
			for range 20 {
				if d := s.pause(n, &v1.Problem{Status: 403}); d < 30*time.Second || d > 90*time.Second {
					t.Fatalf("failure %d: pause of %v", n, d)
				}
				d, want := s.pause(n, errCut), min(500*time.Millisecond<<min(n-1, 10), time.Minute)
				if d < want/2 || d > want*3/2+1 {
					t.Fatalf("failure %d: pause of %v, want about %v", n, d, want)
				}
			}
		}
	})
}

func defaults() Limits {
	var l Limits
	l.defaults()
	return l
}

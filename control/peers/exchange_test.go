package peers

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

const (
	paA = "192.168.1.11"
	paB = "192.168.1.12"
	paG = "192.168.1.1"
)

// three are two hosts and a gateway that know each other.
func three(t *testing.T) (a, b, g *host) {
	a, b, g = newHost(t, "a", paA), newHost(t, "b", paB), newHost(t, "g", paG)
	mesh(a, b, g)
	return a, b, g
}

func inBubble(t *testing.T, fn func(t *testing.T)) { t.Helper(); synctest.Test(t, fn) }

func startAll(hosts ...*host) (end func()) {
	for _, h := range hosts {
		h.start()
	}
	settle()
	return func() {
		for _, h := range hosts {
			h.end()
		}
	}
}

func TestLearnedReachesThePeers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		learnedAt := time.Now()
		a.learn(5001, "10.1.0.11", 1)
		time.Sleep(100 * time.Millisecond)
		for _, h := range []*host{b, g} {
			h.want("learned", 5001, "10.1.0.11", paA)
			r, _ := h.record(5001, "10.1.0.11")
			m, ok := parseMark(r.Context)
			if !ok || m.origin != "hnv@a" || m.at.Sub(learnedAt).Abs() > time.Millisecond || r.Type != hnv.Dynamic || r.MAC != mac(1) {
				t.Errorf("%s has %+v", h.name, r)
			}
		}
		// Nobody passes on what was reported, and another tenant's record of the
		// same address is another record.
		b.learn(6001, "10.1.0.11", 1)
		settle()
		if n := g.wires["a"].put() + g.wires["b"].put() + b.wires["a"].put(); n != 1 {
			t.Errorf("%d reports of others' records", n-1)
		}
		a.want("other tenant", 5001, "10.1.0.11", paA)
		a.want("other tenant", 6001, "10.1.0.11", paB)
		if p := a.peer("g"); p.Phase != v1.PhaseReady || !p.Connected || p.Pushed != 1 || p.Pending != 0 || p.LastError != "" || p.LastContact == nil {
			t.Errorf("%+v", p)
		}
		if l := g.x.Learned(); l.Own != 0 || l.Reported != 2 {
			t.Errorf("%+v", l)
		}
		if l := a.x.Learned(); l.Own != 1 || l.Reported != 1 {
			t.Errorf("%+v", l)
		}
		// What changes is told, and what goes.
		a.learn(5001, "10.1.0.11", 2)
		settle()
		if r, _ := g.record(5001, "10.1.0.11"); r.MAC != mac(2) {
			t.Errorf("g has %+v", r)
		}
		a.forget(5001, "10.1.0.11")
		settle()
		g.want("forgotten", 5001, "10.1.0.11", "")
		b.want("forgotten", 5001, "10.1.0.11", "")
		g.want("of another tenant", 6001, "10.1.0.11", paB)
		if p := a.peer("g"); p.Pushed != 0 || p.Withdrawn != 1 || p.Phase != v1.PhaseReady {
			t.Errorf("%+v", p)
		}
	})
}

// Only what was learned, and at an own PA or in a team with it, is reported.
func TestWhatIsReported(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		static := a.learned(5001, "10.1.0.1"+"1", 1)
		static.Type = hnv.Static
		foreign := a.learned(5001, "10.1.0.12", 2)
		foreign.PA = b.pa
		team := a.learned(5001, "10.1.0.13", 3)
		team.PA, team.TeamPAs = foreign.PA.Next(), append(team.TeamPAs, a.pa)
		l2 := a.learned(5001, "10.1.0.14", 4)
		l2.CA, l2.Type = team.CA, hnv.L2Only
		l2.CA = hnv.Record{}.CA
		a.apply(hnv.Change{Put: static}, hnv.Change{Put: foreign}, hnv.Change{Put: team}, hnv.Change{Put: l2})
		settle()
		g.want("static", 5001, "10.1.0.11", "")
		g.want("another's PA", 5001, "10.1.0.12", "")
		g.want("team", 5001, "10.1.0.13", team.PA.String())
		if n := a.wires["g"].put(); n != 1 {
			t.Errorf("%d records were reported", n)
		}
	})
}

func TestRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		a.learn(5001, "10.1.0.12", 2)
		b.learn(5001, "10.1.0.21", 3)
		// The operator's own dynamic record at a's PA is not one that a reported.
		plain := a.learned(5002, "10.2.0.99", 9)
		g.apply(hnv.Change{Put: plain})
		settle()
		a.end()
		a.forget(5001, "10.1.0.11")
		a.learn(5001, "10.1.0.13", 4)
		g.want("while a is down", 5001, "10.1.0.11", paA)
		a.start()
		settle()
		for _, h := range []*host{b, g} {
			h.want("gone while a was down", 5001, "10.1.0.11", "")
			h.want("still there", 5001, "10.1.0.12", paA)
			h.want("new while a was down", 5001, "10.1.0.13", paA)
			h.want("another's", 5001, "10.1.0.21", paB)
		}
		g.want("the operator's", 5002, "10.2.0.99", paA)
		puts := a.wires["g"].put()
		a.end()
		a.start()
		settle()
		if n := a.wires["g"].put() - puts; n != 0 {
			t.Errorf("%d records were reported again for no reason", n)
		}
		// The peer is started anew, and has lost something meanwhile.
		g.end()
		g.forget(5001, "10.1.0.12")
		g.start()
		time.Sleep(time.Minute)
		g.want("after g's restart", 5001, "10.1.0.12", paA)
	})
}

func TestMove(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		settle()
		b.learn(5001, "10.1.0.11", 1)
		settle()
		for _, h := range []*host{a, b, g} {
			h.want("moved", 5001, "10.1.0.11", paB)
		}
		if p := a.peer("g"); p.Pushed != 0 || p.Pending != 0 {
			t.Errorf("the old host: %+v", p)
		}
		// Neither looks after it later nor restarts undo it.
		time.Sleep(30 * time.Minute)
		for _, h := range []*host{a, b, g} {
			h.end()
			h.start()
			settle()
		}
		for _, h := range []*host{a, b, g} {
			h.want("later", 5001, "10.1.0.11", paB)
		}
		a.learn(5001, "10.1.0.11", 1)
		settle()
		for _, h := range []*host{a, b, g} {
			h.want("moved back", 5001, "10.1.0.11", paA)
		}
		a.forget(5001, "10.1.0.11")
		settle()
		for _, h := range []*host{a, b, g} {
			h.want("aged", 5001, "10.1.0.11", "")
		}
	})
}

// All addresses of a station move with the first that is seen elsewhere.
func TestStationMoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		a.learn(5001, "10.1.0.12", 1)
		a.learn(5002, "10.2.0.12", 1) // the same MAC elsewhere is another station
		settle()
		b.learn(5001, "10.1.0.11", 1)
		settle()
		for _, h := range []*host{a, b, g} {
			h.want("moved", 5001, "10.1.0.11", paB)
			h.want("not seen at the new place yet", 5001, "10.1.0.12", "")
			h.want("another VSID", 5002, "10.2.0.12", paA)
		}
		b.learn(5001, "10.1.0.12", 1)
		settle()
		g.want("seen", 5001, "10.1.0.12", paB)
	})
}

// A report that was held up loses against what happened meanwhile.
func TestStaleReports(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		cut := func(cut bool) {
			for _, w := range []*wire{a.wires["b"], a.wires["g"], b.wires["a"]} {
				w.set(func(w *wire) { w.cut = cut })
			}
		}
		cut(true)
		a.learn(5001, "10.1.0.11", 1)
		time.Sleep(time.Minute)
		b.learn(5001, "10.1.0.11", 1)
		settle()
		g.want("b learned it", 5001, "10.1.0.11", paB)
		// a reaches g before it hears of b.
		a.wires["g"].set(func(w *wire) { w.cut = false })
		time.Sleep(3 * time.Minute)
		g.want("a's old report", 5001, "10.1.0.11", paB)
		if p := a.peer("g"); p.Superseded != 1 || p.Pushed != 0 || !strings.Contains(p.LastHeld, paB) {
			t.Errorf("%+v", p)
		}
		a.want("a does not know yet", 5001, "10.1.0.11", paA)
		cut(false)
		time.Sleep(3 * time.Minute)
		for _, h := range []*host{a, b, g} {
			h.want("all know", 5001, "10.1.0.11", paB)
		}

		// After a restart a does not know when it learned, so it takes nothing
		// from others.
		cut(true)
		a.learn(5001, "10.1.0.12", 2)
		b.learn(5001, "10.1.0.12", 2)
		settle()
		a.end()
		a.start()
		a.wires["g"].set(func(w *wire) { w.cut = false })
		time.Sleep(3 * time.Minute)
		g.want("a's report of unknown age", 5001, "10.1.0.12", paB)
		// When its owner gives it up, it is a's.
		b.forget(5001, "10.1.0.12")
		time.Sleep(10 * time.Minute)
		g.want("b gave it up", 5001, "10.1.0.12", paA)
	})
}

func TestStaticWins(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		static := b.learned(5001, "10.1.0.11", 7)
		static.Type = hnv.Static
		g.apply(hnv.Change{Put: static})
		a.learn(5001, "10.1.0.11", 1)
		settle()
		g.want("static", 5001, "10.1.0.11", paB)
		b.want("elsewhere", 5001, "10.1.0.11", paA)
		if p := a.peer("g"); p.Static != 1 || p.Pushed != 0 || p.Pending != 0 || p.Phase != v1.PhaseReady || !strings.Contains(p.LastHeld, "is configured (static") {
			t.Errorf("%+v", p)
		}
		puts := a.wires["g"].put()
		time.Sleep(4 * time.Minute)
		if n := a.wires["g"].put() - puts; n != 0 {
			t.Errorf("%d tries though nothing changed", n)
		}
		g.apply(hnv.Change{Delete: static})
		time.Sleep(6 * time.Minute)
		g.want("after it was deleted", 5001, "10.1.0.11", paA)

		// A static record put over a reported one is not touched any more.
		g.apply(hnv.Change{Put: static})
		a.forget(5001, "10.1.0.11")
		settle()
		g.want("static again", 5001, "10.1.0.11", paB)
		b.want("forgotten", 5001, "10.1.0.11", "")
	})
}

func TestPeerWithoutTheVSID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		contoso := tenant("contoso", 5001, 5002)
		g.apply(hnv.Change{Delete: contoso})
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		settle()
		a.learn(5001, "10.1.0.12", 2)
		settle()
		b.want("needs it", 5001, "10.1.0.12", paA)
		if p := a.peer("g"); p.Unneeded != 2 || p.Pending != 0 || p.Phase != v1.PhaseReady || p.LastHeld != "" {
			t.Errorf("%+v", p)
		}
		if n := a.wires["g"].put(); n != 1 {
			t.Errorf("%d records were reported to who does not need them, want 1", n)
		}
		g.apply(hnv.Change{Put: contoso})
		time.Sleep(6 * time.Minute)
		g.want("since it has the tenant", 5001, "10.1.0.11", paA)
		g.want("since it has the tenant", 5001, "10.1.0.12", paA)
	})
}

func TestDeadPeerDelaysNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		a.wires["b"].set(func(w *wire) { w.hang = true })
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		time.Sleep(200 * time.Millisecond)
		g.want("beside a dead peer", 5001, "10.1.0.11", paA)
		time.Sleep(time.Minute)
		p := a.peer("b")
		if p.Connected || p.Phase != v1.PhaseDegraded || p.Pending != 1 || p.Failures == 0 || !strings.Contains(p.LastError, "deadline") {
			t.Errorf("%+v", p)
		}
		failures := p.Failures
		time.Sleep(time.Hour)
		if n := a.peer("b").Failures - failures; n < 20 || n > 90 {
			t.Errorf("%d tries in an hour", n)
		}
		a.wires["b"].set(func(w *wire) { w.hang = false })
		time.Sleep(2 * time.Minute)
		b.want("alive again", 5001, "10.1.0.11", paA)
		if p := a.peer("b"); !p.Connected || p.Phase != v1.PhaseReady || p.LastError != "" || p.Pushed != 1 {
			t.Errorf("%+v", p)
		}
	})
}

// A report that is taken over though its answer is lost.
func TestLostAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		a.wires["g"].set(func(w *wire) { w.deaf = true })
		a.learn(5001, "10.1.0.11", 1)
		settle()
		a.forget(5001, "10.1.0.11")
		settle()
		a.wires["g"].set(func(w *wire) { w.deaf = false })
		time.Sleep(2 * time.Minute)
		g.want("forgotten", 5001, "10.1.0.11", "")
	})
}

func TestProviderAddressGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		second := hnv.ProviderAddress{Addr: hnvPrefix("192.168.1.99/24"), Interface: "pa0"}
		a.apply(hnv.Change{Put: second})
		defer startAll(a, b, g)()
		r := a.learned(5001, "10.1.0.11", 1)
		r.PA = second.Addr.Addr()
		a.apply(hnv.Change{Put: r})
		settle()
		g.want("learned", 5001, "10.1.0.11", "192.168.1.99")
		a.apply(hnv.Change{Delete: second})
		settle()
		g.want("given up", 5001, "10.1.0.11", "")

		// Another machine takes it over, and what it learns there is its own.
		b.apply(hnv.Change{Put: second})
		b.apply(hnv.Change{Put: r})
		settle()
		g.want("taken over", 5001, "10.1.0.11", "192.168.1.99")
		time.Sleep(30 * time.Minute)
		g.want("the former owner looks after its own", 5001, "10.1.0.11", "192.168.1.99")
		if r, _ := g.record(5001, "10.1.0.11"); !strings.Contains(r.Context, "hnv@b") {
			t.Errorf("%+v", r)
		}
	})
}

// Where an operator places a station by its MAC, what was learned of it moves
// along in that machine's store, marks and all. It is the new host's from then
// on, and later than what the old host said.
func TestOperatorMovesStation(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		time.Sleep(time.Minute)
		moved, _ := b.record(5001, "10.1.0.11")
		moved.PA = b.pa
		b.apply(hnv.Change{Put: moved})
		settle()
		for _, h := range []*host{a, b, g} {
			h.want("moved", 5001, "10.1.0.11", paB)
		}
		if r, _ := g.record(5001, "10.1.0.11"); !strings.Contains(r.Context, "hnv@b") {
			t.Errorf("%+v", r)
		}
		b.forget(5001, "10.1.0.11")
		settle()
		g.want("forgotten", 5001, "10.1.0.11", "")
	})
}

// A station moves, and its operator tells the gateway a moment after the hosts:
// what was refused meanwhile is taken over soon after that, not only when the peer
// is looked after anyway. Of what stays refused, the peer is asked ever more rarely.
func TestOperatorTellsOneAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a, b, g := three(t)
		for _, h := range []*host{a, b, g} {
			h.place(a)
		}
		defer startAll(a, b, g)()
		a.learn(5001, "10.1.0.11", 1)
		settle()
		g.want("learned", 5001, "10.1.0.11", paA)
		for _, h := range []*host{a, b} {
			h.place(b)
		}
		b.learn(5001, "10.1.0.11", 1)
		time.Sleep(2 * time.Second)
		g.want("the gateway has not heard of the move", 5001, "10.1.0.11", "")
		if p := b.peer("g"); p.Static != 1 {
			t.Errorf("%+v", p)
		}
		g.place(b)
		time.Sleep(10 * time.Second)
		g.want("the gateway has heard", 5001, "10.1.0.11", paB)

		g.place(a)
		b.forget(5001, "10.1.0.11")
		settle()
		b.learn(5001, "10.1.0.11", 1)
		before := g.wires["b"].put() + b.wires["g"].put()
		for range 3600 {
			g.apply(hnv.Change{Put: hnv.Record{VSID: vsid(5001), CA: netip.MustParseAddr("10.1.0.99"), MAC: mac(9), PA: netip.MustParseAddr(paG), Rule: hnv.RuleVXLAN, Type: hnv.Static}})
			time.Sleep(time.Second)
		}
		if n := b.wires["g"].put() + g.wires["b"].put() - before; n < 10 || n > 60 {
			t.Errorf("what is not taken was reported %d times in an hour", n)
		}
	})
}

// place says that the station with MAC 1, whose addresses are not known, is at the
// host at, as its operator does.
func (h *host) place(at *host) {
	h.t.Helper()
	r := hnv.Record{VSID: vsid(5001), MAC: mac(1), PA: at.pa, Rule: hnv.RuleVXLAN, Type: hnv.L2Only}
	_, err := h.store.UpdateFunc(context.Background(), func(f *hnv.Fabric) ([]hnv.Change, error) {
		return f.WithFollowers([]hnv.Change{{Put: r}}), nil
	})
	if err != nil {
		h.t.Error(err)
	}
}

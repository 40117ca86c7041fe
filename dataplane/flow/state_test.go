package flow

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

const (
	syn = packet.TCPSyn
	ack = packet.TCPAck
	fin = packet.TCPFin
	rst = packet.TCPRst
	psh = packet.TCPPsh
)

// step is a packet of a connection and the state that it leads to.
type step struct {
	reply bool
	flags uint8
	want  State
}

const (
	out  = false // from the opener
	back = true  // from the reply half
)

var handshake = []step{{out, syn, StateNew}, {back, syn | ack, StateReplied}, {out, ack, StateEstablished}}

func after(first []step, more ...step) []step { return append(first[:len(first):len(first)], more...) }

func TestTCP(t *testing.T) {
	closed := after(handshake, step{out, fin | ack, StateHalfClosed}, step{back, fin | ack, StateClosing})
	for name, steps := range map[string][]step{
		"handshake and data": after(handshake, step{back, ack | psh, StateEstablished}, step{out, ack, StateEstablished}),
		"SYN repeated":       {{out, syn, StateNew}, {out, syn, StateNew}, {back, syn | ack, StateReplied}, {out, syn, StateReplied}, {back, syn | ack, StateReplied}, {out, ack, StateEstablished}},
		"fast open":          {{out, syn | psh, StateNew}, {back, syn | ack, StateReplied}, {back, ack | psh, StateReplied}, {out, ack, StateEstablished}},
		// RFC 9293 section 3.5, figure 7.
		"simultaneous open": {{out, syn, StateNew}, {back, syn, StateReplied}, {out, syn | ack, StateReplied}, {back, syn | ack, StateEstablished}},
		"simultaneous open, other order": {{out, syn, StateNew}, {back, syn, StateReplied}, {back, syn | ack, StateReplied},
			{out, syn | ack, StateEstablished}},
		"blind ACK finishes no handshake": {{out, syn, StateNew}, {out, ack, StateNew}, {back, syn | ack, StateReplied}},

		"half-close": after(handshake, step{out, fin | ack, StateHalfClosed}, step{back, ack, StateHalfClosed},
			step{back, ack | psh, StateHalfClosed}, step{out, ack, StateHalfClosed}, step{back, fin | ack, StateClosing}, step{out, ack, StateClosing}),
		"half-close by the other end": after(handshake, step{back, fin | ack, StateHalfClosed}, step{out, ack | psh, StateHalfClosed},
			step{out, fin | ack, StateClosing}),
		"FIN repeated":            after(closed, step{back, fin | ack, StateClosing}, step{out, fin | ack, StateClosing}),
		"FIN before the answer":   {{out, syn, StateNew}, {out, fin | ack, StateNew}, {back, syn | ack, StateReplied}, {out, ack, StateHalfClosed}},
		"FINs alone are no close": {{out, fin, StateNew}, {out, fin, StateNew}},

		"refused":                        {{out, syn, StateNew}, {back, rst | ack, StateClosing}},
		"refused, tried again":           {{out, syn, StateNew}, {back, rst | ack, StateClosing}, {out, syn, StateNew}, {back, syn | ack, StateReplied}, {out, ack, StateEstablished}},
		"RST before the reply":           {{out, syn, StateNew}, {out, rst, StateNew}, {back, syn | ack, StateReplied}, {out, ack, StateEstablished}},
		"RST from the opener":            after(handshake, step{out, rst, StateClosing}, step{back, ack, StateClosing}, step{back, ack | psh, StateClosing}),
		"RST from the reply half":        after(handshake, step{back, rst, StateClosing}, step{out, ack, StateClosing}, step{out, ack | psh, StateClosing}),
		"RST forged":                     after(handshake, step{back, rst, StateClosing}, step{out, ack, StateClosing}, step{back, ack, StateEstablished}),
		"RST forged twice":               after(handshake, step{back, rst, StateClosing}, step{out, ack, StateClosing}, step{back, rst, StateClosing}, step{back, ack, StateClosing}, step{out, ack, StateEstablished}),
		"RST forged, half-closed":        after(handshake, step{out, fin | ack, StateHalfClosed}, step{out, rst, StateClosing}, step{back, ack, StateClosing}, step{out, ack, StateHalfClosed}),
		"RST after both FINs":            after(closed, step{back, rst, StateClosing}, step{out, ack, StateClosing}, step{back, ack, StateClosing}),
		"RST answered by RST":            after(handshake, step{back, rst, StateClosing}, step{out, ack, StateClosing}, step{back, rst | ack, StateClosing}, step{out, rst, StateClosing}),
		"mid-stream":                     {{out, ack | psh, StateNew}, {out, ack, StateNew}, {back, ack, StateReplied}, {out, ack, StateEstablished}},
		"mid-stream, SYN-ACK first":      {{out, syn | ack, StateNew}, {back, ack, StateReplied}, {out, ack, StateEstablished}},
		"mid-stream, reset":              {{out, ack | psh, StateNew}, {back, rst, StateClosing}},
		"TIME-WAIT reused":               after(closed, step{out, syn, StateNew}, step{back, syn | ack, StateReplied}, step{out, ack, StateEstablished}),
		"reset, reused":                  after(handshake, step{out, rst, StateClosing}, step{out, syn, StateNew}, step{back, syn | ack, StateReplied}),
		"TIME-WAIT, SYN from the server": after(closed, step{back, syn, StateClosing}, step{out, syn | ack, StateClosing}),
		"SYN while established":          after(handshake, step{out, syn, StateEstablished}, step{back, ack, StateEstablished}, step{out, rst, StateClosing}, step{out, syn, StateNew}),
		"every flag at once":             {{out, 0xff, StateNew}, {back, 0xff, StateClosing}},
		"no flag at all":                 {{out, 0, StateNew}, {back, 0, StateReplied}, {out, 0, StateReplied}},
	} {
		w := word(0)
		for i, s := range steps {
			if w = w.next(true, s.reply, s.flags); w.state() != s.want {
				t.Errorf("%s: packet %d leads to %s, want %s", name, i, w.state(), s.want)
				break
			}
		}
	}
}

func TestOtherProtocols(t *testing.T) {
	for name, steps := range map[string][]step{
		"one way":          {{out, 0, StateNew}, {out, 0, StateNew}},
		"query and answer": {{out, 0, StateNew}, {back, 0, StateReplied}, {back, 0, StateReplied}},
		"stream":           {{out, 0, StateNew}, {back, 0, StateReplied}, {out, 0, StateEstablished}, {back, 0, StateEstablished}},
		// Flags mean nothing there.
		"flags": {{out, rst, StateNew}, {back, rst, StateReplied}, {out, fin, StateEstablished}, {back, fin | rst, StateEstablished}},
	} {
		w := word(0)
		for i, s := range steps {
			if w = w.next(false, s.reply, s.flags); w.state() != s.want {
				t.Errorf("%s: packet %d leads to %s, want %s", name, i, w.state(), s.want)
				break
			}
		}
	}
}

// Whatever comes in whatever order: what has been removed stays removed, only
// the answer makes a flow more than new, and only TCP closes.
func TestStateInvariants(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		w, answered, tcp := word(0), false, r.IntN(4) != 0
		for range 12 {
			reply, flags := r.IntN(2) == 1, uint8(r.Uint32())
			next := w.next(tcp, reply, flags)
			switch {
			case next.state() >= states:
				t.Fatalf("%#x: state %d", next, next.state())
			case next&dead != w&dead:
				t.Fatalf("%#x after %#x by flags %#x: removed or brought back by a packet", next, w, flags)
			case next != next.settle():
				t.Fatalf("%#x: the state does not follow from the rest", next)
			case !tcp && next.state() > StateEstablished:
				t.Fatalf("%#x: %s, and not TCP", next, next.state())
			}
			answered = (answered || reply) && next&replied != 0
			if !answered && next.state() != StateNew {
				t.Fatalf("%#x: %s without an answer", next, next.state())
			}
			if w = next; r.IntN(8) == 0 {
				w |= dead
			}
		}
	}
}

// The flow's life by the clock: each state has its own timeout, and a RST
// shortens what is left.
func TestTimeouts(t *testing.T) {
	const sec = int64(time.Second)
	d := DefaultTimeouts()
	table := New(Options[int]{})
	for name, c := range map[string]struct {
		proto, kind uint8
		steps       []step
		want        time.Duration
	}{
		"SYN":         {6, KindPorts, handshake[:1], d.TCPSetup},
		"SYN-ACK":     {6, KindPorts, handshake[:2], d.TCPSetup},
		"established": {6, KindPorts, handshake, d.TCPEstablished},
		"half-closed": {6, KindPorts, after(handshake, step{out, fin | ack, 0}), d.TCPHalfClosed},
		"closing":     {6, KindPorts, after(handshake, step{out, fin | ack, 0}, step{back, fin | ack, 0}), d.TCPClosing},
		"reset":       {6, KindPorts, after(handshake, step{out, rst, 0}), d.TCPClosing},
		"query":       {17, KindPorts, []step{{out, 0, 0}, {back, 0, 0}}, d.UDP},
		"stream":      {17, KindPorts, []step{{out, 0, 0}, {back, 0, 0}, {out, 0, 0}}, d.UDPStream},
		"echo":        {1, KindEchoRequest, []step{{out, 0, 0}, {back, 0, 0}, {out, 0, 0}}, d.ICMP},
		"error":       {58, KindICMP, []step{{out, 0, 0}}, d.ICMP},
		"esp":         {50, KindPorts, []step{{out, 0, 0}, {back, 0, 0}, {out, 0, 0}}, d.Other},
		"fragment":    {6, KindFragment, []step{{out, rst, 0}}, d.Fragment},
		"no IP":       {0, KindEthernet, []step{{out, 0, 0}}, d.Other},
	} {
		k := Key{Proto: c.proto, Kind: c.kind, Dir: Outbound, Src: [16]byte{1}}
		e, err := table.InsertPair(k, nil, k.Reverse(), nil, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		now := int64(0)
		for _, s := range c.steps {
			now += sec
			at := e
			if s.reply {
				at = e.Peer()
			}
			at.Hit(now, 1, s.flags)
		}
		if e.LastSeen() != now || e.Peer().LastSeen() != now {
			t.Errorf("%s: last seen at %d, want %d", name, e.LastSeen(), now)
		}
		reverse := k.Reverse()
		for _, key := range []*Key{&k, &reverse} {
			if table.Lookup(key, now+int64(c.want)-1) == nil {
				t.Errorf("%s: gone before its %s are over", name, c.want)
			}
			if table.Lookup(key, now+int64(c.want)) != nil {
				t.Errorf("%s: there after %s", name, c.want)
			}
		}
		table.Remove(e)
	}
}

func TestZeroTimeoutsAreDefaults(t *testing.T) {
	if got := (Timeouts{}).orDefault(); got != DefaultTimeouts() {
		t.Errorf("%+v", got)
	}
	set := Timeouts{TCPSetup: 1, TCPEstablished: 2, TCPHalfClosed: 3, TCPClosing: 4, UDP: 5, UDPStream: 6, ICMP: 7, Other: 8, Fragment: 9}
	if got := set.orDefault(); got != set {
		t.Errorf("%+v", got)
	}
}

func TestReopens(t *testing.T) {
	table := New(Options[int]{})
	k := Key{Proto: 6, Dir: Outbound, SrcPort: 1}
	e, _ := table.InsertPair(k, nil, k.Reverse(), nil, 1, 0)
	for _, s := range handshake {
		if e.Reopens(s.flags) {
			t.Errorf("%s: flags %#x reopen it", e.State(), s.flags)
		}
		if s.reply {
			e.Peer().Hit(1, 1, s.flags)
		} else {
			e.Hit(1, 1, s.flags)
		}
	}
	if e.Reopens(syn) {
		t.Error("a SYN reopens what is established")
	}
	e.Hit(1, 1, rst)
	for flags := range 256 {
		want := flags&(syn|ack|rst) == syn
		if e.Reopens(uint8(flags)) != want || e.Peer().Reopens(uint8(flags)) != want {
			t.Errorf("closing, flags %#x: reopens %v", flags, !want)
		}
	}
	u := Key{Proto: 17, Dir: Outbound}
	e, _ = table.InsertPair(u, nil, u.Reverse(), nil, 1, 0)
	if e.Hit(1, 1, rst); e.Reopens(syn) {
		t.Error("UDP reopens")
	}
}

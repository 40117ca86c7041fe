package flow

import (
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func noAllocs(t *testing.T, name string, fn func()) {
	t.Helper()
	if n := testing.AllocsPerRun(200, fn); n != 0 {
		t.Errorf("%s: %v allocations a run", name, n)
	}
}

func TestNothingAllocates(t *testing.T) {
	table := New(Options[int]{})
	tcp, echo := tcp4(), echo6()
	frag := *with(tcp4(), func(h *packet.Headers) { h.FragOffset = 1480 })
	arp := packet.Headers{EtherType: packet.EtherTypeARP, SrcMAC: [6]byte{2}}
	for name, h := range map[string]*packet.Headers{"tcp": &tcp, "echo": &echo, "fragment": &frag, "arp": &arp} {
		k := KeyOf(Outbound, h)
		e := insert(t, table, k, 0)
		now := int64(0)
		noAllocs(t, name+": KeyOf, Lookup, Hit", func() {
			k := KeyOf(Outbound, h)
			k.Set(Outbound, h)
			e := table.Lookup(&k, now)
			if e == nil || e.Gen.Load() != 1 || *e.Action() != 1 {
				t.Fatal("not found")
			}
			now += noteEvery
			e.Hit(now, 100, packet.TCPAck)
		})
		noAllocs(t, name+": replies", func() {
			k := KeyOf(Outbound, h).Reverse()
			e := table.Lookup(&k, now)
			if e == nil {
				t.Fatal("not found")
			}
			e.Hit(now, 100, packet.TCPAck)
		})
		noAllocs(t, name+": miss", func() {
			k := KeyOf(Inbound, h)
			if table.Lookup(&k, now) != nil {
				t.Fatal("found")
			}
		})
		a := new(1)
		noAllocs(t, name+": the rest", func() {
			e.SetAction(a)
			if e.Opener() != e || e.Peer() == nil || e.State() > StateClosing || e.LastSeen() != now || e.Expires() <= now {
				t.Fatal("wrong")
			}
		})
		noAllocs(t, name+": changes of state", func() {
			e.Hit(now, 60, packet.TCPSyn)
			e.Peer().Hit(now, 60, packet.TCPSyn|packet.TCPAck)
			e.Hit(now, 60, packet.TCPAck)
			e.Peer().Hit(now, 60, packet.TCPRst)
			e.Reopens(packet.TCPSyn)
		})
	}
	noAllocs(t, "Sweep", func() { table.Sweep(0, 100) })
	noAllocs(t, "FragmentKey", func() { FragmentKey(Outbound, &frag, 5) })
}

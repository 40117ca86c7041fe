package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// offloads keeps verdicts, and what passed by them as the test says.
type offloads struct {
	follower
	now   map[flow.Key]FlowVerdict
	heard []passed
}

type passed struct {
	FlowVerdict
	idle           time.Duration
	packets, bytes uint64
}

func (o *offloads) Offer(v FlowVerdict)           { o.now[v.Key] = v }
func (o *offloads) Withdraw(_ PortID, k flow.Key) { delete(o.now, k) }
func (o *offloads) pass(k flow.Key, age time.Duration) {
	o.heard = append(o.heard, passed{o.now[k], age, 3, 300})
}

func (o *offloads) Passed(yield func(FlowVerdict, time.Duration, uint64, uint64) bool) {
	for _, p := range o.heard {
		if !yield(p.FlowVerdict, p.idle, p.packets, p.bytes) {
			delete(o.now, p.Key)
		}
	}
	o.heard = nil
}

// verdictLab has a list at vm11 by which it may open what it likes, and be asked by
// TCP to port 80, and the verdicts of its machine.
func verdictLab(t *testing.T) (*lab, *site, *offloads) {
	t.Helper()
	l, contoso, _ := exampleLab(t)
	o := &offloads{now: map[flow.Key]FlowVerdict{}}
	o.sw = contoso.vm11.host.sw
	o.sw.Follow(o)
	l.setScope(contoso, scope{port: rules(aclRule(allowOut("any")), aclRule(allowIn("tcp")).dport(80, 80))})
	return l, contoso, o
}

func (o *offloads) reason(t *testing.T, dir uint8, proto uint8, sport, dport uint16) (drop.Reason, bool) {
	t.Helper()
	for k, v := range o.now {
		if k.Dir == dir && k.Proto == proto && k.SrcPort == sport && k.DstPort == dport {
			if k.Family != 4 || v.Port == 0 || v.Generation == 0 {
				t.Errorf("verdict %+v", v)
			}
			return v.Reason, true
		}
	}
	return 0, false
}

// Verdicts about a connection are there while it is established, and no longer.
func TestVerdictsOfAConnection(t *testing.T) {
	l, s, o := verdictLab(t)
	say := func(there bool, flags string) {
		t.Helper()
		if there {
			s.vm12.send(s.packet(s.vm12, s.vm11, false, tcpFlags(80, 40000, flags), "x"))
		} else {
			s.vm11.send(s.packet(s.vm11, s.vm12, false, tcpFlags(40000, 80, flags), "x"))
		}
		l.settle()
	}
	check := func(when string, denied, out, in bool) {
		t.Helper()
		r, gotOut := o.reason(t, flow.Outbound, 6, 40000, 80)
		in6, gotIn := o.reason(t, flow.Inbound, 6, 80, 40000)
		if gotOut != out || r != drop.None || gotIn != (in || denied) || gotIn && (in6 == drop.ACLDenied) != denied {
			t.Errorf("%s: verdicts %+v", when, o.now)
		}
	}
	say(true, "A")
	check("nobody asked", true, false, false)
	say(false, "S")
	check("SYN", false, false, false)
	say(true, "SA")
	check("SYN and ACK", false, false, false)
	say(false, "A")
	say(true, "A")
	say(false, "A")
	check("established", false, true, true)
	say(true, "FA")
	check("half closed", false, true, true)
	say(false, "FA")
	check("closed", false, false, false)
	say(false, "A")
	check("the last ACK", false, false, false)

	say(false, "S")
	say(true, "SA")
	for range 2 {
		say(false, "A")
		say(true, "A")
	}
	check("another one", false, true, true)
	say(true, "R")
	check("reset", false, false, false)
}

// What passes by verdicts keeps a flow alive, and only that.
func TestPassedKeepsAFlow(t *testing.T) {
	l, s, o := verdictLab(t)
	for range 2 {
		s.vm11.send(s.packet(s.vm11, s.vm12, false, udpPorts(5, 6), "x"))
		l.settle()
		l.now = l.now.Add(2 * time.Second)
	}
	var k flow.Key
	for k = range o.now {
	}
	if len(o.now) != 1 || k.Dir != flow.Outbound || k.Proto != uint8(layers.IPProtocolUDP) {
		t.Fatalf("verdicts %+v", o.now)
	}
	flows := func() []FlowInspection {
		i, err := o.sw.Inspect(o.sw.portName(s.vm11.id), 9, netip.Prefix{})
		if err != nil {
			t.Fatal(err)
		}
		return i.Flows
	}
	for range 10 {
		l.now = l.now.Add(20 * time.Second)
		o.pass(k, 2*time.Second)
		o.sw.Upkeep()
	}
	f := flows()
	if len(f) != 1 || f[0].Packets != 2+30 || f[0].Idle != 2*time.Second {
		t.Fatalf("flows %+v", f)
	}
	l.now = l.now.Add(31 * time.Second)
	o.sw.Upkeep()
	if f := flows(); len(f) != 0 || len(o.now) != 0 {
		t.Errorf("after the last packet: flows %+v, verdicts %+v", f, o.now)
	}
	// Somebody's word about a flow that is gone takes its verdict back.
	o.now[k] = FlowVerdict{Port: s.vm11.id, Key: k}
	o.pass(k, 0)
	o.sw.Upkeep()
	if len(o.now) != 0 {
		t.Errorf("verdicts %+v", o.now)
	}
}

// A change of the lists is another generation, and so is one of the rates; layers
// of a library's user leave nothing to offer.
func TestVerdictsHaveAGeneration(t *testing.T) {
	l, s, o := verdictLab(t)
	view := func() PortView {
		v, ok := o.sw.PortView(s.vm11.id)
		if !ok {
			t.Fatal("the port is gone")
		}
		return v
	}
	first := view()
	if !first.Lists || first.Generation == 0 {
		t.Fatalf("the port is %+v", first)
	}
	l.setScope(s, scope{port: rules(aclRule(allowOut("udp")))})
	if v := view(); v.Generation == first.Generation || !v.Lists {
		t.Errorf("under another list, the port is %+v", v)
	}
	if err := o.sw.SetPort(s.vm11.id, mustName("of-port"), 0, 1e6); err != nil {
		t.Fatal(err)
	}
	talk := func() {
		clear(o.now)
		for range 4 {
			s.vm11.send(s.packet(s.vm11, s.vm12, false, udpPorts(5, 6), "x"))
			s.vm11.send(s.packet(s.vm11, s.vm12, false, tcpFlags(5, 6, "A"), "x"))
			l.settle()
			l.now = l.now.Add(2 * time.Second)
		}
	}
	talk()
	if v := view(); !v.Lists || v.Generation == first.Generation || len(o.now) != 2 {
		t.Errorf("with a rate, the port is %+v, and has verdicts %+v", v, o.now)
	}
	if err := o.sw.SetLayers(s.vm11.id, []vfp.Layer{{Name: "mine", Priority: 500}}); err != nil {
		t.Fatal(err)
	}
	talk()
	if v := view(); v.Lists || !v.Outbound || !v.Inbound || len(o.now) != 0 {
		t.Errorf("with other layers, the port is %+v, and has verdicts %+v", v, o.now)
	}
	if err := o.sw.SetLayers(s.vm11.id, nil); err != nil {
		t.Fatal(err)
	}
	l.clearScope(s)
	if v := view(); v.Lists || v.Outbound || v.Inbound {
		t.Errorf("without a list, the port is %+v", v)
	}
}

// What an earlier process let pass is taken up if its opener may pass now.
func TestRestoredFlows(t *testing.T) {
	l, s, o := verdictLab(t)
	reply := flow.Key{Src: ip(s.ca(s.vm12, false)).As16(), Dst: ip(s.ca(s.vm11, false)).As16(), SrcPort: 443, DstPort: 50000, Proto: 6, Family: 4, Dir: flow.Inbound}
	generation, ok := o.sw.Restore(FlowVerdict{Port: s.vm11.id, Key: reply, Reply: true})
	if v, _ := o.sw.PortView(s.vm11.id); !ok || generation != v.Generation {
		t.Errorf("restored: %v, of generation %d, not %d", ok, generation, v.Generation)
	}
	if !arrives(t, l, s.vm12, s.packet(s.vm12, s.vm11, false, tcpFlags(443, 50000, "A"), "x"), s.vm11, s) {
		t.Error("an answer does not pass")
	}
	foreign := reply
	foreign.SrcPort = 444
	if _, ok := o.sw.Restore(FlowVerdict{Port: s.vm11.id, Key: foreign}); ok {
		t.Error("what a list denies is restored")
	}
	if arrives(t, l, s.vm12, s.packet(s.vm12, s.vm11, false, tcpFlags(444, 50000, "A"), "x"), s.vm11, s) {
		t.Error("it passes")
	}
	if _, ok := o.sw.Restore(FlowVerdict{Port: 9999, Key: reply}); ok {
		t.Error("a flow of no port is restored")
	}
}

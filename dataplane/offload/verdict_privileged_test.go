//go:build privileged && linux

package offload

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// said is a packet of a conversation.
type said struct {
	proto        layers.IPProtocol
	sport, dport uint16
	flags        string // of TCP: letters of SFRA
}

func (s said) frame(e ends) []byte {
	eth := &layers.Ethernet{SrcMAC: e.smac[:], DstMAC: e.dmac[:], EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.NetworkLayer
	var l3 gopacket.SerializableLayer
	if e.src.Is6() {
		eth.EthernetType = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, HopLimit: e.ttl, NextHeader: s.proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		l3, network = v6, v6
	} else {
		v4 := &layers.IPv4{Version: 4, TTL: e.ttl, Flags: layers.IPv4DontFragment, Protocol: s.proto, SrcIP: e.src.AsSlice(), DstIP: e.dst.AsSlice()}
		l3, network = v4, v4
	}
	data := gopacket.Payload(make([]byte, 64))
	switch s.proto {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(s.sport), DstPort: layers.TCPPort(s.dport)}
		for _, f := range s.flags {
			switch f {
			case 'S':
				tcp.SYN = true
			case 'F':
				tcp.FIN = true
			case 'R':
				tcp.RST = true
			case 'A':
				tcp.ACK = true
			}
		}
		_ = tcp.SetNetworkLayerForChecksum(network)
		return serialize(eth, l3, tcp, data)
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(s.sport), DstPort: layers.UDPPort(s.dport)}
		_ = udp.SetNetworkLayerForChecksum(network)
		return serialize(eth, l3, udp, data)
	}
	return serialize(eth, l3, data)
}

// listRig has lists at all ports of this machine, of which ports and directions are
// open as drawn.
type listRig struct {
	*exampleRig
	all []example
	r   *rand.Rand
}

func newListRig(t *testing.T, seed uint64) *listRig {
	t.Helper()
	all := []example{examples[0], examples[1], examples[3]}
	l := &listRig{newExampleRig(t, all, mtuHere), all, rand.New(rand.NewPCG(seed, 9))}
	for i := range all {
		l.setLists(i)
	}
	return l
}

// rules draws a list by which some of the conversations may begin.
func (l *listRig) rules() []hnv.ACLRule {
	out := []hnv.ACLRule{{Priority: 10, Direction: hnv.Outbound, Action: hnv.Deny, Proto: "udp", DstPorts: []hnv.PortRange{{Lo: 7, Hi: 7}}}}
	if l.r.IntN(3) != 0 {
		out = append(out, hnv.ACLRule{Priority: 20, Direction: hnv.Outbound, Action: hnv.Allow, Proto: "any"})
	}
	if l.r.IntN(3) == 0 {
		out = append(out, hnv.ACLRule{Priority: 30, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "any", DstPorts: nil})
	} else {
		out = append(out, hnv.ACLRule{Priority: 30, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 80, Hi: 80}}})
	}
	return out
}

func (l *listRig) setLists(i int) {
	l.t.Helper()
	c := l.tenants[i]
	name, err := hnv.ParseName("list")
	must(l.t, err)
	c.ACLs = []hnv.ACL{{Name: name, Rules: l.rules()}}
	for s := range c.Subnets {
		c.Subnets[s].ACL = name
	}
	must(l.t, l.sw.Apply(*c))
}

// say draws a packet between two stations, one of which is here, and gives it to
// both.
func (l *listRig) say(c *tally) {
	l.t.Helper()
	x := l.all[l.r.IntN(len(l.all))]
	vms := x.vms(l.t)
	from, to := vms[l.r.IntN(len(vms))], vms[l.r.IntN(len(vms))]
	if from == to || from.host != 0 && to.host != 0 {
		return
	}
	s := said{
		proto: []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolSCTP}[l.r.IntN(4)],
		sport: 40000, dport: []uint16{80, 7}[l.r.IntN(2)], flags: "A",
	}
	if l.r.IntN(8) == 0 {
		s.flags = []string{"S", "S", "SA", "SA", "FA", "R"}[l.r.IntN(6)]
	}
	if l.r.IntN(2) == 0 {
		s.sport, s.dport = s.dport, s.sport
	}
	l.give(c, x, from, to, s, l.r.IntN(3) == 0)
}

// give gives the packet to both; what they do agrees.
func (l *listRig) give(c *tally, x example, from, to vm, s said, six bool) verdict {
	l.t.Helper()
	got, want, alone, b := l.both(x, from, to, s, six)
	c.count(got)
	if !agree(got, want, alone, b, l.own) {
		l.t.Fatalf("%s to %s, %+v: %x\nprograms: %s\nSwitch:   %s (alone: %v)", from.four, to.four, s, b, got, want, alone)
	}
	return got
}

func (l *listRig) both(x example, from, to vm, s said, six bool) (got, want verdict, alone bool, b []byte) {
	l.t.Helper()
	ca := func(v vm) netip.Addr {
		if six {
			return netip.MustParseAddr(v.six)
		}
		return netip.MustParseAddr(v.four)
	}
	e := ends{smac: from.mac.Bytes(), dmac: routerMAC, src: ca(from), dst: ca(to), ttl: 64}
	if from.vsid == to.vsid {
		e.dmac = to.mac.Bytes()
	}
	if from.host == 0 {
		b = s.frame(e)
		got, want, alone = l.fromPort(l.ids[x.portName(from)], b)
		return got, want, alone, b
	}
	if e.dmac = to.mac.Bytes(); from.vsid != to.vsid {
		e.smac = routerMAC
	}
	b = wrap(outer{src: x.paOf(from.host), dst: x.paOf(0), vxlan: x.encap == hnv.VXLAN, vsid: to.vsid}, s.frame(e))
	got, want, alone = l.fromFabric(b)
	return got, want, alone, b
}

// Whatever lists let pass or deny in the kernel, they do as the Switch does, while
// connections open and end, lists and rates change, and flows are forgotten.
func TestVerdictsAreTheSwitchs(t *testing.T) {
	c := newTally()
	for seed := range uint64(3) {
		l := newListRig(t, seed)
		for range 6000 {
			switch l.r.IntN(900) {
			case 0:
				l.setLists(l.r.IntN(len(l.all)))
			case 1:
				for id := range l.boxes {
					must(t, l.sw.SetPort(id, hnv.Name{}, 0, uint64(l.r.IntN(2)*1e6)))
					break
				}
			case 2:
				l.sw.Upkeep()
			default:
				l.say(c)
			}
		}
		l.checkCounters()
		l.sw.Upkeep()
	}
	c.check(t, 300, 150, 1)
	if n := c.reasons[drop.ACLDenied]; n < 1000 {
		t.Errorf("the programs denied %d packets", n)
	}
	if n := c.whys[WhyPolicy]; n < 1000 {
		t.Errorf("%d packets were left to the Switch", n)
	}
}

// One connection through a list: what opens and ends it goes to the Switch, the
// rest does not, and is counted all the same; a change voids what was said at once.
func TestVerdictOfOneConnection(t *testing.T) {
	l := newListRig(t, 1)
	c := newTally()
	x := l.all[0]
	vms := x.vms(t)
	out, in := hnv.ACLRule{Priority: 20, Direction: hnv.Outbound, Action: hnv.Allow, Proto: "any"}, hnv.ACLRule{Priority: 30, Direction: hnv.Inbound, Action: hnv.Allow, Proto: "udp"}
	set := func(rules ...hnv.ACLRule) {
		t.Helper()
		l.tenants[0].ACLs[0].Rules = rules
		must(t, l.sw.Apply(*l.tenants[0]))
	}
	set(out, in)
	here, far := vms[5], vms[1]
	ask := func(flags string) verdict {
		t.Helper()
		return l.give(c, x, here, far, said{layers.IPProtocolTCP, 40000, 80, flags}, false)
	}
	answer := func(flags string) verdict {
		t.Helper()
		return l.give(c, x, far, here, said{layers.IPProtocolTCP, 80, 40000, flags}, false)
	}
	want := func(what string, got verdict, a action) {
		t.Helper()
		if got.action != a {
			t.Errorf("%s: %s", what, got)
		}
	}
	want("an answer that nobody asked for", answer("A"), actionPunt)
	got := answer("A")
	if want("and again", got, actionDrop); got.reason != drop.ACLDenied {
		t.Errorf("it is dropped for %s", got.reason)
	}
	want("SYN", ask("S"), actionPunt)
	want("SYN and ACK", answer("SA"), actionPunt)
	want("ACK", ask("A"), actionPunt)
	ask("A")
	answer("A")
	for range 5 {
		want("data", ask("A"), actionFabric)
		want("data back", answer("A"), actionPort)
	}
	var before dataplane.FlowInspection
	inspect := func() dataplane.FlowInspection {
		t.Helper()
		i, err := l.sw.Inspect(x.portName(here), 10, netip.Prefix{})
		must(t, err)
		if len(i.Flows) != 1 {
			t.Fatalf("the port has flows %+v", i.Flows)
		}
		return i.Flows[0]
	}
	l.sw.Upkeep()
	before = inspect()
	// Now the programs alone have them.
	g := l.rig
	e := ends{smac: here.mac.Bytes(), dmac: far.mac.Bytes(), src: netip.MustParseAddr(here.four), dst: netip.MustParseAddr(far.four), ttl: 64}
	b := said{layers.IPProtocolTCP, 40000, 80, "A"}.frame(e)
	for range 7 {
		want("data that the Switch does not see", g.program(g.k.port, g.ports[l.ids[x.portName(here)]].Ifindex, b), actionFabric)
	}
	l.sw.Upkeep()
	after := inspect()
	if after.Packets != before.Packets+7 || after.Bytes != before.Bytes+7*uint64(len(b)) || after.ReplyPackets != before.ReplyPackets {
		t.Errorf("the flow had %d packets of %d bytes, and has %d of %d (replies: %d, %d)", before.Packets, before.Bytes, after.Packets, after.Bytes, before.ReplyPackets, after.ReplyPackets)
	}

	set(in, hnv.ACLRule{Priority: 10, Direction: hnv.Outbound, Action: hnv.Deny, Proto: "tcp"}, out)
	want("data under another list", ask("A"), actionPunt)
	got = ask("A")
	if want("and again", got, actionDrop); got.reason != drop.ACLDenied {
		t.Errorf("it is dropped for %s", got.reason)
	}
	set(out, in)
	want("data under the first list", ask("A"), actionPunt)
	want("SYN", ask("S"), actionPunt)
	want("SYN and ACK", answer("SA"), actionPunt)
	want("ACK", ask("A"), actionPunt)
	ask("A")
	want("data", ask("A"), actionFabric)
	want("RST", answer("R"), actionPunt)
	want("data after that", ask("A"), actionPunt)

	// A rate does not take them back to the Switch, once it has looked again.
	u := said{layers.IPProtocolUDP, 5000, 6000, ""}
	for range 3 {
		l.give(c, x, here, far, u, false)
	}
	want("datagrams", l.give(c, x, here, far, u, false), actionFabric)
	must(t, l.sw.SetPort(l.ids[x.portName(here)], hnv.Name{}, 0, 1e6))
	want("datagrams with a rate", l.give(c, x, here, far, u, false), actionPunt)
	for range 3 {
		l.give(c, x, here, far, u, false)
	}
	want("and again", l.give(c, x, here, far, u, false), actionFabric)
	must(t, l.sw.SetPort(l.ids[x.portName(here)], hnv.Name{}, 0, 0))
	for range 3 {
		l.give(c, x, here, far, u, false)
	}
	want("datagrams without", l.give(c, x, here, far, u, false), actionFabric)
}

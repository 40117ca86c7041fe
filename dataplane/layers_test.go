package dataplane

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

func acl(name string, rules ...hnv.ACLRule) hnv.ACL {
	for i := range rules {
		rules[i].Priority = uint16(100 + 10*i)
		if rules[i].Proto == "" {
			rules[i].Proto = "any"
		}
	}
	return hnv.ACL{Name: mustName(name), Rules: rules}
}

// apply gives the tenant, changed, to all hosts.
func (l *lab) apply(s *site, change func(t *Tenant)) {
	l.t.Helper()
	change(&s.Tenant)
	for _, h := range l.hosts {
		if err := h.sw.Apply(s.Tenant); err != nil {
			l.t.Fatal(err)
		}
	}
}

// outOnly lets a port open connections and nobody open one to it.
func outOnly() hnv.ACL {
	return acl("out-only",
		hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Allow},
		hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Deny})
}

// Replies to what a list allows pass, whatever it says of their direction;
// nothing else does. The neighbour with the same addresses has no list.
func TestListsAreStateful(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.apply(contoso, func(t *Tenant) { t.ACLs = []hnv.ACL{outOnly()} })
	h1 := l.hosts[1]
	if err := h1.sw.SetPort(contoso.vm11.id, mustName("out-only"), 0, 0); err != nil {
		t.Fatal(err)
	}
	flow := func(from, to hnv.MAC, src, dst string, sport, dport layers.UDPPort, what string) []byte {
		return ipFrame(from, to, src, dst, 64, &layers.UDP{SrcPort: sport, DstPort: dport}, what)
	}
	for _, s := range []*site{contoso, fabrikam} {
		s.vm12.send(flow(mac12, mac11, "10.1.1.12", "10.1.1.11", 7000, 4000, "unsolicited"))
		if s == contoso {
			expect(t, l, nil, "", contoso, fabrikam)
		} else {
			expect(t, l, s.vm11, "unsolicited", contoso, fabrikam)
		}
		for range 3 { // the first packet decides, the others are replayed
			s.vm11.send(flow(mac11, mac12, "10.1.1.11", "10.1.1.12", 4000, 7000, "question"))
			expect(t, l, s.vm12, "question", contoso, fabrikam)
			s.vm12.send(flow(mac12, mac11, "10.1.1.12", "10.1.1.11", 7000, 4000, "answer"))
			expect(t, l, s.vm11, "answer", contoso, fabrikam)
		}
		// The same from another port, another station, and from next door.
		for _, other := range []struct {
			from  *nic
			frame []byte
		}{
			{s.vm12, flow(mac12, mac11, "10.1.1.12", "10.1.1.11", 54, 4000, "guess")},
			{s.vm13, flow(mac13, mac11, "10.1.1.13", "10.1.1.11", 7000, 4000, "guess")},
			{s.v21, flow(mac21, hnv.RouterMAC, "10.1.2.11", "10.1.1.11", 7000, 4000, "guess")},
		} {
			other.from.send(other.frame)
			if s == contoso {
				expect(t, l, nil, "", contoso, fabrikam)
			} else {
				expect(t, l, s.vm11, "guess", contoso, fabrikam)
			}
		}
	}
	if n := h1.drops("contoso")[drop.ACLDenied]; n != 4 {
		t.Errorf("contoso's drops are %v, want 4 acl-denied", h1.drops("contoso"))
	}
	if d := h1.drops("fabrikam"); len(d) != 0 {
		t.Errorf("fabrikam's drops are %v, want none", d)
	}
}

// When a list changes, a flow goes on if it would be let pass now, and ends
// with its next packet, in whatever direction, if it would not.
func TestListChangesUnderFlows(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	web := hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 80, Hi: 80}}}
	ssh := hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 22, Hi: 22}}}
	l.apply(contoso, func(t *Tenant) { t.ACLs = []hnv.ACL{acl("web", web), acl("ssh", ssh)} })
	h1 := l.hosts[1]
	set := func(name string) {
		if err := h1.sw.SetPort(contoso.vm11.id, mustName(name), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	request := func() {
		contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.TCP{SrcPort: 5000, DstPort: 80, SYN: true}, "request"))
	}
	reply := func() {
		contoso.vm11.send(ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.TCP{SrcPort: 80, DstPort: 5000, SYN: true, ACK: true}, "reply"))
	}
	set("web")
	request()
	expect(t, l, contoso.vm11, "request", contoso, fabrikam)
	reply()
	expect(t, l, contoso.vm12, "reply", contoso, fabrikam)

	set("ssh")
	reply() // the opener would not be let pass any more
	expect(t, l, nil, "", contoso, fabrikam)
	request()
	expect(t, l, nil, "", contoso, fabrikam)

	set("web")
	request()
	expect(t, l, contoso.vm11, "request", contoso, fabrikam)
	reply()
	expect(t, l, contoso.vm12, "reply", contoso, fabrikam)
}

// Where lists look at ports, the fragments of a packet share the fate of the
// first, and an ICMP error that of the flow it is about.
func TestFragmentsAndErrorsUnderLists(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.apply(contoso, func(t *Tenant) { t.ACLs = []hnv.ACL{outOnly()} })
	if err := l.hosts[1].sw.SetPort(contoso.vm11.id, mustName("out-only"), 0, 0); err != nil {
		t.Fatal(err)
	}
	query := ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.UDP{SrcPort: 4000, DstPort: 7000}, "question")
	answer := ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.UDP{SrcPort: 7000, DstPort: 4000}, string(make([]byte, 64)))
	fragments := func(id byte) (first, later []byte) {
		first, later = append([]byte(nil), answer[:14+20+32]...), append([]byte(nil), answer[:14+20]...)
		later = append(later, answer[14+20+32:]...)
		for i, f := range [][]byte{first, later} {
			ip := f[14:]
			ip[2], ip[3] = 0, byte(len(ip))
			ip[4], ip[5] = 0, id
			ip[6], ip[7] = []byte{0x20, 0}[i], []byte{0, 4}[i]
			ip[10], ip[11] = 0, 0
			sum := packet.Checksum(ip[:20], 0)
			ip[10], ip[11] = byte(sum>>8), byte(sum)
		}
		return first, later
	}
	delivered := func(frame []byte) bool {
		contoso.vm12.send(frame)
		l.settle()
		return len(contoso.vm11.drain()) == 1
	}
	first, later := fragments(7)
	if delivered(first) || delivered(later) {
		t.Fatal("fragments of an unsolicited packet were delivered")
	}
	contoso.vm11.send(query)
	expect(t, l, contoso.vm12, "question", contoso, fabrikam)
	if !delivered(first) || !delivered(later) {
		t.Error("fragments of an answer were not delivered")
	}
	if _, stray := fragments(8); delivered(stray) {
		t.Error("a later fragment of an unknown packet was delivered")
	}

	unreachable := func(sport layers.UDPPort) []byte {
		quoted := ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.UDP{SrcPort: sport, DstPort: 7000}, "question")[14:]
		return ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, string(quoted))
	}
	if !delivered(unreachable(4000)) {
		t.Error("an error about a flow was not delivered")
	}
	if delivered(unreachable(4001)) {
		t.Error("an error about no flow was delivered")
	}
}

// What a live migration changes re-aims established flows by one write: their
// composed actions stay the very same.
func TestFlowsFollowAMigration(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	gate, h2 := l.hosts[0], l.hosts[2]
	gwMAC := hnv.CompartmentMAC(mustVSID(5000))
	down := func() { contoso.gw.send(udp(gwMAC, hnv.RouterMAC, "203.0.113.5", "10.1.1.11", "down")) }
	down()
	expect(t, l, contoso.vm11, "down", contoso, fabrikam)
	p := *gate.sw.ports.Load().byID.Get(1)
	var before *action
	for e := range p.flows.All {
		before = e.Action()
	}
	if before == nil {
		t.Fatal("the compartment's port remembers no flow")
	}
	home := h2.plug(5001, mac11, PortVM)
	moved := []hnv.Record{record(5001, "10.1.1.11", mac11, paHost2, hnv.RuleNVGRE), record(5001, "fd00:1::11", mac11, paHost2, hnv.RuleNVGRE)}
	for _, h := range l.hosts {
		if err := h.sw.UpdateRecords(contoso.RDID, moved, nil); err != nil {
			t.Fatal(err)
		}
	}
	down()
	l.settle()
	if got := home.drain(); len(got) != 1 {
		t.Errorf("the new home got %d frames, want 1", len(got))
	}
	for e := range p.flows.All {
		if e.Action() != before {
			t.Error("the flow was decided anew")
		}
	}
}

// A broadcast reaches each other station of its virtual subnet once, by one
// packet for each other host, and nobody else.
func TestBroadcast(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	for _, s := range []*site{contoso, fabrikam} {
		for _, tc := range []struct {
			from  *nic
			src   hnv.MAC
			ip    string
			to    []*nic
			hosts int
		}{
			{s.vm11, mac11, "10.1.1.11", []*nic{s.vm12, s.vm13}, 1},
			{s.vm12, mac12, "10.1.1.12", []*nic{s.vm11, s.vm13}, 1},
			{s.v21, mac21, "10.1.2.11", nil, 0},
		} {
			for _, dst := range []string{"255.255.255.255", "224.0.0.251", "10.1.1.255"} {
				mac := macBroadcast
				if dst == "224.0.0.251" {
					mac = macMulticast
				}
				if tc.ip == "10.1.2.11" && dst == "10.1.1.255" {
					dst = "10.1.2.255"
				}
				l.tap = nil
				tc.from.send(udp(tc.src, mac, tc.ip, dst, "all"))
				l.settle()
				if len(l.tap) != tc.hosts {
					t.Errorf("%s to %s of %s: %d packets on the fabric, want %d", tc.ip, dst, s.Name, len(l.tap), tc.hosts)
				}
				got := map[*nic]int{}
				for _, o := range append(contoso.nics(), fabrikam.nics()...) {
					got[o] = len(o.drain())
				}
				for _, o := range tc.to {
					if got[o] != 1 {
						t.Errorf("%s to %s of %s: %s got %d copies, want 1", tc.ip, dst, s.Name, o.mac, got[o])
					}
					delete(got, o)
				}
				for o, n := range got {
					if n != 0 {
						t.Errorf("%s to %s of %s: %s of VSID %d got %d copies, want none", tc.ip, dst, s.Name, o.mac, o.vsid, n)
					}
				}
			}
		}
	}
}

// A tenant's storm ends at its limit, and its neighbour does not notice.
func TestStormLimit(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	l.apply(contoso, func(t *Tenant) { t.StormPPS = 10 })
	count := func(s *site, n int) (got int) {
		for range n {
			s.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "all"))
		}
		l.settle()
		return len(s.vm13.drain())
	}
	if n := count(contoso, 100); n != 10 {
		t.Errorf("%d broadcasts passed at once, want 10", n)
	}
	if n := count(fabrikam, 100); n != 100 {
		t.Errorf("%d broadcasts of the neighbour passed, want all 100", n)
	}
	l.now = l.now.Add(500 * time.Millisecond)
	if n := count(contoso, 100); n != 5 {
		t.Errorf("%d broadcasts passed half a second later, want 5", n)
	}
	if n := l.hosts[1].drops("contoso")[drop.StormLimited]; n != 185 {
		t.Errorf("drops are %v, want 185 storm-limited", l.hosts[1].drops("contoso"))
	}
}

// A port's rate and its tenant's both hold, each way.
func TestRates(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	up := func(s *site, n int) (got int) {
		for range n {
			s.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", string(make([]byte, 1000))))
		}
		l.settle()
		return len(s.vm12.drain())
	}
	if err := h1.sw.SetPort(contoso.vm11.id, hnv.Name{}, 0, 800); err != nil {
		t.Fatal(err)
	}
	burst := up(contoso, 1000)
	if burst == 0 || burst == 1000 {
		t.Fatalf("%d of 1000 packets passed, want a burst and no more", burst)
	}
	l.now = l.now.Add(100 * time.Millisecond) // 10 kB: 9 packets of 1042 bytes
	if n := up(contoso, 100); n < 8 || n > 10 {
		t.Errorf("%d packets passed after a tenth of a second at 800 kbit/s, want 9", n)
	}
	if n := up(fabrikam, 1000); n != 1000 {
		t.Errorf("%d packets of the neighbour passed, want all", n)
	}
	l.apply(fabrikam, func(t *Tenant) { t.QoS = &hnv.QoS{InKbps: 800} })
	if n := up(fabrikam, 1000); n == 1000 {
		t.Error("the tenant's inbound rate does not hold at the receiving host")
	}
	if n := l.hosts[2].drops("fabrikam")[drop.RateExceeded]; n == 0 {
		t.Error("what the rate drops is not counted")
	}
}

// The outer DSCP is none, a fixed one, or the inner one, as the tenant has it.
func TestOuterDSCP(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	frame := udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")
	frame[14+1] = 46 << 2
	frame[14+10], frame[14+11] = 0, 0
	sum := packet.Checksum(frame[14:34], 0)
	frame[14+10], frame[14+11] = byte(sum>>8), byte(sum)
	for _, tc := range []struct {
		set  hnv.DSCP
		want byte
	}{{"", 0}, {"copy", 46}, {"10", 10}} {
		l.apply(contoso, func(t *Tenant) { t.QoS = &hnv.QoS{DSCP: tc.set} })
		for range 2 {
			l.tap = nil
			contoso.vm11.send(frame)
			expect(t, l, contoso.vm12, "x", contoso, fabrikam)
			if got := l.tap[0].bytes[1] >> 2; got != tc.want {
				t.Errorf("DSCP %q: the outer one is %d, want %d", tc.set, got, tc.want)
			}
		}
	}
}

// A layer of a library user translates addresses; replies are translated back.
func TestCustomLayer(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	service := vfp.Layer{Name: "load-balancer", Priority: 500, Groups: []vfp.Group{{
		Name: "service", Priority: 10, Direction: vfp.Outbound, Family: vfp.IPv4,
		Rules: []vfp.Rule{{ID: "10.1.1.100", Match: vfp.Match{Dst: []netip.Prefix{netip.MustParsePrefix("10.1.1.100/32")}},
			Action: vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{Set: vfp.SetDst, NewDst: ip("10.1.1.12")}}}},
	}}}
	if err := h1.sw.SetLayers(contoso.vm11.id, []vfp.Layer{service}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		contoso.vm11.send(ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.100", 64, &layers.UDP{SrcPort: 4000, DstPort: 7000}, "question"))
		got := expect(t, l, contoso.vm12, "question", contoso, fabrikam)
		if got.Dst != ip("10.1.1.12") {
			t.Errorf("the service's packet arrived at %s", got.Dst)
		}
		contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.UDP{SrcPort: 7000, DstPort: 4000}, "answer"))
		got = expect(t, l, contoso.vm11, "answer", contoso, fabrikam)
		if got.Src != ip("10.1.1.100") {
			t.Errorf("the answer comes from %s, want the service's address", got.Src)
		}
	}
}

// Idle flows are gone after a while, and what they counted is kept.
func TestFlowsAge(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	contoso.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x"))
	expect(t, l, contoso.vm12, "x", contoso, fabrikam)
	p := *l.hosts[1].sw.ports.Load().byID.Get(1)
	if p.flows.Len() != 1 {
		t.Fatalf("%d flows, want 1", p.flows.Len())
	}
	l.now = l.now.Add(time.Hour)
	l.hosts[1].sw.Upkeep()
	if p.flows.Len() != 0 {
		t.Errorf("%d flows are left after an hour, want none", p.flows.Len())
	}
	var counted uint64
	for _, layer := range p.policy.Load().prog.Counters() {
		for _, g := range layer.Groups {
			for _, r := range g.Rules {
				if layer.Name == LayerVNET && r.ID == "bridge" {
					counted = r.Packets
				}
			}
		}
	}
	if counted != 1 {
		t.Errorf("the rule that let the packet pass counts %d, want 1", counted)
	}
}

// Where a subnet has a PA multicast group, one packet carries a broadcast to all
// hosts; what else comes to the group, or to another subnet's, is dropped.
func TestMulticastGroup(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	const group = "239.1.1.1"
	for _, s := range []*site{contoso, fabrikam} {
		l.apply(s, func(t *Tenant) { t.Subnets[1].MulticastGroup = ip(group).Next() })
	}
	l.apply(contoso, func(t *Tenant) { t.Subnets[1].MulticastGroup = ip(group) })
	contoso.vm11.send(udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "all"))
	out := l.hosts[1].out.drain()
	if len(out) != 1 {
		t.Fatalf("%d packets on the fabric, want 1", len(out))
	}
	var outer packet.Headers
	if outer.DecodeIP(out[0].bytes); outer.Dst != ip(group) || outer.Src != ip(paHost1) {
		t.Fatalf("the packet goes from %s to %s", outer.Src, outer.Dst)
	}
	for _, h := range l.hosts {
		h.inject(out[0].bytes)
	}
	for _, tc := range []struct {
		at   *nic
		want int
	}{{contoso.vm11, 0}, {contoso.vm13, 1}, {contoso.vm12, 1}, {contoso.v21, 0}, {contoso.gw, 0}, {fabrikam.vm12, 0}} {
		if n := len(tc.at.drain()); n != tc.want {
			t.Errorf("%s of VSID %d got %d copies, want %d", tc.at.mac, tc.at.vsid, n, tc.want)
		}
	}
	h2 := l.hosts[2]
	for _, tc := range []struct {
		what   string
		packet []byte
		tenant string
		reason drop.Reason
	}{
		{"unicast", outerPacket(hnv.NVGRE, paHost1, group, 5001, udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "x")), "contoso", drop.GroupMismatch},
		{"another subnet's", outerPacket(hnv.NVGRE, paHost1, group, 5002, udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x")), "contoso", drop.OuterNotOurs},
		{"another tenant's", outerPacket(hnv.VXLAN, paHost1, group, 6001, udp(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", "x")), "fabrikam", drop.OuterNotOurs},
	} {
		before := h2.drops(tc.tenant)[tc.reason]
		h2.inject(tc.packet)
		expect(t, l, nil, "", contoso, fabrikam)
		if n := h2.drops(tc.tenant)[tc.reason] - before; n != 1 {
			t.Errorf("%s: drops are %v, want one more %s", tc.what, h2.drops(tc.tenant), tc.reason)
		}
	}
	// A question that came to the group is answered by the host itself.
	h2.inject(outerPacket(hnv.NVGRE, paHost1, group, 5001, arpFrame(1, mac11, macBroadcast, mac11, "10.1.1.11", "10.1.1.12")))
	if out := h2.out.drain(); len(out) != 1 || outer.DecodeIP(out[0].bytes) != drop.None || outer.Src != ip(paHost2) {
		t.Errorf("%d answers, from %s", len(out), outer.Src)
	}
}

package dataplane

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/flow"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/hnv"
)

// rule finds a rule of the inspection by its layer, group, direction and ID.
func (p *PortInspection) rule(layer, group, dir, id string) *RuleInspection {
	for _, l := range p.Layers {
		for _, g := range l.Groups {
			for i := range g.Rules {
				if l.Name == layer && g.Name == group && g.Direction.String() == dir && g.Rules[i].ID == id {
					return &g.Rules[i]
				}
			}
		}
	}
	return nil
}

func inspect(t *testing.T, n *nic, most int, of netip.Prefix) PortInspection {
	t.Helper()
	p, err := n.host.sw.Inspect(n.host.portName(n), most, of)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Layers, groups and rules count what passed, at once and for good, across
// changes of the lists and for flows that have ended; flows say what is done with
// them. The neighbour with the same addresses has nothing to do with it.
func TestInspect(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	web := acl("web",
		hnv.ACLRule{Direction: hnv.Outbound, Action: hnv.Allow},
		hnv.ACLRule{Direction: hnv.Inbound, Action: hnv.Allow, Proto: "tcp", DstPorts: []hnv.PortRange{{Lo: 80, Hi: 80}}})
	l.apply(contoso, func(t *Tenant) { t.ACLs, t.QoS = []hnv.ACL{web}, &hnv.QoS{InKbps: 100000} })
	vm := contoso.vm11
	if err := vm.host.sw.SetPort(vm.id, mustName("web"), 0, 20000); err != nil {
		t.Fatal(err)
	}
	request := ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.TCP{SrcPort: 5000, DstPort: 80, SYN: true}, "")
	reply := ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.TCP{SrcPort: 80, DstPort: 5000, SYN: true, ACK: true}, "")
	forbidden := ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.TCP{SrcPort: 5000, DstPort: 22, SYN: true}, "")
	exchange := func() {
		contoso.vm12.send(request)
		l.settle()
		vm.send(reply)
		l.settle()
		contoso.vm12.send(forbidden)
		l.settle()
	}
	for range 3 {
		exchange()
	}
	l.now = l.now.Add(2 * time.Second)
	p := inspect(t, vm, 10, netip.Prefix{})
	if p.Tenant != contoso.Name || !p.Up || p.Spec.MAC != mac11 || p.Spec.VSID != mustVSID(5001) {
		t.Errorf("%+v", p.PortState)
	}
	var names []string
	for _, l := range p.Layers {
		names = append(names, l.Name)
	}
	if !slices.Equal(names, []string{LayerACL, LayerMeter, LayerVNET, LayerForward}) {
		t.Errorf("the layers are %v", names)
	}
	check := func(p PortInspection, id string, packets uint64, match, action string) {
		t.Helper()
		r := p.rule(LayerACL, "port web", "inbound", id)
		if r == nil || r.Packets != packets || r.Match != match || r.Action != action || packets > 0 && r.Bytes == 0 {
			t.Errorf("rule %s is %+v, want %d packets, %q and %q", id, r, packets, match, action)
		}
	}
	check(p, "110", 3, "protocol 6, destination port 80", "allow")
	check(p, "rest", 3, "any packet", "block: acl-denied")
	if r := p.rule(LayerACL, "port web", "outbound", "100"); r == nil || r.Packets != 0 {
		t.Errorf("replies are not of the list: %+v", r)
	}
	if len(p.Meters) != 2 || p.Meters[0].BitsPerSecond != 20_000_000 || p.Meters[0].Name != "port" || p.Meters[1].BitsPerSecond != 100_000_000 || p.Meters[1].Name != "tenant" {
		t.Errorf("the meters are %+v", p.Meters)
	}
	if len(p.Flows) != 1 || p.Table.Flows != 1 {
		t.Fatalf("%d flows, of %d", len(p.Flows), p.Table.Flows)
	}
	f := p.Flows[0]
	if f.Key.Proto != packet.ProtoTCP || f.Key.Dir != flow.Inbound || f.Key.DstPort != 80 || f.Packets != 3 || f.ReplyPackets != 3 || !f.Paired || f.Idle != 2*time.Second || f.State != flow.StateReplied ||
		f.Expires != flow.DefaultTimeouts().TCPSetup-2*time.Second || !slices.Contains(f.Rules, "acl/port web/110") || !strings.Contains(f.Action, "delivered") {
		t.Errorf("the flow is %+v", f)
	}
	if p := inspect(t, vm, 10, netip.MustParsePrefix("10.1.1.13/32")); len(p.Flows) != 0 {
		t.Errorf("flows of another address: %+v", p.Flows)
	}

	// Another policy with the same rules, and the flow's end.
	if err := vm.host.sw.SetPort(vm.id, mustName("web"), 50000, 20000); err != nil {
		t.Fatal(err)
	}
	exchange()
	check(inspect(t, vm, 10, netip.Prefix{}), "110", 4, "protocol 6, destination port 80", "allow")
	l.now = l.now.Add(time.Hour)
	vm.host.sw.Upkeep()
	p = inspect(t, vm, 10, netip.Prefix{})
	check(p, "110", 4, "protocol 6, destination port 80", "allow")
	check(p, "rest", 4, "any packet", "block: acl-denied")
	if len(p.Flows) != 0 {
		t.Errorf("the flow is still there: %+v", p.Flows)
	}
	if p := inspect(t, fabrikam.vm11, 10, netip.Prefix{}); p.Table.Inserts != 0 || p.rule(LayerACL, "default", "inbound", "default").Packets != 0 {
		t.Errorf("fabrikam's port: %+v", p)
	}

	// A tenant's layers, of all its ports of the host.
	for _, c := range vm.host.sw.LayerCounters(contoso.RDID) {
		if c.Name == LayerACL && (c.Packets != 4+4 || c.Dropped != 4) || c.Name == LayerForward && c.Packets == 0 {
			t.Errorf("%+v", c)
		}
	}
	for _, c := range vm.host.sw.LayerCounters(fabrikam.RDID) {
		if c.Packets != 0 {
			t.Errorf("fabrikam: %+v", c)
		}
	}
	if _, err := vm.host.sw.Inspect("nobody", 1, netip.Prefix{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("a port that is not there: %v", err)
	}
}

// Where each direction is a flow of its own, the busiest come first, and no more
// than asked for; the action says where they lead.
func TestInspectFlows(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	for i := range 20 {
		for range 1 + i {
			contoso.vm11.send(ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.UDP{SrcPort: layers.UDPPort(1000 + i), DstPort: 7}, "x"))
		}
	}
	contoso.vm11.send(udp(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", "x"))
	l.settle()
	p := inspect(t, contoso.vm11, 5, netip.Prefix{})
	if len(p.Flows) != 5 || p.Table.Flows != 21 {
		t.Fatalf("%d of %d flows", len(p.Flows), p.Table.Flows)
	}
	for i, f := range p.Flows {
		if f.Key.SrcPort != uint16(1019-i) || f.Packets != uint64(20-i) || f.Paired || f.Action != "is bridged to record 5001/10.1.1.12: MAC 00:15:5d:00:00:12, PA 192.168.2.10, nvgre, static" {
			t.Errorf("flow %d is %+v", i, f)
		}
	}
	routed := inspect(t, contoso.vm11, 5, netip.MustParsePrefix("10.1.2.0/24"))
	if len(routed.Flows) != 1 || !strings.HasPrefix(routed.Flows[0].Action, "is routed to record 5002/10.1.2.11") {
		t.Errorf("%+v", routed.Flows)
	}
	// What was learned at a port.
	l, contoso, _, stations, _ := learnLab(t, hnv.Learning{})
	vm := stations[contoso]
	vm.send(announce(mac14, "10.1.1.14"))
	l.upkeep()
	if p := inspect(t, vm, 0, netip.Prefix{}); len(p.Learned) != 1 || p.Learned[0].Record.CA != ip("10.1.1.14") || len(p.Flows) != 0 {
		t.Errorf("%+v", p.Learned)
	}
	if p := inspect(t, contoso.vm11, 0, netip.Prefix{}); len(p.Learned) != 0 {
		t.Errorf("%+v", p.Learned)
	}
}

//go:build privileged && linux

package uplink

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// Datagrams that nobody answers are translated in eBPF as well. Conntrack is shown
// one now and then, so that it remembers the flow, and it sees the first answer.
func TestUnanswered(t *testing.T) {
	for _, n := range []*tenant{contoso(), fabrikam()} {
		t.Run(n.name, func(t *testing.T) {
			r := newRig(t, n)
			unanswered(t, r, n, netip.MustParseAddrPort(vm4+":5559"), netip.MustParseAddrPort(remote4+":7005"))
			unanswered(t, r, n, netip.AddrPortFrom(netip.MustParseAddr(vm6), 5559), netip.AddrPortFrom(netip.MustParseAddr(remote6), 7006))
		})
	}
}

func unanswered(t *testing.T, r *rig, n *tenant, vm, to netip.AddrPort) {
	t.Helper()
	a, b := udpPeer(t, n.vm, vm.String()), udpPeer(t, r.outside, to.String())
	run(t, n.vm, "ping -c1 -W20 %s", to.Addr())
	outside := capture(t, r.outside, "eth0", fmt.Sprintf("udp port %d", to.Port()))
	tracked := func() []string { return r.connections(n, fmt.Sprintf("-o id -p udp --dport %d", to.Port())) }
	before := r.counters(n)
	buf := make([]byte, 100)
	var from netip.AddrPort
	send := func() {
		t.Helper()
		_, err := a.WriteToUDPAddrPort([]byte("to"), to)
		must(t, err)
		must(t, b.SetReadDeadline(time.Now().Add(30*time.Second)))
		_, from, err = b.ReadFromUDPAddrPort(buf)
		must(t, err)
	}
	// What conntrack gives the flow runs down, though datagrams pass, and begins anew.
	least, id, sent := 30, "", 0
	for end := time.Now().Add(time.Minute); ; sent++ {
		if time.Now().After(end) {
			t.Fatalf("conntrack has not seen the flow again, which was given %d seconds by it", least)
		}
		send()
		all := tracked()
		if len(all) != 1 || !strings.Contains(all[0], "UNREPLIED") {
			t.Fatalf("conntrack has %v", all)
		}
		var left int
		if _, err := fmt.Sscanf(all[0], "udp 17 %d", &left); err != nil {
			t.Fatal(all[0], err)
		}
		_, now, _ := strings.Cut(all[0], " id=")
		if id == "" {
			id = now
		}
		if now != id {
			t.Fatalf("it is another connection by now: %s", all[0])
		}
		if left > least+1 {
			break
		}
		least = min(least, left)
		time.Sleep(20 * time.Millisecond)
	}
	now := r.counters(n)
	if fast, slow := now.NATOut.Packets-before.NATOut.Packets, now.Out.Packets-before.Out.Packets; fast < slow {
		t.Errorf("of %d datagrams, %d were translated in eBPF and %d in the compartment", sent, fast, slow)
	}

	_, err := b.WriteToUDPAddrPort([]byte("fro"), from)
	must(t, err)
	must(t, a.SetReadDeadline(time.Now().Add(30*time.Second)))
	if _, _, err := a.ReadFromUDPAddrPort(buf); err != nil {
		t.Fatalf("the first answer: %v", err)
	}
	if in := r.counters(n); in.NATIn != before.NATIn {
		t.Errorf("conntrack has not seen the first answer: %+v", in)
	}
	if all := tracked(); len(all) != 1 || strings.Contains(all[0], "UNREPLIED") {
		t.Errorf("conntrack does not know of the answer: %v", all)
	}
	for end := time.Now().Add(time.Minute); r.counters(n).NATIn == before.NATIn; {
		if time.Now().After(end) {
			t.Fatal("no answer was translated in eBPF")
		}
		talkFor(time.Second, a, b, to)
	}
	if m := sound(t, outside()); m < sent {
		t.Errorf("%d datagrams outside, of %d", m, sent)
	}
}

// So are those that come in by a static mapping.
func TestUnansweredMapping(t *testing.T) {
	n := contoso()
	r := newRig(t, n)
	n.nat.Mappings = []hnv.NATMapping{{Tenant: n.nat.Name, Proto: hnv.UDP,
		External: netip.MustParseAddrPort("203.0.113.10:514"), Internal: netip.MustParseAddrPort(vm4 + ":5514")}}
	r.translate(n)
	run(t, n.vm, "ping -c1 -W20 %s", remote4)
	a, b := udpPeer(t, n.vm, vm4+":5514"), udpPeer(t, r.outside, remote4+":7007")
	wire := capture(t, r.wire, "to-pb0", "ip proto 47")
	buf := make([]byte, 100)
	sent := 0
	for end := time.Now().Add(time.Minute); r.counters(n).NATIn.Packets < 10; sent++ {
		if time.Now().After(end) {
			t.Fatalf("of %d datagrams, %d were translated in eBPF", sent, r.counters(n).NATIn.Packets)
		}
		_, err := b.WriteToUDPAddrPort([]byte("log"), n.nat.Mappings[0].External)
		must(t, err)
		must(t, a.SetReadDeadline(time.Now().Add(30*time.Second)))
		if m, err := a.Read(buf); err != nil || string(buf[:m]) != "log" {
			t.Fatalf("the VM got %q: %v", buf[:m], err)
		}
	}
	if all := r.connections(n, "-p udp --orig-port-dst 514"); len(all) != 1 || !strings.Contains(all[0], "UNREPLIED") {
		t.Errorf("conntrack has %v", all)
	}
	if m := sound(t, wire()); m < sent {
		t.Errorf("%d datagrams on the fabric, of %d", m, sent)
	}
}

package dataplane

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
	"github.com/hnvgate/hnvgate/hnv"
)

// A layer with a NAT pool: sources come from the pool, replies find back, and
// whatever becomes of packets and flows, in the end nothing is out.
func TestNATPoolGetsEverythingBack(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	pool, err := vfp.NewNATPool(vfp.NATPoolOptions{Addrs: []netip.Addr{ip("10.1.1.13")}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	// Address 13 is at the same host: what vm11 says in its name is taken. Its own
	// port goes, so that answers to it come to vm11.
	h1.sw.RemovePort(contoso.vm13.id)
	l.apply(contoso, func(t *Tenant) {
		for i := range t.Records {
			if t.Records[i].CA == ip("10.1.1.13") {
				t.Records[i].MAC = mac11
			}
		}
	})
	nat := []vfp.Layer{{Name: "nat", Priority: 500, Groups: []vfp.Group{{
		Name: "source", Priority: 10, Direction: vfp.Outbound, Family: vfp.IPv4,
		Rules: []vfp.Rule{{ID: "pool", Match: vfp.Match{Src: []netip.Prefix{netip.MustParsePrefix("10.1.1.11/32")}}, Action: vfp.Action{Kind: vfp.Rewrite, Pool: pool}}},
	}}}}
	set := func(layers []vfp.Layer) {
		t.Helper()
		if err := h1.sw.SetLayers(contoso.vm11.id, layers); err != nil {
			t.Fatal(err)
		}
	}
	set(nat)
	seen := map[uint16]bool{}
	for i := range 20 {
		contoso.vm11.send(contoso.packet(contoso.vm11, contoso.vm12, false, udpPorts(layers.UDPPort(100+i), 53), "question"))
		d := expect(t, l, contoso.vm12, "question", contoso, fabrikam)
		if d.Src != ip("10.1.1.13") || seen[d.SrcPort] {
			t.Fatalf("question %d comes from %s port %d", i, d.Src, d.SrcPort)
		}
		seen[d.SrcPort] = true
		contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.13", 64, &layers.UDP{SrcPort: 53, DstPort: layers.UDPPort(d.SrcPort)}, "answer"))
		d = expect(t, l, contoso.vm11, "answer", contoso, fabrikam)
		if d.Dst != ip("10.1.1.11") || d.DstPort != uint16(100+i) {
			t.Fatalf("answer %d arrives for %s port %d", i, d.Dst, d.DstPort)
		}
	}
	if pool.Len() != 20 {
		t.Errorf("%d leases for 20 flows", pool.Len())
	}
	quiet := func(frame []byte) {
		contoso.vm11.send(frame)
		l.settle()
		for _, n := range append(contoso.nics(), fabrikam.nics()...) {
			n.drain()
		}
	}
	for i := range 10 {
		port := layers.UDPPort(1000 + i)
		big := ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, udpPorts(port, 53), strings.Repeat("fragment", 8))
		first, later := fragments(big, uint16(i), 32)
		for what, frame := range map[string][]byte{
			"nobody there":        ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.99", 64, udpPorts(port, 53), "x"),
			"nobody's MAC":        ipFrame(mac11, mac21, "10.1.1.11", "10.1.1.12", 64, udpPorts(port, 54), "x"),
			"TTL 1":               ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.2.11", 1, udpPorts(port, 53), "x"),
			"to the router":       ipFrame(mac11, hnv.RouterMAC, "10.1.1.11", "10.1.1.1", 64, udpPorts(port, 53), "x"),
			"broadcast":           ipFrame(mac11, macBroadcast, "10.1.1.11", "255.255.255.255", 64, udpPorts(port, 53), "x"),
			"a stray fragment":    later,
			"an error of nothing": ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, string(big[14:60])),
		} {
			before := pool.Len()
			quiet(frame)
			if pool.Len() != before {
				t.Errorf("%s leaves a lease behind", what)
			}
		}
		before := pool.Len()
		quiet(first)
		quiet(later)
		quiet(first)
		if pool.Len() != before+1 {
			t.Errorf("a packet in fragments has %d leases", pool.Len()-before)
		}
	}
	// A flow that was there before the layer begins anew with it.
	set(nil)
	plain := contoso.packet(contoso.vm11, contoso.vm12, false, udpPorts(7, 53), "x")
	contoso.vm11.send(plain)
	if d := expect(t, l, contoso.vm12, "x", contoso, fabrikam); d.Src != ip("10.1.1.11") {
		t.Errorf("without the layer the source is %s", d.Src)
	}
	set(nat)
	before := pool.Len()
	contoso.vm11.send(plain)
	d := expect(t, l, contoso.vm12, "x", contoso, fabrikam)
	if d.Src != ip("10.1.1.13") || pool.Len() != before+1 {
		t.Errorf("with the layer again the source is %s, %d leases", d.Src, pool.Len()-before)
	}
	contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.13", 64, &layers.UDP{SrcPort: 53, DstPort: layers.UDPPort(d.SrcPort)}, "answer"))
	if d := expect(t, l, contoso.vm11, "answer", contoso, fabrikam); d.DstPort != 7 {
		t.Errorf("the answer arrives for port %d", d.DstPort)
	}

	l.now = l.now.Add(time.Hour)
	l.upkeep()
	if pool.Len() != 0 {
		t.Errorf("%d leases are out when all flows are gone", pool.Len())
	}
	contoso.vm11.send(plain)
	expect(t, l, contoso.vm12, "x", contoso, fabrikam)
	h1.sw.RemovePort(contoso.vm11.id)
	if pool.Len() != 0 {
		t.Errorf("%d leases are out when the port is gone", pool.Len())
	}
}

// Two flows whose replies could not be told apart are not both let pass.
func TestRewritesThatMeet(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	h1.sw.RemovePort(contoso.vm13.id)
	l.apply(contoso, func(t *Tenant) {
		for i := range t.Records {
			if t.Records[i].CA == ip("10.1.1.13") {
				t.Records[i].MAC = mac11
			}
		}
		t.Records = append(t.Records, record(contoso.base+1, "10.1.1.30", mac11, paHost1, hnv.RuleNVGRE))
	})
	rewrite := vfp.Transposition{Set: vfp.SetSrc, NewSrc: ip("10.1.1.13")}
	if err := h1.sw.SetLayers(contoso.vm11.id, []vfp.Layer{{Name: "nat", Priority: 500, Groups: []vfp.Group{{
		Name: "source", Priority: 10, Direction: vfp.Outbound, Family: vfp.IPv4,
		Rules: []vfp.Rule{{ID: "all", Action: vfp.Action{Kind: vfp.Rewrite, Transposition: rewrite}}},
	}}}}); err != nil {
		t.Fatal(err)
	}
	question := func(from string) []byte {
		return ipFrame(mac11, mac12, from, "10.1.1.12", 64, udpPorts(100, 53), strings.Repeat("question", 8))
	}
	for range 2 {
		contoso.vm11.send(question("10.1.1.11"))
		expect(t, l, contoso.vm12, strings.Repeat("question", 8), contoso, fabrikam)
		before := h1.allDrops()
		contoso.vm11.send(question("10.1.1.30"))
		first, _ := fragments(question("10.1.1.30"), 7, 32)
		contoso.vm11.send(first)
		expect(t, l, nil, "", contoso, fabrikam)
		if d := h1.since(before); d[drop.NATPoolExhausted] != 2 {
			t.Errorf("drops are %v, want 2 nat-pool-exhausted", d)
		}
	}
	contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.13", 64, udpPorts(53, 100), "answer"))
	if d := expect(t, l, contoso.vm11, "answer", contoso, fabrikam); d.Dst != ip("10.1.1.11") {
		t.Errorf("the answer is for %s", d.Dst)
	}
}

package dataplane

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

func customLayer(dir vfp.Direction, rules ...vfp.Rule) []vfp.Layer {
	return []vfp.Layer{{Name: "custom", Priority: 500, Groups: []vfp.Group{{Name: "custom", Priority: 10, Direction: dir, Family: vfp.IPv4, Rules: rules}}}}
}

func dstPort(n uint16) vfp.Match {
	tcp := uint8(6)
	return vfp.Match{Proto: &tcp, DstPorts: []vfp.PortRange{{Lo: n, Hi: n}}}
}

// A rule hands packets over to whoever reads its queue, in both directions; what
// nobody reads is dropped.
func TestPunt(t *testing.T) {
	l, contoso, fabrikam := exampleLab(t)
	h1 := l.hosts[1]
	queue := &wire{}
	punt := vfp.Rule{ID: "inspect", Match: dstPort(8080), Action: vfp.Action{Kind: vfp.Punt, Queue: vfp.PuntCustom}}
	if err := h1.sw.SetLayers(contoso.vm11.id, customLayer(vfp.Outbound, punt)); err != nil {
		t.Fatal(err)
	}
	up := func(s *site) {
		s.vm11.send(ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.TCP{SrcPort: 4000, DstPort: 8080, SYN: true}, "up"))
	}
	up(contoso)
	expect(t, l, nil, "", contoso, fabrikam)
	h1.sw.SetPunt(vfp.PuntCustom, queue)
	for range 2 {
		up(contoso)
		expect(t, l, nil, "", contoso, fabrikam)
	}
	if len(queue.drain()) != 2 {
		t.Error("the reader did not get both packets")
	}
	up(fabrikam)
	expect(t, l, fabrikam.vm12, "up", contoso, fabrikam)
	contoso.vm11.send(udp(mac11, mac12, "10.1.1.11", "10.1.1.12", "other"))
	expect(t, l, contoso.vm12, "other", contoso, fabrikam)
	d := h1.drops("contoso")
	if d[drop.Punted] != 2 || d[drop.PuntUnread] != 1 {
		t.Errorf("drops are %v", d)
	}
	if err := h1.sw.SetLayers(contoso.vm11.id, customLayer(vfp.Inbound, punt)); err != nil {
		t.Fatal(err)
	}
	contoso.vm12.send(ipFrame(mac12, mac11, "10.1.1.12", "10.1.1.11", 64, &layers.TCP{SrcPort: 4000, DstPort: 8080, SYN: true}, "down"))
	contoso.vm13.send(ipFrame(mac13, mac11, "10.1.1.13", "10.1.1.11", 64, &layers.TCP{SrcPort: 4000, DstPort: 8080, SYN: true}, "down"))
	expect(t, l, nil, "", contoso, fabrikam)
	if len(queue.drain()) != 2 {
		t.Error("the reader did not get the packets to the port, from the fabric and from next door")
	}
}

// A rule sends packets through a tunnel of its own, in a virtual subnet of the
// domain and no other.
func TestFixedTunnel(t *testing.T) {
	l, contoso, _ := exampleLab(t)
	h1 := l.hosts[1]
	through := func(vsid uint32) error {
		return h1.sw.SetLayers(contoso.vm11.id, customLayer(vfp.Outbound, vfp.Rule{ID: "appliance", Match: dstPort(80), Action: vfp.Action{
			Kind: vfp.Encap, Tunnel: vfp.Tunnel{Protocol: vfp.VXLAN, Dst: netip.MustParseAddr("192.168.9.9"), VSID: vsid},
		}}))
	}
	if err := through(6001); !errors.Is(err, ErrUnknown) {
		t.Errorf("a tunnel into the other tenant's virtual subnet: %v, want a refusal", err)
	}
	if err := through(5002); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		contoso.vm11.send(ipFrame(mac11, mac12, "10.1.1.11", "10.1.1.12", 64, &layers.TCP{SrcPort: 4000, DstPort: 80, SYN: true}, "x"))
		out := h1.out.drain()
		var outer encap.Header
		if len(out) != 1 || encap.Parse(out[0].bytes, &outer) != drop.None {
			t.Fatalf("%d packets on the fabric", len(out))
		}
		if outer.Kind != encap.KindVXLAN || outer.Dst != ip("192.168.9.9") || outer.Src != ip(paHost1) || outer.VSID != 5002 {
			t.Errorf("the packet went through %+v", outer)
		}
	}
	for _, a := range []vfp.Action{{Kind: vfp.Decap}, {Kind: vfp.Route, Space: SpaceCAPA}, {Kind: vfp.Encap, Space: SpaceCAPA}} {
		if err := h1.sw.SetLayers(contoso.vm11.id, customLayer(vfp.Outbound, vfp.Rule{ID: "x", Action: a})); err == nil {
			t.Errorf("a library user's layer may %s", a.Kind)
		}
	}
}

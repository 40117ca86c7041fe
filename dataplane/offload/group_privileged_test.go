//go:build privileged && linux

package offload

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/hnv"
)

// A machine with several interfaces on one network gets a group's packets on each;
// it takes those of the interface on which it joined the group.
func TestGroupsAreHeardOnOneInterface(t *testing.T) {
	g := newExampleRig(t, examples, mtuHere)
	groups := []netip.Addr{netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("ff05::1:1")}
	f := *g.m.fabric
	for _, a := range groups {
		f.Groups = append(f.Groups, PA{Addr: a, Ifindex: g.fabric.Index})
	}
	g.m.SetFabric(f)
	g.m.ProviderChanged()
	for _, e := range examples {
		v := e.vms(t)[1]
		group := groups[0]
		if e.six {
			group = groups[1]
		}
		inner := good(ends{
			smac: v.mac.Bytes(), dmac: [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, ttl: 64,
			src: netip.MustParseAddr(v.four), dst: netip.MustParseAddr("10.1.1.255"),
		}, layers.IPProtocolUDP, 61)
		b := wrap(outer{vxlan: e.encap == hnv.VXLAN, src: e.paOf(v.host), dst: group, vsid: v.vsid}, inner)
		mac := []byte{0x01, 0x00, 0x5e, 1, 1, 1}
		if e.six {
			mac = []byte{0x33, 0x33, 0, 1, 0, 1}
		}
		frame := slices.Concat(mac, ether(g.fabric, b)[6:], b)
		if v := g.program(g.k.fabric, g.fabric.Index, frame); v.action != actionPunt || v.why != WhyGroup {
			t.Errorf("%s: on the group's interface: %s", e.name, v)
		}
		if v := g.program(g.k.fabric, g.links[0].Index, frame); v.action != actionPass {
			t.Errorf("%s: on another interface: %s", e.name, v)
		}
	}
}

//go:build privileged && linux

package offload

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/port"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

// A priority tag of the fabric, which is of no VLAN, stays there.
func TestPriorityTag(t *testing.T) {
	e := examples[0]
	s := newSite(t, e, false)
	v := e.vms(t)[5]
	ns := nstest.New(t, "local")
	s.station(s.gw.ns, "l0", ns, "eth0", v)
	l, err := s.gw.h.Link("l0")
	must(t, err)
	id, err := s.gw.sw.AddPort(dataplane.PortSpec{Name: "l0", VSID: vsidOf(t, v.vsid), MAC: v.mac, Kind: v.kind}, nowhere{})
	must(t, err)
	must(t, s.gw.f.Plug(id, Link{Ifindex: l.Index})) // as for a TAP, it is sent out
	r, err := port.OpenLink("eth0", port.LinkOptions{Do: func(f func() error) error { return netns.Do(netns.Path(ns), f) }})
	must(t, err)
	defer r.Close()

	inner := good(ends{
		smac: s.hostVM.mac.Bytes(), dmac: v.mac.Bytes(), src: netip.MustParseAddr(s.hostVM.four), dst: netip.MustParseAddr(v.four), ttl: 64,
	}, layers.IPProtocolUDP, 100)
	b := wrap(outer{src: e.paOf(1), dst: e.paOf(0), vsid: v.vsid}, inner)
	const priority = 5 << 5
	eth := ether(s.gw.pa, b)
	frame := slices.Concat(eth[:12], []byte{0x81, 0, priority, 0}, eth[12:], b)
	wire, err := nl.Open(netns.Path(s.wire))
	must(t, err)
	defer wire.Close()
	to, err := wire.Link("to-pa0")
	must(t, err)
	must(t, wire.SendFrame(to.Index, frame))
	f := []*packet.Frame{packet.NewFrame(4096)}
	for {
		if n, err := r.ReadBatch(f); err != nil || n != 1 {
			t.Fatalf("%d frames, %v", n, err)
		}
		if got := f[0].Bytes(); string(got[:12]) == string(inner[:12]) { // nothing of the VM's own stack
			if string(got) != string(inner) {
				t.Errorf("the VM got %x, want %x", got, inner)
			}
			return
		}
	}
}

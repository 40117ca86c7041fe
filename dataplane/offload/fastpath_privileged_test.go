//go:build privileged && linux

package offload

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
)

// Real packets go both ways through the programs, for either encapsulation and
// family inside and outside, and NVGRE and VXLAN each against another's codec.
func TestPacketsThroughTheFastPath(t *testing.T) {
	for _, e := range examples {
		for _, kernelPeer := range []bool{false, true} {
			if kernelPeer && e.name != "fabrikam" && e.name != "tailspin" {
				continue
			}
			t.Run(fmt.Sprintf("%s,kernel peer %v", e.name, kernelPeer), func(t *testing.T) {
				s := newSite(t, e, kernelPeer)
				wire := listen(t, s.wire, "to-pa0")
				s.pings()
				s.transfers(2 << 20)
				s.checkMerged()
				if n := judge(t, wire.stop()); n < 4*(2<<20)/1500 {
					t.Errorf("only %d TCP packets on the wire", n)
				}
			})
		}
	}
}

func (s *site) pings() {
	s.t.Helper()
	run(s.t, s.vm, "ping -c 3 -i 0.01 -W 2 -s 1000 %s", s.compVM.four)
	run(s.t, s.vm, "ping -c 3 -i 0.01 -W 2 -s 1000 %s", s.compVM.six)
	run(s.t, s.comp, "ping -c 3 -i 0.01 -W 2 -s 1000 %s", s.hostVM.four)
	run(s.t, s.comp, "ping -c 3 -i 0.01 -W 2 -s 1000 %s", s.hostVM.six)
}

// transfers takes bytes by TCP both ways, by either family inside.
func (s *site) transfers(n int64) {
	s.t.Helper()
	transfer(s.t, s.vm, s.comp, s.compVM.four, n)
	transfer(s.t, s.comp, s.vm, s.hostVM.four, n)
	transfer(s.t, s.vm, s.comp, s.compVM.six, n)
	transfer(s.t, s.comp, s.vm, s.hostVM.six, n)
}

// What uninstalling leaves of the instance is nothing, and of others everything.
func TestUninstall(t *testing.T) {
	s := newSite(t, examples[0], false)
	s.pings()
	foreign := filterName("another", progFabric)
	must(t, s.gw.h.SetFilter(nl.Filter{Link: s.gw.pa.Index, Priority: 2000, Handle: 1, Name: foreign}, s.gw.f.k.fabric.FD()))
	o := Options{Instance: s.gw.name, Namespace: netns.Path(s.gw.ns)}
	removed, err := Uninstall(o)
	must(t, err)
	out, in := puntNames(s.gw.name)
	w0, err := s.gw.h.Link("w0")
	must(t, err)
	want := []string{
		fmt.Sprintf("filter hnv:site-gw:from_fabric of interface %d", s.gw.pa.Index),
		fmt.Sprintf("filter hnv:site-gw:from_port of interface %d", w0.Index), "link " + out,
	}
	for name := range socketNames(s.gw.name) {
		want = append(want, "link "+name)
	}
	slices.Sort(want)
	slices.Sort(removed)
	if !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	for _, l := range append(slices.Collect(maps.Keys(socketNames(s.gw.name))), out, in) {
		if _, err := s.gw.h.Link(l); !errors.Is(err, nl.ErrNotFound) {
			t.Errorf("link %s: %v", l, err)
		}
	}
	if at, err := s.gw.h.Clsacts(); err != nil || !slices.Equal(at, []int{s.gw.pa.Index}) {
		t.Errorf("clsact is left at %v: %v", at, err)
	}
	left, _, err := s.gw.h.Filters(s.gw.pa.Index)
	must(t, err)
	if len(left) != 1 || left[0].Name != foreign {
		t.Errorf("left on the fabric's interface: %+v", left)
	}
	if removed, err := Uninstall(o); err != nil || len(removed) > 0 {
		t.Errorf("once more: %q, %v", removed, err)
	}
}

// checkMerged checks that TCP packets were merged when they came from the fabric,
// and were not cut before they went to it.
func (s *site) checkMerged() {
	s.t.Helper()
	var all trafficValue
	must(s.t, s.gw.f.t.traffic.all(func(_ uint32, v trafficValue) bool { all.add(v); return true }))
	mean := func(c count) int { return int(c.Bytes / max(1, c.Packets)) }
	s.t.Logf("mean bytes: from the fabric %d, to ports %d, from ports %d, to the fabric %d", mean(all.FromFabric), mean(all.ToPorts), mean(all.FromPorts), mean(all.ToFabric))
	if mean(all.FromFabric) < 3000 || mean(all.ToPorts) < 3000 {
		s.t.Error("packets from the fabric are not merged")
	}
	if whole := !s.e.six || s.e.encap != hnv.VXLAN; whole && mean(all.FromPorts) < 3000 || mean(all.ToFabric) > 1500 {
		s.t.Error("packets to the fabric are not great ones, cut to the MTU")
	}
}

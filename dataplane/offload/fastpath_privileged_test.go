//go:build privileged && linux

package offload

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nl"
	"github.com/hnvgate/hnvgate/internal/nstest"
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

// VMs of the gateway's machine reach each other, over virtual subnets too, the
// compartment, and VMs elsewhere.
func TestLocalVMs(t *testing.T) {
	for _, e := range examples[:3] {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			s.gw.serve() // questions for neighbours
			s.host.serve()
			a, aVM := s.local("10.1.1.14")
			b, bVM := s.local("10.1.2.12")
			ends := []struct {
				ns string
				vm
			}{{s.vm, s.hostVM}, {a, aVM}, {b, bVM}, {s.comp, s.compVM}}
			wire := listen(t, s.wire, "to-pa0")
			for _, from := range ends {
				for _, to := range ends {
					if from == to {
						continue
					}
					run(t, from.ns, "ping -c 2 -i 0.01 -W30 -s 1200 %s", to.six)
					transfer(t, from.ns, to.ns, to.four, 1<<20)
				}
			}
			judge(t, wire.stop())
			st, err := s.gw.f.Status()
			must(t, err)
			if n := st.Punts[WhyShape] + st.Punts[WhyUnknown] + st.Punts[WhyTooBig]; n > 0 {
				t.Errorf("left to user space: %v", st.Punts)
			}
		})
	}
}

func (s *site) pings() {
	s.t.Helper()
	run(s.t, s.vm, "ping -c 3 -i 0.01 -W30 -s 1000 %s", s.compVM.four)
	run(s.t, s.vm, "ping -c 3 -i 0.01 -W30 -s 1000 %s", s.compVM.six)
	run(s.t, s.comp, "ping -c 3 -i 0.01 -W30 -s 1000 %s", s.hostVM.four)
	run(s.t, s.comp, "ping -c 3 -i 0.01 -W30 -s 1000 %s", s.hostVM.six)
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

// Where the machine has several interfaces to the fabric, a packet leaves by the
// one that leads to the host, whichever its source address is on; though these
// interfaces forward nothing.
func TestTwoFabricInterfaces(t *testing.T) {
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			run(t, s.gw.ns, "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")
			s.gw.serve()
			v := e.vms(t)[2] // at the second host
			host := newMachine(t, "host2", e.paOf(v.host))
			run(t, s.gw.ns, "ip link add pa1 type veth peer name pb1 netns %s", host.ns)
			second := netip.MustParseAddr("192.168.2.1")
			run(t, s.gw.ns, "ip link set pa1 up")
			run(t, host.ns, "ip link set pb1 up")
			if e.six { // the host's PA is of the first network's prefix
				second = netip.MustParseAddr("fd00:98::1")
				run(t, s.gw.ns, "ip addr add fd00:98::1/64 dev pa1 nodad")
				run(t, host.ns, "ip addr add fd00:98::2/64 dev pb1 nodad")
				run(t, host.ns, "ip addr add %s/128 dev pb1 nodad", host.own)
				run(t, s.gw.ns, "ip route add %s/128 via fd00:98::2", host.own)
			} else {
				run(t, s.gw.ns, "ip addr add 192.168.2.1/24 dev pa1")
				run(t, host.ns, "ip addr add %s/24 dev pb1", host.own)
			}
			run(t, host.ns, "ip route add default via %s", second)
			var err error
			host.pa, err = host.h.Link("pb1")
			must(t, err)
			vmNS := nstest.New(t, "vm2")
			s.station(host.ns, "v0", vmNS, "eth0", v)
			host.start(s.c)
			host.plug(v, "v0", e.tunnelMTU())

			pa1, err := s.gw.h.Link("pa1")
			must(t, err)
			must(t, s.gw.f.SetFabric(Fabric{Tunnel: []PA{{s.gw.own, s.gw.pa.Index}, {second, pa1.Index}}}))
			s.gw.sw.SetProvider(dataplane.Provider{Addrs: []netip.Addr{s.gw.own, second}, MTU: 1500})
			must(t, s.gw.f.AttachFabric(pa1.Index))

			s.pings()
			run(t, s.comp, "ping -c 3 -i 0.1 -w 10 %s", v.four)
			run(t, vmNS, "ping -c 3 -i 0.1 -w 10 %s", s.compVM.six)
			transfer(t, s.comp, vmNS, v.four, 1<<20)
			transfer(t, vmNS, s.comp, s.compVM.four, 1<<20)
			st, err := s.gw.f.Status()
			must(t, err)
			if st.Punts[WhyNeighbor] > 0 {
				t.Errorf("left to user space: %v", st.Punts)
			}
		})
	}
}

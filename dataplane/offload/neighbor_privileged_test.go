//go:build privileged && linux

package offload

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// asks draws a request for a neighbor by the station, or what is like one.
func (g *exampleRig) asks(r *rand.Rand, x example, from vm) []byte {
	all := x.vms(g.t)
	six := r.IntN(2) == 0
	pick := func(four, six6 []string, six bool) netip.Addr {
		list := four
		if six {
			list = six6
		}
		return netip.MustParseAddr(list[r.IntN(len(list))])
	}
	ca := func(v vm) netip.Addr {
		if six {
			return netip.MustParseAddr(v.six)
		}
		return netip.MustParseAddr(v.four)
	}
	src, target := ca(from), ca(all[r.IntN(len(all))])
	if r.IntN(2) == 0 {
		target = pick([]string{"10.1.1.1", "10.1.2.1", "10.254.254.1"}, []string{"fd00:1::1", "fd00:2::1", "fd00:fe::1"}, six)
	}
	if r.IntN(8) == 0 {
		src = pick([]string{"0.0.0.0", "10.1.1.12", "10.1.1.1", "8.8.8.8", "224.0.0.1"}, []string{"::", "fd00:1::12", "fe80::1", "fe80::1", "2001:db8::1", "fd00:1::1"}, six)
	}
	if r.IntN(12) == 0 {
		target = pick([]string{"10.1.1.77", "8.8.8.8", "255.255.255.255"}, []string{"fd00:1::77", "fe80::2", "ff02::1"}, six)
	}
	mac, smac := from.mac.Bytes(), from.mac.Bytes()
	if r.IntN(20) == 0 {
		mac[5]++
	}
	dmac := [6]byte{255, 255, 255, 255, 255, 255}
	if r.IntN(3) == 0 {
		dmac = routerMAC
	}
	f := packet.NewFrame(512)
	if !six {
		a := packet.ARP{Op: packet.ARPRequest, SenderMAC: mac, SenderIP: src, TargetIP: target}
		if r.IntN(12) == 0 {
			a.Op = packet.ARPReply
		}
		a.Build(f, dmac, smac)
	} else {
		dst := packet.SolicitedNode(target)
		if r.IntN(3) == 0 {
			dst = target
		}
		n := packet.ND{Type: packet.NDNeighborSolicitation, Target: target, LinkAddr: mac, HasLinkAddr: r.IntN(8) != 0}
		if r.IntN(12) == 0 {
			n.Type = packet.NDNeighborAdvertisement
		}
		n.Build(f, dmac, smac, src, dst)
	}
	b := append([]byte(nil), f.Bytes()...)
	switch r.IntN(8) {
	case 0:
		b = spoil(r, b, len(b), 14)
	case 1:
		b = append(b, make([]byte, r.IntN(40))...)
	}
	return b
}

// Neighbors are answered for in the kernel as by the Switch, byte for byte, or left
// to it: the router, and whoever has a record in the asker's virtual subnet.
func TestNeighborsAreAnsweredAsByTheSwitch(t *testing.T) {
	g := newExampleRig(t, examples, mtuHere)
	r := rand.New(rand.NewPCG(1, 7))
	c, good := newTally(), 0
	for range 12000 {
		x := examples[r.IntN(len(examples))]
		all := x.vms(t)
		from := all[r.IntN(len(all))]
		if from.host != 0 {
			continue
		}
		b := g.asks(r, x, from)
		if !runnable(b) {
			continue
		}
		got, want, alone := g.fromPort(g.ids[x.portName(from)], b)
		c.count(got)
		if !agree(got, want, alone, b, g.own) {
			t.Fatalf("from %s: %x\nprograms: %s\nSwitch:   %s (alone: %v)", x.portName(from), b, got, want, alone)
		}
		if want.action == actionPort {
			good++
		}
	}
	c.check(t, 700, 0, 1)
	if n := c.actions[actionPort]; n < good*3/4 {
		t.Errorf("the programs answered %d of %d", n, good)
	}
	g.checkCounters()
}

// Nobody reads what is left to user space: neighbors that are forgotten are found
// again all the same, and packets go on.
func TestNeighborsWithoutUserSpace(t *testing.T) {
	for _, e := range examples[:2] {
		t.Run(e.name, func(t *testing.T) {
			s := newSite(t, e, false)
			a, v := s.local("10.1.1.14")
			for _, router := range []string{"10.1.1.1", "fd00:1::1"} {
				run(t, a, "ip neigh del %s dev eth0", router)
			}
			run(t, s.vm, "ip neigh flush dev eth0 nud permanent")
			for range 2 {
				run(t, a, "ping -c 2 -i 0.1 -w 10 %s", s.compVM.four) // by the router
				run(t, a, "ping -c 2 -i 0.1 -w 10 %s", s.compVM.six)
				run(t, a, "ping -c 2 -i 0.1 -w 10 %s", s.hostVM.four) // on the link
				run(t, a, "ping -c 2 -i 0.1 -w 10 %s", s.hostVM.six)
				run(t, s.vm, "ping -c 2 -i 0.1 -w 10 %s", v.six)
				run(t, a, "ip neigh flush all")
				run(t, s.vm, "ip neigh flush all")
			}
			st, err := s.gw.f.Status()
			must(t, err)
			if len(st.Punts) > 0 {
				t.Logf("left to nobody: %v", st.Punts)
			}
			var answered uint64
			for _, c := range s.gw.f.Counters() {
				answered += c.Answered
			}
			if answered < 8 {
				t.Errorf("only %d requests were answered", answered)
			}
		})
	}
}

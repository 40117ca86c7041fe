package dataplane

import (
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// On a hybrid machine, what is no tunnel packet of a known virtual subnet is told
// apart: the machine's own stack has it.
func TestLeftToStack(t *testing.T) {
	l, _, _ := exampleLab(t)
	h := l.hosts[1]
	foreign := outerPacket(hnv.VXLAN, paHost2, paHost1, 9001, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"))
	mine := outerPacket(hnv.NVGRE, paHost2, paHost1, 5001, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"))
	gone := outerPacket(hnv.NVGRE, paHost2, paHost1, 7001, udp(mac12, mac11, "10.1.1.12", "10.1.1.11", "x"))
	plain := udp(mac12, mac11, paHost2, paHost1, "x")[14:]
	left := func() uint64 { return h.sw.Counters()[0].LeftToStack }
	h.inject(foreign)
	h.inject(plain)
	if n := left(); n != 0 {
		t.Errorf("%d packets are left to the stack of a machine that is not hybrid", n)
	}
	h.sw.SetProvider(Provider{Addrs: h.sw.Snapshot().Provider.Addrs, MTU: 1500, Hybrid: true, VSIDs: []hnv.VSID{mustVSID(5001), mustVSID(7001)}})
	h.inject(foreign)
	h.inject(plain)
	if n := left(); n != 2 {
		t.Errorf("%d packets are left to the stack, want the foreign VXLAN and the plain UDP packet", n)
	}
	h.inject(mine)
	h.inject(gone) // of a tenant that this machine knows of and does not carry
	if n := left(); n != 2 {
		t.Errorf("%d packets are left to the stack, want no tunnel packet of a known virtual subnet among them", n)
	}
	if d := h.allDrops(); d[drop.VSIDUnknown] != 3 || d[drop.UDPPort] != 2 {
		t.Errorf("drops are %v", d)
	}
}

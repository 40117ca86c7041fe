package dataplane

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/packet"
)

// BenchmarkBroadcast measures broadcasts of a VM: to so many other hosts, by
// unicast or to the group of the virtual subnet, and to VMs on the same host;
// and broadcasts from the fabric to VMs.
func BenchmarkBroadcast(b *testing.B) {
	for _, hosts := range []int{2, 16, 64} {
		b.Run(fmt.Sprintf("way=encap/hosts=%d", hosts), func(b *testing.B) {
			newRig(b, layout{records: hosts}).spread(b, encapsulate, hosts)
		})
	}
	b.Run("way=encap/group", func(b *testing.B) {
		newRig(b, layout{records: 64, group: netip.MustParseAddr("239.0.0.1")}).spread(b, encapsulate, 1)
	})
	b.Run("way=decap/vms=16", func(b *testing.B) {
		newRig(b, layout{neighbors: 15}).spread(b, decapsulate, 16)
	})
}

// spread measures broadcasts of which each makes so many copies.
func (r *rig) spread(b *testing.B, to way, copies int) {
	s := r.flowsOf(to, 0, 1, func(e *ends) {
		e.dstMAC, e.dst = broadcast, netip.AddrFrom4([4]byte{255, 255, 255, 255})
	})
	t := r.settled(to, s)
	r.fabric, r.vmGets, r.others = sink{}, sink{}, sink{}
	done := t.count()
	for b.Loop() {
		r.pass(t, to, s, 0, batch)
	}
	done()
	if n := r.fabric.n + r.vmGets.n + r.others.n; n != copies*t.packets || len(r.drops()) != 0 {
		b.Fatalf("%d packets made %d copies, want %d of each; dropped: %v", t.packets, n, copies, r.drops())
	}
	t.report(b, "packet")
	b.ReportMetric(float64(t.cpu.Nanoseconds())/float64(t.packets*copies), "cpu-ns/copy")
}

// BenchmarkSegments measures a super-packet that a VM's kernel hands over in one
// piece, cut into as many packets as the fabric takes.
func BenchmarkSegments(b *testing.B) {
	const payload, segment = 28000, 1400
	r := newRig(b, layout{size: payload + packet.IPv4Len + packet.TCPLen, super: true})
	s := r.flowsOf(encapsulate, 0, 1, nil)
	t := r.settled(encapsulate, s)
	done := t.count()
	for b.Loop() {
		r.pass(t, encapsulate, s, 0, batch)
	}
	done()
	if n := t.packets * payload / segment; r.fabric.n != n {
		b.Fatalf("%d super-packets made %d packets, want %d", t.packets, r.fabric.n, n)
	}
	t.packets = r.fabric.n
	t.report(b, "packet")
}

package dataplane

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/hnv"
)

// list makes an access control list of n rules for each direction. The last one
// allows all UDP; TCP is matched by none.
func list(n int) (rules []hnv.ACLRule) {
	for i := range n {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 172<<24|16<<16|uint32(i)<<8)
		r := hnv.ACLRule{
			Priority: uint16(i + 1), Action: hnv.Allow, Proto: "tcp",
			Src:      []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(a), 24)},
			DstPorts: []hnv.PortRange{{Lo: uint16(i * 16), Hi: uint16(i*16 + 9)}},
		}
		if i == n-1 {
			r = hnv.ACLRule{Priority: r.Priority, Action: hnv.Allow, Proto: "udp"}
		}
		for _, r.Direction = range []hnv.Direction{hnv.Outbound, hnv.Inbound} {
			rules = append(rules, r)
		}
	}
	return rules
}

// BenchmarkACL measures ports with lists of so many rules: known flows, new ones
// and packets that no rule allows.
func BenchmarkACL(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		l := layout{acl: list(n), records: 100}
		run := func(path string, f func(*testing.B, *rig)) {
			b.Run(fmt.Sprintf("way=encap/rules=%s/path=%s", short(n), path), func(b *testing.B) { f(b, newRig(b, l)) })
		}
		run("hit", func(b *testing.B, r *rig) { r.hit(b, encapsulate, 1000, nil) })
		run("first", func(b *testing.B, r *rig) { r.first(b, encapsulate, 1000, nil) })
		run("denied", func(b *testing.B, r *rig) { r.denied(b, encapsulate) })
	}
}

// denied measures packets that the access control list drops.
func (r *rig) denied(b *testing.B, to way) {
	s := r.flowsOf(to, 0, 1000, func(e *ends) { e.tcp = true })
	t := r.settled(to, s)
	done := t.count()
	for i := 0; b.Loop(); i = (i + chunk) % s.len() {
		r.pass(t, to, s, i, chunk)
	}
	done()
	if d := r.drops(); d[drop.ACLDenied] != uint64(t.packets+chunk) {
		b.Fatalf("dropped: %v, want %d denied", d, t.packets+chunk)
	}
	t.report(b, "packet")
}

// BenchmarkMeter measures a port with rate limits.
func BenchmarkMeter(b *testing.B) {
	for _, kbps := range []uint64{0, 100e6} {
		b.Run(fmt.Sprintf("way=encap/mbps=%d", kbps/1000), func(b *testing.B) {
			newRig(b, layout{kbps: kbps}).hit(b, encapsulate, 1, nil)
		})
	}
}

// BenchmarkHairpin measures packets from one VM to another of the same host, with
// and without access control lists on both ports.
func BenchmarkHairpin(b *testing.B) {
	for _, n := range []int{0, 100} {
		l := layout{neighbors: 1}
		if n > 0 {
			l.acl = list(n)
		}
		run := func(path string, f func(*testing.B, *rig)) {
			b.Run(fmt.Sprintf("way=hairpin/rules=%d/path=%s", n, path), func(b *testing.B) { f(b, newRig(b, l)) })
		}
		run("hit", func(b *testing.B, r *rig) { r.hit(b, hairpin, 1, nil) })
		run("first", func(b *testing.B, r *rig) { r.first(b, hairpin, 1, nil) })
	}
}

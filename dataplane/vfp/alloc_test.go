package vfp_test

import (
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

func noAllocs(t *testing.T, name string, fn func()) {
	t.Helper()
	if n := testing.AllocsPerRun(200, fn); n != 0 {
		t.Errorf("%s: %v allocations a run", name, n)
	}
}

func TestNothingAllocates(t *testing.T) {
	for _, f := range []vfp.Family{vfp.IPv4, vfp.IPv6} {
		version := uint8(f)
		layers := acl(1000, f)
		g := newGen(uint64(version))
		tr := g.transposition(version)
		tr.Set, tr.DecTTL = vfp.SetSrc|vfp.SetDst|vfp.SetSrcPort, true
		tr.NewSrc, tr.NewDst, tr.NewDstPort, tr.NewDSCP, tr.NewSrcMAC, tr.NewDstMAC = g.anyAddr(version), g.anyAddr(version), 0, 0, [6]byte{}, [6]byte{}
		bucket := vfp.NewBucket(1e9, 0)
		layers[0].Priority = 300 // the list sees rewritten headers
		layers = append(layers,
			vfp.Layer{Name: "meter", Priority: 1, Groups: []vfp.Group{{Name: "m", Direction: vfp.Outbound, Rules: []vfp.Rule{{ID: "m", Action: vfp.Action{Kind: vfp.Meter, Bucket: bucket}}}}}},
			vfp.Layer{Name: "rewrite", Priority: 2, Groups: []vfp.Group{{Name: "r", Direction: vfp.Outbound, Family: f, Rules: []vfp.Rule{{ID: "r", Action: vfp.Action{Kind: vfp.Rewrite, Transposition: tr}}}}}},
		)
		p, err := vfp.Compile(layers)
		must(t, err)

		for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoICMP} {
			d := g.packet(version)
			d.proto, d.icmp, d.ttl = proto, [2]uint8{}, 255
			if proto == packet.ProtoICMP {
				inner := g.packet(version)
				d.icmp, d.payload = [2]uint8{3, 1}, inner.ip(t)
				if version == 6 {
					d.proto, d.icmp = packet.ProtoICMPv6, [2]uint8{1, 1}
				}
			}
			b := d.frame(t)
			frame, h := newFrame(t, b), decode(t, b)
			var c vfp.Composed
			noAllocs(t, "Evaluate", func() { p.Evaluate(vfp.Outbound, h, &c) })
			if len(c.Steps()) != 3 || !c.Blocked {
				t.Fatalf("%d steps, blocked %v", len(c.Steps()), c.Blocked)
			}
			noAllocs(t, "EvaluateLayer", func() { p.EvaluateLayer("acl", vfp.Outbound, h, &c) })
			noAllocs(t, "Count", func() { p.Count(c.Steps(), 1, 100) })
			noAllocs(t, "TakeAll", func() { vfp.TakeAll(c.Meters(), 1, 100) })
			tr := tr
			tr.DecTTL = false
			noAllocs(t, "Apply", func() {
				if r := tr.Apply(frame, h); r != drop.None {
					t.Fatal(r)
				}
			})
			noAllocs(t, "ApplyHeaders", func() { tr.ApplyHeaders(h) })
			noAllocs(t, "Inverse", func() { _ = tr.Inverse(h) })
			noAllocs(t, "Reply", func() { _ = tr.Reply(h) })
		}
		noAllocs(t, "Take", func() { bucket.Take(5, 100) })
	}
}

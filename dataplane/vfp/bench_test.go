package vfp_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// acl is what an access list of n rules looks like: each from some prefixes to
// a prefix of its own, some ports of one protocol, and at last a deny of all.
func acl(n int, f vfp.Family) []vfp.Layer {
	g := newGen(uint64(n))
	rules := make([]vfp.Rule, n)
	for i := range rules {
		r := vfp.Rule{ID: fmt.Sprint("r", i), Priority: uint16(i + 1), Action: vfp.Action{Kind: vfp.Allow}}
		if i == n-1 {
			r.Action = vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}
		} else {
			port := uint16(g.IntN(60000))
			r.Match = vfp.Match{
				Proto:    new(pick[uint8](g, packet.ProtoTCP, packet.ProtoUDP)),
				Dst:      []netip.Prefix{netip.PrefixFrom(g.anyAddr(uint8(f)), g.anyAddr(uint8(f)).BitLen()-g.IntN(9))},
				DstPorts: []vfp.PortRange{{Lo: port, Hi: port + uint16(g.IntN(100))}},
			}
			if g.chance(50) {
				r.Match.Src = []netip.Prefix{netip.PrefixFrom(g.anyAddr(uint8(f)), 8+g.IntN(24)), netip.PrefixFrom(g.anyAddr(uint8(f)), 24)}
			}
		}
		rules[i] = r
	}
	return []vfp.Layer{{Name: "acl", Priority: 100, Groups: []vfp.Group{{Name: "port", Direction: vfp.Outbound, Family: f, Rules: rules}}}}
}

// aclPackets are one for each of some rules, and as many that only the last
// rule matches.
func aclPackets(layers []vfp.Layer) (hs []packet.Headers) {
	g := newGen(1)
	rules, f := layers[0].Groups[0].Rules, layers[0].Groups[0].Family
	for range 512 {
		h := packet.Headers{Version: uint8(f), Src: g.anyAddr(uint8(f)), Dst: g.anyAddr(uint8(f)), Proto: packet.ProtoTCP, SrcPort: 40000, DstPort: uint16(g.IntN(65536))}
		hs = append(hs, h)
		if m := rules[g.IntN(len(rules))].Match; m.Proto != nil {
			h.Dst, h.Proto, h.DstPort = m.Dst[0].Addr(), *m.Proto, m.DstPorts[0].Hi
			if m.Src != nil {
				h.Src = m.Src[1].Addr()
			}
		}
		hs = append(hs, h)
	}
	return hs
}

func BenchmarkEvaluate(b *testing.B) {
	for _, f := range []vfp.Family{vfp.IPv4, vfp.IPv6} {
		for _, n := range []int{1, 10, 100, 1000, 10000} {
			layers := acl(n, f)
			p, err := vfp.Compile(layers)
			must(b, err)
			hs := aclPackets(layers)
			b.Run(fmt.Sprintf("%s/rules=%d", f, n), func(b *testing.B) {
				b.ReportAllocs()
				var c vfp.Composed
				for i := 0; b.Loop(); i++ {
					p.Evaluate(vfp.Outbound, &hs[i%len(hs)], &c)
				}
			})
		}
	}
}

// BenchmarkCompile tells the memory of a compiled rule, too.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		layers := acl(n, vfp.IPv4)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			var keep *vfp.Program
			before := heap()
			for b.Loop() {
				p, err := vfp.Compile(layers)
				must(b, err)
				keep = p
			}
			b.ReportMetric(float64(heap()-before)/float64(n), "B/rule")
			runtime.KeepAlive(keep)
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkApply(b *testing.B) {
	for _, version := range []uint8{4, 6} {
		g := newGen(uint64(version))
		p := g.packet(version)
		p.proto, p.options, p.icmp, p.payload = packet.ProtoTCP, false, [2]uint8{}, g.bytes(1400)
		f := newFrame(b, p.frame(b))
		h := decode(b, f.Bytes())
		tr := vfp.Transposition{
			Set:    vfp.SetSrc | vfp.SetDst | vfp.SetSrcPort | vfp.SetDstPort | vfp.SetDstMAC | vfp.SetSrcMAC,
			NewSrc: g.anyAddr(version), NewDst: g.anyAddr(version), NewSrcPort: 1, NewDstPort: 2,
		}
		b.Run(fmt.Sprintf("tcp%d", version), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tr.Apply(f, h)
			}
		})
	}
}

func BenchmarkTake(b *testing.B) {
	bucket := vfp.NewBucket(10_000_000_000, 0)
	b.ReportAllocs()
	for now := int64(0); b.Loop(); now += 1000 {
		bucket.Take(now, 1250)
	}
}

func BenchmarkNATPool(b *testing.B) {
	for _, held := range []int{0, 60000} {
		pool := newPool(b, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1"), Seed: 1})
		to := netip.MustParseAddrPort("198.51.100.1:443")
		for range held {
			pool.Allocate(packet.ProtoTCP, to)
		}
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			for b.Loop() {
				a, _ := pool.Allocate(packet.ProtoTCP, to)
				pool.Release(packet.ProtoTCP, a, to)
			}
		})
	}
}

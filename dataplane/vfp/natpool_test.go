package vfp_test

import (
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

func newPool(t testing.TB, o vfp.NATPoolOptions) *vfp.NATPool {
	t.Helper()
	p, err := vfp.NewNATPool(o)
	must(t, err)
	return p
}

func addrs(of ...string) (list []netip.Addr) {
	for _, a := range of {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

type taken struct {
	proto          uint8
	source, remote netip.AddrPort
}

// Nothing is given twice, nothing beyond the pool, and what came back is given
// again: against a set of what is out.
func TestNATPoolAgainstSet(t *testing.T) {
	for seed := range uint64(20) {
		g := newGen(seed)
		o := vfp.NATPoolOptions{
			Addrs: addrs("192.0.2.1", "192.0.2.2", "2001:db8::1"), Ports: vfp.PortRange{Lo: 1000, Hi: 1000 + uint16(g.IntN(200))},
			Max: pick(g, 0, 300), Seed: seed + 1,
		}
		p := newPool(t, o)
		remotes := []netip.AddrPort{
			netip.MustParseAddrPort("198.51.100.1:80"), netip.MustParseAddrPort("198.51.100.1:81"),
			netip.MustParseAddrPort("198.51.100.2:80"), netip.MustParseAddrPort("[2001:db8:1::1]:80"),
		}
		var out []taken
		isOut := map[taken]bool{}
		full := 0
		for range 5000 {
			k := taken{proto: pick[uint8](g, 6, 17, 1, 47), remote: pick(g, remotes...)}
			if g.chance(30) && len(out) > 0 {
				i := g.IntN(len(out))
				k := out[i]
				out[i] = out[len(out)-1]
				out = out[:len(out)-1]
				delete(isOut, k)
				if !p.Release(k.proto, k.source, k.remote) || p.Release(k.proto, k.source, k.remote) {
					t.Fatalf("seed %d: a lease comes back once, %v", seed, k)
				}
				continue
			}
			var ok bool
			k.source, ok = p.Allocate(k.proto, k.remote)
			if !ok {
				full++
				places, held := 0, 0
				for _, a := range o.Addrs {
					if a.Is4() == k.remote.Addr().Is4() {
						places++
					}
				}
				if k.proto != 47 {
					places *= int(o.Ports.Hi-o.Ports.Lo) + 1
				}
				for had := range isOut {
					if had.proto == k.proto && had.remote == k.remote {
						held++
					}
				}
				if held != places && (o.Max == 0 || len(out) < o.Max) {
					t.Fatalf("seed %d: nothing given while %d of %d places are out", seed, held, places)
				}
				continue
			}
			if isOut[k] {
				t.Fatalf("seed %d: %v was given twice", seed, k)
			}
			port := k.source.Port()
			if k.source.Addr().Is4() != k.remote.Addr().Is4() || k.proto == 47 && port != 0 || k.proto != 47 && (port < o.Ports.Lo || port > o.Ports.Hi) {
				t.Fatalf("seed %d: %v is none of the pool's", seed, k)
			}
			isOut[k] = true
			out = append(out, k)
			if p.Len() != len(out) {
				t.Fatalf("seed %d: %d leases, want %d", seed, p.Len(), len(out))
			}
		}
		if full == 0 {
			t.Errorf("seed %d: the pool was never full", seed)
		}
	}
}

func TestNATPoolGivesEveryPort(t *testing.T) {
	p := newPool(t, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1")})
	to := netip.MustParseAddrPort("198.51.100.1:443")
	seen := map[netip.AddrPort]bool{}
	for range 64512 {
		a, ok := p.Allocate(packet.ProtoTCP, to)
		if !ok || seen[a] {
			t.Fatalf("%v %v after %d", a, ok, len(seen))
		}
		seen[a] = true
	}
	if a, ok := p.Allocate(packet.ProtoTCP, to); ok {
		t.Errorf("%v of a pool that is used up", a)
	}
	last := netip.MustParseAddrPort("192.0.2.1:65535")
	if !p.Release(packet.ProtoTCP, last, to) {
		t.Fatal("the last port was not out")
	}
	if a, ok := p.Allocate(packet.ProtoTCP, to); a != last || !ok {
		t.Errorf("%v %v, want what came back", a, ok)
	}
	for a := range seen {
		p.Release(packet.ProtoTCP, a, to)
	}
	if p.Len() != 0 {
		t.Errorf("%d leases left", p.Len())
	}
}

func TestNATPoolIsDeterministicWithSeed(t *testing.T) {
	o := vfp.NATPoolOptions{Addrs: addrs("192.0.2.1", "192.0.2.2"), Seed: 42}
	a, b := newPool(t, o), newPool(t, o)
	o.Seed = 43
	c := newPool(t, o)
	to := netip.MustParseAddrPort("198.51.100.1:443")
	other := 0
	for range 100 {
		x, _ := a.Allocate(packet.ProtoUDP, to)
		y, _ := b.Allocate(packet.ProtoUDP, to)
		z, _ := c.Allocate(packet.ProtoUDP, to)
		if x != y {
			t.Fatalf("%v and %v of one seed", x, y)
		}
		if x != z {
			other++
		}
	}
	if other < 90 {
		t.Error("another seed gives the same order")
	}
}

func TestNATPoolShared(t *testing.T) {
	p := newPool(t, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1"), Ports: vfp.PortRange{Lo: 1, Hi: 500}})
	to := netip.MustParseAddrPort("198.51.100.1:443")
	var held sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				a, ok := p.Allocate(packet.ProtoTCP, to)
				if !ok {
					t.Error("used up")
					return
				}
				if _, twice := held.LoadOrStore(a, true); twice {
					t.Errorf("%v was given twice", a)
				}
				held.Delete(a)
				p.Release(packet.ProtoTCP, a, to)
			}
		})
	}
	wg.Wait()
}

func TestNATPoolRefuses(t *testing.T) {
	for want, o := range map[string]vfp.NATPoolOptions{
		"0 addresses":          {},
		"257 addresses":        {Addrs: make([]netip.Addr, 257)},
		"named twice":          {Addrs: addrs("192.0.2.1", "192.0.2.1")},
		"no station's address": {Addrs: addrs("224.0.0.1")},
		"0-9 are no range":     {Addrs: addrs("192.0.2.1"), Ports: vfp.PortRange{Lo: 0, Hi: 9}},
		"9-8 are no range":     {Addrs: addrs("192.0.2.1"), Ports: vfp.PortRange{Lo: 9, Hi: 8}},
	} {
		if _, err := vfp.NewNATPool(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// natLayers source NAT what leaves, and drop what a later layer finds to come
// from port 7777 of the pool.
func natLayers(pool *vfp.NATPool, block vfp.Match) []vfp.Layer {
	return []vfp.Layer{
		{Name: "nat", Priority: 1, Groups: []vfp.Group{{Name: "source", Direction: vfp.Outbound, Family: vfp.IPv4, Rules: []vfp.Rule{
			{ID: "snat", Action: vfp.Action{Kind: vfp.Rewrite, Pool: pool}},
		}}}},
		{Name: "after", Priority: 2, Groups: []vfp.Group{{Name: "check", Direction: vfp.Outbound, Family: vfp.IPv4, Rules: []vfp.Rule{
			{ID: "bad", Match: block, Action: vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}},
		}}}},
	}
}

func TestEvaluateWithPool(t *testing.T) {
	pool := newPool(t, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1"), Ports: vfp.PortRange{Lo: 7777, Hi: 7778}})
	p, err := vfp.Compile(natLayers(pool, vfp.Match{Src: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}, SrcPorts: []vfp.PortRange{{Lo: 7777, Hi: 7777}}}))
	must(t, err)
	h := &packet.Headers{Version: 4, Src: netip.MustParseAddr("10.1.1.11"), Dst: netip.MustParseAddr("198.51.100.1"), Proto: packet.ProtoTCP, SrcPort: 5, DstPort: 80}
	var c vfp.Composed
	for range 100 { // the blocked port is tried now and then, and never kept
		p.Evaluate(vfp.Outbound, h, &c)
		if !c.Blocked {
			break
		}
		if pool.Len() != 0 || c.Lease != (vfp.Lease{}) {
			t.Fatal("a packet that is dropped holds a lease")
		}
	}
	source := netip.MustParseAddrPort("192.0.2.1:7778")
	want := vfp.Transposition{Set: vfp.SetSrc | vfp.SetSrcPort, NewSrc: source.Addr(), NewSrcPort: source.Port()}
	if c.Blocked || c.Lease.Source != source || c.Transposition != want || pool.Len() != 1 {
		t.Fatalf("%+v, %d leases", c, pool.Len())
	}
	if d := p.Explain(vfp.Outbound, h); pool.Len() != 1 || len(d) != 2 || !d[0].Matched {
		t.Errorf("Explain: %+v, %d leases", d, pool.Len())
	}
	c.Lease.Release()
	if pool.Len() != 0 {
		t.Error("the lease is still out")
	}

	// Packets that begin no flow, and a pool that has no more.
	for name, change := range map[string]func(h *packet.Headers){
		"fragment":   func(h *packet.Headers) { h.FragOffset, h.SrcPort, h.DstPort = 8, 0, 0 },
		"ICMP error": func(h *packet.Headers) { h.Proto, h.ICMPType = packet.ProtoICMP, 3 },
		"used up": func(h *packet.Headers) {
			pool.Allocate(6, netip.AddrPortFrom(h.Dst, 80))
			pool.Allocate(6, netip.AddrPortFrom(h.Dst, 80))
		},
	} {
		h := *h
		change(&h)
		p.Evaluate(vfp.Outbound, &h, &c)
		if name == "fragment" && !c.NeedsL4 || name != "fragment" && c.Reason != drop.NATPoolExhausted {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// One station keeps one address.
func TestNATPoolPairsAddresses(t *testing.T) {
	pool := newPool(t, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")})
	p, err := vfp.Compile(natLayers(pool, vfp.Match{Proto: new(uint8(99))}))
	must(t, err)
	g := newGen(1)
	used := map[netip.Addr]int{}
	for range 40 {
		src := g.anyAddr(4)
		first := netip.Addr{}
		for port := range uint16(20) {
			h := &packet.Headers{Version: 4, Src: src, Dst: g.anyAddr(4), Proto: packet.ProtoUDP, SrcPort: port, DstPort: 53}
			var c vfp.Composed
			p.Evaluate(vfp.Outbound, h, &c)
			if first.IsValid() && c.Lease.Source.Addr() != first {
				t.Fatalf("%s goes out as %s and %s", src, first, c.Lease.Source.Addr())
			}
			first = c.Lease.Source.Addr()
		}
		used[first]++
	}
	if len(used) != 4 {
		t.Errorf("40 stations use %v", used)
	}
}

package vfp_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

// verdict is what the oracle finds, in names.
type verdict struct {
	Path          [][3]string // layer, group, rule
	Blocked       bool
	NeedsL4       bool
	Reason        drop.Reason
	Transposition vfp.Transposition
}

// oracle walks the layers as doc.go tells it, rule by rule.
func oracle(layers []vfp.Layer, dir vfp.Direction, in *packet.Headers) (v verdict) {
	h := *in
	layers = slices.Clone(layers)
	slices.SortFunc(layers, func(a, b vfp.Layer) int {
		if dir == vfp.Inbound {
			return b.Priority - a.Priority
		}
		return a.Priority - b.Priority
	})
	for _, l := range layers {
		groups := slices.Clone(l.Groups)
		slices.SortFunc(groups, func(a, b vfp.Group) int { return a.Priority - b.Priority })
		for _, g := range groups {
			if g.Direction != dir || g.Family != vfp.AnyFamily && uint8(g.Family) != h.Version {
				continue
			}
			var r *vfp.Rule
			needs := false
			for i := range g.Rules {
				all, n := matches(&g.Rules[i].Match, &h)
				if all && (r == nil || g.Rules[i].Priority < r.Priority) {
					r, needs = &g.Rules[i], n
				}
			}
			if r == nil {
				continue
			}
			if needs {
				v.NeedsL4 = true
				return v
			}
			v.Path = append(v.Path, [3]string{l.Name, g.Name, r.ID})
			switch r.Action.Kind {
			case vfp.Block:
				v.Blocked, v.Reason = true, r.Action.Reason
				return v
			case vfp.Rewrite:
				t := r.Action.Transposition
				h.DstMAC = t.NewDstMAC
				if t.Set&vfp.SetDst != 0 {
					h.Dst = t.NewDst
					if h.FragOffset == 0 && (h.Proto == 6 || h.Proto == 17) {
						h.DstPort = t.NewDstPort
					}
				}
				v.Transposition = v.Transposition.Then(t)
			}
		}
	}
	return v
}

// matches tells whether all that can be known of the packet matches, and whether
// there is something that cannot.
func matches(m *vfp.Match, h *packet.Headers) (all, needs bool) {
	later := h.FragOffset != 0
	prefix := func(ps []netip.Prefix, a netip.Addr) bool {
		return len(ps) == 0 || h.Version != 0 && slices.ContainsFunc(ps, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	port := func(rs []vfp.PortRange, p uint16) bool {
		if len(rs) == 0 {
			return true
		}
		if h.Version == 0 || h.Proto != 6 && h.Proto != 17 {
			return false
		}
		if later {
			needs = needs || !everyPort(rs)
			return true
		}
		return slices.ContainsFunc(rs, func(r vfp.PortRange) bool { return r.Lo <= p && p <= r.Hi })
	}
	icmp := func() bool {
		if len(m.ICMPTypes) == 0 {
			return true
		}
		if h.Version == 0 || h.Version == 4 && h.Proto != 1 || h.Version == 6 && h.Proto != 58 {
			return false
		}
		needs = needs || later
		return later || slices.Contains(m.ICMPTypes, h.ICMPType)
	}
	flags := func() bool {
		if m.TCPFlags.Mask == 0 {
			return true
		}
		if h.Version == 0 || h.Proto != 6 {
			return false
		}
		needs = needs || later
		return later || h.TCPFlags&m.TCPFlags.Mask == m.TCPFlags.Want
	}
	all = (m.SrcMAC == nil || *m.SrcMAC == h.SrcMAC) && (m.DstMAC == nil || *m.DstMAC == h.DstMAC) &&
		(!m.Group || h.DstMAC[0]&1 == 1) && (m.EtherType == 0 || m.EtherType == h.EtherType) &&
		(m.Proto == nil || h.Version != 0 && *m.Proto == h.Proto) &&
		prefix(m.Src, h.Src) && prefix(m.Dst, h.Dst) &&
		port(m.SrcPorts, h.SrcPort) && port(m.DstPorts, h.DstPort) && icmp() && flags()
	return all, needs
}

// everyPort tells whether the ranges leave no port out.
func everyPort(rs []vfp.PortRange) bool {
	for next := 0; next < 65536; {
		i := slices.IndexFunc(rs, func(r vfp.PortRange) bool { return int(r.Lo) <= next && next <= int(r.Hi) })
		if i < 0 {
			return false
		}
		next = int(rs[i].Hi) + 1
	}
	return true
}

// compileSome compiles the layers without the rules that Compile refuses.
func compileSome(t testing.TB, layers []vfp.Layer) (*vfp.Program, []vfp.Layer) {
	t.Helper()
	for range 3 {
		p, err := vfp.Compile(layers)
		if err == nil {
			return p, layers
		}
		bad := map[[3]string]bool{}
		for _, e := range refusals(err) {
			bad[e] = true
		}
		for i := range layers {
			for j := range layers[i].Groups {
				g := &layers[i].Groups[j]
				g.Rules = slices.DeleteFunc(g.Rules, func(r vfp.Rule) bool {
					return bad[[3]string{layers[i].Name, g.Name, r.ID}]
				})
			}
		}
	}
	_, err := vfp.Compile(layers)
	t.Fatalf("what Compile refuses does not get less: %v", err)
	return nil, nil
}

func verdictOf(p *vfp.Program, c *vfp.Composed) verdict {
	v := verdict{Blocked: c.Blocked, NeedsL4: c.NeedsL4, Reason: c.Reason, Transposition: c.Transposition}
	for _, s := range c.Steps() {
		v.Path = append(v.Path, p.Name(s))
	}
	return v
}

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestEvaluateIsFirstMatch(t *testing.T) {
	const sets, packets = 2000, 30
	seen := map[string]int{}
	for seed := range uint64(sets) {
		g := newGen(seed)
		var layers []vfp.Layer
		for i := range 1 + g.IntN(4) {
			l := vfp.Layer{Name: string(rune('a' + i)), Priority: []int{100, 50, 300, -1}[i]}
			for j := range 1 + g.IntN(3) {
				f := pick(g, vfp.AnyFamily, vfp.IPv4, vfp.IPv6)
				n := pick(g, 0, 1, 3, 10, 40)
				l.Groups = append(l.Groups, vfp.Group{
					Name: string(rune('p' + j)), Priority: 10 - j, Direction: pick(g, vfp.Outbound, vfp.Inbound), Family: f,
					Rules: g.rules(n, 10+g.IntN(60), f),
				})
			}
			layers = append(layers, l)
		}
		p, layers := compileSome(t, layers)
		for range packets {
			seen[compare(t, seed, p, layers, pick(g, vfp.Outbound, vfp.Inbound), g.headers())]++
		}
	}
	for _, k := range []string{"needs L4", "blocked", "rewritten", "no say", "allowed"} {
		if seen[k] < sets/2 {
			t.Errorf("only %d packets of %d were %q", seen[k], sets*packets, k)
		}
	}
}

// Groups that do not fit one matrix.
func TestEvaluateBigGroups(t *testing.T) {
	for seed, n := range []int{300, 700, 2000, 5000} {
		g := newGen(uint64(seed))
		f := pick(g, vfp.AnyFamily, vfp.IPv4, vfp.IPv6)
		rules := g.rules(n, 90, f)
		for i := range rules { // many that are hard to meet, or the first few would match everything
			m := &rules[i].Match
			m.Src, m.Dst = []netip.Prefix{g.prefix(4), g.prefix(6)}, []netip.Prefix{g.prefix(4), g.prefix(6)}
			if g.chance(90) {
				m.SrcPorts = []vfp.PortRange{{Lo: uint16(i), Hi: uint16(i + g.IntN(100))}}
			}
		}
		layers := []vfp.Layer{{Name: "a", Groups: []vfp.Group{{Name: "b", Direction: vfp.Inbound, Family: f, Rules: rules}}}}
		p, layers := compileSome(t, layers)
		if left := len(layers[0].Groups[0].Rules); left < n/4 {
			t.Fatalf("only %d of %d rules are left", left, n)
		}
		places := map[string]bool{}
		for range 2000 {
			h := g.headers()
			if h.SrcPort != 0 {
				h.SrcPort = uint16(g.IntN(n + 100))
			}
			compare(t, uint64(seed), p, layers, vfp.Inbound, h)
			var c vfp.Composed
			if p.Evaluate(vfp.Inbound, h, &c); len(c.Steps()) > 0 {
				places[fmt.Sprint(c.Steps()[0].Rule/256)] = true
			}
		}
		if len(places) < n/256/4 {
			t.Errorf("%d rules: only %d parts of them were met", n, len(places))
		}
	}
}

// compare holds Evaluate and Explain to the oracle, and says what became of the
// packet.
func compare(t *testing.T, seed uint64, p *vfp.Program, layers []vfp.Layer, dir vfp.Direction, h *packet.Headers) string {
	t.Helper()
	before, want := *h, oracle(layers, dir, h)
	var c vfp.Composed
	p.Evaluate(dir, h, &c)
	got := verdictOf(p, &c)
	if !slices.Equal(want.Path, got.Path) || want.Transposition != got.Transposition || want.Blocked != got.Blocked ||
		want.NeedsL4 != got.NeedsL4 || want.Reason != got.Reason {
		t.Fatalf("seed %d, %s %+v: -want +got\n%s", seed, dir, *h, cmp.Diff(want, got, compareAddr))
	}
	if *h != before {
		t.Fatalf("seed %d: Evaluate changed the headers", seed)
	}
	checkExplain(t, p, dir, h, want)
	switch {
	case want.NeedsL4:
		return "needs L4"
	case want.Blocked:
		return "blocked"
	case !want.Transposition.IsZero():
		return "rewritten"
	case len(want.Path) == 0:
		return "no say"
	}
	return "allowed"
}

// checkExplain holds Explain to what was decided.
func checkExplain(t *testing.T, p *vfp.Program, dir vfp.Direction, h *packet.Headers, want verdict) {
	t.Helper()
	var path [][3]string
	for _, d := range p.Explain(dir, h) {
		if d.Matched {
			path = append(path, [3]string{d.Layer, d.Group, d.Rule})
		}
		if d.Why == "" {
			t.Fatalf("no reason given for group %s of layer %s", d.Group, d.Layer)
		}
	}
	if !slices.Equal(path, want.Path) {
		t.Fatalf("Explain says %v, and it was %v", path, want.Path)
	}
}

// refusals gives the rules that an error of Compile names first.
func refusals(err error) (list [][3]string) {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil
	}
	for _, e := range joined.Unwrap() {
		var r [3]string
		if _, err := fmt.Sscanf(e.Error(), "layer %q, group %q, rule %q:", &r[0], &r[1], &r[2]); err == nil {
			list = append(list, r)
		}
	}
	return list
}

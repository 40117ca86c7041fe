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
			rules := slices.Clone(g.Rules)
			slices.SortStableFunc(rules, func(a, b vfp.Rule) int { return int(a.Priority) - int(b.Priority) })
			for _, r := range rules {
				all, needs := matches(&r.Match, &h)
				if !all {
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
				break
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
		every := true
		for p := range 65536 {
			every = every && slices.ContainsFunc(rs, func(r vfp.PortRange) bool { return int(r.Lo) <= p && p <= int(r.Hi) })
			if !every {
				break
			}
		}
		if later {
			needs = needs || !every
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
	counters := p.Counters()
	for _, s := range c.Steps() {
		l := counters[s.Layer]
		g := l.Groups[s.Group]
		v.Path = append(v.Path, [3]string{l.Name, g.Name, g.Rules[s.Rule].ID})
	}
	return v
}

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestEvaluateIsFirstMatch(t *testing.T) {
	sets, packets := 1500, 60
	if testing.Short() {
		sets = 200
	}
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
			h := g.headers()
			before := *h
			dir := pick(g, vfp.Outbound, vfp.Inbound)
			want := oracle(layers, dir, h)
			var c vfp.Composed
			p.Evaluate(dir, h, &c)
			if want.NeedsL4 || want.Blocked {
				want.Transposition = c.Transposition
			}
			got := verdictOf(p, &c)
			if want.NeedsL4 {
				got.Path, want.Path = nil, nil
			}
			if d := cmp.Diff(want, got, compareAddr); d != "" {
				t.Fatalf("seed %d, %s %+v: -want +got\n%s", seed, dir, *h, d)
			}
			if *h != before {
				t.Fatalf("seed %d: Evaluate changed the headers", seed)
			}
			checkExplain(t, p, dir, h, want)
			switch {
			case want.NeedsL4:
				seen["needs L4"]++
			case want.Blocked:
				seen["blocked"]++
			case !want.Transposition.IsZero():
				seen["rewritten"]++
			case len(want.Path) == 0:
				seen["no say"]++
			default:
				seen["allowed"]++
			}
		}
	}
	for _, k := range []string{"needs L4", "blocked", "rewritten", "no say", "allowed"} {
		if seen[k] < sets {
			t.Errorf("only %d packets of %d were %q", seen[k], sets*packets, k)
		}
	}
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
	if !want.NeedsL4 && !slices.Equal(path, want.Path) {
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

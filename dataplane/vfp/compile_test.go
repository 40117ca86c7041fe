package vfp_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/packet"
	"github.com/hnvgate/hnvgate/dataplane/vfp"
)

var (
	allow = vfp.Action{Kind: vfp.Allow}
	deny  = vfp.Action{Kind: vfp.Block, Reason: drop.ACLDenied}
	net10 = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	net11 = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")}
	six   = []netip.Prefix{netip.MustParsePrefix("fd00::/8")}
)

// one is a layer with one group of the rules.
func one(f vfp.Family, rules ...vfp.Rule) []vfp.Layer {
	return []vfp.Layer{{Name: "l", Priority: 1, Groups: []vfp.Group{{Name: "g", Priority: 1, Direction: vfp.Outbound, Family: f, Rules: rules}}}}
}

func rule(id string, m vfp.Match, a vfp.Action) vfp.Rule {
	return vfp.Rule{ID: id, Match: m, Action: a}
}

func TestCompileRefuses(t *testing.T) {
	tcp, udp := new(uint8(packet.ProtoTCP)), new(uint8(packet.ProtoUDP))
	ports := func(lo, hi uint16) []vfp.PortRange { return []vfp.PortRange{{Lo: lo, Hi: hi}} }
	group := func(name string, priority int, dir vfp.Direction, f vfp.Family) vfp.Group {
		return vfp.Group{Name: name, Priority: priority, Direction: dir, Family: f}
	}
	pool := newPool(t, vfp.NATPoolOptions{Addrs: addrs("192.0.2.1")})
	src4 := vfp.Transposition{Set: vfp.SetSrc, NewSrc: netip.MustParseAddr("192.0.2.1")}
	for name, c := range map[string]struct {
		layers []vfp.Layer
		want   []string // in one error each; none: it is good
	}{
		"empty": {},
		"layers of one priority": {
			[]vfp.Layer{{Name: "acl", Priority: 5}, {Name: "nat", Priority: 5}},
			[]string{`layers "acl" and "nat" have the same priority 5`},
		},
		"layers of one name": {
			[]vfp.Layer{{Name: "acl", Priority: 5}, {Name: "acl", Priority: 6}, {Priority: 7}},
			[]string{`layer "acl" of priority 6: the name is missing or used twice`, `layer "" of priority 7: the name`},
		},
		"groups of one priority": {
			[]vfp.Layer{{Name: "l", Groups: []vfp.Group{group("a", 1, vfp.Inbound, vfp.IPv4), group("b", 1, vfp.Inbound, vfp.AnyFamily)}}},
			[]string{`layer "l": groups "a" and "b", both inbound, have the same priority 1`},
		},
		"groups that never meet": {
			[]vfp.Layer{{Name: "l", Groups: []vfp.Group{group("a", 1, vfp.Inbound, vfp.IPv4), group("a", 1, vfp.Inbound, vfp.IPv6), group("a", 1, vfp.Outbound, vfp.AnyFamily)}}},
			nil,
		},
		"groups of one name": {
			[]vfp.Layer{{Name: "l", Groups: []vfp.Group{group("a", 1, vfp.Inbound, vfp.IPv4), group("a", 2, vfp.Inbound, vfp.IPv4)}}},
			[]string{`two inbound groups have the name "a"`},
		},
		"a group of no direction": {
			[]vfp.Layer{{Name: "l", Groups: []vfp.Group{group("a", 1, 3, 5), group("", 2, 1, 0)}}},
			[]string{`"a": the direction 3 is neither`, `"a": there is no family 5`, `group "" of priority 2: the group's name is missing`},
		},
		"IDs": {
			one(0, rule("x", vfp.Match{Src: net10}, allow), rule("x", vfp.Match{Src: six}, allow), rule("", vfp.Match{}, deny)),
			[]string{`rule "x": priority 0: the ID is missing or used twice`, `rule "": priority 0: the ID`},
		},
		"unreachable": {
			one(0, rule("wide", vfp.Match{Proto: tcp, Src: net10}, allow), rule("narrow", vfp.Match{Proto: tcp, Src: net11, DstPorts: ports(80, 90)}, deny)),
			[]string{`layer "l", group "g", rule "narrow": never reached: rule "wide" before it`},
		},
		"unreachable in all families": {
			one(0, rule("wide", vfp.Match{}, deny), rule("v4", vfp.Match{Src: net10}, allow), rule("any", vfp.Match{}, allow), rule("arp", vfp.Match{EtherType: 0x806}, allow)),
			[]string{`rule "v4": never reached: rule "wide"`, `rule "any": never`, `rule "arp": never`},
		},
		"reachable in one family": {
			one(0, rule("v4", vfp.Match{EtherType: packet.EtherTypeIPv4}, deny), rule("any", vfp.Match{}, allow)), nil,
		},
		"redundant": {
			one(0, rule("wide", vfp.Match{Src: net10}, allow), rule("narrow", vfp.Match{Src: net11}, allow)), nil,
		},
		"the other order": {
			one(0, rule("narrow", vfp.Match{Src: net11}, deny), rule("wide", vfp.Match{Src: net10}, allow)), nil,
		},
		"by priority": {
			one(0, vfp.Rule{ID: "narrow", Priority: 2, Match: vfp.Match{Src: net11}, Action: deny}, vfp.Rule{ID: "wide", Priority: 1, Match: vfp.Match{Src: net10}, Action: allow}),
			[]string{`rule "narrow": never reached: rule "wide" before it`},
		},
		"every port is not any packet": {
			one(0, rule("ports", vfp.Match{DstPorts: ports(0, 65535)}, deny), rule("tcp", vfp.Match{Proto: tcp}, allow), rule("rest", vfp.Match{}, allow)),
			[]string{`rule "tcp": never reached: rule "ports"`},
		},
		"impossible": {
			one(vfp.IPv4,
				rule("family", vfp.Match{Src: six}, allow), rule("mixed", vfp.Match{Src: six, Dst: net10}, allow),
				rule("proto", vfp.Match{Proto: udp, TCPFlags: vfp.FlagMatch{Mask: 2, Want: 2}}, allow),
				rule("icmp", vfp.Match{Proto: tcp, ICMPTypes: []uint8{8}}, allow), rule("type", vfp.Match{EtherType: 0x86dd}, allow),
				rule("group", vfp.Match{DstMAC: &[6]byte{2}, Group: true}, allow)),
			[]string{`"family": no packet can match`, `"mixed": no packet`, `"proto": no packet`, `"icmp": no packet`, `"type": no packet`, `"group": no packet`},
		},
		"malformed": {
			one(0, rule("ports", vfp.Match{DstPorts: ports(9, 8)}, allow), rule("flags", vfp.Match{TCPFlags: vfp.FlagMatch{Mask: 1, Want: 2}}, allow),
				rule("src", vfp.Match{Src: make([]netip.Prefix, 1)}, allow), rule("dst", vfp.Match{Dst: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}, allow)),
			[]string{`rule "ports": the port range 9-8 ends before`, `rule "flags": the TCP flags wanted`, `rule "src": the source prefix`, `rule "dst": the destination prefix`},
		},
		"lacking": {
			one(0, rule("none", vfp.Match{}, vfp.Action{}), rule("block", vfp.Match{}, vfp.Action{Kind: vfp.Block}), rule("rewrite", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite}),
				rule("route", vfp.Match{}, vfp.Action{Kind: vfp.Route}), rule("encap", vfp.Match{}, vfp.Action{Kind: vfp.Encap}),
				rule("meter", vfp.Match{}, vfp.Action{Kind: vfp.Meter}), rule("punt", vfp.Match{}, vfp.Action{Kind: vfp.Punt})),
			[]string{`"none": there is no action 0`, `"block": the action block lacks its reason`, `"rewrite": the action rewrite lacks its transposition or pool`,
				`"route": the action route lacks its space`, `"encap": the action encap lacks its space or tunnel`, `"meter": the action meter lacks its bucket`, `"punt": the action punt lacks its queue`},
		},
		"too much": {
			one(0, rule("allow", vfp.Match{}, vfp.Action{Kind: vfp.Allow, Reason: drop.ACLDenied}),
				rule("encap", vfp.Match{}, vfp.Action{Kind: vfp.Encap, Space: "s", Tunnel: vfp.Tunnel{Protocol: vfp.NVGRE, Dst: src4.NewSrc, VSID: 5001}})),
			[]string{`"allow": the action allow has parameters of another one`, `"encap": the action encap has both`},
		},
		"rewriting of another family": {
			one(0, rule("src", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite, Transposition: src4}), rule("ttl", vfp.Match{Group: true}, vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{DecTTL: true}})),
			[]string{`rule "src": what it rewrites does not fit all the packets`, `rule "ttl"`},
		},
		"a pool of another family": {
			one(vfp.IPv6, rule("pool", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite, Pool: pool})),
			[]string{`rule "pool": what it rewrites does not fit`},
		},
		"rewriting one family": {
			one(0, rule("src", vfp.Match{Src: net10}, vfp.Action{Kind: vfp.Rewrite, Transposition: src4, Pool: pool})), nil,
		},
		"fields without mark": {
			one(vfp.IPv4, rule("a", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{DecTTL: true, NewSrc: src4.NewSrc}}),
				rule("b", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{Set: vfp.SetSrc}}),
				rule("c", vfp.Match{}, vfp.Action{Kind: vfp.Rewrite, Transposition: vfp.Transposition{Set: vfp.SetDSCP, NewDSCP: 64}})),
			[]string{`"a": the transposition has fields that are not in its set`, `"b": the transposition's address is missing`, `"c": the transposition's DSCP 64`},
		},
		"too many groups":  {groups(17, allow), []string{"may meet 17 groups, more than 16"}},
		"many groups":      {groups(16, allow), nil},
		"too many meters":  {groups(5, vfp.Action{Kind: vfp.Meter, Bucket: vfp.NewBucket(1, 0)}), []string{"may meet 5 groups that meter"}},
		"too many pools":   {groups(2, vfp.Action{Kind: vfp.Rewrite, Pool: pool}), []string{"may meet 2 groups that rewrite from NAT pools"}},
		"two things wrong": {append(groups(1, vfp.Action{}), vfp.Layer{Name: "x"}, vfp.Layer{Name: "y"}), []string{"there is no action 0", `"x" and "y" have the same`}},
	} {
		_, err := vfp.Compile(c.layers)
		if len(c.want) == 0 {
			if err != nil {
				t.Errorf("%s: refused: %v", name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: not refused", name)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		for _, want := range c.want {
			n := 0
			for _, g := range got {
				if strings.Contains(g, want) {
					n++
				}
			}
			if n == 0 {
				t.Errorf("%s: %q lacks %q", name, got, want)
			}
		}
	}
}

// groups are n groups of IPv4, one after the other, each with the action.
func groups(n int, a vfp.Action) []vfp.Layer {
	l := vfp.Layer{Name: "many", Priority: 9}
	for i := range n {
		l.Groups = append(l.Groups, vfp.Group{Name: fmt.Sprint(i), Priority: i, Direction: vfp.Outbound, Family: vfp.IPv4, Rules: []vfp.Rule{rule("r", vfp.Match{}, a)}})
	}
	return []vfp.Layer{l}
}

func TestCompileDoesNotTouchItsInput(t *testing.T) {
	layers := one(0, vfp.Rule{ID: "b", Priority: 2, Match: vfp.Match{Src: net10}, Action: deny}, vfp.Rule{ID: "a", Priority: 1, Action: allow, Match: vfp.Match{Src: net11}})
	p, err := vfp.Compile(layers)
	must(t, err)
	if id := layers[0].Groups[0].Rules[0].ID; id != "b" {
		t.Errorf("the rules were sorted in place: %s is first", id)
	}
	layers[0].Groups[0].Rules[1].Action = deny
	h := &packet.Headers{Version: 4, Src: netip.MustParseAddr("10.1.1.1"), Dst: netip.MustParseAddr("10.1.1.2")}
	var c vfp.Composed
	if p.Evaluate(vfp.Outbound, h, &c); c.Blocked || p.Name(c.Steps()[0]) != [3]string{"l", "g", "a"} {
		t.Errorf("%+v", c)
	}
}

func TestOrderOfLayers(t *testing.T) {
	var layers []vfp.Layer
	for i, name := range []string{"vnet", "acl", "meter"} {
		var groups []vfp.Group
		for _, dir := range []vfp.Direction{vfp.Inbound, vfp.Outbound} {
			for j, g := range []string{"second", "first"} {
				groups = append(groups, vfp.Group{Name: g, Priority: 5 - j, Direction: dir, Rules: []vfp.Rule{rule("r", vfp.Match{}, vfp.Action{Kind: vfp.Punt, Queue: vfp.PuntQueue(1 + i)})}})
			}
		}
		layers = append(layers, vfp.Layer{Name: name, Priority: []int{300, 100, 200}[i], Groups: groups})
	}
	p, err := vfp.Compile(layers)
	must(t, err)
	for dir, want := range map[vfp.Direction]string{
		vfp.Outbound: "acl/first acl/second meter/first meter/second vnet/first vnet/second",
		vfp.Inbound:  "vnet/first vnet/second meter/first meter/second acl/first acl/second",
		3:            "",
	} {
		var c vfp.Composed
		p.Evaluate(dir, &packet.Headers{EtherType: 0x806}, &c)
		var got []string
		for _, s := range c.Steps() {
			n := p.Name(s)
			got = append(got, n[0]+"/"+n[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", dir, got, want)
		}
		if dir == 3 {
			continue
		}
		if a := c.Action(vfp.Punt); a != c.Actions()[5] || c.Action(vfp.Allow) != nil || !c.Has(vfp.Punt) || c.Has(vfp.Block) {
			t.Errorf("%s: the last action is %+v", dir, a)
		}
		p.EvaluateLayer("meter", dir, &packet.Headers{}, &c)
		if s := c.Steps(); len(s) != 2 || p.Name(s[0]) != [3]string{"meter", "first", "r"} || p.Name(s[1]) != [3]string{"meter", "second", "r"} {
			t.Errorf("%s: meter alone: %v", dir, s)
		}
		if p.EvaluateLayer("none", dir, &packet.Headers{}, &c); len(c.Steps()) != 0 {
			t.Errorf("%s: a layer that is not there has a say", dir)
		}
	}
}

func TestCounters(t *testing.T) {
	layers := one(vfp.IPv4, rule("ten", vfp.Match{Src: net10}, allow), rule("rest", vfp.Match{}, deny))
	old, err := vfp.Compile(layers)
	must(t, err)
	count := func(p *vfp.Program, src string, n, bytes uint64) {
		var c vfp.Composed
		p.Evaluate(vfp.Outbound, &packet.Headers{Version: 4, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("10.1.1.2")}, &c)
		p.Count(c.Steps(), n, bytes)
	}
	count(old, "10.1.1.1", 2, 200)
	count(old, "192.0.2.1", 1, 50)
	old.Count([]vfp.Step{{Layer: 9}, {Group: 9}, {Rule: 9}}, 1, 1) // of another program

	// The next program goes on counting, and so does the old one meanwhile.
	layers[0].Groups[0].Rules = append([]vfp.Rule{rule("new", vfp.Match{Src: net11}, deny)}, layers[0].Groups[0].Rules...)
	p, err := vfp.Compile(layers)
	must(t, err)
	p.Inherit(old)
	count(p, "10.9.1.1", 1, 100)
	count(p, "10.1.1.1", 1, 7)
	count(old, "192.0.2.1", 1, 50)
	want := []vfp.LayerCounters{{Name: "l", Priority: 1, Groups: []vfp.GroupCounters{{
		Name: "g", Priority: 1, Direction: vfp.Outbound, Family: vfp.IPv4, Rules: []vfp.RuleCounters{
			{ID: "new", Kind: vfp.Block, Packets: 1, Bytes: 7},
			{ID: "ten", Kind: vfp.Allow, Packets: 3, Bytes: 300},
			{ID: "rest", Kind: vfp.Block, Packets: 2, Bytes: 100},
		},
	}}}}
	if d := cmp.Diff(want, p.Counters()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestExplain(t *testing.T) {
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	to := vfp.Transposition{Set: vfp.SetDst | vfp.SetDstMAC, NewDst: netip.MustParseAddr("10.2.0.1"), NewDstMAC: mac}
	layers := append(one(vfp.IPv4, rule("web", vfp.Match{Proto: new(uint8(6)), DstPorts: []vfp.PortRange{{Lo: 80, Hi: 80}, {Lo: 8000, Hi: 8999}}}, vfp.Action{Kind: vfp.Rewrite, Transposition: to})),
		vfp.Layer{Name: "m", Priority: 2, Groups: []vfp.Group{
			{Name: "six", Priority: 1, Direction: vfp.Outbound, Family: vfp.IPv6, Rules: []vfp.Rule{rule("r", vfp.Match{}, allow)}},
			{Name: "none", Priority: 2, Direction: vfp.Outbound, Rules: []vfp.Rule{rule("mac", vfp.Match{DstMAC: &[6]byte{2}}, deny), rule("icmp", vfp.Match{ICMPTypes: []uint8{8}}, deny)}},
			{Name: "empty", Priority: 3, Direction: vfp.Outbound},
			{Name: "ten", Priority: 4, Direction: vfp.Outbound, Rules: []vfp.Rule{rule("two", vfp.Match{Dst: net11[1:]}, deny)}},
			{Name: "in", Priority: 1, Direction: vfp.Inbound},
		}},
		vfp.Layer{Name: "n", Priority: 3, Groups: []vfp.Group{{Name: "late", Direction: vfp.Outbound}}})
	p, err := vfp.Compile(layers)
	must(t, err)
	h := &packet.Headers{Version: 4, Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("192.0.2.1"), Proto: 6, SrcPort: 5, DstPort: 8080, TCPFlags: packet.TCPSyn}
	say := func(h *packet.Headers) (got []string) {
		for _, d := range p.Explain(vfp.Outbound, h) {
			s := d.Layer + "/" + d.Group + ": "
			if d.Matched {
				s += d.Rule + " " + d.Action.Kind.String() + ": "
			}
			got = append(got, s+d.Why)
		}
		return got
	}
	want := []string{
		"l/g: web rewrite: protocol 6 is 6, destination port 8080 is 80 or 8000-8999",
		"m/six: the group is for ipv6 packets only",
		`m/none: no rule matches: "mac": destination MAC 02:00:00:00:00:09 is not 02:00:00:00:00:00; "icmp": ICMP type none is not 8`,
		"m/empty: the group has no rules",
		"m/ten: two block: destination 10.2.0.1 is 10.2.0.0/16",
		`n/late: not reached: rule "two" of group "ten" dropped the packet: acl-denied`,
	}
	if d := cmp.Diff(want, say(h)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	h.FragOffset, h.SrcPort, h.DstPort = 1480, 0, 0
	want = []string{
		`l/g: rule "web" asks for what only the first fragment has`,
		"m/six: not reached: the first fragment decides",
	}
	if d := cmp.Diff(want, say(h)[:2]); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// Ports with the same list share its tables, and only ports with the same list
// do; what no port uses is forgotten.
func TestCache(t *testing.T) {
	cache := vfp.NewCache()
	layers := acl(2000, vfp.IPv4)
	first, err := cache.Compile(layers)
	must(t, err)
	before := heap()
	var ports []*vfp.Program
	for range 50 {
		p, err := cache.Compile(acl(2000, vfp.IPv4)) // the same rules, made anew
		must(t, err)
		ports = append(ports, p)
	}
	if each := (heap() - before) / 50; each > 2000*32 {
		t.Errorf("%d bytes for each more port with the list", each)
	}
	changed := acl(2000, vfp.IPv4)
	rules := changed[0].Groups[0].Rules
	rules[1999].Action = vfp.Action{Kind: vfp.Block, Reason: drop.RateExceeded}
	other, err := cache.Compile(changed)
	must(t, err)
	h := &packet.Headers{Version: 4, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.1")}
	var a, b, c vfp.Composed
	first.Evaluate(vfp.Outbound, h, &a)
	ports[49].Evaluate(vfp.Outbound, h, &b)
	other.Evaluate(vfp.Outbound, h, &c)
	if a.Reason != drop.ACLDenied || b.Reason != drop.ACLDenied || c.Reason != drop.RateExceeded {
		t.Errorf("%s %s %s", a.Reason, b.Reason, c.Reason)
	}
	first.Count(a.Steps(), 1, 1)
	if n := ports[0].Counters()[0].Groups[0].Rules[1999].Packets; n != 0 {
		t.Error("ports share counters")
	}
	// Another direction is no other list, another name neither; both are checked.
	layers[0].Groups[0].Direction = 7
	if _, err := cache.Compile(layers); err == nil {
		t.Error("the cache lets pass what Compile refuses")
	}
	runtime.KeepAlive(ports)
	runtime.KeepAlive(first)

	ports, first, other = nil, nil, nil    //nolint:ineffassign // the collector must see them go
	layers, changed, rules = nil, nil, nil //nolint:ineffassign // likewise
	a, b, c = vfp.Composed{}, vfp.Composed{}, vfp.Composed{}
	gone := heap()
	runtime.KeepAlive(cache)
	if freed := before - gone; freed < 2000*100 {
		t.Errorf("only %d bytes were freed with the last port", freed)
	}
}

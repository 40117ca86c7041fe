package hnv

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// rule reads "100 inbound allow tcp 10.0.0.0/8:1024-65535 10.1.1.0/24:80,443";
// * is any address, and lists are separated by commas.
func rule(s string) ACLRule {
	w := strings.Fields(s)
	var r ACLRule
	if _, err := fmt.Sscan(w[0], &r.Priority); err != nil {
		panic(err)
	}
	r.Direction, r.Action, r.Proto = Direction(w[1]), ACLAction(w[2]), w[3]
	end := func(s string) (ps []netip.Prefix, ports []PortRange) {
		where, at, _ := strings.Cut(s, "@")
		if where != "*" {
			for p := range strings.SplitSeq(where, ",") {
				ps = append(ps, prefix(p))
			}
		}
		if at != "" {
			for p := range strings.SplitSeq(at, ",") {
				ports = append(ports, must(ParsePortRange(p)))
			}
		}
		return ps, ports
	}
	r.Src, r.SrcPorts = end(w[4])
	r.Dst, r.DstPorts = end(w[5])
	return r
}

func acl(tenant, name string, rules ...string) ACL {
	a := ACL{Tenant: must(ParseName(tenant)), Name: must(ParseName(name))}
	for _, r := range rules {
		a.Rules = append(a.Rules, rule(r))
	}
	return a
}

func TestACLForm(t *testing.T) {
	a := acl("contoso", "web", "200 outbound deny 47 * *", "100 outbound allow 6 * *@443,8000-8999", "100 inbound allow any fd00::/8 *")
	a.Rules[0].Src = []netip.Prefix{}
	n := a.Normalized()
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"tenant":"contoso","name":"web","rules":[` +
		`{"priority":100,"direction":"inbound","action":"allow","proto":"any","src":["fd00::/8"]},` +
		`{"priority":100,"direction":"outbound","action":"allow","proto":"tcp","dstPorts":["443","8000-8999"]},` +
		`{"priority":200,"direction":"outbound","action":"deny","proto":"47"}]}`
	if string(b) != want {
		t.Errorf("it reads\n%s, want\n%s", b, want)
	}
	var back ACL
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, n) {
		t.Errorf("read back %+v, %v", back, err)
	}
	if a.Rules[0].Proto != "47" || a.Rules[1].Proto != "6" {
		t.Error("the caller's rules were changed")
	}
	if tn, name, err := ParseACLKey(n.Key()); err != nil || tn != n.Tenant || name != n.Name {
		t.Errorf("key %s is that of %s, %s: %v", n.Key(), tn, name, err)
	}
	for s, want := range map[string]struct {
		n   uint8
		any bool
	}{"any": {0, true}, "": {0, true}, "tcp": {6, false}, "icmpv6": {58, false}, "0": {0, false}, "58": {58, false}} {
		if n, any := (ACLRule{Proto: s}).ProtoNumber(); n != want.n || any != want.any {
			t.Errorf("protocol %q is %d, any %v", s, n, any)
		}
	}
}

func TestACLRefusals(t *testing.T) {
	edit := func(s string, f func(*ACLRule)) ACLRule { r := rule(s); f(&r); return r }
	plain := "100 inbound allow tcp * *"
	for name, c := range map[string]struct {
		rules []ACLRule
		says  []string
	}{
		"no priority":       {[]ACLRule{rule("0 inbound allow tcp * *")}, []string{"inbound rule 0", "priority is missing"}},
		"direction":         {[]ACLRule{rule("100 sideways allow tcp * *")}, []string{"sideways", "inbound or outbound"}},
		"action":            {[]ACLRule{rule("100 inbound reject tcp * *")}, []string{"reject", "allow or deny"}},
		"protocol":          {[]ACLRule{rule("100 inbound allow sctp * *")}, []string{"sctp", "a number from 0 to 255"}},
		"protocol number":   {[]ACLRule{rule("100 inbound allow 256 * *")}, []string{`"256"`}},
		"ports of icmp":     {[]ACLRule{rule("100 inbound allow icmp * *@80")}, []string{"icmp has no ports"}},
		"ports of any":      {[]ACLRule{rule("100 inbound allow any *@80 *")}, []string{"any has no ports"}},
		"empty range":       {[]ACLRule{edit(plain, func(r *ACLRule) { r.DstPorts = []PortRange{{9, 8}} })}, []string{"9-8 is empty"}},
		"host bits":         {[]ACLRule{rule("100 inbound allow tcp 10.1.1.7/24 *")}, []string{"write 10.1.1.0/24"}},
		"no prefix":         {[]ACLRule{edit(plain, func(r *ACLRule) { r.Src = []netip.Prefix{{}} })}, []string{"missing or malformed"}},
		"mapped":            {[]ACLRule{rule("100 inbound allow tcp ::ffff:10.0.0.0/104 *")}, []string{"write it as IPv4"}},
		"two families":      {[]ACLRule{rule("100 inbound allow tcp 10.0.0.0/8 fd00::/8")}, []string{"10.0.0.0/8", "fd00::/8", "two rules"}},
		"family of icmp":    {[]ACLRule{rule("100 inbound allow icmp fd00::/8 *")}, []string{"fd00::/8", "icmp"}},
		"family of icmpv6":  {[]ACLRule{rule("100 inbound allow icmpv6 * 10.0.0.0/8")}, []string{"10.0.0.0/8", "icmpv6"}},
		"too many rules":    {make([]ACLRule, MaxACLRules+1), []string{"2049 rules"}},
		"too many prefixes": {[]ACLRule{edit(plain, func(r *ACLRule) { r.Src = make([]netip.Prefix, MaxACLValues+1) })}, []string{"129 prefixes"}},
		"too many ports":    {[]ACLRule{edit(plain, func(r *ACLRule) { r.SrcPorts = make([]PortRange, MaxACLValues+1) })}, []string{"129 port ranges"}},

		"one priority": {[]ACLRule{rule("100 inbound allow tcp 10.1.0.0/16 *@22"), rule("100 inbound deny udp * *")},
			[]string{"two inbound rules have priority 100", "tcp from 10.1.0.0/16 to any port 22", "udp"}},
		"one match": {[]ACLRule{rule("200 outbound deny tcp 10.0.0.0/9,10.128.0.0/9 *"), rule("100 outbound allow tcp 10.0.0.0/8 *")},
			[]string{"rules 100 and 200 match the same", "one is to allow, the other to deny"}},
		"shadowed": {[]ACLRule{rule("100 inbound deny any 10.0.0.0/8 *"), rule("300 inbound allow tcp 10.1.1.0/24 *@443")},
			[]string{"inbound rule 300, allow tcp from 10.1.1.0/24 to any port 443, can never match", "rule 100 before it is to deny any from 10.0.0.0/8"}},
		"everything": {[]ACLRule{rule("100 outbound deny any * *"), rule("300 outbound allow udp * fd00::/8@53")}, []string{"rule 300", "rule 100"}},
	} {
		a := acl("contoso", "web")
		a.Rules = c.rules
		err := a.Check()
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
			continue
		}
		for _, s := range append(c.says, "ACL contoso/web: ") {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %q does not say %q", name, err, s)
			}
		}
	}
}

func TestACLRulesThatGoTogether(t *testing.T) {
	for name, rules := range map[string][]string{
		"the general behind the special": {"100 inbound allow tcp 10.1.1.0/24 *@443", "200 inbound deny tcp 10.0.0.0/8 *"},
		"other direction":                {"100 inbound deny any * *", "200 outbound allow tcp * *", "100 outbound deny icmp * *"},
		"same action twice":              {"100 inbound allow any * *", "200 inbound allow tcp * *@22"},
		"part of the ports":              {"100 inbound deny tcp * *@1-65535", "200 inbound allow tcp * *"},
		"part of the addresses":          {"100 inbound deny any 10.0.0.0/9 *", "200 inbound allow any 10.0.0.0/8 *"},
		"one family only":                {"100 inbound deny any 0.0.0.0/0 *", "200 inbound allow any * *"},
		"other protocol":                 {"100 inbound deny tcp * *", "200 inbound allow udp * *", "300 inbound allow any * *"},
		"crossed":                        {"100 inbound deny tcp 10.0.0.0/8 10.1.0.0/16", "200 inbound allow tcp 10.1.0.0/16 10.0.0.0/8"},
	} {
		if err := acl("contoso", "web", rules...).Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The pairs that are refused are exactly those in which the later rule matches
// no packet of a small universe that the earlier one leaves it.
func TestShadowsAreExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 9))
	pick := func(of []string) string { return of[rng.IntN(len(of))] }
	some := func(of []string) string {
		out := pick(of)
		for range rng.IntN(3) {
			out += "," + pick(of)
		}
		return out
	}
	v4 := []string{"10.0.0.0/29", "10.0.0.0/30", "10.0.0.4/30", "10.0.0.2/31", "10.0.0.0/31", "10.0.0.4/32", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"}
	v6 := []string{"fd00::/125", "fd00::/126", "fd00::4/126", "fd00::2/127", "fd00::4/128", "::/0", "8000::/1", "::/1", "fd00::/64"}
	ports := []string{"0", "1", "2-3", "0-1", "4-65535", "0-65535", "0-3"}
	random := func(prio uint16, action string) ACLRule {
		proto := pick([]string{"any", "tcp", "udp", "99"})
		family := v4
		if rng.IntN(3) == 0 {
			family = v6
		}
		end := func() string {
			out := "*"
			if rng.IntN(3) > 0 {
				out = some(family)
			}
			if (proto == "tcp" || proto == "udp") && rng.IntN(2) == 0 {
				out += "@" + some(ports)
			}
			return out
		}
		return rule(fmt.Sprint(prio, " inbound ", action, " ", proto, " ", end(), " ", end()))
	}
	universe := samples()
	refused := 0
	for range 4000 {
		first, second := random(100, "deny"), random(200, "allow")
		shadowed := true
		for _, p := range universe {
			if second.has(p) && !first.has(p) {
				shadowed = false
				break
			}
		}
		a := ACL{Tenant: must(ParseName("contoso")), Name: must(ParseName("x")), Rules: []ACLRule{first, second}}
		err := a.Check()
		if (err != nil) != shadowed {
			t.Fatalf("%s\nthen %s: shadowed is %v, but the error %v", first.matchText(), second.matchText(), shadowed, err)
		}
		if shadowed {
			refused++
		}
	}
	if refused < 300 || refused > 3700 {
		t.Fatalf("%d pairs of 4000 were refused: the test says little", refused)
	}
}

type sample struct {
	proto    uint8
	src, dst netip.Addr
	sp, dp   uint16
}

// samples has a packet of every class that the prefixes and ports of
// TestShadowsAreExact tell apart.
func samples() (out []sample) {
	var v4, v6 []netip.Addr
	for i := range 8 {
		v4 = append(v4, addr(fmt.Sprintf("10.0.0.%d", i)))
		v6 = append(v6, addr(fmt.Sprintf("fd00::%d", i)))
	}
	v4 = append(v4, addr("9.0.0.1"), addr("200.0.0.1"))
	v6 = append(v6, addr("2001:db8::1"), addr("fd00::99"), addr("fe00::1"))
	for _, as := range [][]netip.Addr{v4, v6} {
		for _, s := range as {
			for _, d := range as {
				out = append(out, sample{99, s, d, 0, 0})
				for _, proto := range []uint8{6, 17} {
					for _, sp := range []uint16{0, 1, 2, 3, 4} {
						for _, dp := range []uint16{0, 1, 2, 3, 4} {
							out = append(out, sample{proto, s, d, sp, dp})
						}
					}
				}
			}
		}
	}
	return out
}

// has is the rule's meaning, word by word.
func (r *ACLRule) has(p sample) bool {
	n, any := r.ProtoNumber()
	if !any && n != p.proto {
		return false
	}
	for _, end := range []struct {
		a        netip.Addr
		port     uint16
		prefixes []netip.Prefix
		ports    []PortRange
	}{{p.src, p.sp, r.Src, r.SrcPorts}, {p.dst, p.dp, r.Dst, r.DstPorts}} {
		ok := len(end.prefixes) == 0
		for _, x := range end.prefixes {
			ok = ok || x.Contains(end.a)
		}
		okPort := len(end.ports) == 0
		for _, x := range end.ports {
			okPort = okPort || x.Lo <= end.port && end.port <= x.Hi
		}
		if !ok || !okPort {
			return false
		}
	}
	return true
}

// bigACL alternates allow and deny, so that every pair of opposite actions is
// looked at, and none covers another.
func bigACL(rules, values int) ACL {
	a := acl("contoso", "big")
	for i := range rules {
		r := rule(fmt.Sprintf("%d inbound %s tcp * *@%d", i+1, []string{"allow", "deny"}[i%2], 1+i))
		for j := range values {
			r.Src = append(r.Src, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j), byte(i), 0}), 24))
		}
		a.Rules = append(a.Rules, r)
	}
	return a
}

func TestBigACLIsCheckedQuickly(t *testing.T) {
	a := bigACL(MaxACLRules, MaxACLValues)
	start := time.Now()
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("the greatest ACL took %v", d)
	}
}

func BenchmarkACLCheck(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		a := bigACL(n, 4)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := a.Check(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package hnv

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ACL is a named list of rules of one tenant. Virtual subnets and ports name
// it. What no rule of an ACL allows is denied, in both directions; replies to
// what was allowed pass without a rule of their own.
type ACL struct {
	Tenant Name      `json:"tenant"`
	Name   Name      `json:"name"`
	Rules  []ACLRule `json:"rules"` // by direction and priority once in a Fabric
}

// ACLRule allows or denies what it matches. An empty field matches anything.
type ACLRule struct {
	Priority  uint16         `json:"priority"` // 1 to 65535; the lowest that matches decides
	Direction Direction      `json:"direction"`
	Action    ACLAction      `json:"action"`
	Proto     string         `json:"proto"` // any, tcp, udp, icmp, icmpv6 or another protocol's number
	Src       []netip.Prefix `json:"src,omitempty"`
	Dst       []netip.Prefix `json:"dst,omitempty"` // of the address family of Src
	SrcPorts  []PortRange    `json:"srcPorts,omitempty"`
	DstPorts  []PortRange    `json:"dstPorts,omitempty"` // ports: with tcp and udp only
}

// Direction is the way of a packet as the VM sees it.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"  // to the VM
	Outbound Direction = "outbound" // from it
)

// ParseDirection checks s.
func ParseDirection(s string) (Direction, error) {
	switch d := Direction(s); d {
	case Inbound, Outbound:
		return d, nil
	}
	return "", invalidf("direction %q is unknown: use inbound or outbound", s)
}

// ACLAction is what becomes of what a rule matches.
type ACLAction string

// The actions.
const (
	Allow ACLAction = "allow"
	Deny  ACLAction = "deny"
)

// ParseACLAction checks s.
func ParseACLAction(s string) (ACLAction, error) {
	switch a := ACLAction(s); a {
	case Allow, Deny:
		return a, nil
	}
	return "", invalidf("action %q is unknown: use allow or deny", s)
}

// The limits of one ACL: what a port can be asked to decide by.
const (
	MaxACLRules  = 2048
	MaxACLValues = 128 // prefixes, or port ranges, in one field of a rule
)

// protocols are the ones with a name of their own.
var protocols = [...]struct {
	name string
	n    uint8
}{{"tcp", 6}, {"udp", 17}, {"icmp", 1}, {"icmpv6", 58}}

// ParseACLProto reads any, a protocol's name or its number, and gives the form
// that a rule has: a name where there is one. Empty is any.
func ParseACLProto(s string) (string, error) {
	if s == "" || s == "any" {
		return "any", nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	for _, p := range protocols {
		if s == p.name || err == nil && uint8(n) == p.n {
			return p.name, nil
		}
	}
	if err != nil {
		return "", invalidf("protocol %q is unknown: use any, tcp, udp, icmp, icmpv6 or a number from 0 to 255", s)
	}
	return strconv.FormatUint(n, 10), nil
}

// ProtoNumber gives the protocol that the rule matches, or that it is any.
func (r ACLRule) ProtoNumber() (n uint8, any bool) {
	p, err := ParseACLProto(r.Proto)
	if err != nil || p == "any" {
		return 0, true
	}
	for _, k := range protocols {
		if p == k.name {
			return k.n, false
		}
	}
	num, _ := strconv.ParseUint(p, 10, 8)
	return uint8(num), false
}

// PortRange holds the ports from Lo to Hi, both included.
type PortRange struct{ Lo, Hi uint16 }

// ParsePortRange reads 80 or 8000-8999.
func ParsePortRange(s string) (PortRange, error) {
	lo, hi, ranged := strings.Cut(s, "-")
	if !ranged {
		hi = lo
	}
	l, err1 := strconv.ParseUint(lo, 10, 16)
	h, err2 := strconv.ParseUint(hi, 10, 16)
	if err1 != nil || err2 != nil {
		return PortRange{}, invalidf("port range %q is malformed: write 80 or 8000-8999", s)
	}
	if h < l {
		return PortRange{}, invalidf("port range %s is empty: the lower port comes first", s)
	}
	return PortRange{uint16(l), uint16(h)}, nil
}

func (p PortRange) String() string {
	if p.Lo == p.Hi {
		return strconv.Itoa(int(p.Lo))
	}
	return strconv.Itoa(int(p.Lo)) + "-" + strconv.Itoa(int(p.Hi))
}

// MarshalText gives what ParsePortRange reads.
func (p PortRange) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText checks what it reads.
func (p *PortRange) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePortRange(string(b))
	return err
}

// Kind is KindACL.
func (ACL) Kind() Kind { return KindACL }

// Key is TENANT/NAME.
func (a ACL) Key() string { return a.Tenant.s + "/" + a.Name.s }

// ParseACLKey reads what Key wrote.
func ParseACLKey(s string) (tenant, name Name, err error) {
	t, n, ok := strings.Cut(s, "/")
	if !ok {
		return Name{}, Name{}, invalidf("ACL %q is not named as TENANT/NAME", s)
	}
	if tenant, err = ParseName(t); err != nil {
		return Name{}, Name{}, err
	}
	name, err = ParseName(n)
	return tenant, name, err
}

// Normalized gives the ACL in the one form that it is kept in: protocols by
// name, rules by direction and priority. It does not change a's slices.
func (a ACL) Normalized() ACL {
	a.Rules = slices.Clone(a.Rules)
	for i := range a.Rules {
		r := &a.Rules[i]
		if p, err := ParseACLProto(r.Proto); err == nil {
			r.Proto = p
		}
		r.Src, r.Dst = unlessEmpty(r.Src), unlessEmpty(r.Dst)
		r.SrcPorts, r.DstPorts = unlessEmpty(r.SrcPorts), unlessEmpty(r.DstPorts)
	}
	slices.SortStableFunc(a.Rules, func(x, y ACLRule) int {
		return cmp.Or(cmp.Compare(x.Direction, y.Direction), cmp.Compare(x.Priority, y.Priority))
	})
	if len(a.Rules) == 0 {
		a.Rules = []ACLRule{} // one form for both: it denies everything
	}
	return a
}

// unlessEmpty gives an empty list the one form of nil.
func unlessEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// Check holds what must be true of the ACL alone.
func (a ACL) Check() error {
	if !a.Tenant.IsValid() || !a.Name.IsValid() {
		return invalidf("an ACL needs a tenant and a name")
	}
	bad := func(format string, args ...any) error {
		return invalidf("ACL "+a.Key()+": "+format, args...)
	}
	if len(a.Rules) > MaxACLRules {
		return bad("it has %d rules, at most %d are taken", len(a.Rules), MaxACLRules)
	}
	for i := range a.Rules {
		if err := a.Rules[i].check(); err != nil {
			return bad("%v", err)
		}
	}
	return a.contradictions()
}

// matchText says in short what the rule matches.
func (r *ACLRule) matchText() string {
	out, _ := ParseACLProto(r.Proto)
	for _, end := range []struct {
		what     string
		prefixes []netip.Prefix
		ports    []PortRange
	}{{" from ", r.Src, r.SrcPorts}, {" to ", r.Dst, r.DstPorts}} {
		if len(end.prefixes) == 0 && len(end.ports) == 0 {
			continue
		}
		out += end.what + several(end.prefixes)
		if len(end.ports) > 0 {
			out += " port " + several(end.ports)
		}
	}
	return out
}

func several[T interface{ String() string }](of []T) string {
	switch len(of) {
	case 0:
		return "any"
	case 1:
		return of[0].String()
	}
	return of[0].String() + " and " + strconv.Itoa(len(of)-1) + " more"
}

func (r *ACLRule) check() error {
	if _, err := ParseDirection(string(r.Direction)); err != nil {
		return invalidf("rule %d: %v", r.Priority, err)
	}
	bad := func(format string, args ...any) error {
		return invalidf("%s rule %d: "+format, append([]any{r.Direction, r.Priority}, args...)...)
	}
	if r.Priority == 0 {
		return bad("the priority is missing: use 1 to 65535, the lowest decides")
	}
	if _, err := ParseACLAction(string(r.Action)); err != nil {
		return bad("%v", err)
	}
	proto, err := ParseACLProto(r.Proto)
	if err != nil {
		return bad("%v", err)
	}
	if err := r.checkPrefixes(proto); err != nil {
		return bad("%v", err)
	}
	if (len(r.SrcPorts) > 0 || len(r.DstPorts) > 0) && proto != "tcp" && proto != "udp" {
		return bad("protocol %s has no ports: name them with tcp or udp only", proto)
	}
	for _, ps := range [][]PortRange{r.SrcPorts, r.DstPorts} {
		if len(ps) > MaxACLValues {
			return bad("it names %d port ranges, at most %d are taken", len(ps), MaxACLValues)
		}
		for _, p := range ps {
			if p.Hi < p.Lo {
				return bad("port range %s is empty: the lower port comes first", p)
			}
		}
	}
	return nil
}

func (r *ACLRule) checkPrefixes(proto string) error {
	var first netip.Prefix
	for _, ps := range [][]netip.Prefix{r.Src, r.Dst} {
		if len(ps) > MaxACLValues {
			return invalidf("it names %d prefixes, at most %d are taken", len(ps), MaxACLValues)
		}
		for _, p := range ps {
			switch {
			case !p.IsValid():
				return invalidf("a prefix is missing or malformed")
			case p.Addr().Is4In6():
				return invalidf("prefix %s is an IPv4-mapped IPv6 one: write it as IPv4", p)
			case p != p.Masked():
				return invalidf("prefix %s has host bits set: write %s", p, p.Masked())
			case proto == "icmp" && p.Addr().Is6(), proto == "icmpv6" && p.Addr().Is4():
				return invalidf("prefix %s is not of the address family of %s", p, proto)
			case !first.IsValid():
				first = p
			case first.Addr().Is4() != p.Addr().Is4():
				return invalidf("prefixes %s and %s are not of one address family: make two rules", first, p)
			}
		}
	}
	return nil
}

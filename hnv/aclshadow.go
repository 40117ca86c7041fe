package hnv

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
)

// maxContradictions is how many pairs of one ACL are told at once.
const maxContradictions = 10

// contradictions finds the rules that can have no effect, each with the rule
// that is in its way: two of one priority, of which none comes first, and a rule
// whose every packet an earlier one has decided the other way. A rule that an
// earlier one of the same action covers is harmless.
func (a ACL) contradictions() error {
	var errs []error
	say := func(format string, args ...any) bool {
		errs = append(errs, invalidf("ACL "+a.Key()+": "+format, args...))
		return len(errs) < maxContradictions
	}
	for _, d := range []Direction{Inbound, Outbound} {
		var rules []*ACLRule
		for i := range a.Rules {
			if a.Rules[i].Direction == d {
				rules = append(rules, &a.Rules[i])
			}
		}
		slices.SortStableFunc(rules, func(x, y *ACLRule) int { return cmp.Compare(x.Priority, y.Priority) })
		sets := make([]packets, len(rules))
		for j, late := range rules {
			sets[j] = late.packets()
			if j > 0 && rules[j-1].Priority == late.Priority {
				if !say("two %s rules have priority %d, %s and %s: one of them must come first", d, late.Priority, rules[j-1].matchText(), late.matchText()) {
					return errors.Join(errs...)
				}
				continue
			}
			i := slices.IndexFunc(rules[:j], func(r *ACLRule) bool { return r.Action != late.Action })
			for ; i >= 0 && i < j; i++ {
				if rules[i].Action == late.Action || !sets[i].cover(&sets[j]) {
					continue
				}
				var more bool
				if sets[j].cover(&sets[i]) {
					more = say("%s rules %d and %d match the same, %s, and one is to %s, the other to %s: delete one of them",
						d, rules[i].Priority, late.Priority, late.matchText(), rules[i].Action, late.Action)
				} else {
					more = say("%s rule %d, %s %s, can never match: rule %d before it is to %s %s, which is all of that",
						d, late.Priority, late.Action, late.matchText(), rules[i].Priority, rules[i].Action, rules[i].matchText())
				}
				if !more {
					return errors.Join(errs...)
				}
				break
			}
		}
	}
	return errors.Join(errs...)
}

// packets is the set of packets that a rule matches: for each address family
// sources x destinations x source ports x destination ports.
type packets struct {
	proto    int // or anyProto
	src, dst [2][]span
	sp, dp   []span
}

const anyProto = -1

// u128 holds an address of either family, or a port.
type u128 struct{ hi, lo uint64 }

func (a u128) compare(b u128) int { return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo)) }

func (a u128) next() u128 {
	a.lo++
	if a.lo == 0 {
		a.hi++
	}
	return a
}

// span holds the values from lo to hi, both included.
type span struct{ lo, hi u128 }

func (r *ACLRule) packets() packets {
	s := packets{proto: anyProto}
	if n, any := r.ProtoNumber(); !any {
		s.proto = int(n)
	}
	src, dst := spansOf(r.Src), spansOf(r.Dst)
	for f, all := range [2]span{{hi: u128{lo: 1<<32 - 1}}, {hi: u128{hi: ^uint64(0), lo: ^uint64(0)}}} {
		// An empty list is everything, within the family of the other list.
		s.src[f], s.dst[f] = src[f], dst[f]
		if len(r.Src) == 0 && (len(r.Dst) == 0 || dst[f] != nil) {
			s.src[f] = []span{all}
		}
		if len(r.Dst) == 0 && (len(r.Src) == 0 || src[f] != nil) {
			s.dst[f] = []span{all}
		}
	}
	s.sp, s.dp = portSpans(r.SrcPorts), portSpans(r.DstPorts)
	return s
}

// cover tells whether s has every packet of o.
func (s *packets) cover(o *packets) bool {
	if s.proto != anyProto && s.proto != o.proto {
		return false
	}
	for f := range o.src {
		if !within(o.src[f], s.src[f]) || !within(o.dst[f], s.dst[f]) {
			return false
		}
	}
	return within(o.sp, s.sp) && within(o.dp, s.dp)
}

// within tells whether every value of a is one of b; both are merged.
func within(a, b []span) bool {
	i := 0
	for _, x := range a {
		for i < len(b) && b[i].hi.compare(x.lo) < 0 {
			i++
		}
		if i == len(b) || b[i].lo.compare(x.lo) > 0 || b[i].hi.compare(x.hi) < 0 {
			return false
		}
	}
	return true
}

// merged sorts spans and joins those that touch, so that each value is in one.
func merged(in []span) []span {
	slices.SortFunc(in, func(a, b span) int { return a.lo.compare(b.lo) })
	var out []span
	for _, x := range in {
		if n := len(out); n > 0 && (x.lo.compare(out[n-1].hi) <= 0 || x.lo == out[n-1].hi.next()) {
			if out[n-1].hi.compare(x.hi) < 0 {
				out[n-1].hi = x.hi
			}
			continue
		}
		out = append(out, x)
	}
	return out
}

// spansOf gives the addresses of prefixes, those of IPv4 and of IPv6.
func spansOf(in []netip.Prefix) (out [2][]span) {
	for _, p := range in {
		f, bits := 0, p.Bits()+96
		if p.Addr().Is6() {
			f, bits = 1, p.Bits()
		}
		b := p.Masked().Addr().As16()
		lo := u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
		if f == 0 {
			lo = u128{lo: lo.lo & (1<<32 - 1)} // without the mapping's prefix
		}
		hi := lo
		if bits < 64 {
			hi = u128{lo.hi | ^uint64(0)>>bits, ^uint64(0)}
		} else {
			hi.lo |= ^uint64(0) >> (bits - 64) // 64 or more shifts all out
		}
		out[f] = append(out[f], span{lo, hi})
	}
	return [2][]span{merged(out[0]), merged(out[1])}
}

func portSpans(in []PortRange) []span {
	if len(in) == 0 {
		return []span{{hi: u128{lo: 1<<16 - 1}}}
	}
	var out []span
	for _, p := range in {
		out = append(out, span{u128{lo: uint64(p.Lo)}, u128{lo: uint64(p.Hi)}})
	}
	return merged(out)
}

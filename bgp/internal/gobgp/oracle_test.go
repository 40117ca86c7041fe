package gobgp

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/bgp"
)

// oracle carries out a policy on a path as the words of bgp.Policy say it, with
// nothing of the library: what that makes of our translation must come to the same.
type oracle struct {
	own      uint32 // the speaker's AS
	internal bool   // the peer is of the same AS
	self     netip.Addr
	export   bool
}

// path is what policies see of a route.
type path struct {
	bgp.Path
	local   bool
	behind  netip.Addr // the next hop to match, where it is not that of Path
	numbers []uint32   // AS path
}

// apply gives the path as the policy leaves it; false: rejected.
func (o oracle) apply(p bgp.Policy, in path) (path, bool) {
	for _, r := range p.Rules {
		if !o.matches(&r.Match, &in) {
			continue
		}
		o.set(&r.Set, &in)
		switch r.Action {
		case bgp.Reject:
			return in, false
		case bgp.Next:
		default:
			return in, true
		}
	}
	return in, p.Default != bgp.Reject
}

func (o oracle) matches(m *bgp.Match, p *path) bool {
	if m.Origin == bgp.OriginLocal && !p.local || m.Origin == bgp.OriginLearned && p.local {
		return false
	}
	if len(m.Prefixes) > 0 && !slices.ContainsFunc(m.Prefixes, func(r bgp.PrefixRange) bool {
		least, most := r.Lengths()
		return r.Prefix.Addr().BitLen() == p.Prefix.Addr().BitLen() && r.Prefix.Bits() <= p.Prefix.Bits() && r.Prefix.Contains(p.Prefix.Addr()) &&
			least <= p.Prefix.Bits() && p.Prefix.Bits() <= most
	}) {
		return false
	}
	if len(m.ASPath) > 0 && !slices.ContainsFunc(m.ASPath, func(x string) bool { return o.pathMatches(x, p.numbers) }) {
		return false
	}
	if len(m.Communities) > 0 && !slices.ContainsFunc(m.Communities, func(c bgp.Community) bool { return slices.Contains(p.Communities, c) }) {
		return false
	}
	if len(m.LargeCommunities) > 0 && !slices.ContainsFunc(m.LargeCommunities, func(c bgp.LargeCommunity) bool { return slices.Contains(p.LargeCommunities, c) }) {
		return false
	}
	hop := p.NextHop
	if p.behind.IsValid() {
		hop = p.behind
	}
	return len(m.NextHops) == 0 || slices.Contains(m.NextHops, hop)
}

// pathMatches reads a pattern as its documentation does.
func (o oracle) pathMatches(pattern string, numbers []uint32) bool {
	if o.export && !o.internal {
		numbers = numbers[1:] // as it was before this speaker put itself in front
		if unanchored := !strings.ContainsAny(pattern[:1], "^_"); unanchored {
			numbers = append([]uint32{o.own}, numbers...)
		}
	}
	text := make([]string, len(numbers))
	for i, n := range numbers {
		text[i] = strconv.Itoa(int(n))
	}
	x := regexp.MustCompile(strings.ReplaceAll(pattern, "_", bgp.Boundary))
	return x.MatchString(strings.Join(text, " "))
}

func (o oracle) set(s *bgp.Set, p *path) {
	if s.MED != nil {
		p.MED = s.MED
	}
	if s.LocalPref != nil {
		p.LocalPref = s.LocalPref
	}
	for range s.Prepend {
		p.numbers = append([]uint32{o.own}, p.numbers...)
	}
	p.Communities = edit(s.Communities, p.Communities)
	p.LargeCommunities = edit(s.LargeCommunities, p.LargeCommunities)
	if s.NextHop.IsValid() && s.NextHop.Is4() == p.Prefix.Addr().Is4() {
		p.NextHop = s.NextHop
	}
	if s.NextHopSelf {
		p.NextHop = o.self
	}
}

func edit[T comparable](e *bgp.Edit[T], list []T) []T {
	if e == nil {
		return list
	}
	switch e.Mode {
	case bgp.Remove:
		return slices.DeleteFunc(slices.Clone(list), func(c T) bool { return slices.Contains(e.List, c) })
	case bgp.Replace:
		return slices.Clone(e.List)
	default:
		return append(slices.Clone(list), e.List...)
	}
}

// text is a path in one line, to compare.
func (p path) text() string {
	numbers := make([]string, len(p.numbers))
	for i, n := range p.numbers {
		numbers[i] = strconv.Itoa(int(n))
	}
	p.ASPath = strings.Join(numbers, " ")
	return line(p.Path)
}

// line leaves out what policies cannot change, and the order and number of
// communities, which mean nothing.
func line(p bgp.Path) string {
	return fmt.Sprintf("%s via %s path [%s] med %s pref %s communities %v large %v", p.Prefix, p.NextHop, p.ASPath, number(p.MED), number(p.LocalPref),
		set(p.Communities), set(p.LargeCommunities))
}

func number(v *uint32) string {
	if v == nil {
		return "-"
	}
	return strconv.Itoa(int(*v))
}

func set[T fmt.Stringer](list []T) []string {
	out := texts(list)
	slices.Sort(out)
	return slices.Compact(out)
}

package peering

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a policy.
const (
	maxRules    = 256
	maxList     = 4096
	maxPrepend  = 32
	maxPattern  = 256
	maxNextHops = 256
)

// Boundary is what "_" in a pattern of an AS path stands for: begin or end of the
// path, or what is between two numbers.
const Boundary = `(^|[,{}() ]|$)`

func (p *Policy) check(f *faults, place string, export bool) {
	if !slices.Contains([]Action{"", Accept, Reject}, p.Default) {
		f.add(place+" default", "%q is not %q or %q", p.Default, Accept, Reject)
	}
	if len(p.Rules) > maxRules {
		f.add(place+" rules", "%d are more than %d", len(p.Rules), maxRules)
		return
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		at := fmt.Sprintf("%s rules[%d]", place, i)
		if r.Name != "" {
			at = fmt.Sprintf("%s rule %q", place, r.Name)
		}
		if len(r.Name) > 63 {
			f.add(at+" name", "has more than 63 characters")
		}
		if !slices.Contains([]Action{"", Accept, Reject, Next}, r.Action) {
			f.add(at+" action", "%q is not %q, %q or %q", r.Action, Accept, Reject, Next)
		}
		r.Match.check(f, at+" match")
		r.Set.check(f, at+" set")
		if r.Set.NextHopSelf && !export {
			f.add(at+" set nextHopSelf", "is for export: a route to oneself leads nowhere")
		}
	}
}

func (m *Match) check(f *faults, place string) {
	for _, l := range []struct {
		field string
		n     int
	}{{"prefixes", len(m.Prefixes)}, {"asPath", len(m.ASPath)}, {"communities", len(m.Communities)},
		{"largeCommunities", len(m.LargeCommunities)}, {"nextHops", len(m.NextHops)}} {
		if l.n > maxList || l.field == "asPath" && l.n > maxNextHops {
			f.add(place+" "+l.field, "has %d elements, which is too many", l.n)
			return
		}
	}
	if !slices.Contains([]Origin{OriginAny, OriginLocal, OriginLearned}, m.Origin) {
		f.add(place+" origin", "%q is not %q or %q", m.Origin, OriginLocal, OriginLearned)
	}
	for i, r := range m.Prefixes {
		at := fmt.Sprintf("%s prefixes[%d]", place, i)
		if !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked() {
			f.add(at, "%q is not a prefix without host bits", text(r.Prefix))
			continue
		}
		least, most := r.Lengths()
		if least < r.Prefix.Bits() || most > r.Prefix.Addr().BitLen() || least > most {
			f.add(at, "matches nothing: no prefix inside %s has a length of %d to %d", r.Prefix, least, most)
		}
	}
	for i, p := range m.ASPath {
		if err := checkPattern(p); err != nil {
			f.add(fmt.Sprintf("%s asPath[%d]", place, i), "%q: %w", p, err)
		}
	}
	checkCommunities(f, place, m.Communities)
	for i, a := range m.NextHops {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
			f.add(fmt.Sprintf("%s nextHops[%d]", place, i), "%q is not an address", text(a))
		}
	}
}

// checkPattern holds a pattern to what AS paths are made of, so that one that can
// never match by a slip of the pen is seen.
func checkPattern(p string) error {
	if p == "" || len(p) > maxPattern {
		return fmt.Errorf("must have 1 to %d characters", maxPattern)
	}
	if i := strings.IndexFunc(p, func(r rune) bool { return !strings.ContainsRune("0123456789_^$.*+?()[]|-{}, ", r) }); i >= 0 {
		return fmt.Errorf("has %q, which is neither of an AS path nor of a pattern", p[i:i+1])
	}
	for _, n := range strings.FieldsFunc(p, func(r rune) bool { return r < '0' || r > '9' }) {
		if _, err := strconv.ParseUint(n, 10, 32); err != nil {
			return fmt.Errorf("%s is no AS number", n)
		}
	}
	if _, err := regexp.Compile(strings.ReplaceAll(p, "_", Boundary)); err != nil {
		return fmt.Errorf("not a regular expression: %w", err)
	}
	return nil
}

func (s *Set) check(f *faults, place string) {
	if s.Prepend > maxPrepend {
		f.add(place+" prepend", "%d is more than %d", s.Prepend, maxPrepend)
	}
	if s.LocalPref != nil && *s.LocalPref == 0 {
		f.add(place+" localPref", "0 cannot be set: 1 is the least")
	}
	if s.NextHop.IsValid() && (!usable(s.NextHop) || s.NextHop.Zone() != "" || s.NextHop.Is4In6()) {
		f.add(place+" nextHop", "%s is not an address of a host", s.NextHop)
	}
	if s.NextHop.IsValid() && s.NextHopSelf {
		f.add(place+" nextHop", "excludes nextHopSelf")
	}
	if e := s.Communities; e != nil {
		checkEdit(f, place+" communities", e.Mode, len(e.List))
		checkCommunities(f, place, e.List)
	}
	if e := s.LargeCommunities; e != nil {
		checkEdit(f, place+" largeCommunities", e.Mode, len(e.List))
	}
}

func checkEdit(f *faults, place string, m Mode, n int) {
	if !slices.Contains([]Mode{Add, Remove, Replace}, m) {
		f.add(place+" mode", "%q is not %q, %q or %q", m, Add, Remove, Replace)
	}
	if n > 64 {
		f.add(place+" list", "%d are more than 64", n)
	}
	if n == 0 && m != Replace {
		f.add(place+" list", "is empty: only %q with an empty list changes anything", Replace)
	}
}

// checkCommunities refuses more than a message has room for; any value is allowed.
func checkCommunities(f *faults, place string, c []Community) {
	if len(c) > maxList {
		f.add(place+" communities", "%d are more than %d", len(c), maxList)
	}
}

// Family tells whether a prefix list has prefixes of the family.
func (m *Match) Family(f Family) bool {
	return slices.ContainsFunc(m.Prefixes, func(r PrefixRange) bool { return FamilyOf(r.Prefix.Addr()) == f })
}

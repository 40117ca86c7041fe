package v1

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// BGPPolicy decides which routes are taken from a peer or sent to it, and changes
// them. The first rule that matches and does not say next decides.
type BGPPolicy struct {
	Rules   []BGPRule `json:"rules,omitempty" doc:"The rules, in their order." nullable:"false" maxItems:"256"`
	Default string    `json:"default,omitempty" doc:"What becomes of routes that no rule decided. Left out: accept." enum:"accept,reject"`
}

// BGPRule is one step of a policy.
type BGPRule struct {
	Name   string    `json:"name,omitempty" doc:"For people." maxLength:"63" example:"their datacenter"`
	Match  *BGPMatch `json:"match,omitempty" doc:"Which routes. Left out: all."`
	Set    *BGPSet   `json:"set,omitempty" doc:"How they are changed. Left out: not at all."`
	Action string    `json:"action,omitempty" doc:"What becomes of them; with next the following rules decide. Left out: accept." enum:"accept,reject,next"`
}

// BGPMatch holds for a route when each part that is given does; of a list one
// element is enough.
type BGPMatch struct {
	Prefixes         []string `json:"prefixes,omitempty" doc:"Prefixes, each the prefix itself, or with «ge N», «le N» or both those inside it whose length is at least and at most that." nullable:"false" example:"[\"172.16.0.0/12 le 24\", \"10.9.0.0/16\"]"`
	ASPath           []string `json:"asPath,omitempty" doc:"Patterns of the AS path: ^65001_ for a neighbour, _65001$ for an origin, _65001_ for anywhere, ^$ for this AS, or another regular expression." nullable:"false" example:"[\"^65001_\"]"`
	Communities      []string `json:"communities,omitempty" doc:"Communities, each 65001:100 or a name as no-export." nullable:"false"`
	LargeCommunities []string `json:"largeCommunities,omitempty" doc:"Large communities, each 65001:1:2." nullable:"false"`
	NextHops         []string `json:"nextHops,omitempty" doc:"Next hops, as the sender of the route told them." nullable:"false"`
	Origin           string   `json:"origin,omitempty" doc:"Whose routes: local, this speaker's own, or learned ones. Left out: both." enum:"local,learned"`
}

// BGPSet changes a route. What is left out stays.
type BGPSet struct {
	MED              *uint32           `json:"med,omitempty" doc:"Multi-exit discriminator."`
	LocalPref        *uint32           `json:"localPref,omitempty" doc:"Local preference."`
	Prepend          uint16            `json:"prepend,omitempty" doc:"Put the own AS so many times more in front of the path." maximum:"32"`
	Communities      *BGPCommunityEdit `json:"communities,omitempty" doc:"Communities."`
	LargeCommunities *BGPCommunityEdit `json:"largeCommunities,omitempty" doc:"Large communities."`
	NextHop          string            `json:"nextHop,omitempty" doc:"Next hop, for routes of its address family."`
	NextHopSelf      bool              `json:"nextHopSelf,omitempty" doc:"Name this speaker as next hop; in export policies only."`
}

// BGPCommunityEdit changes a route's communities.
type BGPCommunityEdit struct {
	Mode string   `json:"mode" doc:"What becomes of the list: add to what the route has, remove from it, or replace it." enum:"add,remove,replace"`
	List []string `json:"list" doc:"Communities." nullable:"false" maxItems:"64"`
}

func (p *BGPPolicy) object(f *fields, at string) peering.Policy {
	if p == nil {
		return peering.Policy{}
	}
	out := peering.Policy{Default: peering.Action(p.Default)}
	for i, r := range p.Rules {
		part := &fields{}
		out.Rules = append(out.Rules, r.object(part, fmt.Sprintf("%srules[%d].", at, i)))
		what := fmt.Sprintf("%s rule number %d", strings.TrimSuffix(at, "."), i+1)
		if r.Name != "" {
			what = fmt.Sprintf("%s rule %q", strings.TrimSuffix(at, "."), r.Name)
		}
		f.within(what, part)
	}
	return out
}

func (r BGPRule) object(f *fields, at string) peering.Rule {
	out := peering.Rule{Name: r.Name, Action: peering.Action(r.Action)}
	if m := r.Match; m != nil {
		out.Match = peering.Match{
			Prefixes:         readAll(f, at+"match.prefixes", m.Prefixes, ParseBGPPrefixes),
			ASPath:           append([]string(nil), m.ASPath...),
			Communities:      readAll(f, at+"match.communities", m.Communities, parseCommunity),
			LargeCommunities: readAll(f, at+"match.largeCommunities", m.LargeCommunities, parseLargeCommunity),
			Origin:           peering.Origin(m.Origin),
		}
		for i, a := range m.NextHops {
			out.Match.NextHops = append(out.Match.NextHops, f.addr(fmt.Sprintf("%smatch.nextHops[%d]", at, i), "next hop", a))
		}
	}
	if s := r.Set; s != nil {
		out.Set = peering.Set{MED: s.MED, LocalPref: s.LocalPref, NextHopSelf: s.NextHopSelf, Prepend: f.octet(at+"set.prepend", s.Prepend)}
		if s.NextHop != "" {
			out.Set.NextHop = f.addr(at+"set.nextHop", "next hop", s.NextHop)
		}
		out.Set.Communities = editOf(f, at+"set.communities", s.Communities, parseCommunity)
		out.Set.LargeCommunities = editOf(f, at+"set.largeCommunities", s.LargeCommunities, parseLargeCommunity)
	}
	return out
}

func editOf[T any](f *fields, at string, e *BGPCommunityEdit, parse func(string) (T, error)) *peering.Edit[T] {
	if e == nil {
		return nil
	}
	return &peering.Edit[T]{Mode: peering.Mode(e.Mode), List: readAll(f, at+".list", e.List, parse)}
}

// ParseBGPPrefixes reads PREFIX, PREFIX ge N, PREFIX le N or PREFIX ge N le N.
func ParseBGPPrefixes(s string) (peering.PrefixRange, error) {
	bad := func() (peering.PrefixRange, error) {
		return peering.PrefixRange{}, invalidf("prefix range %q is malformed: write 10.0.0.0/8, 10.0.0.0/8 le 24 or 10.0.0.0/8 ge 16 le 24", s)
	}
	words := strings.Fields(s)
	if len(words) == 0 || len(words)%2 == 0 || len(words) > 5 {
		return bad()
	}
	p, err := netip.ParsePrefix(words[0])
	if err != nil {
		return bad()
	}
	out := peering.PrefixRange{Prefix: p}
	for i := 1; i < len(words); i += 2 {
		into := &out.Min
		if words[i] == "le" {
			into = &out.Max
		} else if words[i] != "ge" {
			return bad()
		}
		n, err := strconv.ParseUint(words[i+1], 10, 8)
		if err != nil || *into != 0 {
			return bad()
		}
		if int(n) < max(p.Bits(), 1) || int(n) > p.Addr().BitLen() {
			return out, invalidf("prefix range %q matches nothing: no prefix inside %s has a length of %s %d", s, p, map[string]string{"ge": "at least", "le": "at most"}[words[i]], n)
		}
		*into = int(n)
	}
	if out.Max != 0 && out.Min > out.Max {
		return out, invalidf("prefix range %q matches nothing: ge %d is more than le %d", s, out.Min, out.Max)
	}
	return out, nil
}

// prefixesText is what ParseBGPPrefixes reads.
func prefixesText(r peering.PrefixRange) string {
	out := r.Prefix.String()
	if r.Min != 0 {
		out += fmt.Sprintf(" ge %d", r.Min)
	}
	if r.Max != 0 {
		out += fmt.Sprintf(" le %d", r.Max)
	}
	return out
}

func newPolicy(p peering.Policy) *BGPPolicy {
	if len(p.Rules) == 0 && p.Default == "" {
		return nil
	}
	out := &BGPPolicy{Default: string(p.Default)}
	for _, r := range p.Rules {
		out.Rules = append(out.Rules, BGPRule{Name: r.Name, Action: string(r.Action), Match: newMatch(r.Match), Set: newSet(r.Set)})
	}
	return out
}

func newMatch(m peering.Match) *BGPMatch {
	out := &BGPMatch{
		ASPath: m.ASPath, Communities: texts(m.Communities), LargeCommunities: texts(m.LargeCommunities),
		NextHops: texts(m.NextHops), Origin: string(m.Origin),
	}
	for _, r := range m.Prefixes {
		out.Prefixes = append(out.Prefixes, prefixesText(r))
	}
	if len(out.Prefixes)+len(out.ASPath)+len(out.Communities)+len(out.LargeCommunities)+len(out.NextHops) == 0 && out.Origin == "" {
		return nil
	}
	return out
}

func newSet(s peering.Set) *BGPSet {
	out := BGPSet{
		MED: s.MED, LocalPref: s.LocalPref, Prepend: uint16(s.Prepend), NextHop: addrText(s.NextHop), NextHopSelf: s.NextHopSelf,
		Communities: newEdit(s.Communities), LargeCommunities: newEdit(s.LargeCommunities),
	}
	if out == (BGPSet{}) {
		return nil
	}
	return &out
}

func newEdit[T fmt.Stringer](e *peering.Edit[T]) *BGPCommunityEdit {
	if e == nil {
		return nil
	}
	return &BGPCommunityEdit{Mode: string(e.Mode), List: textsOf(e.List)}
}

package gobgp

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/osrg/gobgp/v4/api"

	"github.com/hnvgate/hnvgate/bgp"
)

// The names of the only policies there are.
const (
	importPolicy = "import"
	exportPolicy = "export"
	globalTable  = "global"
)

// defaultLocalPref is what a route without LOCAL_PREF counts as. A default route
// that is originated for some peers only has less, so that a learned one goes
// before it.
const defaultLocalPref = 100

// assignPolicies hangs both policies, still empty, on the table. Later ones replace
// them by name and all at once.
func (s *Server) assignPolicies(ctx context.Context) error {
	empty := &api.SetPoliciesRequest{Policies: []*api.Policy{{Name: importPolicy}, {Name: exportPolicy}}}
	if err := s.lib.SetPolicies(ctx, empty); err != nil {
		return err
	}
	for name, dir := range map[string]api.PolicyDirection{
		importPolicy: api.PolicyDirection_POLICY_DIRECTION_IMPORT, exportPolicy: api.PolicyDirection_POLICY_DIRECTION_EXPORT,
	} {
		err := s.lib.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: globalTable, Direction: dir, Policies: []*api.Policy{{Name: name}}, DefaultAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// SetPolicies puts the policies of all peers in force, at once. Routes that are
// there already meet them at the next SoftReset. Paths by next hops in silent go after
// all others.
func (s *Server) SetPolicies(ctx context.Context, spec *bgp.Spec, silent []netip.Prefix) error {
	if err := s.lib.SetPolicies(ctx, policies(spec, silent)); err != nil {
		return fmt.Errorf("set policies: %w", err)
	}
	return nil
}

// compiler gathers statements and the sets that they refer to.
type compiler struct {
	asn        uint32
	sets       []*api.DefinedSet
	statements []*api.Statement
	prefix     string // of names: policy, peer
	prepended  bool   // paths have the own AS in front
	silent     []netip.Addr
}

// policies turns the policies of all peers into the library's two.
func policies(spec *bgp.Spec, silent []netip.Prefix) *api.SetPoliciesRequest {
	in, out := &compiler{asn: spec.ASN}, &compiler{asn: spec.ASN}
	in.lastStand(silent, spec.Peers)
	summary := out.summarySets(spec)
	kept := out.keptSets()
	for _, p := range byPrecedence(spec.Peers) {
		in.peer(&p, importPolicy)
		in.rules(p.Import, nil)
		out.peer(&p, exportPolicy)
		out.prepended = p.ASN != spec.ASN
		if spec.Withhold {
			out.add(&api.Conditions{}, &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT})
			continue
		}
		out.keep(kept[p.ASN == spec.ASN])
		out.origination(&p, spec, summary)
		var self *api.NexthopAction
		if p.NextHopSelf && p.ASN == spec.ASN {
			self = &api.NexthopAction{Self: true}
		}
		out.rules(p.Export, self)
	}
	return &api.SetPoliciesRequest{
		DefinedSets: append(in.sets, out.sets...),
		Policies:    []*api.Policy{{Name: importPolicy, Statements: in.statements}, {Name: exportPolicy, Statements: out.statements}},
	}
}

// maxSilent bounds the list that each path taken is compared with.
const maxSilent = 1024

// lastStand marks paths by these next hops as RFC 9494 marks stale ones: they are taken
// where there is no other, whatever their preference, and told to nobody who does not
// know the mark. The peers' own rules are asked after that. The library matches single
// addresses only: the peers' that are in the prefixes, and those that are one.
func (c *compiler) lastStand(silent []netip.Prefix, peers []bgp.Peer) {
	seen := map[netip.Addr]bool{}
	add := func(a netip.Addr) {
		if !seen[a] && len(c.silent) < maxSilent {
			seen[a] = true
			c.silent = append(c.silent, a)
		}
	}
	for _, p := range peers {
		a := p.Address.WithZone("")
		if slices.ContainsFunc(silent, func(s netip.Prefix) bool { return s.Contains(a) }) {
			add(a)
		}
	}
	for _, s := range silent {
		if s.IsSingleIP() {
			add(s.Addr())
		}
	}
	c.mark()
}

func (c *compiler) mark() {
	if len(c.silent) == 0 {
		return
	}
	c.statements = append(c.statements, &api.Statement{
		Name:       fmt.Sprintf("%s/silent%d", importPolicy, len(c.statements)), // no peer's name has a slash
		Conditions: &api.Conditions{NextHopInList: texts(c.silent)},
		Actions:    &api.Actions{Community: &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: []string{bgp.LLGRStale.Pair()}}},
	})
}

// marked is the rule for paths by silent next hops, where it would take the mark away
// and end.
func (c *compiler) marked(r bgp.Rule) (bgp.Rule, bool) {
	e := r.Set.Communities
	if e == nil || e.Mode != bgp.Replace || routeAction(r.Action) != api.RouteAction_ROUTE_ACTION_ACCEPT {
		return r, false
	}
	hops := c.silent
	if len(r.Match.NextHops) > 0 {
		hops = slices.DeleteFunc(slices.Clone(c.silent), func(a netip.Addr) bool { return !slices.Contains(r.Match.NextHops, a) })
	}
	r.Match.NextHops = hops
	r.Set.Communities = &bgp.Edit[bgp.Community]{Mode: bgp.Replace, List: append(slices.Clone(e.List), bgp.LLGRStale)}
	return r, len(hops) > 0
}

// byPrecedence puts peers with an address first, then the longer prefixes: the
// first statement for an address decides.
func byPrecedence(peers []bgp.Peer) []bgp.Peer {
	out := slices.Clone(peers)
	slices.SortStableFunc(out, func(a, b bgp.Peer) int {
		return cmp.Compare(extent(b).Bits(), extent(a).Bits())
	})
	return out
}

// extent is where a peer's address is.
func extent(p bgp.Peer) netip.Prefix {
	if p.Prefix.IsValid() {
		return p.Prefix
	}
	a := p.Address.WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// peer begins a peer's statements.
func (c *compiler) peer(p *bgp.Peer, direction string) {
	c.prefix = direction + "." + p.Name
	c.set(&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: c.prefix, List: []string{extent(*p).String()}})
}

// set adds a defined set; its name is the match.
func (c *compiler) set(s *api.DefinedSet) *api.MatchSet {
	c.sets = append(c.sets, s)
	return anyOf(s.Name)
}

func anyOf(name string) *api.MatchSet {
	return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name}
}

// next names what comes next of a peer, uniquely.
func (c *compiler) next(kind string) string {
	return fmt.Sprintf("%s.%s%d", c.prefix, kind, len(c.statements)+len(c.sets))
}

// add adds a statement for the peer begun.
func (c *compiler) add(cond *api.Conditions, act *api.Actions) {
	cond.NeighborSet = anyOf(c.prefix)
	c.statements = append(c.statements, &api.Statement{Name: c.next("statement"), Conditions: cond, Actions: act})
}

// rules adds a policy. final is done with whatever it lets pass.
func (c *compiler) rules(p bgp.Policy, final *api.NexthopAction) {
	for i := range p.Rules {
		if r, ok := c.marked(p.Rules[i]); ok {
			c.rule(&r, final)
		}
		c.rule(&p.Rules[i], final)
		if e := p.Rules[i].Set.Communities; e != nil && p.Rules[i].Action == bgp.Next {
			c.mark()
		}
	}
	c.add(&api.Conditions{}, end(&api.Actions{RouteAction: routeAction(p.Default)}, final))
}

// rule becomes a statement for each family of its prefixes, as a set of prefixes
// has but one, for each kind of route, where the library has no word for both, and
// for each family, where it sets a next hop. A route meets one of them: a rule that
// changes what it matches by cannot act twice, as none of these can be changed.
func (c *compiler) rule(r *bgp.Rule, final *api.NexthopAction) {
	sets := []*api.MatchSet{nil}
	if len(r.Match.Prefixes) > 0 {
		sets = nil
		for _, f := range []bgp.Family{bgp.IPv4, bgp.IPv6} {
			if r.Match.Family(f) {
				sets = append(sets, c.set(prefixSet(c.next("prefixes"), r.Match.Prefixes, f)))
			}
		}
	}
	cond := c.conditions(&r.Match)
	for _, set := range sets {
		for _, kind := range routeTypes(r.Match.Origin) {
			for _, f := range nextHopFamilies(r.Set.NextHop) {
				act := c.actions(&r.Set)
				act.RouteAction = routeAction(r.Action)
				if f.other {
					act.Nexthop = nil
				}
				c.add(&api.Conditions{
					PrefixSet: set, RouteType: kind, NextHopInList: cond.NextHopInList, AfiSafiIn: f.only,
					AsPathSet: cond.AsPathSet, CommunitySet: cond.CommunitySet, LargeCommunitySet: cond.LargeCommunitySet,
				}, end(act, final))
			}
		}
	}
}

// familyCase is one of the statements that a rule becomes which sets a next hop.
type familyCase struct {
	only  []*api.Family // nil: any
	other bool          // the next hop is not of this family
}

func nextHopFamilies(hop netip.Addr) []familyCase {
	if !hop.IsValid() {
		return []familyCase{{}}
	}
	same, other := bgp.FamilyOf(hop), bgp.IPv4
	if same == bgp.IPv4 {
		other = bgp.IPv6
	}
	return []familyCase{{only: []*api.Family{family(same)}}, {only: []*api.Family{family(other)}, other: true}}
}

func routeTypes(o bgp.Origin) []api.Conditions_RouteType {
	switch o {
	case bgp.OriginLocal:
		return []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_LOCAL}
	case bgp.OriginLearned:
		return []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_INTERNAL, api.Conditions_ROUTE_TYPE_EXTERNAL}
	default:
		return []api.Conditions_RouteType{api.Conditions_ROUTE_TYPE_UNSPECIFIED}
	}
}

// end adds what is done with each route that passes, unless a rule set the next hop.
func end(a *api.Actions, final *api.NexthopAction) *api.Actions {
	if final != nil && a.Nexthop == nil && a.RouteAction == api.RouteAction_ROUTE_ACTION_ACCEPT {
		a.Nexthop = final
	}
	return a
}

func routeAction(a bgp.Action) api.RouteAction {
	switch a {
	case bgp.Reject:
		return api.RouteAction_ROUTE_ACTION_REJECT
	case bgp.Next:
		return api.RouteAction_ROUTE_ACTION_UNSPECIFIED
	default:
		return api.RouteAction_ROUTE_ACTION_ACCEPT
	}
}

func prefixSet(name string, ranges []bgp.PrefixRange, f bgp.Family) *api.DefinedSet {
	s := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_PREFIX, Name: name}
	for _, r := range ranges {
		if bgp.FamilyOf(r.Prefix.Addr()) != f {
			continue
		}
		least, most := r.Lengths()
		s.Prefixes = append(s.Prefixes, &api.Prefix{IpPrefix: r.Prefix.String(), MaskLengthMin: uint32(least), MaskLengthMax: uint32(most)})
	}
	return s
}

// conditions are those of a match but for prefixes and origin.
func (c *compiler) conditions(m *bgp.Match) *api.Conditions {
	cond := &api.Conditions{}
	if len(m.ASPath) > 0 {
		list := m.ASPath
		if c.prepended {
			list = make([]string, len(m.ASPath))
			for i, p := range m.ASPath {
				list[i] = behind(c.asn, p)
			}
		}
		cond.AsPathSet = c.set(&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_AS_PATH, Name: c.next("paths"), List: list})
	}
	if len(m.Communities) > 0 {
		cond.CommunitySet = c.set(&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_COMMUNITY, Name: c.next("communities"), List: pairs(m.Communities)})
	}
	if len(m.LargeCommunities) > 0 {
		cond.LargeCommunitySet = c.set(&api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: c.next("large"), List: texts(m.LargeCommunities)})
	}
	for _, p := range m.NextHops {
		cond.NextHopInList = append(cond.NextHopInList, p.String())
	}
	return cond
}

// behind turns a pattern into one for a path that has the own AS in front already,
// as the library shows it to the export policy of an eBGP peer.
func behind(asn uint32, pattern string) string {
	begin := fmt.Sprintf("^%d ?", asn)
	var out strings.Builder
	class := false // inside [], where ^ and _ are themselves
	for _, r := range pattern {
		switch {
		case r == '[' || r == ']':
			class = r == '['
			out.WriteRune(r)
		case r == '^' && !class:
			out.WriteString(begin)
		case r == '_' && !class:
			out.WriteString("(" + begin + "|[,{}() ]|$)")
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

func (c *compiler) actions(s *bgp.Set) *api.Actions {
	a := &api.Actions{}
	if s.MED != nil {
		a.Med = &api.MedAction{Type: api.MedAction_TYPE_REPLACE, Value: int64(*s.MED)}
	}
	if s.LocalPref != nil {
		a.LocalPref = &api.LocalPrefAction{Value: *s.LocalPref}
	}
	if s.Prepend > 0 {
		a.AsPrepend = &api.AsPrependAction{Asn: c.asn, Repeat: uint32(s.Prepend)}
	}
	if e := s.Communities; e != nil {
		a.Community = &api.CommunityAction{Type: editMode(e.Mode), Communities: pairs(e.List)}
	}
	if e := s.LargeCommunities; e != nil {
		a.LargeCommunity = &api.CommunityAction{Type: editMode(e.Mode), Communities: texts(e.List)}
	}
	switch {
	case s.NextHopSelf:
		a.Nexthop = &api.NexthopAction{Self: true}
	case s.NextHop.IsValid():
		a.Nexthop = &api.NexthopAction{Address: s.NextHop.String()}
	}
	return a
}

func editMode(m bgp.Mode) api.CommunityAction_Type {
	switch m {
	case bgp.Remove:
		return api.CommunityAction_TYPE_REMOVE
	case bgp.Replace:
		return api.CommunityAction_TYPE_REPLACE
	default:
		return api.CommunityAction_TYPE_ADD
	}
}

func pairs(list []bgp.Community) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.Pair()
	}
	return out
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.String()
	}
	return out
}

// summarySets makes a set of what each family's summary-only aggregates cover.
func (c *compiler) summarySets(spec *bgp.Spec) (match []*api.MatchSet) {
	for _, f := range []bgp.Family{bgp.IPv4, bgp.IPv6} {
		var inside []bgp.PrefixRange
		for _, a := range spec.Aggregates {
			if a.SummaryOnly && bgp.FamilyOf(a.Prefix.Addr()) == f {
				inside = append(inside, bgp.PrefixRange{Prefix: a.Prefix, Min: a.Prefix.Bits() + 1})
			}
		}
		if len(inside) > 0 {
			match = append(match, c.set(prefixSet("summary."+string(f), inside, f)))
		}
	}
	return match
}

// keptSets are the well-known communities that keep a route from peers outside the AS
// (false) and inside it (true): RFC 1997. The library lets them do nothing.
func (c *compiler) keptSets() map[bool]*api.MatchSet {
	set := func(name string, list ...bgp.Community) *api.MatchSet {
		s := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_COMMUNITY, Name: exportPolicy + "/" + name}
		for _, x := range list {
			s.List = append(s.List, x.Pair())
		}
		return c.set(s)
	}
	return map[bool]*api.MatchSet{
		false: set("outside", bgp.NoExport, bgp.NoAdvertise, bgp.NoExportSubconfed),
		true:  set("inside", bgp.NoAdvertise),
	}
}

// keep rejects learned routes with these communities. A peer's own rules come later:
// what they add is for the peer to heed.
func (c *compiler) keep(communities *api.MatchSet) {
	for _, kind := range routeTypes(bgp.OriginLearned) {
		c.add(&api.Conditions{CommunitySet: communities, RouteType: kind}, &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT})
	}
}

// origination decides on what is originated for some peers only, and on what an
// aggregate stands for, before the peer's own rules are asked.
func (c *compiler) origination(p *bgp.Peer, spec *bgp.Spec, summary []*api.MatchSet) {
	for _, set := range summary {
		c.add(&api.Conditions{PrefixSet: set}, &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT})
	}
	for _, d := range Defaults(spec) {
		set := c.set(prefixSet(c.next("default"), []bgp.PrefixRange{{Prefix: d}}, bgp.FamilyOf(d.Addr())))
		act := &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT}
		if p.DefaultOriginate {
			act = &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT, LocalPref: &api.LocalPrefAction{Value: defaultLocalPref}}
		}
		c.add(&api.Conditions{PrefixSet: set, RouteType: api.Conditions_ROUTE_TYPE_LOCAL}, act)
	}
}

// Defaults are the default routes to originate for the peers that want one, unless
// they are networks for all peers anyway.
func Defaults(spec *bgp.Spec) []netip.Prefix {
	var out []netip.Prefix
	for f, d := range map[bgp.Family]netip.Prefix{
		bgp.IPv4: netip.PrefixFrom(netip.IPv4Unspecified(), 0), bgp.IPv6: netip.PrefixFrom(netip.IPv6Unspecified(), 0),
	} {
		wanted := slices.ContainsFunc(spec.Peers, func(p bgp.Peer) bool { return p.DefaultOriginate && slices.Contains(p.Exchanged(), f) })
		anyway := slices.ContainsFunc(spec.Networks, func(n bgp.Network) bool { return n.Prefix == d })
		if wanted && !anyway {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}

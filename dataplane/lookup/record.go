package lookup

import "github.com/hnvgate/hnvgate/hnv"

// Rule says how packets to a record travel.
type Rule uint8

// The rules, as hnv has them.
const (
	RuleNVGRE Rule = iota + 1
	RuleVXLAN
	RuleRewrite
)

func ruleFrom(r hnv.Rule) Rule {
	switch r {
	case hnv.RuleNVGRE:
		return RuleNVGRE
	case hnv.RuleVXLAN:
		return RuleVXLAN
	case hnv.RuleRewrite:
		return RuleRewrite
	}
	return 0
}

// Hnv gives the rule as records have it.
func (r Rule) Hnv() hnv.Rule {
	switch r {
	case RuleNVGRE:
		return hnv.RuleNVGRE
	case RuleVXLAN:
		return hnv.RuleVXLAN
	case RuleRewrite:
		return hnv.RuleRewrite
	}
	return ""
}

// RecordType says where a record comes from.
type RecordType uint8

// The types, as hnv has them.
const (
	Static   RecordType = iota + 1
	Dynamic             // learned; never in the place of one that was configured
	L2Only              // a MAC whose CAs are not known
	Wildcard            // a gateway, also for what no route covers
)

func typeFrom(t hnv.RecordType) RecordType {
	switch t {
	case hnv.Static:
		return Static
	case hnv.Dynamic:
		return Dynamic
	case hnv.L2Only:
		return L2Only
	case hnv.GatewayWildcard:
		return Wildcard
	}
	return 0
}

// Record is where a CA or a MAC is found: behind which PA, under which MAC, and
// how packets get there. It is comparable.
type Record struct {
	PA       Addr
	MAC      [6]byte
	Rule     Rule
	UseVMMAC bool // routed packets of this CA keep its MAC as their source
	Type     RecordType
	// Team names the PAs of the host's NIC team, for Domain.PAs and IsAt; 0 is
	// none but PA.
	Team uint16
}

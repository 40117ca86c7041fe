package hnv

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// RecordType says where a lookup record's addresses come from.
type RecordType string

// The types, as NetVirtualizationLookupRecord has them.
const (
	Static          RecordType = "static"
	Dynamic         RecordType = "dynamic"          // learned, within what policy allows
	L2Only          RecordType = "l2only"           // a MAC whose CAs are not known
	GatewayWildcard RecordType = "gateway-wildcard" // a gateway, for CAs outside the subnet
)

// ParseRecordType checks s; the cmdlets' spelling is taken too.
func ParseRecordType(s string) (RecordType, error) {
	switch strings.ToLower(strings.ReplaceAll(s, "-", "")) {
	case "static":
		return Static, nil
	case "dynamic":
		return Dynamic, nil
	case "l2only":
		return L2Only, nil
	case "gatewaywildcard":
		return GatewayWildcard, nil
	}
	return "", invalidf("record type %q is unknown: use static, dynamic, l2only or gateway-wildcard", s)
}

// Rule says how packets to a record's CA reach its PA.
type Rule string

// The rules.
const (
	RuleNVGRE   Rule = "nvgre"
	RuleVXLAN   Rule = "vxlan"
	RuleRewrite Rule = "rewrite" // one PA per CA, addresses rewritten
)

// ParseRule checks s.
func ParseRule(s string) (Rule, error) {
	switch r := Rule(s); r {
	case RuleNVGRE, RuleVXLAN, RuleRewrite:
		return r, nil
	}
	return "", invalidf("rule %q is unknown: use nvgre, vxlan or rewrite", s)
}

// Record is a lookup record: behind which PA, and under which MAC, a CA of a
// virtual subnet is found.
type Record struct {
	VSID   VSID       `json:"vsid"`
	CA     netip.Addr `json:"ca"` // unset only for L2Only
	MAC    MAC        `json:"mac"`
	PA     netip.Addr `json:"pa"`
	Rule   Rule       `json:"rule"`
	Type   RecordType `json:"type"`
	VMName string     `json:"vmName,omitempty"`
	// Context is the operator's own mark; it has no effect.
	Context string `json:"context,omitempty"`
	// UseVMMAC keeps the VM's source MAC on routed packets.
	UseVMMAC bool `json:"useVMMAC,omitempty"`
	// TeamPAs are further PAs of the same host, those of the other members of its
	// NIC team; flows spread over PA and these.
	TeamPAs []netip.Addr `json:"teamPAs,omitempty"`
}

// MaxTeamPAs is how many PAs a record may name besides the first.
const MaxTeamPAs = 7

// PAs gives all PAs of the record, the first one first.
func (r Record) PAs() []netip.Addr {
	return append([]netip.Addr{r.PA}, r.TeamPAs...)
}

// Equal tells whether the two say the same.
func (r Record) Equal(o Record) bool {
	return r.VSID == o.VSID && r.CA == o.CA && r.MAC == o.MAC && r.PA == o.PA && r.Rule == o.Rule && r.Type == o.Type &&
		r.VMName == o.VMName && r.Context == o.Context && r.UseVMMAC == o.UseVMMAC && slices.Equal(r.TeamPAs, o.TeamPAs)
}

// RecordKey is what is unique about a Record: the CA, or for L2Only the MAC.
type RecordKey struct {
	VSID VSID
	CA   netip.Addr
	MAC  MAC // set only where CA is unset
}

// Kind is KindRecord.
func (Record) Kind() Kind { return KindRecord }

// Key is VSID/CA, or VSID/MAC for L2Only.
func (r Record) Key() string { return r.RecordKey().String() }

// RecordKey gives the comparable key.
func (r Record) RecordKey() RecordKey {
	if r.CA.IsValid() {
		return RecordKey{VSID: r.VSID, CA: r.CA}
	}
	return RecordKey{VSID: r.VSID, MAC: r.MAC}
}

func (k RecordKey) String() string {
	if k.CA.IsValid() {
		return k.VSID.String() + "/" + k.CA.String()
	}
	return k.VSID.String() + "/" + k.MAC.String()
}

// ParseRecordKey reads what RecordKey.String wrote.
func ParseRecordKey(s string) (RecordKey, error) {
	vs, rest, ok := strings.Cut(s, "/")
	if !ok {
		return RecordKey{}, invalidf("lookup record %q is not named as VSID/CA or VSID/MAC", s)
	}
	v, err := ParseVSID(vs)
	if err != nil {
		return RecordKey{}, err
	}
	if ca, err := netip.ParseAddr(rest); err == nil {
		return RecordKey{VSID: v, CA: ca}, nil
	}
	mac, err := ParseMAC(rest)
	if err != nil {
		return RecordKey{}, invalidf("lookup record %q is not named as VSID/CA or VSID/MAC", s)
	}
	return RecordKey{VSID: v, MAC: mac}, nil
}

// Check holds what must be true of the record alone.
func (r Record) Check() error {
	if !r.VSID.IsValid() {
		return invalidf("a lookup record needs a VSID")
	}
	if !r.MAC.IsValid() {
		return invalidf("lookup record %s: the MAC address is missing", r.Key())
	}
	if r.MAC == RouterMAC {
		return invalidf("lookup record %s: MAC address %s is the distributed router's", r.Key(), r.MAC)
	}
	if _, err := ParseRule(string(r.Rule)); err != nil {
		return invalidf("lookup record %s: %v", r.Key(), err)
	}
	if _, err := ParseRecordType(string(r.Type)); err != nil {
		return invalidf("lookup record %s: %v", r.Key(), err)
	}
	if !r.CA.IsValid() && r.Type != L2Only {
		return invalidf("lookup record of VSID %s, MAC %s: the customer address is missing; only type l2only may leave it out", r.VSID, r.MAC)
	}
	if err := checkPlain("provider address", r.PA); err != nil {
		return invalidf("lookup record %s: %v", r.Key(), err)
	}
	if err := r.checkTeam(); err != nil {
		return invalidf("lookup record %s: %v", r.Key(), err)
	}
	if r.Rule == RuleRewrite && !r.CA.IsValid() {
		return invalidf("lookup record %s: rewriting stands one provider address for one customer address, which is missing", r.Key())
	}
	if r.Rule == RuleRewrite && r.CA.Is4() != r.PA.Is4() {
		return invalidf("lookup record %s: rewriting cannot turn %s into %s: the provider address must be of the customer address's family", r.Key(), r.CA, r.PA)
	}
	for what, s := range map[string]string{"VM name": r.VMName, "context": r.Context} {
		if len(s) > 256 {
			return invalidf("lookup record %s: the %s has %d bytes, at most 256 are kept", r.Key(), what, len(s))
		}
	}
	return nil
}

func (r Record) checkTeam() error {
	if len(r.TeamPAs) == 0 {
		return nil
	}
	if r.Rule == RuleRewrite {
		return invalidf("a rewritten address has one provider address, not a team of them")
	}
	if len(r.TeamPAs) > MaxTeamPAs {
		return invalidf("it names %d further provider addresses, at most %d are taken", len(r.TeamPAs), MaxTeamPAs)
	}
	for i, a := range r.TeamPAs {
		if err := checkPlain("provider address", a); err != nil {
			return err
		}
		if a.Is4() != r.PA.Is4() {
			return invalidf("provider addresses %s and %s are not of one address family", r.PA, a)
		}
		if a == r.PA || slices.Contains(r.TeamPAs[:i], a) {
			return invalidf("provider address %s is named twice", a)
		}
	}
	return nil
}

func checkPlain(what string, a netip.Addr) error {
	switch {
	case !a.IsValid():
		return invalidf("the %s is missing", what)
	case a.Is4In6() || a.Zone() != "":
		return invalidf("%s %s: write it plainly, without a zone and not IPv4-mapped", what, a)
	case !a.IsGlobalUnicast():
		return invalidf("%s %s is not a unicast address that can be routed", what, a)
	}
	return nil
}

// CustomerRoute leads a prefix of the routing domain to a next hop in one of
// its virtual subnets. The subnets' own prefixes need no route.
type CustomerRoute struct {
	RDID    RDID         `json:"rdid"`
	VSID    VSID         `json:"vsid"` // where the next hop lives
	Prefix  netip.Prefix `json:"prefix"`
	NextHop netip.Addr   `json:"nextHop"`
	Metric  uint32       `json:"metric"` // the lowest wins
}

// Kind is KindCustomerRoute.
func (CustomerRoute) Kind() Kind { return KindCustomerRoute }

// Key is VSID/PREFIX/NEXTHOP.
func (r CustomerRoute) Key() string {
	return r.VSID.String() + "/" + r.Prefix.Addr().String() + "/" + strconv.Itoa(r.Prefix.Bits()) + "/" + r.NextHop.String()
}

// Check holds what must be true of the route alone.
func (r CustomerRoute) Check() error {
	switch {
	case !r.VSID.IsValid():
		return invalidf("a customer route needs the VSID of its next hop")
	case !r.RDID.IsValid():
		return invalidf("customer route %s: the RDID is missing", r.Key())
	case !r.Prefix.IsValid():
		return invalidf("customer route of VSID %s: the destination prefix is missing or malformed", r.VSID)
	case r.Prefix != r.Prefix.Masked():
		return invalidf("customer route %s: prefix %s has host bits set: write %s", r.Key(), r.Prefix, r.Prefix.Masked())
	case r.NextHop.Is4() != r.Prefix.Addr().Is4():
		return invalidf("customer route %s: next hop %s is not of the prefix's address family", r.Key(), r.NextHop)
	}
	if err := checkPlain("next hop", r.NextHop); err != nil {
		return invalidf("customer route %s: %v", r.Key(), err)
	}
	return nil
}

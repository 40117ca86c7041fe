package recordfile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// set puts a field's text into a record. A field without a value is left out.
type set func(r *v1.LookupRecord, text string) error

// fields are the names taken, in lower case: the cmdlet's, and those of v1. A
// nil setter takes what Windows adds to every object and what only it knows
// about the state of its own table.
var fields = map[string]set{
	"customeraddress": text(func(r *v1.LookupRecord) *string { return &r.CA }),
	"ca":              text(func(r *v1.LookupRecord) *string { return &r.CA }),
	"macaddress":      text(func(r *v1.LookupRecord) *string { return &r.MAC }),
	"mac":             text(func(r *v1.LookupRecord) *string { return &r.MAC }),
	"provideraddress": text(func(r *v1.LookupRecord) *string { return &r.PA }),
	"pa":              text(func(r *v1.LookupRecord) *string { return &r.PA }),
	// Ours alone: Windows leaves the members of a team to its switch.
	"teamprovideraddresses": setTeam,
	"teampas":               setTeam,
	"virtualsubnetid":       setVSID,
	"vsid":                  setVSID,
	"customerid":            setRDID,
	"rdid":                  setRDID,
	"rule":                  setRule,
	"type":                  setType,
	"vmname":                text(func(r *v1.LookupRecord) *string { return &r.VMName }),
	"context":               text(func(r *v1.LookupRecord) *string { return &r.Context }),
	"usevmmacaddress":       setUseVMMAC,
	"usevmmac":              setUseVMMAC,
	"tenant":                text(func(r *v1.LookupRecord) *string { return &r.Tenant }),
	"origin":                text(func(r *v1.LookupRecord) *string { return &r.Origin }),

	"unusable":              nil,
	"unsynchronized":        nil,
	"caption":               nil,
	"description":           nil,
	"elementname":           nil,
	"instanceid":            nil,
	"pscomputername":        nil,
	"psshowcomputername":    nil,
	"runspaceid":            nil,
	"cimclass":              nil,
	"ciminstanceproperties": nil,
	"cimsystemproperties":   nil,
}

// knownFields is for people.
const knownFields = "CustomerAddress, ProviderAddress, MACAddress, VirtualSubnetID, CustomerID, Context, Rule, VMName, UseVmMACAddress, Type, TeamProviderAddresses (or ca, pa, mac, vsid, rdid, context, rule, vmName, useVMMAC, type, teamPAs)"

// required are the fields without which a record is none; the others have a
// default.
var required = []string{"VirtualSubnetID", "MACAddress", "ProviderAddress"}

func text(field func(*v1.LookupRecord) *string) set {
	return func(r *v1.LookupRecord, s string) error {
		*field(r) = s
		return nil
	}
}

func setVSID(r *v1.LookupRecord, s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return fmt.Errorf("VirtualSubnetID %q is not a whole number", s)
	}
	r.VSID = uint32(n)
	return nil
}

// setRDID leaves out the GUID of all zeros, which Windows gives for none.
func setRDID(r *v1.LookupRecord, s string) error {
	if strings.Trim(s, "{}0-") != "" {
		r.RDID = s
	}
	return nil
}

// setTeam takes several addresses with blanks, commas or semicolons between.
func setTeam(r *v1.LookupRecord, s string) error {
	r.TeamPAs = strings.FieldsFunc(s, func(c rune) bool { return c == ' ' || c == ',' || c == ';' })
	return nil
}

// named is a value by its name in the interface, its name in Windows and its
// number there.
type named struct{ ours, windows, number string }

// The documentation of the class counts the values of Rule from 35 on and those
// of Type likewise, with 41 for L2Only; the real ones begin at 0.
var (
	rules = []named{{"", "TranslationMethodEncap", "1"}, {"rewrite", "TranslationMethodNat", "0"}}
	types = []named{
		{"static", "Static", "0"}, {"dynamic", "Dynamic", "1"},
		{"gateway-wildcard", "GatewayWildcard", "2"}, {"l2only", "L2Only", "6"},
	}
)

// find looks a value up by any of its names, without regard to case.
func find(all []named, s string) (named, bool) {
	i := slices.IndexFunc(all, func(n named) bool {
		return s != "" && (strings.EqualFold(s, n.windows) || s == n.number || strings.EqualFold(s, n.ours))
	})
	if i < 0 {
		return named{}, false
	}
	return all[i], true
}

// setRule takes the cmdlet's names and their numbers, and ours.
// TranslationMethodEncap is the encapsulation of the tenant.
func setRule(r *v1.LookupRecord, s string) error {
	if n, ok := find(rules, s); ok {
		r.Rule = n.ours
		return nil
	}
	switch rule := strings.ToLower(s); rule {
	case "nvgre", "vxlan":
		r.Rule = rule
		return nil
	}
	return fmt.Errorf("rule %q is not taken: use TranslationMethodEncap or TranslationMethodNat (or nvgre, vxlan, rewrite)", s)
}

func setType(r *v1.LookupRecord, s string) error {
	n, ok := find(types, s)
	if !ok {
		n, ok = find(types, strings.ReplaceAll(s, "-", "")) // l2-only
	}
	if !ok {
		return fmt.Errorf("type %q is unknown: use Static, Dynamic, GatewayWildcard or L2Only", s)
	}
	r.Type = n.ours
	return nil
}

func setUseVMMAC(r *v1.LookupRecord, s string) error {
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return fmt.Errorf("UseVmMACAddress %q must be True or False", s)
	}
	r.UseVMMAC = b
	return nil
}

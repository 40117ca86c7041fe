package recordfile

import (
	"fmt"
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
	"virtualsubnetid": setVSID,
	"vsid":            setVSID,
	"customerid":      setRDID,
	"rdid":            setRDID,
	"rule":            setRule,
	"type":            setType,
	"vmname":          text(func(r *v1.LookupRecord) *string { return &r.VMName }),
	"context":         text(func(r *v1.LookupRecord) *string { return &r.Context }),
	"usevmmacaddress": setUseVMMAC,
	"usevmmac":        setUseVMMAC,
	"tenant":          text(func(r *v1.LookupRecord) *string { return &r.Tenant }),
	"origin":          text(func(r *v1.LookupRecord) *string { return &r.Origin }),

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
const knownFields = "CustomerAddress, ProviderAddress, MACAddress, VirtualSubnetID, CustomerID, Context, Rule, VMName, UseVmMACAddress, Type (or ca, pa, mac, vsid, rdid, context, rule, vmName, useVMMAC, type)"

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

// setRule takes the cmdlet's names and their numbers. TranslationMethodEncap is
// the encapsulation of the tenant.
func setRule(r *v1.LookupRecord, s string) error {
	switch strings.ToLower(s) {
	case "translationmethodencap", "1":
		r.Rule = ""
	case "translationmethodnat", "0":
		r.Rule = "rewrite"
	case "nvgre", "vxlan", "rewrite":
		r.Rule = strings.ToLower(s)
	default:
		return fmt.Errorf("rule %q is not taken: use TranslationMethodEncap or TranslationMethodNat (or nvgre, vxlan, rewrite)", s)
	}
	return nil
}

func setType(r *v1.LookupRecord, s string) error {
	switch strings.ReplaceAll(strings.ToLower(s), "-", "") {
	case "static", "0":
		r.Type = "static"
	case "dynamic", "1":
		r.Type = "dynamic"
	case "gatewaywildcard", "2":
		r.Type = "gateway-wildcard"
	case "l2only", "3":
		r.Type = "l2only"
	default:
		return fmt.Errorf("type %q is unknown: use Static, Dynamic, GatewayWildcard or L2Only", s)
	}
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

package server_test

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// What nobody wrote can be read, and says why it cannot be written.
func TestRecordsThatNobodyWrote(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	withDHCP := strings.Replace(contoso, `"vsid":5001,`, `"vsid":5001,"dhcp":"10.1.1.5",`, 1)
	g.must("PUT", "/v1/tenants/contoso", withDHCP, 200)
	for path, want := range map[string]struct{ origin, name, pa, why string }{
		"5000/10.254.254.2": {v1.OriginGateway, "", "192.168.1.1", "is made by the gateway for the compartment of tenant contoso: change the tenant instead"},
		"5001/10.1.1.1":     {v1.OriginSubnet, hnv.RouterRecordName, "", "is the virtual subnet's own, for its distributed router or DHCP server"},
		"5001/10.1.1.5":     {v1.OriginSubnet, hnv.DHCPRecordName, "", "is the virtual subnet's own"},
	} {
		got := g.must("GET", "/v1/lookup-records/"+path, "", 200)
		r := decode[v1.LookupRecord](t, got)
		if r.Origin != want.origin || r.VMName != want.name || r.PA != want.pa || got.header.Get("ETag") == "" {
			t.Errorf("%s: %+v", path, r)
		}
		before := g.store.Objects()
		if r := g.call("DELETE", "/v1/lookup-records/"+path, ""); r.code != 409 || r.Type != v1.ProblemConflict || !strings.Contains(r.Detail, want.why) {
			t.Errorf("delete %s: %d %s", path, r.code, r.body)
		}
		if r := g.call("PUT", "/v1/lookup-records/"+path, string(got.body)); r.code != 422 || !strings.Contains(r.Detail+r.said(), "cannot be written") {
			t.Errorf("put %s: %d %s", path, r.code, r.body)
		}
		if !g.store.Same(before) {
			t.Errorf("%s: a refusal changed something", path)
		}
	}
	// The DHCP server is a VM like others: its own record can be written, and
	// taken away.
	const server = "/v1/lookup-records/5001/10.1.1.5"
	g.must("PUT", server, record("5001", "10.1.1.5", "00:15:5d:00:00:05"), 201)
	if l := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records?ca=10.1.1.5", "", 200)).Items; len(l) != 2 || l[0].Origin != v1.OriginConfigured || l[1].PA != "192.168.1.10" {
		t.Errorf("%+v", l)
	}
	g.must("DELETE", server, "", 204)
}

func TestTeamsOfProviderAddresses(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	team := func(pas string) string {
		return strings.Replace(record("5001", "10.1.1.12", "00:15:5d:00:00:02"), "{", `{"teamPAs":[`+pas+`],`, 1)
	}
	r := decode[v1.LookupRecord](t, g.must("POST", "/v1/lookup-records", team(`"192.168.1.11","192.168.1.12"`), 201))
	if !slices.Equal(r.TeamPAs, []string{"192.168.1.11", "192.168.1.12"}) {
		t.Errorf("%+v", r)
	}
	// An empty team is none, and writing it again changes nothing.
	g.must("PUT", "/v1/lookup-records/5001/10.1.1.12", team(""), 200)
	revision := g.store.Revision()
	if r := g.must("PUT", "/v1/lookup-records/5001/10.1.1.12", team(""), 200); strings.Contains(string(r.body), "teamPAs") || g.store.Revision() != revision {
		t.Errorf("%s", r.body)
	}
	for pas, says := range map[string]string{
		`"x"`:                 `provider address "x" is not an IP address`,
		`"192.168.1.10"`:      "provider address 192.168.1.10 is named twice",
		`"fd00::1"`:           "are not of one address family",
		`"224.0.0.1"`:         "is not a unicast address",
		`"1.1.1.1","1.1.1.1"`: "named twice",
		`"192.168.1.11"],"rule":"rewrite","teamPAs":["192.168.1.11"`: "a rewritten address has one provider address",
	} {
		if r := g.call("PUT", "/v1/lookup-records/5001/10.1.1.12", team(pas)); r.code != 422 || !strings.Contains(r.Detail+r.said(), says) {
			t.Errorf("%s: %d %s", pas, r.code, r.body)
		}
	}
}

// A record without a CA is found by its MAC, however that is written.
func TestL2OnlyRecords(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	for _, vsid := range []string{"5001", "6001"} {
		g.must("POST", "/v1/lookup-records", `{"vsid":`+vsid+`,"mac":"00:15:5d:00:00:09","pa":"192.168.1.10","type":"l2only"}`, 201)
	}
	for _, mac := range []string{"00:15:5d:00:00:09", "00-15-5D-00-00-09", "00155D000009"} {
		if r := decode[v1.LookupRecord](t, g.must("GET", "/v1/lookup-records/5001/"+mac, "", 200)); r.CA != "" || r.Type != "l2only" {
			t.Errorf("%s: %+v", mac, r)
		}
	}
	g.must("DELETE", "/v1/lookup-records/5001/00155D000009", "", 204)
	g.must("GET", "/v1/lookup-records/6001/00155D000009", "", 200)
	for body, says := range map[string]string{
		`{"vsid":5001,"mac":"00:15:5d:00:00:09","pa":"192.168.1.10"}`:                   "the customer address is missing",
		`{"vsid":5001,"mac":"00:15:5d:00:00:09","pa":"192.168.1.10","type":"dynamic"}`:  "the customer address is missing",
		`{"vsid":5001,"ca":"10.1.1.30","mac":"","pa":"192.168.1.10","type":"l2only"}`:   "the MAC address is missing",
		`{"vsid":5001,"ca":"10.1.1.30","mac":"","pa":"192.168.1.10","type":"wildcard"}`: `record type "wildcard" is unknown`,
	} {
		if r := g.call("POST", "/v1/lookup-records", body); r.code != 422 || !strings.Contains(r.Detail+r.said(), says) {
			t.Errorf("%s: %d %s", body, r.code, r.body)
		}
	}
}

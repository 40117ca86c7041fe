package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var site = hnv.Site{Uplinks: []string{"internet"}, PAInterfaces: []string{"eth1"}}

type gateway struct {
	t     *testing.T
	store *servertest.Store
	h     http.Handler
}

func newGateway(t *testing.T) *gateway {
	s := servertest.NewStore(site)
	return &gateway{t, s, server.New(s, &servertest.Backend{Store: s}, new(servertest.Secrets), slog.New(slog.DiscardHandler)).Handler()}
}

type reply struct {
	code   int
	header http.Header
	body   []byte
	v1.Problem
}

// said is all messages of a refusal.
func (r reply) said() (all string) {
	for _, e := range r.Errors {
		all += "\n" + e.Message
	}
	return all
}

func (g *gateway) call(method, path, body string, header ...string) reply {
	g.t.Helper()
	r := httptest.NewRequestWithContext(context.Background(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.h.ServeHTTP(w, r)
	out := reply{code: w.Code, header: w.Header(), body: w.Body.Bytes()}
	if w.Code >= 400 {
		if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
			g.t.Errorf("%s %s: content type %q of a refusal", method, path, ct)
		}
		if err := json.Unmarshal(out.body, &out.Problem); err != nil || out.Detail == "" || out.Type == "" || out.Status != w.Code {
			g.t.Errorf("%s %s: answer %q is no problem document: %v", method, path, out.body, err)
		}
	}
	return out
}

func (g *gateway) must(method, path, body string, want int) reply {
	g.t.Helper()
	r := g.call(method, path, body)
	if r.code != want {
		g.t.Fatalf("%s %s: %d %s, want %d", method, path, r.code, r.body, want)
	}
	return r
}

const (
	contoso  = `{"name":"contoso","encap":"nvgre","subnets":[{"vsid":5000,"prefixes":["10.254.254.0/29"]},{"vsid":5001,"prefixes":["10.1.1.0/24"]}],"gateway":{"vsid":5000,"uplink":"internet","nat":{"pool":["203.0.113.10"]}}}`
	fabrikam = `{"name":"fabrikam","encap":"vxlan","subnets":[{"vsid":6000,"prefixes":["10.254.254.0/29"]},{"vsid":6001,"prefixes":["10.1.1.0/24"]}],"gateway":{"vsid":6000,"uplink":"internet","nat":{"pool":["203.0.113.11"]}}}`
	pa       = `{"address":"192.168.1.1/24","interface":"eth1"}`
)

func record(vsid, ca, mac string) string {
	return `{"vsid":` + vsid + `,"ca":"` + ca + `","mac":"` + mac + `","pa":"192.168.1.10"}`
}

func acl(tenant string) string {
	return `{"tenant":"` + tenant + `","name":"web","rules":[` +
		`{"priority":200,"direction":"inbound","action":"allow","proto":"6","dstPorts":["443","8000-8999"]},` +
		`{"priority":100,"direction":"inbound","action":"deny","src":["10.1.2.0/24"],"proto":"tcp"}]}`
}

// twoTenants have the same addresses.
func (g *gateway) twoTenants() {
	g.must("POST", "/v1/provider-addresses", pa, 201)
	g.must("POST", "/v1/tenants", contoso, 201)
	g.must("POST", "/v1/tenants", fabrikam, 201)
	for _, vsid := range []string{"5001", "6001"} {
		g.must("POST", "/v1/lookup-records", record(vsid, "10.1.1.11", "00:15:5d:00:00:01"), 201)
	}
	g.must("POST", "/v1/ports", `{"interface":"vm1","vsid":5001,"mac":"00:15:5d:00:00:01"}`, 201)
	g.must("POST", "/v1/customer-routes", `{"vsid":5000,"prefix":"0.0.0.0/0","nextHop":"10.254.254.2"}`, 201)
	g.must("POST", "/v1/nat-mappings", `{"tenant":"contoso","proto":"tcp","external":"203.0.113.10:443","internal":"10.1.1.11:443"}`, 201)
}

func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

func TestTenantsWithTheSameAddresses(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	all := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records", "", 200)).Items
	if len(all) != 8 {
		t.Fatalf("%d records, want two configured, two of compartments and four of virtual subnets: %+v", len(all), all)
	}
	for i, want := range []struct{ tenant, rule, origin string }{
		{"contoso", "nvgre", v1.OriginSubnet}, {"contoso", "nvgre", v1.OriginGateway}, {"contoso", "nvgre", v1.OriginSubnet}, {"contoso", "nvgre", v1.OriginConfigured},
		{"fabrikam", "vxlan", v1.OriginSubnet}, {"fabrikam", "vxlan", v1.OriginGateway}, {"fabrikam", "vxlan", v1.OriginSubnet}, {"fabrikam", "vxlan", v1.OriginConfigured},
	} {
		if r := all[i]; r.Tenant != want.tenant || r.Rule != want.rule || r.Origin != want.origin {
			t.Errorf("record %d is %+v, want %+v", i, r, want)
		}
	}
	for query, n := range map[string]int{
		"tenant=contoso": 4, "vsid=6001": 2, "ca=10.1.1.11": 2, "ca=10.254.254.0/29": 4, "origin=configured": 2,
		"tenant=fabrikam&vsid=6000": 2, "tenant=contoso&ca=10.1.1.11": 1, "ca=10.9.9.9": 0, "vsid=6000&origin=subnet": 1,
	} {
		if l := decode[v1.LookupRecordList](t, g.must("GET", "/v1/lookup-records?"+query, "", 200)).Items; len(l) != n {
			t.Errorf("%s: %d records, want %d", query, len(l), n)
		}
	}
	for query, code := range map[string]int{"tenant=nobody": 404, "vsid=7001": 404, "vsid=5": 422, "ca=x": 422, "tenant=contoso&vsid=6001": 404, "color=red": 422, "vsid=x": 422} {
		if r := g.call("GET", "/v1/lookup-records?"+query, ""); r.code != code {
			t.Errorf("%s: %d, want %d: %s", query, r.code, code, r.body)
		}
	}
	if r := decode[v1.LookupRecord](t, g.must("GET", "/v1/lookup-records/5000/10.254.254.2", "", 200)); r.Origin != v1.OriginGateway || r.PA != "192.168.1.1" {
		t.Errorf("the compartment's record is %+v", r)
	}
	// Moving contoso's VM leaves fabrikam's alone.
	g.must("PUT", "/v1/lookup-records/5001/10.1.1.11", strings.Replace(record("5001", "10.1.1.11", "00:15:5d:00:00:01"), "1.10", "1.20", 1), 200)
	if r := decode[v1.LookupRecord](t, g.must("GET", "/v1/lookup-records/6001/10.1.1.11", "", 200)); r.PA != "192.168.1.10" {
		t.Errorf("fabrikam's record moved to %s", r.PA)
	}
}

func TestRefusalsSayWhyAndChangeNothing(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	before, revision := g.store.Objects(), g.store.Revision()
	for name, tc := range map[string]struct {
		method, path, body string
		code               int
		kind, says         string
	}{
		"vsid too small":      {"POST", "/v1/tenants", strings.NewReplacer("contoso", "x", "5001", "4095").Replace(contoso), 422, v1.ProblemInvalid, "VSID 4095 is out of range"},
		"vsid too large":      {"POST", "/v1/tenants", strings.NewReplacer("contoso", "x", "5001", "16777215").Replace(contoso), 422, v1.ProblemInvalid, "VSID 16777215 is out of range"},
		"vsid of another":     {"POST", "/v1/tenants", strings.NewReplacer("contoso", "x", "5000", "7000").Replace(contoso), 409, v1.ProblemConflict, "VSID 5001 belongs to tenant contoso"},
		"ca outside":          {"POST", "/v1/lookup-records", record("5001", "10.9.1.11", "00:15:5d:00:00:09"), 422, v1.ProblemInvalid, "outside VSID 5001"},
		"ca twice":            {"POST", "/v1/lookup-records", record("5001", "10.1.1.11", "00:15:5d:00:00:09"), 409, v1.ProblemConflict, "exists already"},
		"pa off the fabric":   {"POST", "/v1/lookup-records", strings.Replace(record("5001", "10.1.1.12", "00:15:5d:00:00:09"), "192.168.1.10", "172.16.0.1", 1), 404, v1.ProblemNotFound, "172.16.0.1 is not on the fabric"},
		"external overlaps":   {"POST", "/v1/tenants", strings.NewReplacer("contoso", "x", "5001", "7001", "5000", "7000").Replace(contoso), 409, v1.ProblemConflict, "203.0.113.10 overlaps"},
		"ports overlap":       {"POST", "/v1/tenants", strings.NewReplacer("contoso", "x", "5001", "7001", "5000", "7000", "203.0.113.10", "203.0.113.10:20000-20009").Replace(contoso), 409, v1.ProblemConflict, "overlaps"},
		"gateway ca outside":  {"PUT", "/v1/tenants/contoso", strings.Replace(contoso, `"uplink"`, `"cas":["10.1.1.5"],"uplink"`, 1), 422, v1.ProblemInvalid, "10.1.1.5 is outside the gateway subnet"},
		"unknown uplink":      {"PUT", "/v1/tenants/contoso", strings.Replace(contoso, `"uplink":"internet"`, `"uplink":"moon"`, 1), 404, v1.ProblemNotFound, `uplink "moon"`},
		"unknown pa nic":      {"POST", "/v1/provider-addresses", `{"address":"192.168.9.1/24","interface":"eth9"}`, 404, v1.ProblemNotFound, `"eth9"`},
		"route off-link":      {"POST", "/v1/provider-routes", `{"prefix":"172.16.0.0/12","nextHop":"192.168.9.9"}`, 404, v1.ProblemNotFound, "next hop 192.168.9.9 is on-link at no provider address"},
		"port in use":         {"POST", "/v1/nat-mappings", `{"tenant":"contoso","proto":"tcp","external":"203.0.113.10:443","internal":"10.1.1.12:443"}`, 409, v1.ProblemConflict, "exists already (tenant contoso, to 10.1.1.11:443)"},
		"port of another":     {"POST", "/v1/nat-mappings", `{"tenant":"fabrikam","proto":"tcp","external":"203.0.113.10:443","internal":"10.1.1.11:443"}`, 409, v1.ProblemConflict, "tenant contoso"},
		"mapping of others":   {"POST", "/v1/nat-mappings", `{"tenant":"contoso","proto":"tcp","external":"203.0.113.11:80","internal":"10.1.1.12:80"}`, 409, v1.ProblemConflict, "not within tenant contoso's external addresses"},
		"tenant in use":       {"DELETE", "/v1/tenants/contoso", "", 409, v1.ProblemInUse, "cascade"},
		"pa in use":           {"DELETE", "/v1/provider-addresses/192.168.1.1", "", 409, v1.ProblemInUse, "needs its provider address"},
		"no such tenant":      {"DELETE", "/v1/tenants/nobody", "", 404, v1.ProblemNotFound, "tenant nobody does not exist"},
		"no such record":      {"DELETE", "/v1/lookup-records/5001/10.1.1.99", "", 404, v1.ProblemNotFound, "lookup record 5001/10.1.1.99 does not exist"},
		"record of a gateway": {"POST", "/v1/lookup-records", record("5000", "10.254.254.2", "00:15:5d:00:00:09"), 409, v1.ProblemConflict, "compartment's own address"},
		"wrong tenant":        {"POST", "/v1/lookup-records", strings.Replace(record("5001", "10.1.1.12", "00:15:5d:00:00:09"), "{", `{"tenant":"fabrikam",`, 1), 409, v1.ProblemConflict, "VSID 5001 belongs to tenant contoso, not to fabrikam"},
		"wrong rdid":          {"POST", "/v1/lookup-records", strings.Replace(record("5001", "10.1.1.12", "00:15:5d:00:00:09"), "{", `{"rdid":"11111111-2222-4333-8444-555555555555",`, 1), 409, v1.ProblemConflict, "not in 11111111"},
		"unknown field":       {"POST", "/v1/lookup-records", `{"colour":"red"}`, 422, v1.ProblemInvalid, `unknown field "colour"`},
		"wrong sort":          {"POST", "/v1/lookup-records", `{"vsid":"5001"}`, 422, v1.ProblemInvalid, "vsid cannot be a string"},
		"not json":            {"POST", "/v1/tenants", "{\n  \"name\" 5}", 422, v1.ProblemInvalid, "line 2 of the body is not JSON"},
		"cut off":             {"POST", "/v1/tenants", `{"name":`, 422, v1.ProblemInvalid, "ends in the middle"},
		"two values":          {"POST", "/v1/tenants", contoso + contoso, 422, v1.ProblemInvalid, "more after"},
		"no body":             {"POST", "/v1/tenants", "", 400, v1.ProblemRequest, "request body is required"},
		"path and body":       {"PUT", "/v1/tenants/fabrikam", contoso, 422, v1.ProblemInvalid, "the path names fabrikam, the body contoso"},
		"route elsewhere":     {"POST", "/v1/customer-routes", `{"vsid":5001,"prefix":"10.77.0.0/16","nextHop":"10.254.254.2"}`, 422, v1.ProblemInvalid, "outside VSID 5001"},
		"route without vsid":  {"POST", "/v1/customer-routes", `{"vsid":7001,"prefix":"10.77.0.0/16","nextHop":"10.254.254.2"}`, 404, v1.ProblemNotFound, "VSID 7001 belongs to no tenant"},
		"port on the fabric":  {"POST", "/v1/ports", `{"interface":"eth1","vsid":5001,"mac":"00:15:5d:00:00:07"}`, 409, v1.ProblemConflict, "PA interface"},
		"no such resource":    {"GET", "/v1/balloons", "", 404, v1.ProblemRequest, "/v1/balloons"},
		"no such method":      {"PATCH", "/v1/tenants/contoso", "", 405, v1.ProblemRequest, "GET, PUT, DELETE"},
		"sessions without":    {"GET", "/v1/tenants/nobody/nat-sessions", "", 404, v1.ProblemNotFound, "tenant nobody"},
		"sessions limit":      {"GET", "/v1/tenants/contoso/nat-sessions?limit=0", "", 422, v1.ProblemInvalid, "limit"},
		"acl of nobody":       {"POST", "/v1/acls", acl("nobody"), 404, v1.ProblemNotFound, "ACL nobody/web: tenant nobody does not exist"},
		"acl without rules":   {"PUT", "/v1/acls/contoso/db", acl("contoso"), 422, v1.ProblemInvalid, "the path names contoso/db, the body contoso/web"},
		"acl priority":        {"POST", "/v1/acls", strings.Replace(acl("contoso"), "100", "70000", 1), 422, v1.ProblemInvalid, "priority cannot be a number 70000"},
		"acl rule twice":      {"POST", "/v1/acls", strings.Replace(acl("contoso"), "200", "100", 1), 422, v1.ProblemInvalid, "two inbound rules have priority 100"},
		"acl name in path":    {"GET", "/v1/acls/contoso/A", "", 422, v1.ProblemInvalid, `name "A"`},
		"no such acl":         {"GET", "/v1/acls/contoso/db", "", 404, v1.ProblemNotFound, "ACL contoso/db does not exist"},
		"acls of nobody":      {"GET", "/v1/acls?tenant=nobody", "", 404, v1.ProblemNotFound, "tenant nobody"},
		"dscp":                {"PUT", "/v1/tenants/contoso", strings.Replace(contoso, "{", `{"qos":{"dscp":"64"},`, 1), 422, v1.ProblemInvalid, `DSCP "64"`},
		"rate below nothing":  {"PUT", "/v1/tenants/contoso", strings.Replace(contoso, "{", `{"qos":{"inKbps":-1},`, 1), 422, v1.ProblemInvalid, "qos.inKbps cannot be a number -1"},
		"group":               {"PUT", "/v1/tenants/contoso", strings.Replace(contoso, `"vsid":5001,`, `"vsid":5001,"multicastGroup":"10.0.0.1",`, 1), 422, v1.ProblemInvalid, "VSID 5001: multicast group 10.0.0.1 is not a multicast address"},
		"host":                {"GET", "/v1/export?host=192.168.1.10/24,x", "", 422, v1.ProblemInvalid, `provider address "x" is not an IP address`},
		"unknown version":     {"POST", "/v1/apply", `{"apiVersion":"v7"}`, 422, v1.ProblemInvalid, `apiVersion "v7"`},
	} {
		r := g.call(tc.method, tc.path, tc.body)
		if r.code != tc.code || r.Type != tc.kind || !strings.Contains(r.Detail+r.said(), tc.says) {
			t.Errorf("%s: %d %s\n%s\nwant %d %s with %q", name, r.code, r.Type, r.body, tc.code, tc.kind, tc.says)
		}
		if !g.store.Same(before) || g.store.Revision() != revision {
			t.Fatalf("%s: the state changed", name)
		}
	}
}

func TestApplySaysAllThatIsWrongAtOnce(t *testing.T) {
	g := newGateway(t)
	doc := `{"providerAddresses":[` + pa + `],
		"tenants":[` + contoso + `,
			{"name":"Bad Name","encap":"gre","subnets":[{"vsid":6001,"prefixes":["10.1.1.0"]}]},
			{"name":"litware","encap":"vxlan","subnets":[{"vsid":5001,"prefixes":["10.1.1.0/24"]}]}],
		"lookupRecords":[` + record("5001", "10.1.1.11", "00:15:5d:00:00:01") + `,` + record("5001", "10.1.1.11", "00:15:5d:00:00:02") + `,
			` + record("6001", "10.1.1.11", "00:15:5d:00:00:01") + `,` + record("5001", "10.9.1.1", "zz") + `,` + record("5001", "10.9.1.2", "00:15:5d:00:00:03") + `]}`
	r := g.call("POST", "/v1/apply", doc)
	want := []struct{ at, says string }{
		{"body.tenants[1].name", `tenant Bad Name: name "Bad Name" is not a DNS label`},
		{"body.tenants[1].encap", `encapsulation "gre" is unknown`},
		{"body.tenants[1].subnets[0].prefixes[0]", "has no prefix length"},
		{"body.tenants[2]", "VSID 5001 belongs to tenant contoso"},
		{"body.lookupRecords[1]", "given twice: it is at body.lookupRecords[0]"},
		{"body.lookupRecords[3].mac", `lookup record 5001/10.9.1.1: MAC address "zz"`},
		{"body.lookupRecords[4]", "10.9.1.2 is outside VSID 5001"},
	}
	if r.code != 422 || len(r.Errors) != len(want) {
		t.Fatalf("%d, %d errors, want %d:\n%s", r.code, len(r.Errors), len(want), r.body)
	}
	for i, w := range want {
		if e := r.Errors[i]; e.Location != w.at || !strings.Contains(e.Message, w.says) {
			t.Errorf("error %d is %+v, want %+v", i, e, w)
		}
	}
	if len(g.store.Objects()) != 0 {
		t.Error("something was written")
	}
}

// What cannot be because something else in the request is refused is not said;
// what is wrong in itself is, alone or beside others of its kind.
func TestRefusalsThatFollowFromOthers(t *testing.T) {
	const (
		badPA      = `"providerAddresses":[{"address":"192.168.1.1/24","interface":"eth9"}]`
		onItsLink  = `{"prefix":"172.16.0.0/12","nextHop":"192.168.1.254"}`
		offLink    = `{"prefix":"172.20.0.0/16","nextHop":"192.168.9.9"}`
		behindBoth = `"lookupRecords":[{"vsid":5001,"ca":"10.1.1.11","mac":"00:15:5d:00:00:01","pa":"172.16.0.1"}]`
	)
	for name, c := range map[string]struct {
		doc  string
		code int
		at   []string
	}{
		"a route alone":                {`{"providerRoutes":[` + offLink + `]}`, 404, []string{"body.providerRoutes[0]"}},
		"two routes":                   {`{"providerRoutes":[` + onItsLink + `,` + offLink + `]}`, 404, []string{"body.providerRoutes[0]", "body.providerRoutes[1]"}},
		"a route to a refused address": {`{` + badPA + `,"providerRoutes":[` + onItsLink + `]}`, 404, []string{"body.providerAddresses[0]"}},
		"a record behind a route":      {`{"providerRoutes":[` + onItsLink + `],"tenants":[` + contoso + `],` + behindBoth + `}`, 404, []string{"body.providerRoutes[0]"}},
		"a record alone":               {`{"tenants":[` + contoso + `],` + behindBoth + `}`, 404, []string{"body.lookupRecords[0]"}},
		"a record of nobody":           {`{"providerAddresses":[` + pa + `],` + behindBoth + `}`, 404, []string{"body.lookupRecords[0]"}},
		"an ACL of a refused tenant":   {`{"tenants":[{"name":"contoso","encap":"gre","subnets":[]}],"acls":[` + acl("contoso") + `]}`, 422, []string{"body.tenants[0].encap"}},
		"a subnet and a port with an unreadable ACL": {`{"tenants":[{"name":"contoso","encap":"nvgre","subnets":[{"vsid":5001,"prefixes":["10.1.1.0/24"],"acl":"web"}]}],
			"acls":[` + strings.Replace(acl("contoso"), "6", "ftp", 1) + `],"ports":[{"interface":"vm1","vsid":5001,"mac":"00:15:5d:00:00:01","acl":"web"}]}`, 422, []string{"body.acls[0].rules[0].proto"}},
		"a subnet and a port with an ACL of nobody": {`{"tenants":[{"name":"contoso","encap":"nvgre","subnets":[{"vsid":5001,"prefixes":["10.1.1.0/24"],"acl":"web"}]}],
			"acls":[` + acl("fabrikam") + `]}`, 404, []string{"body.acls[0]"}},
		"a subnet with no ACL": {`{"tenants":[{"name":"contoso","encap":"nvgre","subnets":[{"vsid":5001,"prefixes":["10.1.1.0/24"],"acl":"db"}]}],
			"acls":[` + acl("contoso") + `]}`, 404, []string{"body.tenants[0]"}},
		"an ACL of nobody": {`{"acls":[` + acl("contoso") + `]}`, 404, []string{"body.acls[0]"}},
		"a mapping of nobody": {`{"natMappings":[{"tenant":"contoso","proto":"tcp","external":"203.0.113.10:1","internal":"10.1.1.11:1"}]}`,
			404, []string{"body.natMappings[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGateway(t).call("POST", "/v1/apply", c.doc)
			var at []string
			for _, e := range r.Errors {
				at = append(at, e.Location)
			}
			if r.code != c.code || !slices.Equal(at, c.at) {
				t.Errorf("%d, refused at %q, want %d and %q: %s", r.code, at, c.code, c.at, r.body)
			}
		})
	}
}

func TestApplyIsIdempotentAndExportIsItsInverse(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	exported := g.must("GET", "/v1/export", "", 200)
	before := g.store.Objects()

	r := decode[v1.ApplyResult](t, g.must("POST", "/v1/apply", string(exported.body), 200))
	for _, o := range r.Objects {
		if o.Action != v1.ActionUnchanged {
			t.Errorf("%+v", o)
		}
	}
	if !g.store.Same(before) {
		t.Error("applying what was exported changed something")
	}

	other := newGateway(t)
	dry := decode[v1.ApplyResult](t, other.must("POST", "/v1/apply?dryRun=true", string(exported.body), 200))
	if !dry.DryRun || len(dry.Objects) != len(before) || len(other.store.Objects()) != 0 {
		t.Errorf("dry run: %+v", dry)
	}
	other.must("POST", "/v1/apply", string(exported.body), 200)
	if !other.store.Same(before) {
		t.Error("another gateway made something else of the export")
	}
	// Without RDIDs the document still means the tenants that are.
	d := decode[v1.Document](t, exported)
	for i := range d.Tenants {
		d.Tenants[i].RDID = ""
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	other.must("POST", "/v1/apply", string(b), 200)
	if !other.store.Same(before) {
		t.Error("leaving the RDIDs out drew new ones")
	}
}

func TestCascade(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	r := decode[v1.DeleteResult](t, g.must("DELETE", "/v1/tenants/contoso?cascade=true", "", 200))
	want := []v1.KindCount{{Kind: "tenant", Count: 1}, {Kind: "port", Count: 1}, {Kind: "record", Count: 1}, {Kind: "customer-route", Count: 1}, {Kind: "nat-mapping", Count: 1}}
	if len(r.Deleted) != len(want) {
		t.Fatalf("%+v", r)
	}
	for i := range want {
		if r.Deleted[i] != want[i] {
			t.Errorf("%+v, want %+v", r.Deleted[i], want[i])
		}
	}
	if n := len(g.store.Objects()); n != 3 {
		t.Errorf("%d objects are left, want fabrikam, its record and the provider address", n)
	}
}

func TestImport(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	body := func(records ...string) string { return `{"items":[` + strings.Join(records, ",") + `]}` }
	good := body(record("5001", "10.1.1.11", "00:15:5d:00:00:01"), record("5001", "10.1.1.12", "00:15:5d:00:00:02"), record("6001", "10.1.1.11", "00:15:5d:00:00:03"))
	for range 2 {
		r := decode[v1.RecordImportResult](t, g.must("POST", "/v1/lookup-records/import?dryRun=true", good, 200))
		if !r.DryRun || r.Created != 1 || r.Updated != 1 || r.Unchanged != 1 {
			t.Errorf("dry run: %+v", r)
		}
	}
	before := g.store.Objects()
	r := g.call("POST", "/v1/lookup-records/import", body(record("5001", "10.1.1.12", "00:15:5d:00:00:02"), record("5001", "10.9.1.1", "00:15:5d:00:00:02"), record("5001", "10.1.1.13", "x")))
	if r.code != 422 || len(r.Errors) != 2 || r.Errors[0].Location != "body.items[1]" || r.Errors[1].Location != "body.items[2].mac" || !g.store.Same(before) {
		t.Errorf("%d %s", r.code, r.body)
	}
	res := decode[v1.RecordImportResult](t, g.must("POST", "/v1/lookup-records/import", good, 200))
	if res.Created != 1 || res.Updated != 1 || res.Unchanged != 1 || len(g.store.Objects()) != len(before)+1 {
		t.Errorf("%+v", res)
	}
}

func TestFailingStore(t *testing.T) {
	g := newGateway(t)
	g.store.Fail = errors.New("write to the store: no space left on device")
	r := g.call("POST", "/v1/tenants", contoso)
	if r.code != 503 || r.Type != v1.ProblemUnavailable || !strings.Contains(r.Detail, "no space left") {
		t.Errorf("%d %s", r.code, r.body)
	}
}

func TestBodyLimit(t *testing.T) {
	g := newGateway(t)
	big := `{"name":"` + strings.Repeat("x", 2<<20) + `"}`
	if r := g.call("POST", "/v1/tenants", big); r.code != 413 {
		t.Errorf("%d %s", r.code, r.body[:min(300, len(r.body))])
	}
}

type panicking struct{ server.Backend }

func (panicking) Version() v1.Version { panic("on purpose") }

func TestPanicStaysInItsRequest(t *testing.T) {
	var log bytes.Buffer
	s := servertest.NewStore(site)
	g := &gateway{t, s, server.New(s, panicking{}, nil, slog.New(slog.NewTextHandler(&log, nil))).Handler()}
	if r := g.call("GET", "/v1/version", ""); r.code != 500 {
		t.Errorf("%d %s", r.code, r.body)
	}
	if !strings.Contains(log.String(), "on purpose") {
		t.Error("the log does not tell of the panic")
	}
}

func TestOpenAPIIsServed(t *testing.T) {
	g := newGateway(t)
	for path, want := range map[string]string{"/v1/openapi.yaml": "openapi: 3.1.0", "/v1/openapi.json": `"openapi":"3.1.0"`} {
		r := g.must("GET", path, "", 200)
		if !bytes.Contains(r.body, []byte(want)) {
			t.Errorf("%s has no %q", path, want)
		}
	}
}

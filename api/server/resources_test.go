package server_test

import (
	"slices"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestACLsOfTheSameName(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	made := decode[v1.ACL](t, g.must("POST", "/v1/acls", acl("contoso"), 201))
	if len(made.Rules) != 2 || made.Rules[0].Priority != 100 || made.Rules[1].Proto != "tcp" || made.Rules[1].DstPorts[1] != "8000-8999" {
		t.Errorf("%+v", made)
	}
	g.must("PUT", "/v1/acls/fabrikam/web", acl("fabrikam"), 201)
	g.must("PUT", "/v1/acls/fabrikam/web", `{"tenant":"fabrikam","name":"web","rules":[]}`, 200)
	if again := decode[v1.ACL](t, g.must("GET", "/v1/acls/contoso/web", "", 200)); len(again.Rules) != 2 {
		t.Errorf("contoso's ACL became fabrikam's: %+v", again)
	}
	if own := g.must("GET", "/v1/acls/fabrikam/web", "", 200); !strings.Contains(string(own.body), `"rules":[]`) {
		t.Errorf("%s", own.body)
	}
	for query, n := range map[string]int{"": 2, "?tenant=contoso": 1} {
		if l := decode[v1.ACLList](t, g.must("GET", "/v1/acls"+query, "", 200)).Items; len(l) != n {
			t.Errorf("%s: %d ACLs, want %d", query, len(l), n)
		}
	}
	g.must("DELETE", "/v1/acls/contoso/web", "", 204)
	g.must("GET", "/v1/acls/fabrikam/web", "", 200)
	r := decode[v1.DeleteResult](t, g.must("DELETE", "/v1/tenants/fabrikam?cascade=true", "", 200))
	if !slices.Contains(r.Deleted, v1.KindCount{Kind: "acl", Count: 1}) {
		t.Errorf("%+v", r)
	}
}

func TestApplyShowsDifferences(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	before := g.store.Objects()
	doc := `{"tenants":[` + strings.Replace(contoso, `"10.1.1.0/24"`, `"10.1.1.0/24","10.1.2.0/24"`, 1) + `,` + fabrikam + `],"lookupRecords":[` + record("5001", "10.1.2.11", "00:15:5d:00:00:09") + `]}`
	r := decode[v1.ApplyResult](t, g.must("POST", "/v1/apply?dryRun=true&diff=true", doc, 200))
	if len(r.Objects) != 3 || !g.store.Same(before) {
		t.Fatalf("%+v", r)
	}
	updated, same, created := r.Objects[0], r.Objects[1], r.Objects[2]
	if !strings.Contains(string(updated.New), `"10.1.2.0/24@10.1.2.1"`) || strings.Contains(string(updated.Old), "10.1.2.0/24") || !strings.Contains(string(updated.Old), `"rdid"`) {
		t.Errorf("%s, %s", updated.Old, updated.New)
	}
	if same.Old != nil || same.New != nil || created.Old != nil || !strings.Contains(string(created.New), `"rule":"nvgre"`) {
		t.Errorf("%+v, %+v", same, created)
	}
	if r := g.must("POST", "/v1/apply?dryRun=true", doc, 200); strings.Contains(string(r.body), `"new"`) {
		t.Errorf("unasked: %s", r.body)
	}
}

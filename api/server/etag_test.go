package server_test

import (
	"net/http"
	"strings"
	"testing"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// resources is one object of every kind that twoTenants makes, and how each can
// be changed: from old to new, and back.
var resources = map[string]struct{ path, old, new string }{
	"tenant":           {"/v1/tenants/contoso", `"10.1.1.0/24@10.1.1.1"`, `"10.1.1.0/24@10.1.1.1","10.1.2.0/24"`},
	"ACL":              {"/v1/acls/contoso/web", `"action":"allow"`, `"action":"deny"`},
	"lookup record":    {"/v1/lookup-records/5001/10.1.1.11", `192.168.1.10`, `192.168.1.20`},
	"port":             {"/v1/ports/vm1", `00:15:5d:00:00:01`, `00:15:5d:00:00:02`},
	"customer route":   {"/v1/customer-routes/5000/0.0.0.0/0/10.254.254.2", `"nextHop":"10.254.254.2"`, `"nextHop":"10.254.254.2","metric":7`},
	"provider address": {"/v1/provider-addresses/192.168.1.1", `"192.168.1.1/24"`, `"192.168.1.1/22"`},
	"provider route":   {"/v1/provider-routes/192.168.2.0/24/192.168.1.254", `"192.168.1.254"`, `"192.168.1.254","metric":7`},
	"NAT mapping":      {"/v1/nat-mappings/tcp/203.0.113.10:443", `10.1.1.11:443`, `10.1.1.12:443`},
}

func TestConditionalWrites(t *testing.T) {
	for noun, r := range resources {
		t.Run(noun, func(t *testing.T) {
			g := newGateway(t)
			g.twoTenants()
			g.must("POST", "/v1/acls", acl("contoso"), 201)
			g.must("POST", "/v1/provider-routes", `{"prefix":"192.168.2.0/24","nextHop":"192.168.1.254"}`, 201)
			got := g.must("GET", r.path, "", 200)
			tag, old := got.header.Get("ETag"), string(got.body)
			changed := strings.Replace(old, r.old, r.new, 1)
			if tag == "" || changed == old {
				t.Fatalf("ETag %q of %s", tag, old)
			}
			// Writing it again, just so, changes neither it nor its ETag.
			same := g.call("PUT", r.path, old, "If-Match", tag)
			if same.code != 200 || same.header.Get("ETag") != tag {
				t.Fatalf("%d %s, ETag %s, was %s", same.code, same.body, same.header.Get("ETag"), tag)
			}
			put := g.call("PUT", r.path, changed, "If-Match", `W/"x", "y" ,`+tag)
			next := put.header.Get("ETag")
			if put.code != 200 || next == "" || next == tag {
				t.Fatalf("%d %s, ETag %s", put.code, put.body, next)
			}
			if now := g.must("GET", r.path, "", 200); now.header.Get("ETag") != next || string(now.body) != string(put.body) {
				t.Errorf("PUT said %s %s, then GET says %s %s", next, put.body, now.header.Get("ETag"), now.body)
			}
			before := g.store.Objects()
			for what, call := range map[string]func() reply{
				"put":    func() reply { return g.call("PUT", r.path, old, "If-Match", tag) },
				"delete": func() reply { return g.call("DELETE", r.path, "", "If-Match", tag) },
				"weak":   func() reply { return g.call("PUT", r.path, old, "If-Match", "W/"+next) },
			} {
				got := call()
				if got.code != http.StatusPreconditionFailed || got.Type != v1.ProblemPrecondition || !strings.Contains(got.Detail, noun) || !strings.Contains(got.Detail, "changed meanwhile: read it again") {
					t.Errorf("%s with a stale ETag: %d %s", what, got.code, got.body)
				}
			}
			if !g.store.Same(before) {
				t.Error("a refused write changed something")
			}
			if got := g.call("PUT", r.path, old, "If-Match", "*"); got.code != 200 || got.header.Get("ETag") != tag {
				t.Errorf("back again: %d %s", got.code, got.body)
			}
		})
	}
}

func TestConditionalDelete(t *testing.T) {
	g := newGateway(t)
	g.twoTenants()
	const path = "/v1/ports/vm1"
	got := g.must("GET", path, "", 200)
	if r := g.call("DELETE", path, "", "If-Match", got.header.Get("ETag")); r.code != 204 {
		t.Fatalf("%d %s", r.code, r.body)
	}
	if r := g.call("PUT", path, string(got.body), "If-Match", "*"); r.code != 412 || !strings.Contains(r.Detail, "port vm1 does not exist any more") {
		t.Errorf("what is gone was written: %d %s", r.code, r.body)
	}
	if r := g.call("PUT", path, string(got.body)); r.code != 201 || r.header.Get("ETag") != got.header.Get("ETag") {
		t.Errorf("%d %s", r.code, r.body)
	}
	before := g.store.Objects()
	for _, bad := range []string{`x`, `"x`, `"x" "y"`, `W/x`, `"x",*`, `,`, ` `} {
		for _, method := range []string{"PUT", "DELETE"} {
			if r := g.call(method, path, map[string]string{"PUT": string(got.body)}[method], "If-Match", bad); r.code != 422 || !strings.Contains(r.Detail, "If-Match") {
				t.Errorf("%s If-Match %s: %d %s", method, bad, r.code, r.body)
			}
		}
	}
	if !g.store.Same(before) {
		t.Error("a malformed condition changed something")
	}
	// A tenant with all its objects goes only as it was read.
	tag := g.must("GET", "/v1/tenants/contoso", "", 200).header.Get("ETag")
	g.must("PUT", "/v1/tenants/contoso", strings.Replace(contoso, `"10.1.1.0/24"`, `"10.1.1.0/24","10.1.2.0/24"`, 1), 200)
	if r := g.call("DELETE", "/v1/tenants/contoso?cascade=true", "", "If-Match", tag); r.code != 412 {
		t.Errorf("%d %s", r.code, r.body)
	}
}

package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func tenants() resource[v1.Tenant, v1.TenantList] {
	return resource[v1.Tenant, v1.TenantList]{
		path: "/v1/tenants", key: "/{name}", id: "tenant", noun: "tenant", plural: "tenants", kind: hnv.KindTenant,
		item: tenantItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.Tenant { return v1.NewTenant(o.(hnv.Tenant)) },
		list: func(items []v1.Tenant) v1.TenantList { return v1.TenantList{Items: items} },
	}
}

type tenantKey struct {
	Name string `path:"name" doc:"Name of the tenant." example:"contoso"`
}

type tenantPut struct {
	Name    string `path:"name" doc:"Name of the tenant." example:"contoso"`
	IfMatch string `header:"If-Match" doc:"ETag of the tenant as it was read; refused with 412 where it changed since."`
	Body    v1.Tenant
}

type tenantAnswer struct {
	ETag string `header:"ETag" doc:"Changes whenever the tenant does; for If-Match."`
	Body v1.Tenant
}

type tenantDelete struct {
	Name    string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Cascade bool   `query:"cascade" doc:"Delete its lookup records, customer routes, ports and NAT mappings too; otherwise a tenant that has any is refused."`
}

func (s *Server) registerTenants() {
	r := tenants()
	r.registerList(s)
	r.registerCreate(s)
	huma.Register(s.api, r.getOperation(), s.getTenant)

	put := operation("put-tenant", http.MethodPut, "/v1/tenants/{name}", r.plural, "Create or replace a tenant")
	put.Description = "Answers 201 where it is new, 200 where it was replaced or was just so already. An RDID that is left out stays."
	put.Errors = append([]int{http.StatusPreconditionFailed}, refusals...)
	huma.Register(s.api, put, s.putTenant)

	del := operation("delete-tenant", http.MethodDelete, "/v1/tenants/{name}", r.plural, "Delete a tenant")
	del.Description = "With cascade all goes in one transaction, except that of a tenant with more lookup records than fit into one the records go first, in parts."
	del.Errors = refusals
	huma.Register(s.api, del, s.deleteTenant)
}

func etag(t v1.Tenant) string {
	b, err := json.Marshal(t)
	if err != nil {
		return ""
	}
	h := sha256.Sum256(b)
	return `"` + hex.EncodeToString(h[:12]) + `"`
}

func (s *Server) getTenant(_ context.Context, in *tenantKey) (*tenantAnswer, error) {
	n, err := hnv.ParseName(in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	body, ok := tenants().one(s, n.String())
	if !ok {
		return nil, s.refuse(absent("tenant", in.Name))
	}
	return &tenantAnswer{etag(body), body}, nil
}

func (s *Server) putTenant(ctx context.Context, in *tenantPut) (*written[v1.Tenant], error) {
	n, err := hnv.ParseName(in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	it := tenantItem("body", in.Body)
	it.mustBe(hnv.Tenant{Name: n})
	w := &writing{items: []item{it}}
	if in.IfMatch != "" {
		w.unless = func(f *hnv.Fabric) error {
			if t, ok := f.Tenant(n); !ok || etag(v1.NewTenant(t)) != in.IfMatch {
				return &kindError{"tenant " + in.Name + ": " + errChanged.Error(), errChanged}
			}
			return nil
		}
	}
	return tenants().write(ctx, s, w)
}

// cascadePart is how many lookup records one transaction of a deletion takes
// along.
const cascadePart = 50_000

func (s *Server) deleteTenant(ctx context.Context, in *tenantDelete) (*answer[v1.DeleteResult], error) {
	n, err := hnv.ParseName(in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	total := map[hnv.Kind]int{}
	for {
		var part map[hnv.Kind]int
		done := true
		rev, err := s.store.UpdateFunc(ctx, func(f *hnv.Fabric) ([]hnv.Change, error) {
			part = map[hnv.Kind]int{}
			changes := []hnv.Change{{Delete: hnv.Tenant{Name: n}}}
			if _, ok := f.Tenant(n); !ok {
				return nil, absent("tenant", in.Name)
			}
			if in.Cascade {
				var err error
				if changes, err = f.Cascade(n); err != nil {
					return nil, err
				}
			}
			changes, done = bounded(changes, cascadePart)
			for _, c := range changes {
				part[c.Delete.Kind()]++
			}
			return changes, nil
		})
		if err != nil {
			return nil, s.refuse(err)
		}
		for k, c := range part {
			total[k] += c
		}
		if !done {
			continue
		}
		out := &answer[v1.DeleteResult]{v1.DeleteResult{Revision: rev, Deleted: []v1.KindCount{}}}
		for _, k := range hnv.Kinds() {
			if total[k] > 0 {
				out.Body.Deleted = append(out.Body.Deleted, v1.KindCount{Kind: string(k), Count: total[k]})
			}
		}
		return out, nil
	}
}

// bounded gives changes that fit into a transaction: all of them, or else a
// part of the lookup records alone.
func bounded(changes []hnv.Change, limit int) (part []hnv.Change, all bool) {
	if len(changes) <= limit {
		return changes, true
	}
	for _, c := range changes {
		if c.Delete.Kind() == hnv.KindRecord && len(part) < limit {
			part = append(part, c)
		}
	}
	if len(part) < limit { // it is not the records that are many
		return changes, true
	}
	return part, false
}

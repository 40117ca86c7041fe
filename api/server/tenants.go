package server

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func tenants() resource[v1.Tenant, v1.TenantList] {
	return resource[v1.Tenant, v1.TenantList]{
		path: "/v1/tenants", key: "/{name}", id: "tenant", noun: "tenant", plural: "tenants", kind: hnv.KindTenant,
		item:  tenantItem,
		show:  func(_ *hnv.Fabric, o hnv.Object) v1.Tenant { return v1.NewTenant(o.(hnv.Tenant)) },
		list:  func(items []v1.Tenant) v1.TenantList { return v1.TenantList{Items: items} },
		onPut: " An RDID that is left out stays.",
	}
}

type tenantKey struct {
	Name string `path:"name" doc:"Name of the tenant." example:"contoso"`
}

func (k tenantKey) object() (hnv.Object, error) {
	n, err := hnv.ParseName(k.Name)
	return hnv.Tenant{Name: n}, err
}

type tenantPut struct {
	Name string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Body v1.Tenant
}

func (p tenantPut) object() (hnv.Object, error) { return tenantKey{p.Name}.object() }
func (p tenantPut) body() v1.Tenant             { return p.Body }

type tenantDelete struct {
	Name    string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Cascade bool   `query:"cascade" doc:"Delete all that belongs to it too: ACLs, lookup records, customer routes, ports, NAT mappings, attachments, site-to-site connections and BGP; otherwise a tenant that has any is refused."`
}

func (s *Server) registerTenants() {
	r := tenants()
	r.registerList(s)
	r.registerCreate(s)
	registerGet[tenantKey](s, r)
	registerPut[tenantPut](s, r)

	del := r.deleteOperation()
	del.Description = "With cascade all goes in one transaction, except that of a tenant with more lookup records than fit into one the records go first, in parts."
	huma.Register(s.api, del, s.deleteTenant)
}

// cascadePart is how many lookup records one transaction of a deletion takes
// along.
const cascadePart = 50_000

func (s *Server) deleteTenant(ctx context.Context, in *tenantDelete) (*answer[v1.DeleteResult], error) {
	n, err := hnv.ParseName(in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	m, err := readIfMatch(ctx)
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
			if err := tenants().unchanged(f, m, n.String()); err != nil {
				return nil, err
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

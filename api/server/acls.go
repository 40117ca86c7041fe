package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func acls() resource[v1.ACL, v1.ACLList] {
	return resource[v1.ACL, v1.ACLList]{
		path: "/v1/acls", key: "/{tenant}/{name}", id: "acl", noun: "ACL", plural: "acls", kind: hnv.KindACL,
		item:  aclItem,
		show:  func(_ *hnv.Fabric, o hnv.Object) v1.ACL { return v1.NewACL(o.(hnv.ACL)) },
		list:  func(items []v1.ACL) v1.ACLList { return v1.ACLList{Items: items} },
		onPut: " To change single rules, read it, change the list, and write it with If-Match.",
	}
}

type aclKey struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the ACL." example:"web"`
}

func (k aclKey) object() (hnv.Object, error) {
	t, n, err := hnv.ParseACLKey(k.Tenant + "/" + k.Name)
	return hnv.ACL{Tenant: t, Name: n}, err
}

type aclPut struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the ACL." example:"web"`
	Body   v1.ACL
}

func (p aclPut) object() (hnv.Object, error) { return aclKey{p.Tenant, p.Name}.object() }
func (p aclPut) body() v1.ACL                { return p.Body }

func (s *Server) registerACLs() {
	r := acls()
	list := operation("list-acls", http.MethodGet, r.path, r.plural, "List the ACLs")
	list.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, list, func(_ context.Context, in *tenantFilter) (*answer[v1.ACLList], error) {
		if err := s.checkTenant(in.Tenant); err != nil {
			return nil, err
		}
		items := r.all(s, func(_ *hnv.Fabric, o hnv.Object) bool {
			return in.Tenant == "" || o.(hnv.ACL).Tenant.String() == in.Tenant
		})
		return &answer[v1.ACLList]{r.list(items)}, nil
	})
	registerGet[aclKey](s, r)
	r.registerCreate(s)
	registerPut[aclPut](s, r)
	registerDelete[aclKey](s, r)
}

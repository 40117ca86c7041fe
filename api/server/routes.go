package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func customerRoutes() resource[v1.CustomerRoute, v1.CustomerRouteList] {
	return resource[v1.CustomerRoute, v1.CustomerRouteList]{
		path: "/v1/customer-routes", key: "/{vsid}/{address}/{length}/{nextHop}", id: "customer-route",
		noun: "customer route", plural: "customer-routes", kind: hnv.KindCustomerRoute,
		item: routeItem,
		show: func(f *hnv.Fabric, o hnv.Object) v1.CustomerRoute {
			r := o.(hnv.CustomerRoute)
			t, _ := f.TenantOfVSID(r.VSID)
			return v1.NewCustomerRoute(r, t.Name.String())
		},
		list: func(items []v1.CustomerRoute) v1.CustomerRouteList { return v1.CustomerRouteList{Items: items} },
	}
}

type routeKey struct {
	VSID    uint32 `path:"vsid" doc:"Virtual subnet of the next hop." example:"5000"`
	Address string `path:"address" doc:"Address of the destination prefix." example:"0.0.0.0"`
	Length  int    `path:"length" doc:"Length of the destination prefix." example:"0"`
	NextHop string `path:"nextHop" doc:"Customer address of the next hop." example:"10.254.254.2"`
}

func (k routeKey) object() (hnv.Object, error) {
	return v1.CustomerRoute{VSID: k.VSID, Prefix: prefixText(k.Address, k.Length), NextHop: k.NextHop}.Object()
}

type routePut struct {
	VSID    uint32 `path:"vsid" doc:"Virtual subnet of the next hop." example:"5000"`
	Address string `path:"address" doc:"Address of the destination prefix." example:"0.0.0.0"`
	Length  int    `path:"length" doc:"Length of the destination prefix." example:"0"`
	NextHop string `path:"nextHop" doc:"Customer address of the next hop." example:"10.254.254.2"`
	Body    v1.CustomerRoute
}

func (p routePut) object() (hnv.Object, error) {
	return routeKey{p.VSID, p.Address, p.Length, p.NextHop}.object()
}
func (p routePut) body() v1.CustomerRoute { return p.Body }

type tenantFilter struct {
	Tenant string `query:"tenant" doc:"Only those of this tenant; one that does not exist is refused." example:"contoso"`
}

func (s *Server) registerRoutes() {
	r := customerRoutes()
	list := operation("list-customer-routes", http.MethodGet, r.path, r.plural, "List the customer routes")
	list.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, list, func(_ context.Context, in *tenantFilter) (*answer[v1.CustomerRouteList], error) {
		if err := s.checkTenant(in.Tenant); err != nil {
			return nil, err
		}
		items := r.all(s, func(f *hnv.Fabric, o hnv.Object) bool {
			t, ok := f.TenantOfVSID(o.(hnv.CustomerRoute).VSID)
			return in.Tenant == "" || ok && t.Name.String() == in.Tenant
		})
		return &answer[v1.CustomerRouteList]{r.list(items)}, nil
	})
	registerGet[routeKey](s, r)
	r.registerCreate(s)
	registerPut[routePut](s, r)
	registerDelete[routeKey](s, r)
}

// checkTenant refuses a filter that names no tenant.
func (s *Server) checkTenant(name string) error {
	if name == "" {
		return nil
	}
	var err error
	s.store.View(func(f *hnv.Fabric) { _, err = tenantNamed(f, name) })
	if err != nil {
		return s.refuse(err)
	}
	return nil
}

package server

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func mappings() resource[v1.NATMapping, v1.NATMappingList] {
	return resource[v1.NATMapping, v1.NATMappingList]{
		path: "/v1/nat-mappings", key: "/{proto}/{external}", id: "nat-mapping",
		noun: "NAT mapping", plural: "nat-mappings", kind: hnv.KindNATMapping,
		item: mappingItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.NATMapping { return v1.NewNATMapping(o.(hnv.NATMapping)) },
		list: func(items []v1.NATMapping) v1.NATMappingList { return v1.NATMappingList{Items: items} },
	}
}

type mappingKey struct {
	Proto    string `path:"proto" doc:"Transport protocol." enum:"tcp,udp" example:"tcp"`
	External string `path:"external" doc:"External end, ADDR:PORT." example:"203.0.113.10:443"`
}

func (k mappingKey) object() (hnv.Object, error) {
	p, err := hnv.ParseProto(k.Proto)
	if err != nil {
		return nil, err
	}
	e, err := netip.ParseAddrPort(k.External)
	if err != nil {
		return nil, invalidf("external end %q is malformed: write it as 203.0.113.10:443, or [2001:db8::10]:443", k.External)
	}
	return hnv.NATMapping{Proto: p, External: e}, nil
}

type mappingPut struct {
	Proto    string `path:"proto" doc:"Transport protocol." enum:"tcp,udp" example:"tcp"`
	External string `path:"external" doc:"External end, ADDR:PORT." example:"203.0.113.10:443"`
	Body     v1.NATMapping
}

func (p mappingPut) object() (hnv.Object, error) { return mappingKey{p.Proto, p.External}.object() }
func (p mappingPut) body() v1.NATMapping         { return p.Body }

type sessionsInput struct {
	Name  string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Limit int    `query:"limit" doc:"How many at most." minimum:"1" maximum:"10000" default:"1000"`
}

func (s *Server) registerNAT() {
	r := mappings()
	list := operation("list-nat-mappings", http.MethodGet, r.path, r.plural, "List the static NAT mappings")
	list.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, list, func(_ context.Context, in *tenantFilter) (*answer[v1.NATMappingList], error) {
		if err := s.checkTenant(in.Tenant); err != nil {
			return nil, err
		}
		items := r.all(s, func(_ *hnv.Fabric, o hnv.Object) bool {
			return in.Tenant == "" || o.(hnv.NATMapping).Tenant.String() == in.Tenant
		})
		return &answer[v1.NATMappingList]{r.list(items)}, nil
	})
	registerGet[mappingKey](s, r)
	r.registerCreate(s)
	registerPut[mappingPut](s, r)
	registerDelete[mappingKey](s, r)

	sessions := operation("list-nat-sessions", http.MethodGet, "/v1/tenants/{name}/nat-sessions", "status", "List a tenant's tracked connections")
	sessions.Errors = []int{http.StatusNotFound}
	huma.Register(s.api, sessions, func(ctx context.Context, in *sessionsInput) (*answer[v1.NATSessionList], error) {
		if err := s.checkTenant(in.Name); err != nil {
			return nil, err
		}
		n, err := hnv.ParseName(in.Name)
		if err != nil {
			return nil, s.refuse(err)
		}
		items, more, err := s.backend.NATSessions(ctx, n, in.Limit)
		if err != nil {
			return nil, s.refuse(err)
		}
		return &answer[v1.NATSessionList]{v1.NATSessionList{Items: orEmpty(items), Truncated: more}}, nil
	})
}

func orEmpty[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

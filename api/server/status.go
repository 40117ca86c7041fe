package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func (s *Server) registerStatus() {
	huma.Register(s.api, operation("status", http.MethodGet, "/v1/status", "status", "State of the gateway and its tenants"),
		func(ctx context.Context, _ *nothing) (*answer[v1.GatewayStatus], error) {
			st, err := s.backend.Status(ctx)
			if err != nil {
				return nil, s.refuse(err)
			}
			st.StoreRevision = s.store.Revision()
			st.Conditions, st.Features = orEmpty(st.Conditions), orEmpty(st.Features)
			st.ProviderAddresses, st.Uplinks, st.Ports = orEmpty(st.ProviderAddresses), orEmpty(st.Uplinks), orEmpty(st.Ports)
			st.Tenants, st.Unattributed, st.GatewayDrops = orEmpty(st.Tenants), orEmpty(st.Unattributed), orEmpty(st.GatewayDrops)
			st.Peers = orEmpty(st.Peers)
			for i := range st.Tenants {
				st.Tenants[i] = noNulls(st.Tenants[i])
			}
			return &answer[v1.GatewayStatus]{st}, nil
		})

	tenant := operation("tenant-status", http.MethodGet, "/v1/tenants/{name}/status", "status", "State of one tenant")
	tenant.Errors = []int{http.StatusNotFound}
	huma.Register(s.api, tenant, func(ctx context.Context, in *tenantKey) (*answer[v1.TenantStatus], error) {
		n, err := hnv.ParseName(in.Name)
		if err != nil {
			return nil, s.refuse(err)
		}
		if err := s.checkTenant(in.Name); err != nil {
			return nil, err
		}
		st, err := s.backend.TenantStatus(ctx, n)
		if err != nil {
			return nil, s.refuse(err)
		}
		return &answer[v1.TenantStatus]{noNulls(st)}, nil
	})

	huma.Register(s.api, operation("list-compartments", http.MethodGet, "/v1/compartments", "status", "List the compartments"),
		func(ctx context.Context, _ *nothing) (*answer[v1.CompartmentList], error) {
			items, err := s.backend.Compartments(ctx)
			if err != nil {
				return nil, s.refuse(err)
			}
			for i := range items {
				items[i].CAs, items[i].External = orEmpty(items[i].CAs), orEmpty(items[i].External)
			}
			return &answer[v1.CompartmentList]{v1.CompartmentList{Items: orEmpty(items)}}, nil
		})

	huma.Register(s.api, operation("version", http.MethodGet, "/v1/version", "status", "What is running"),
		func(context.Context, *nothing) (*answer[v1.Version], error) {
			return &answer[v1.Version]{s.backend.Version()}, nil
		})
}

// noNulls gives clients lists to walk over, empty or not.
func noNulls(t v1.TenantStatus) v1.TenantStatus {
	t.Conditions, t.Counters.Drops = orEmpty(t.Conditions), orEmpty(t.Counters.Drops)
	if t.NAT != nil {
		n := *t.NAT
		n.Drops = orEmpty(n.Drops)
		t.NAT = &n
	}
	return t
}

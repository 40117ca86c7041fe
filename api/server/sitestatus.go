package server

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

type bgpRoutesInput struct {
	Name   string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Table  string `query:"table" doc:"best: what is in use; all: what import policies let pass, and own routes; received: what a neighbour sent, before the import policy; advertised: what a neighbour is sent." enum:"best,all,received,advertised" default:"best"`
	Peer   string `query:"peer" doc:"Name or address of the neighbour, with received and advertised; a dynamic one goes by its address." example:"hq1"`
	Within string `query:"within" doc:"Only this prefix and those inside it." example:"172.16.0.0/12"`
	Limit  int    `query:"limit" doc:"How many at most." minimum:"1" maximum:"100000" default:"1000"`
}

func (in bgpRoutesInput) query() (v1.BGPRouteQuery, error) {
	q := v1.BGPRouteQuery{Table: in.Table, Peer: in.Peer, Within: in.Within, Limit: in.Limit}
	ofPeer := in.Table == v1.BGPReceived || in.Table == v1.BGPAdvertised
	switch {
	case ofPeer && in.Peer == "":
		return q, invalidf("table %s is that of a neighbour: name it with peer", in.Table)
	case !ofPeer && in.Peer != "":
		return q, invalidf("table %s is of all neighbours together: leave peer out, or ask for received or advertised", in.Table)
	}
	if in.Within != "" {
		p, err := netip.ParsePrefix(in.Within)
		if err != nil {
			return q, invalidf("within: %q is not a prefix: write it as ADDRESS/LENGTH", in.Within)
		}
		q.Within = p.Masked().String()
	}
	return q, nil
}

type softResetInput struct {
	Name string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Body v1.BGPSoftReset
}

type pathInput struct {
	Name string `path:"name" doc:"Name of the tenant." example:"contoso"`
	Dst  string `query:"dst" required:"true" doc:"Destination address." example:"172.16.5.9"`
	Src  string `query:"src" doc:"Source address; left out: any of the virtual network." example:"10.1.1.11"`
}

func (in pathInput) query() (v1.PathQuery, error) {
	dst, err := netip.ParseAddr(in.Dst)
	if err != nil {
		return v1.PathQuery{}, invalidf("destination %q is not an IP address", in.Dst)
	}
	q := v1.PathQuery{Dst: dst.String()}
	if in.Src == "" {
		return q, nil
	}
	src, err := netip.ParseAddr(in.Src)
	switch {
	case err != nil:
		return q, invalidf("source %q is not an IP address", in.Src)
	case src.Is4() != dst.Is4():
		return q, invalidf("source %s and destination %s are not of one address family", src, dst)
	}
	q.Src = src.String()
	return q, nil
}

// registerSites offers what Sites tells.
func (s *Server) registerSites() {
	op := func(id, method, path, tag, summary string) huma.Operation {
		o := operation(id, method, path, tag, summary)
		o.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
		if method == http.MethodPost {
			o.DefaultStatus = http.StatusNoContent
		}
		return o
	}
	huma.Register(s.api, op("tenant-attachments", http.MethodGet, "/v1/tenants/{name}/attachments", "status", "State of a tenant's attachments"),
		func(ctx context.Context, in *tenantKey) (*answer[v1.AttachmentStatusList], error) {
			items, err := stateOf(ctx, s, in.Name, "", s.backend.Attachments)
			return told(s, v1.AttachmentStatusList{Items: eachOf(items, attachmentNoNulls)}, err)
		})
	huma.Register(s.api, op("attachment-status", http.MethodGet, "/v1/attachments/{tenant}/{name}/status", "status", "State of one attachment"),
		func(ctx context.Context, in *attachmentKey) (*answer[v1.AttachmentStatus], error) {
			items, err := stateOf(ctx, s, in.Tenant, in.Name, s.backend.Attachments)
			return only(s, eachOf(items, attachmentNoNulls), err, "attachment "+in.Tenant+"/"+in.Name)
		})
	huma.Register(s.api, op("tenant-s2s", http.MethodGet, "/v1/tenants/{name}/s2s", "status", "State of a tenant's site-to-site connections"),
		func(ctx context.Context, in *tenantKey) (*answer[v1.S2SStatusList], error) {
			items, err := stateOf(ctx, s, in.Name, "", s.backend.S2SStatus)
			return told(s, v1.S2SStatusList{Items: eachOf(items, connectionNoNulls)}, err)
		})
	huma.Register(s.api, op("s2s-status", http.MethodGet, "/v1/s2s-connections/{tenant}/{name}/status", "status", "State of one site-to-site connection"),
		func(ctx context.Context, in *connectionKey) (*answer[v1.S2SStatus], error) {
			items, err := stateOf(ctx, s, in.Tenant, in.Name, s.backend.S2SStatus)
			return only(s, eachOf(items, connectionNoNulls), err, "site-to-site connection "+in.Tenant+"/"+in.Name)
		})
	huma.Register(s.api, op("tenant-bgp", http.MethodGet, "/v1/tenants/{name}/bgp", "status", "State of a tenant's BGP speaker and its peers"),
		func(ctx context.Context, in *tenantKey) (*answer[v1.BGPStatus], error) {
			n, err := s.tenantName(in.Name)
			if err != nil {
				return nil, err
			}
			st, err := s.backend.BGPStatus(ctx, n)
			st.Aggregates, st.Networks = orEmpty(st.Aggregates), orEmpty(st.Networks)
			st.Peers = eachOf(st.Peers, func(p v1.BGPPeerStatus) v1.BGPPeerStatus {
				p.Families = orEmpty(p.Families)
				return p
			})
			return told(s, st, err)
		})
	routes := op("tenant-bgp-routes", http.MethodGet, "/v1/tenants/{name}/bgp/routes", "status", "List the routes of a tenant's BGP speaker")
	huma.Register(s.api, routes, func(ctx context.Context, in *bgpRoutesInput) (*answer[v1.BGPRouteList], error) {
		n, err := s.tenantName(in.Name)
		if err != nil {
			return nil, err
		}
		q, err := in.query()
		if err != nil {
			return nil, s.refuse(err)
		}
		items, more, err := s.backend.BGPRoutes(ctx, n, q)
		return told(s, v1.BGPRouteList{Items: orEmpty(items), Truncated: more}, err)
	})
	reset := op("tenant-bgp-soft-reset", http.MethodPost, "/v1/tenants/{name}/bgp/soft-reset", "status", "Apply the policies of a BGP peer anew")
	reset.Description = "Its routes are judged, and sent, again; the session goes on."
	huma.Register(s.api, reset, func(ctx context.Context, in *softResetInput) (*nothing, error) {
		n, err := s.tenantName(in.Name)
		if err != nil {
			return nil, err
		}
		if in.Body.Peer == "" {
			return nil, s.problem([]refusal{{at: "body.peer", err: invalidf("the peer is missing: give its name or address")}})
		}
		if err := s.backend.BGPSoftReset(ctx, n, in.Body); err != nil {
			return nil, s.refuse(err)
		}
		return &nothing{}, nil
	})
	path := op("tenant-path", http.MethodGet, "/v1/tenants/{name}/path", "diagnostics", "Tell which way packets of a tenant leave its compartment, and why")
	huma.Register(s.api, path, func(ctx context.Context, in *pathInput) (*answer[v1.PathExplanation], error) {
		n, err := s.tenantName(in.Name)
		if err != nil {
			return nil, err
		}
		q, err := in.query()
		if err != nil {
			return nil, s.refuse(err)
		}
		x, err := s.backend.Path(ctx, n, q)
		x.Others = eachOf(x.Others, routeNoNulls)
		if x.Route != nil {
			r := routeNoNulls(*x.Route)
			x.Route = &r
		}
		return told(s, x, err)
	})
}

// tenantName reads the name of a tenant that must be there.
func (s *Server) tenantName(name string) (hnv.Name, error) {
	n, err := hnv.ParseName(name)
	if err != nil {
		return n, s.refuse(err)
	}
	return n, s.checkTenant(name)
}

// stateOf asks for the state of a tenant's objects: of the one with the name, or of
// all where name is empty. The error is what Sites says, or a refusal.
func stateOf[T any](ctx context.Context, s *Server, tenant, name string, ask func(ctx context.Context, tenant, name hnv.Name) ([]T, error)) ([]T, error) {
	var n hnv.Name
	var err error
	s.store.View(func(f *hnv.Fabric) { _, err = tenantNamed(f, tenant) })
	if err != nil {
		return nil, err
	}
	if name != "" {
		if n, err = hnv.ParseName(name); err != nil {
			return nil, err
		}
	}
	t, err := hnv.ParseName(tenant)
	if err != nil {
		return nil, err
	}
	return ask(ctx, t, n)
}

// only answers with the one state there should be.
func only[T any](s *Server, items []T, err error, what string) (*answer[T], error) {
	switch {
	case err != nil:
		return nil, s.refuse(err)
	case len(items) == 0:
		return nil, s.refuse(&kindError{what + " does not exist", hnv.ErrNotFound})
	}
	return &answer[T]{items[0]}, nil
}

// eachOf gives the list with each item changed; it is never nil.
func eachOf[T any](in []T, change func(T) T) []T {
	out := make([]T, 0, len(in))
	for _, v := range in {
		out = append(out, change(v))
	}
	return out
}

func attachmentNoNulls(a v1.AttachmentStatus) v1.AttachmentStatus {
	a.Addresses = orEmpty(a.Addresses)
	return a
}

func connectionNoNulls(c v1.S2SStatus) v1.S2SStatus {
	c.Peers = eachOf(c.Peers, func(p v1.S2SPeerStatus) v1.S2SPeerStatus {
		p.Prefixes = orEmpty(p.Prefixes)
		return p
	})
	return c
}

func routeNoNulls(r v1.PathRoute) v1.PathRoute {
	r.NextHops = orEmpty(r.NextHops)
	return r
}

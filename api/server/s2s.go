package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func connections() resource[v1.S2SConnection, v1.S2SConnectionList] {
	return resource[v1.S2SConnection, v1.S2SConnectionList]{
		path: "/v1/s2s-connections", key: "/{tenant}/{name}", id: "s2s-connection", noun: "site-to-site connection", plural: "s2s-connections",
		kind: hnv.KindS2SConnection,
		item: connectionItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.S2SConnection { return v1.NewS2SConnection(o.(hnv.S2SConnection)) },
		list: func(items []v1.S2SConnection) v1.S2SConnectionList { return v1.S2SConnectionList{Items: items} },
		onPut: " Keys that are left out stay, of peers by their names; so does the listen port. " +
			"To change a single peer, read the connection, change the list, and write it with If-Match: the other peers are not disturbed.",
	}
}

type connectionKey struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the connection." example:"hq"`
}

func (k connectionKey) object() (hnv.Object, error) {
	t, n, err := ofTenant(k.Tenant, k.Name)
	return hnv.S2SConnection{Tenant: t, Name: n}, err
}

type connectionPut struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the connection." example:"hq"`
	Body   v1.S2SConnection
}

func (p connectionPut) object() (hnv.Object, error) { return connectionKey{p.Tenant, p.Name}.object() }
func (p connectionPut) body() v1.S2SConnection      { return p.Body }

type exportKeyInput struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the connection." example:"hq"`
	Body   v1.S2SKeyRequest
}

type peerConfigInput struct {
	Tenant  string   `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name    string   `path:"name" doc:"Name of the connection." example:"hq"`
	Peer    string   `path:"peer" doc:"The other end." example:"hq1"`
	Network []string `query:"network" doc:"With bgp: prefixes at the site that its router is to advertise, separated by commas, besides those of the peer." example:"172.16.0.0/16"`
	BGP     string   `query:"bgp" doc:"Give the configuration of the other end's BGP router too, in the words of this one." enum:"frr,bird,vyos"`
}

func (s *Server) registerS2S() {
	r := connections()
	registerListOfTenant(s, r, func(o hnv.Object) hnv.Name { return o.(hnv.S2SConnection).Tenant })
	registerGet[connectionKey](s, r)
	r.registerCreate(s)
	registerPut[connectionPut](s, r)
	registerDelete[connectionKey](s, r)

	export := operation("export-s2s-key", http.MethodPost, r.path+r.key+"/export-key", r.plural, "Give a secret of a site-to-site connection")
	export.Description = "The only way in which a secret leaves the gateway; the log tells who asked."
	export.DefaultStatus = http.StatusOK
	export.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, export, s.answerKey)

	config := operation("s2s-peer-config", http.MethodGet, r.path+r.key+"/peers/{peer}/config", r.plural, "Tell what the other end of a site-to-site connection needs")
	config.Description = "A file for wg-quick(8), and with bgp the configuration of the router there. Neither holds a secret: where one belongs, a comment says so."
	config.Errors = []int{http.StatusNotFound, http.StatusUnprocessableEntity}
	huma.Register(s.api, config, s.peerConfig)
}

// secretAnswer is one that no cache may keep.
type secretAnswer[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

func (s *Server) answerKey(ctx context.Context, in *exportKeyInput) (*secretAnswer[v1.S2SKey], error) {
	t, n, err := ofTenant(in.Tenant, in.Name)
	if err != nil {
		return nil, s.refuse(err)
	}
	key, err := s.exportKey(t, n, in.Body)
	who := caller(ctx)
	if who == "" {
		who = "(socket)"
	}
	log := s.log.With("tenant", t.String(), "connection", n.String(), "peer", in.Body.Peer, "client", who)
	if err != nil {
		log.Warn("a key was asked for and not given", "err", err)
		return nil, s.refuse(err)
	}
	log.Warn("a key was given out")
	return &secretAnswer[v1.S2SKey]{"no-store", key}, nil
}

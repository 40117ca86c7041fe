package server

import (
	"fmt"
	"strings"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/hnv/peering"
)

func routers() resource[v1.BGPRouter, v1.BGPRouterList] {
	return resource[v1.BGPRouter, v1.BGPRouterList]{
		path: "/v1/bgp-routers", key: "/{tenant}", id: "bgp-router", noun: "BGP router", plural: "bgp-routers", kind: hnv.KindBGPRouter,
		item:  routerItem,
		show:  func(_ *hnv.Fabric, o hnv.Object) v1.BGPRouter { return v1.NewBGPRouter(o.(hnv.BGPRouter)) },
		list:  func(items []v1.BGPRouter) v1.BGPRouterList { return v1.BGPRouterList{Items: items} },
		onPut: " Another AS number or router ID ends all sessions of the speaker.",
		needed: func(f *hnv.Fabric, o hnv.Object) error {
			var names []string
			for _, p := range f.BGPPeers(o.(hnv.BGPRouter).Tenant) {
				names = append(names, p.Peer.Name)
			}
			if len(names) == 0 {
				return nil
			}
			return &kindError{fmt.Sprintf("the BGP router of tenant %s still has peers, %s: delete them first", o.Key(), strings.Join(names, ", ")), hnv.ErrInUse}
		},
	}
}

type routerKey struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
}

func (k routerKey) object() (hnv.Object, error) {
	t, err := hnv.ParseName(k.Tenant)
	return hnv.BGPRouter{Tenant: t}, err
}

type routerPut struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Body   v1.BGPRouter
}

func (p routerPut) object() (hnv.Object, error) { return routerKey{p.Tenant}.object() }
func (p routerPut) body() v1.BGPRouter          { return p.Body }

func bgpPeers() resource[v1.BGPPeer, v1.BGPPeerList] {
	return resource[v1.BGPPeer, v1.BGPPeerList]{
		path: "/v1/bgp-peers", key: "/{tenant}/{name}", id: "bgp-peer", noun: "BGP peer", plural: "bgp-peers", kind: hnv.KindBGPPeer,
		item:  peerItem,
		show:  func(_ *hnv.Fabric, o hnv.Object) v1.BGPPeer { return v1.NewBGPPeer(o.(hnv.BGPPeer)) },
		list:  func(items []v1.BGPPeer) v1.BGPPeerList { return v1.BGPPeerList{Items: items} },
		onPut: " A password that is left out stays.",
	}
}

type peerKey struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the peer." example:"hq1"`
}

func (k peerKey) object() (hnv.Object, error) {
	t, err := hnv.ParseName(k.Tenant)
	if err == nil && (k.Name == "" || strings.ContainsAny(k.Name, "/ ")) {
		err = invalidf("%q is not the name of a BGP peer", k.Name)
	}
	return hnv.BGPPeer{Tenant: t, Peer: peering.Peer{Name: k.Name}}, err
}

type peerPut struct {
	Tenant string `path:"tenant" doc:"Tenant it belongs to." example:"contoso"`
	Name   string `path:"name" doc:"Name of the peer." example:"hq1"`
	Body   v1.BGPPeer
}

func (p peerPut) object() (hnv.Object, error) { return peerKey{p.Tenant, p.Name}.object() }
func (p peerPut) body() v1.BGPPeer            { return p.Body }

func (s *Server) registerBGP() {
	r := routers()
	registerListOfTenant(s, r, func(o hnv.Object) hnv.Name { return o.(hnv.BGPRouter).Tenant })
	registerGet[routerKey](s, r)
	r.registerCreate(s)
	registerPut[routerPut](s, r)
	registerDelete[routerKey](s, r)

	p := bgpPeers()
	registerListOfTenant(s, p, func(o hnv.Object) hnv.Name { return o.(hnv.BGPPeer).Tenant })
	registerGet[peerKey](s, p)
	p.registerCreate(s)
	registerPut[peerPut](s, p)
	registerDelete[peerKey](s, p)
}

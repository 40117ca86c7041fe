package server

import (
	"fmt"
	"net/netip"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

func providerAddresses() resource[v1.ProviderAddress, v1.ProviderAddressList] {
	return resource[v1.ProviderAddress, v1.ProviderAddressList]{
		path: "/v1/provider-addresses", key: "/{address}", id: "provider-address",
		noun: "provider address", plural: "provider-addresses", kind: hnv.KindProviderAddress,
		item: providerAddressItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.ProviderAddress {
			return v1.NewProviderAddress(o.(hnv.ProviderAddress))
		},
		list: func(items []v1.ProviderAddress) v1.ProviderAddressList { return v1.ProviderAddressList{Items: items} },
	}
}

type providerAddressKey struct {
	Address string `path:"address" doc:"The address without its prefix length." example:"192.168.1.10"`
}

func (k providerAddressKey) object() (hnv.Object, error) {
	a, err := netip.ParseAddr(k.Address)
	if err != nil {
		return nil, invalidf("provider address %q is not an IP address; here it stands without its prefix length", k.Address)
	}
	return hnv.ProviderAddress{Addr: netip.PrefixFrom(a, a.BitLen())}, nil
}

type providerAddressPut struct {
	Address string `path:"address" doc:"The address without its prefix length." example:"192.168.1.10"`
	Body    v1.ProviderAddress
}

func (p providerAddressPut) object() (hnv.Object, error) {
	return providerAddressKey{p.Address}.object()
}
func (p providerAddressPut) body() v1.ProviderAddress { return p.Body }

func providerRoutes() resource[v1.ProviderRoute, v1.ProviderRouteList] {
	return resource[v1.ProviderRoute, v1.ProviderRouteList]{
		path: "/v1/provider-routes", key: "/{address}/{length}/{nextHop}", id: "provider-route",
		noun: "provider route", plural: "provider-routes", kind: hnv.KindProviderRoute,
		item: providerRouteItem,
		show: func(_ *hnv.Fabric, o hnv.Object) v1.ProviderRoute { return v1.NewProviderRoute(o.(hnv.ProviderRoute)) },
		list: func(items []v1.ProviderRoute) v1.ProviderRouteList { return v1.ProviderRouteList{Items: items} },
	}
}

type providerRouteKey struct {
	Address string `path:"address" doc:"Address of the prefix." example:"192.168.2.0"`
	Length  int    `path:"length" doc:"Length of the prefix." example:"24"`
	NextHop string `path:"nextHop" doc:"Router on the fabric." example:"192.168.1.1"`
}

func (k providerRouteKey) object() (hnv.Object, error) {
	return v1.ProviderRoute{Prefix: prefixText(k.Address, k.Length), NextHop: k.NextHop}.Object()
}

type providerRoutePut struct {
	Address string `path:"address" doc:"Address of the prefix." example:"192.168.2.0"`
	Length  int    `path:"length" doc:"Length of the prefix." example:"24"`
	NextHop string `path:"nextHop" doc:"Router on the fabric." example:"192.168.1.1"`
	Body    v1.ProviderRoute
}

func (p providerRoutePut) object() (hnv.Object, error) {
	return providerRouteKey{p.Address, p.Length, p.NextHop}.object()
}
func (p providerRoutePut) body() v1.ProviderRoute { return p.Body }

func prefixText(address string, length int) string { return fmt.Sprintf("%s/%d", address, length) }

func (s *Server) registerProvider() {
	a := providerAddresses()
	a.registerList(s)
	registerGet[providerAddressKey](s, a)
	a.registerCreate(s)
	registerPut[providerAddressPut](s, a)
	registerDelete[providerAddressKey](s, a)

	r := providerRoutes()
	r.registerList(s)
	registerGet[providerRouteKey](s, r)
	r.registerCreate(s)
	registerPut[providerRoutePut](s, r)
	registerDelete[providerRouteKey](s, r)
}

package nat

import (
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

func (b builder) sets(f family) []nft.Set {
	inside := nft.Set{Name: "inside" + f.digit, Key: []nft.Type{f.addr}, Interval: true}
	for _, p := range merge(b.spec.InsidePrefixes, f.six) {
		inside.Elements = append(inside.Elements, nft.E(nft.Prefix(p)))
	}
	own := nft.Set{Name: "own" + f.digit, Key: []nft.Type{f.addr}}
	for _, a := range b.spec.own() {
		if a.Is6() == f.six {
			own.Elements = append(own.Elements, nft.E(nft.Addr(a)))
		}
	}
	external := nft.Set{Name: "external" + f.digit, Key: []nft.Type{f.addr}}
	whole := nft.Set{Name: "whole" + f.digit, Key: []nft.Type{f.addr}}
	ports := nft.Set{Name: "ports" + f.digit, Key: []nft.Type{f.addr, nft.InetProto, nft.InetService}, Interval: true}
	var last netip.Addr
	for _, r := range f.pool(b.spec) {
		if r.Addr != last {
			external.Elements = append(external.Elements, nft.E(nft.Addr(r.Addr)))
			last = r.Addr
		}
		if r.Whole() {
			whole.Elements = append(whole.Elements, nft.E(nft.Addr(r.Addr)))
			continue
		}
		for _, p := range []nft.Protocol{nft.ProtoTCP, nft.ProtoUDP} {
			ports.Elements = append(ports.Elements, nft.E(nft.Addr(r.Addr), nft.Proto(p), nft.Ports(r.Lo, r.Hi)))
		}
	}
	for _, a := range b.attached.Addresses {
		if e := nft.E(nft.Addr(a)); a.Is6() == f.six && !slices.ContainsFunc(b.spec.Pool, func(r hnv.ExternalRange) bool { return r.Addr == a }) {
			external.Elements, whole.Elements = append(external.Elements, e), append(whole.Elements, e)
		}
	}
	mappings := nft.Set{Name: "mappings" + f.digit,
		Key: []nft.Type{f.addr, nft.InetProto, nft.InetService}, Value: []nft.Type{f.addr, nft.InetService}}
	for _, m := range b.spec.Mappings {
		if m.External.Addr().Is6() != f.six {
			continue
		}
		p := nft.ProtoTCP
		if m.Proto == hnv.UDP {
			p = nft.ProtoUDP
		}
		mappings.Elements = append(mappings.Elements,
			nft.E(nft.Addr(m.External.Addr()), nft.Proto(p), nft.Port(m.External.Port())).
				To(nft.Addr(m.Internal.Addr()), nft.Port(m.Internal.Port())))
	}
	return []nft.Set{inside, own, external, whole, ports, f.icmpErrors, mappings}
}

package nat

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/nft"
)

// serviceSet has link, peer, own address, protocol and port.
func (b builder) serviceSet(f family) nft.Set {
	type key struct {
		link  string
		at    netip.Addr
		proto hnv.Proto
		port  uint16
	}
	peers := map[key][]netip.Prefix{}
	for _, v := range b.spec.Services {
		for _, l := range v.Links {
			for _, a := range v.At {
				k := key{l, a, v.Proto, v.Port}
				peers[k] = append(peers[k], v.Peers...)
			}
		}
	}
	var keys []key
	for k := range peers {
		if k.at.Is6() == f.six {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y key) int {
		return cmp.Or(cmp.Compare(x.link, y.link), x.at.Compare(y.at), cmp.Compare(x.proto, y.proto), cmp.Compare(x.port, y.port))
	})
	s := nft.Set{Name: "services" + f.digit, Key: []nft.Type{nft.IfName, f.addr, f.addr, nft.InetProto, nft.InetService}, Interval: true}
	for _, k := range keys {
		for _, peer := range merge(peers[k], f.six) {
			s.Elements = append(s.Elements, nft.E(nft.Name(k.link), nft.Prefix(peer), nft.Addr(k.at), nft.Proto(protocol(k.proto)), nft.Port(k.port)))
		}
	}
	return s
}

// services match what the compartment itself speaks: what comes in, or what goes
// out.
func (b builder) services(link nft.Field, then nft.Stmt, in bool) []nft.Rule {
	if len(b.spec.Services) == 0 {
		return nil
	}
	var out []nft.Rule
	for _, f := range b.families {
		peer, own := f.src, f.dst
		if !in {
			peer, own = f.dst, f.src
		}
		out = append(out, nft.R(nft.In("services"+f.digit, link, peer, own, nft.ProtoField, nft.DPortField), then))
	}
	return out
}

// near drops what has come from farther than its port is spoken with: before
// connections are looked at, as it may go on in one.
func (b builder) near() []nft.Rule {
	ports := map[uint16]nft.Protocol{}
	for _, v := range b.spec.Services {
		if v.Near {
			ports[v.Port] = protocol(v.Proto)
		}
	}
	var out []nft.Rule
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		for _, f := range b.families {
			out = append(out, drop(DropHops, nft.DPort(ports[port], port), nft.NotHops(f.nft, 255)))
		}
	}
	return out
}

func protocol(p hnv.Proto) nft.Protocol {
	if p == hnv.UDP {
		return nft.ProtoUDP
	}
	return nft.ProtoTCP
}

// service does not share the limit of the tenant's connections: these may not keep
// routing out.
func (b builder) service() []nft.Chain {
	if len(b.spec.Services) == 0 {
		return nil
	}
	return []nft.Chain{{Name: "service", Rules: []nft.Rule{drop(DropLimit, nft.CountOver(serviceLimit)), nft.R(nft.Accept())}}}
}

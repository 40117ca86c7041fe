package hnv

import (
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv/peering"
)

// BGPRouter is the BGP speaker of a tenant's compartment.
type BGPRouter struct {
	Tenant Name   `json:"tenant"`
	ASN    uint32 `json:"asn"`
	// RouterID is unset where the compartment's first IPv4 address is to be it:
	// external, of a tunnel or attachment, inside.
	RouterID netip.Addr `json:"routerID,omitzero"`
	// ECMP is how many equally good next hops are used at once; 0 is 1.
	ECMP int `json:"ecmp,omitempty"`
	// Networks and Aggregates are advertised besides the tenant's own prefixes.
	Networks   []peering.Network   `json:"networks,omitempty"`
	Aggregates []peering.Aggregate `json:"aggregates,omitempty"`
	// NoTenantPrefixes keeps the virtual subnets' prefixes to the gateway,
	// NoMappedAddresses the external addresses of static mappings.
	NoTenantPrefixes  bool `json:"noTenantPrefixes,omitempty"`
	NoMappedAddresses bool `json:"noMappedAddresses,omitempty"`
}

// Kind is KindBGPRouter.
func (BGPRouter) Kind() Kind { return KindBGPRouter }

// Key is the tenant.
func (r BGPRouter) Key() string { return r.Tenant.s }

// Check holds what must be true of the router alone.
func (r BGPRouter) Check() error {
	if !r.Tenant.IsValid() {
		return invalidf("a BGP router needs a tenant")
	}
	s := peering.Spec{ASN: r.ASN, RouterID: r.RouterID, ECMP: r.ECMP, Networks: r.Networks, Aggregates: r.Aggregates}
	if !s.RouterID.IsValid() {
		s.RouterID = netip.AddrFrom4([4]byte{192, 0, 2, 1}) // found later
	}
	if err := s.Check(); err != nil {
		return invalidf("BGP router of tenant %s: %v", r.Tenant, err)
	}
	return nil
}

// BGPPeer is a neighbour of a tenant's speaker, or any number of them.
type BGPPeer struct {
	Tenant Name `json:"tenant"`
	peering.Peer
	// Password stands before that of peering.Peer, which stays empty: it is sealed.
	Password Secret `json:"password,omitempty"`
}

// Kind is KindBGPPeer.
func (BGPPeer) Kind() Kind { return KindBGPPeer }

// Key is TENANT/NAME.
func (p BGPPeer) Key() string { return p.Tenant.s + "/" + p.Peer.Name }

// Kept gives p with the password that a replacement without one leaves as it was.
func (p BGPPeer) Kept(before BGPPeer) BGPPeer {
	if p.Password == "" {
		p.Password = before.Password
	}
	return p
}

// Check holds what must be true of the peer whoever its speaker is.
func (p BGPPeer) Check() error {
	if !p.Tenant.IsValid() || p.Peer.Name == "" {
		return invalidf("a BGP peer needs a tenant and a name")
	}
	if p.Peer.Password != "" {
		return invalidf("BGP peer %s: its password is not sealed", p.Key())
	}
	if err := p.Password.check(); err != nil {
		return invalidf("BGP peer %s: password: %v", p.Key(), err)
	}
	return p.checkAs(peering.Spec{ASN: anyASN(p.ASN), RouterID: netip.AddrFrom4([4]byte{192, 0, 2, 1})})
}

// anyASN is one that a peer's speaker may have: what differs between eBGP and iBGP
// is said when the speaker is known.
func anyASN(not uint32) uint32 {
	if not == 64512 {
		return 64513
	}
	return 64512
}

// checkAs tells what is wrong with the peer as the only one of the speaker.
func (p BGPPeer) checkAs(s peering.Spec) error {
	s.Peers = []peering.Peer{p.Peer}
	if err := s.Check(); err != nil {
		return invalidf("tenant %s, BGP %v", p.Tenant, err)
	}
	return nil
}

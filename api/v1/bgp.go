package v1

import (
	"fmt"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/hnv/peering"
)

// BGPRouter is the BGP speaker of a tenant's compartment (RFC 4271).
type BGPRouter struct {
	Tenant     string         `json:"tenant" doc:"Tenant it belongs to; its gateway must be on this machine." example:"contoso"`
	ASN        uint32         `json:"asn" doc:"AS number of the speaker." minimum:"1" maximum:"4294967294" example:"64512"`
	RouterID   string         `json:"routerID,omitempty" doc:"Router ID, an IPv4 address. Left out: the compartment's first IPv4 address, external, of a tunnel or attachment, or inside." example:"203.0.113.10"`
	ECMP       uint16         `json:"ecmp,omitempty" doc:"How many equally good next hops are used at once. Left out or 0: 1." maximum:"64"`
	Networks   []BGPNetwork   `json:"networks,omitempty" doc:"Prefixes that are advertised besides the tenant's own." nullable:"false"`
	Aggregates []BGPAggregate `json:"aggregates,omitempty" doc:"Prefixes that are advertised while a more specific one is known." nullable:"false"`

	NoTenantPrefixes  bool `json:"noTenantPrefixes,omitempty" doc:"Do not advertise the prefixes of the tenant's virtual subnets by itself."`
	NoMappedAddresses bool `json:"noMappedAddresses,omitempty" doc:"Do not advertise the external addresses of static NAT mappings by itself."`
}

// BGPNetwork is a prefix that is advertised.
type BGPNetwork struct {
	Prefix           string   `json:"prefix" doc:"The prefix." example:"10.1.0.0/16"`
	MED              *uint32  `json:"med,omitempty" doc:"Multi-exit discriminator."`
	LocalPref        *uint32  `json:"localPref,omitempty" doc:"Local preference, for iBGP peers."`
	Communities      []string `json:"communities,omitempty" doc:"Communities, each 65001:100 or a name as no-export." nullable:"false"`
	LargeCommunities []string `json:"largeCommunities,omitempty" doc:"Large communities, each 65001:1:2." nullable:"false"`
}

// BGPAggregate is a prefix that is advertised while a more specific one is known.
type BGPAggregate struct {
	Prefix           string   `json:"prefix" doc:"The prefix." example:"10.0.0.0/8"`
	SummaryOnly      bool     `json:"summaryOnly,omitempty" doc:"Do not advertise the more specific ones."`
	MED              *uint32  `json:"med,omitempty" doc:"Multi-exit discriminator."`
	LocalPref        *uint32  `json:"localPref,omitempty" doc:"Local preference, for iBGP peers."`
	Communities      []string `json:"communities,omitempty" doc:"Communities, each 65001:100 or a name as no-export." nullable:"false"`
	LargeCommunities []string `json:"largeCommunities,omitempty" doc:"Large communities, each 65001:1:2." nullable:"false"`
}

// BGPRouterList is what GET /v1/bgp-routers answers.
type BGPRouterList struct {
	Items []BGPRouter `json:"items" doc:"The routers, sorted by tenant." nullable:"false"`
}

// BGPPeer is a neighbour of a tenant's speaker or, by prefix, any number of them.
// Its password is written and never read back.
type BGPPeer struct {
	Tenant  string `json:"tenant" doc:"Tenant it belongs to; the tenant must have a BGP router." example:"contoso"`
	Name    string `json:"name" doc:"Name of the peer among those of its tenant: 1 to 63 letters, digits, dots, hyphens and underscores." example:"hq1" maxLength:"63"`
	Address string `json:"address,omitempty" doc:"Address of the neighbour. Either this or prefix." example:"169.254.10.2"`
	Prefix  string `json:"prefix,omitempty" doc:"Whoever connects from this prefix is such a neighbour; the speaker calls none of them." example:"172.20.0.0/24"`
	Limit   uint16 `json:"limit,omitempty" doc:"With prefix: how many neighbours there may be at once. Left out or 0: 64." maximum:"512"`
	ASN     uint32 `json:"asn" doc:"AS number of the neighbour; the speaker's own makes it an iBGP one." minimum:"1" maximum:"4294967294" example:"65001"`
	Local   string `json:"local,omitempty" doc:"This end's address of the session. Left out: by route." example:"169.254.10.1"`
	Port    uint16 `json:"port,omitempty" doc:"TCP port of the neighbour. Left out or 0: 179."`

	Passive  bool `json:"passive,omitempty" doc:"Wait for the neighbour to connect."`
	Disabled bool `json:"disabled,omitempty" doc:"Keep the session down."`

	Password    *string `json:"password,omitempty" doc:"Key of TCP MD5 signatures (RFC 2385), at most 80 bytes. It is never given back. Left out: the one that stands stays; empty: none any more." writeOnly:"true"`
	HasPassword bool    `json:"hasPassword,omitempty" doc:"There is a password. Written as true without one, it must be the one that stands."`

	TTLSecurity      uint16              `json:"ttlSecurity,omitempty" doc:"How many hops away the neighbour is at most (GTSM, RFC 5082); both ends must have it. Left out or 0: no check." maximum:"255"`
	MultihopTTL      uint16              `json:"multihopTTL,omitempty" doc:"Lets an eBGP neighbour be farther away than one hop: the TTL of packets to it." maximum:"255"`
	HoldSeconds      uint32              `json:"holdSeconds,omitempty" doc:"Hold time that is offered. Left out or 0: 90." minimum:"3" maximum:"65535"`
	KeepaliveSeconds uint32              `json:"keepaliveSeconds,omitempty" doc:"Seconds between keepalives. Left out or 0: a third of the hold time."`
	ConnectRetry     uint32              `json:"connectRetrySeconds,omitempty" doc:"Seconds between attempts to connect. Left out or 0: 10."`
	Families         []string            `json:"families,omitempty" doc:"Whose routes are exchanged, ipv4 and ipv6. Left out: those of the session's own address family." nullable:"false" example:"[\"ipv4\"]"`
	BFD              *BGPBFD             `json:"bfd,omitempty" doc:"Watches the way to the neighbour (RFC 5880). Left out: the hold time does; an empty object takes the defaults."`
	GracefulRestart  *BGPGracefulRestart `json:"gracefulRestart,omitempty" doc:"Routes stay while either end restarts (RFC 4724). Left out: no; an empty object takes the defaults."`
	MaxPrefixes      *BGPMaxPrefixes     `json:"maxPrefixes,omitempty" doc:"How many prefixes the neighbour may send; one more ends the session. Left out: 100000 of each family."`
	ReEnableSeconds  uint32              `json:"reEnableSeconds,omitempty" doc:"Seconds after which such a session is tried again. Left out or 0: 300."`

	ASOverride       bool       `json:"asOverride,omitempty" doc:"Put the own AS in place of the neighbour's in paths sent to it, so that two sites of one AS hear of each other."`
	RemovePrivateAS  string     `json:"removePrivateAS,omitempty" doc:"What becomes of private AS numbers in paths sent: remove, or replace by the own AS. Left out: they stay." enum:"remove,replace"`
	AllowOwnAS       uint16     `json:"allowOwnAS,omitempty" doc:"How many times the own AS may be in a path received." maximum:"10"`
	NextHopSelf      bool       `json:"nextHopSelf,omitempty" doc:"Name this speaker as next hop to an iBGP neighbour too."`
	DefaultOriginate bool       `json:"defaultOriginate,omitempty" doc:"Advertise a default route."`
	Import           *BGPPolicy `json:"import,omitempty" doc:"Which of its routes are taken, and how they are changed. Left out: all, as they are."`
	Export           *BGPPolicy `json:"export,omitempty" doc:"Which routes it is sent, and how they are changed. Left out: all, as they are."`
}

// BGPBFD watches the way to a neighbour by bidirectional forwarding detection.
type BGPBFD struct {
	IntervalMS uint32 `json:"intervalMS,omitempty" doc:"Milliseconds between packets, both ways. Left out or 0: 200." maximum:"60000"`
	Multiplier uint16 `json:"multiplier,omitempty" doc:"How many packets may be missing. Left out or 0: 3." maximum:"255"`
}

// BGPGracefulRestart lets routes stay while a speaker restarts.
type BGPGracefulRestart struct {
	Seconds          uint32 `json:"seconds,omitempty" doc:"How long. Left out or 0: 120." maximum:"4095"`
	LongLivedSeconds uint32 `json:"longLivedSeconds,omitempty" doc:"For how much longer routes stay as the last choice (RFC 9494). Left out or 0: no longer." maximum:"16777215"`
	Notification     bool   `json:"notification,omitempty" doc:"Also when the session ends by a notification (RFC 8538)."`
}

// BGPMaxPrefixes are bounds by address family.
type BGPMaxPrefixes struct {
	IPv4 uint32 `json:"ipv4,omitempty" doc:"Of IPv4. Left out or 0: 100000." example:"1000"`
	IPv6 uint32 `json:"ipv6,omitempty" doc:"Of IPv6. Left out or 0: 100000."`
}

// BGPPeerList is what GET /v1/bgp-peers answers.
type BGPPeerList struct {
	Items []BGPPeer `json:"items" doc:"The peers, sorted by tenant and name, without their passwords." nullable:"false"`
}

// Object gives the domain's object. All malformed fields are joined into the
// error, a *FieldError each. The result need not pass Check.
func (r BGPRouter) Object() (hnv.BGPRouter, error) {
	var f fields
	out := hnv.BGPRouter{
		Tenant: f.named("tenant", "tenant", r.Tenant), ASN: r.ASN, ECMP: int(r.ECMP),
		NoTenantPrefixes: r.NoTenantPrefixes, NoMappedAddresses: r.NoMappedAddresses,
	}
	if r.RouterID != "" {
		out.RouterID = f.addr("routerID", "router ID", r.RouterID)
	}
	for i, n := range r.Networks {
		at := fmt.Sprintf("networks[%d].", i)
		out.Networks = append(out.Networks, peering.Network{
			Prefix: f.prefix(at+"prefix", "prefix", n.Prefix), Attributes: f.attributes(at, n.MED, n.LocalPref, n.Communities, n.LargeCommunities),
		})
	}
	for i, n := range r.Aggregates {
		at := fmt.Sprintf("aggregates[%d].", i)
		out.Aggregates = append(out.Aggregates, peering.Aggregate{
			Prefix: f.prefix(at+"prefix", "prefix", n.Prefix), SummaryOnly: n.SummaryOnly,
			Attributes: f.attributes(at, n.MED, n.LocalPref, n.Communities, n.LargeCommunities),
		})
	}
	return out, f.err()
}

func (f *fields) attributes(at string, med, pref *uint32, communities, large []string) peering.Attributes {
	return peering.Attributes{
		MED: med, LocalPref: pref,
		Communities:      readAll(f, at+"communities", communities, parseCommunity),
		LargeCommunities: readAll(f, at+"largeCommunities", large, parseLargeCommunity),
	}
}

// readAll is read for each of a list.
func readAll[T any](f *fields, field string, in []string, parse func(string) (T, error)) []T {
	var out []T
	for i, s := range in {
		out = append(out, read(f, fmt.Sprintf("%s[%d]", field, i), s, parse))
	}
	return out
}

func parseCommunity(s string) (peering.Community, error) {
	c, err := peering.ParseCommunity(s)
	return c, asInvalid(err)
}

func parseLargeCommunity(s string) (peering.LargeCommunity, error) {
	c, err := peering.ParseLargeCommunity(s)
	return c, asInvalid(err)
}

// asInvalid makes an error of a package that knows no kinds one of hnv's.
func asInvalid(err error) error {
	if err == nil {
		return nil
	}
	return invalid(err.Error())
}

// NewBGPRouter gives the router as the interface shows it.
func NewBGPRouter(r hnv.BGPRouter) BGPRouter {
	out := BGPRouter{
		Tenant: r.Tenant.String(), ASN: r.ASN, RouterID: addrText(r.RouterID), ECMP: small(r.ECMP),
		NoTenantPrefixes: r.NoTenantPrefixes, NoMappedAddresses: r.NoMappedAddresses,
	}
	for _, n := range r.Networks {
		out.Networks = append(out.Networks, BGPNetwork{
			Prefix: n.Prefix.String(), MED: n.MED, LocalPref: n.LocalPref, Communities: texts(n.Communities), LargeCommunities: texts(n.LargeCommunities),
		})
	}
	for _, n := range r.Aggregates {
		out.Aggregates = append(out.Aggregates, BGPAggregate{
			Prefix: n.Prefix.String(), SummaryOnly: n.SummaryOnly, MED: n.MED, LocalPref: n.LocalPref,
			Communities: texts(n.Communities), LargeCommunities: texts(n.LargeCommunities),
		})
	}
	return out
}

// Object gives the domain's object without its password, which the server seals.
// All malformed fields are joined into the error, a *FieldError each; none repeats
// the password. The result need not pass Check.
func (p BGPPeer) Object() (hnv.BGPPeer, error) {
	var f fields
	out := hnv.BGPPeer{Tenant: f.named("tenant", "tenant", p.Tenant)}
	o := &out.Peer
	if p.Name == "" {
		f.failf("name", "the name is missing")
	}
	o.Name, o.ASN, o.Limit, o.Port = p.Name, p.ASN, int(p.Limit), p.Port
	switch {
	case p.Address == "" && p.Prefix == "":
		f.failf("address", "the address is missing: give the neighbour's address, or a prefix that neighbours may connect from")
	case p.Address != "" && p.Prefix != "":
		f.failf("prefix", "both address and prefix are given: give the neighbour's address, or a prefix that neighbours may connect from")
	case p.Address != "":
		o.Address = f.addr("address", "neighbour's address", p.Address)
	default:
		o.Prefix = f.prefix("prefix", "neighbours' prefix", p.Prefix)
	}
	if p.Local != "" {
		o.Local = f.addr("local", "local address", p.Local)
	}
	o.Passive, o.Disabled = p.Passive, p.Disabled
	o.TTLSecurity, o.MultihopTTL = f.octet("ttlSecurity", p.TTLSecurity), f.octet("multihopTTL", p.MultihopTTL)
	o.Hold, o.Keepalive, o.ConnectRetry = inSeconds(p.HoldSeconds), inSeconds(p.KeepaliveSeconds), inSeconds(p.ConnectRetry)
	o.ReEnable, o.AllowOwnAS = inSeconds(p.ReEnableSeconds), f.octet("allowOwnAS", p.AllowOwnAS)
	for i, s := range p.Families {
		o.Families = append(o.Families, read(&f, fmt.Sprintf("families[%d]", i), s, parseFamily))
	}
	if b := p.BFD; b != nil {
		o.BFD = &peering.BFD{Interval: time.Duration(b.IntervalMS) * time.Millisecond, Multiplier: f.octet("bfd.multiplier", b.Multiplier)}
	}
	if g := p.GracefulRestart; g != nil {
		o.GracefulRestart = &peering.GracefulRestart{Time: inSeconds(g.Seconds), LongLived: inSeconds(g.LongLivedSeconds), Notification: g.Notification}
	}
	if m := p.MaxPrefixes; m != nil {
		for fam, n := range map[peering.Family]uint32{peering.IPv4: m.IPv4, peering.IPv6: m.IPv6} {
			if n != 0 {
				if o.MaxPrefixes == nil {
					o.MaxPrefixes = map[peering.Family]uint32{}
				}
				o.MaxPrefixes[fam] = n
			}
		}
	}
	o.ASOverride, o.RemovePrivateAS = p.ASOverride, peering.RemovePrivateAS(p.RemovePrivateAS)
	o.NextHopSelf, o.DefaultOriginate = p.NextHopSelf, p.DefaultOriginate
	o.Import, o.Export = p.Import.object(&f, "import."), p.Export.object(&f, "export.")
	return out, f.err()
}

func inSeconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

// octet reads a number of 8 bits.
func (f *fields) octet(field string, n uint16) uint8 {
	if n > 255 {
		f.failf(field, "%s %d is out of range: use 0 to 255", field, n)
	}
	return uint8(n)
}

func parseFamily(s string) (peering.Family, error) {
	switch f := peering.Family(s); f {
	case peering.IPv4, peering.IPv6:
		return f, nil
	}
	return "", invalidf("address family %q is unknown: use ipv4 or ipv6", s)
}

// NewBGPPeer gives the peer as the interface shows it: without its password.
func NewBGPPeer(b hnv.BGPPeer) BGPPeer {
	p := b.Peer
	out := BGPPeer{
		Tenant: b.Tenant.String(), Name: p.Name, Address: addrText(p.Address), Limit: small(p.Limit), ASN: p.ASN,
		Local: addrText(p.Local), Port: p.Port, Passive: p.Passive, Disabled: p.Disabled, HasPassword: b.Password != "",
		TTLSecurity: uint16(p.TTLSecurity), MultihopTTL: uint16(p.MultihopTTL),
		HoldSeconds: seconds(p.Hold), KeepaliveSeconds: seconds(p.Keepalive), ConnectRetry: seconds(p.ConnectRetry), ReEnableSeconds: seconds(p.ReEnable),
		ASOverride: p.ASOverride, RemovePrivateAS: string(p.RemovePrivateAS), AllowOwnAS: uint16(p.AllowOwnAS),
		NextHopSelf: p.NextHopSelf, DefaultOriginate: p.DefaultOriginate, Import: newPolicy(p.Import), Export: newPolicy(p.Export),
	}
	if p.Prefix.IsValid() {
		out.Prefix = p.Prefix.String()
	}
	for _, f := range p.Families {
		out.Families = append(out.Families, string(f))
	}
	if p.BFD != nil {
		out.BFD = &BGPBFD{IntervalMS: uint32(p.BFD.Interval / time.Millisecond), Multiplier: uint16(p.BFD.Multiplier)}
	}
	if g := p.GracefulRestart; g != nil {
		out.GracefulRestart = &BGPGracefulRestart{Seconds: seconds(g.Time), LongLivedSeconds: seconds(g.LongLived), Notification: g.Notification}
	}
	if len(p.MaxPrefixes) > 0 {
		out.MaxPrefixes = &BGPMaxPrefixes{IPv4: p.MaxPrefixes[peering.IPv4], IPv6: p.MaxPrefixes[peering.IPv6]}
	}
	return out
}

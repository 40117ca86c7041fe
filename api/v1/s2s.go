package v1

import (
	"fmt"

	"github.com/hnvgate/hnvgate/hnv"
)

// S2SConnection is an encrypted tunnel from a tenant's compartment to the tenant's
// own sites. Its keys are written and never read back: see PrivateKey.
type S2SConnection struct {
	Tenant   string `json:"tenant" doc:"Tenant it belongs to; its gateway must be on this machine." example:"contoso"`
	Name     string `json:"name" doc:"Name of the connection among those of its tenant: a DNS label (RFC 1123) of at most 40 characters." example:"hq" maxLength:"40"`
	Protocol string `json:"protocol,omitempty" doc:"How it is carried. Left out: wireguard." enum:"wireguard"`

	PrivateKey string `json:"privateKey,omitempty" doc:"Private key of this end, as wg(8) writes it. It is never given back. Left out: one is drawn for a new connection, and the one of an old connection stays." writeOnly:"true"`
	PublicKey  string `json:"publicKey,omitempty" doc:"Its public key, which the other ends need. It follows from the private key; given without that, it must be the one that stands." example:"cU7p9SLgPoy2wgFGBRIxIHkMYsPeRWcFNWtuXYVTpQY="`

	LocalAddress string      `json:"localAddress,omitempty" doc:"External address or attachment's address that it listens at. Left out: the first that the tenant has." example:"203.0.113.10"`
	ListenPort   uint16      `json:"listenPort,omitempty" doc:"UDP port there. Left out or 0: a free one, which then stays." example:"51820"`
	Addresses    []string    `json:"addresses,omitempty" doc:"Addresses of this end inside the tunnel, each with the length of the link's prefix. Probes and BGP need one." nullable:"false" example:"[\"169.254.10.1/30\"]"`
	MTU          uint16      `json:"mtu,omitempty" doc:"Bytes of the largest IP packet inside the tunnel. Left out or 0: what the path leaves." example:"1420"`
	InboundKbps  uint64      `json:"inboundKbps,omitempty" doc:"Rate limit of what comes from the site in 1000 bit/s. Left out or 0: none."`
	OutboundKbps uint64      `json:"outboundKbps,omitempty" doc:"Rate limit of what goes to it. Left out or 0: none."`
	DSCP         uint16      `json:"dscp,omitempty" doc:"Differentiated services code point of the encrypted packets. Left out: 0." maximum:"63"`
	LocalMaps    []PrefixMap `json:"localMaps,omitempty" doc:"Prefixes of the tenant that the site sees as others, one to one." nullable:"false"`
	RemoteMaps   []PrefixMap `json:"remoteMaps,omitempty" doc:"Prefixes of the site that the tenant sees as others, one to one: for a site that has addresses of the tenant's own." nullable:"false"`
	Peers        []S2SPeer   `json:"peers,omitempty" doc:"The other ends." nullable:"false"`
}

// PrefixMap translates a prefix into another of the same length.
type PrefixMap struct {
	Real   string `json:"real" doc:"The prefix as it is where it belongs." example:"10.1.1.0/24"`
	Mapped string `json:"mapped" doc:"The prefix that the other side sees instead, of the same length." example:"100.64.1.0/24"`
}

// S2SPeer is the other end of a connection.
type S2SPeer struct {
	Name      string `json:"name" doc:"Name of the peer among those of its connection: a DNS label of at most 40 characters." example:"hq1" maxLength:"40"`
	PublicKey string `json:"publicKey" doc:"Its public key, as wg(8) writes it."`

	PresharedKey    *string `json:"presharedKey,omitempty" doc:"Pre-shared key, as wg(8) writes it, on top of the public ones. It is never given back. Left out: the one that stands stays; empty: none any more." writeOnly:"true"`
	HasPresharedKey bool    `json:"hasPresharedKey,omitempty" doc:"There is a pre-shared key. Written as true without one, it must be the one that stands."`

	Endpoint  string    `json:"endpoint,omitempty" doc:"Where it is, ADDR:PORT. Left out: it calls, from wherever it is." example:"198.51.100.7:51820"`
	Prefixes  []string  `json:"prefixes,omitempty" doc:"Prefixes behind it; what comes from it with another source is dropped." nullable:"false" example:"[\"172.16.0.0/16\", \"169.254.10.2/32\"]"`
	FromBGP   bool      `json:"fromBGP,omitempty" doc:"What else is behind it, BGP says; only the single peer of a connection may have this."`
	Keepalive uint16    `json:"keepalive,omitempty" doc:"Seconds between keepalives. Left out or 0: none."`
	Priority  uint32    `json:"priority,omitempty" doc:"Where several ways lead to a prefix, the lowest priority that is alive is taken; those of the same priority share the flows."`
	Weight    uint16    `json:"weight,omitempty" doc:"Share of the flows among ways of one priority. Left out or 0: 1." maximum:"256"`
	Probe     *S2SProbe `json:"probe,omitempty" doc:"How forwarding to it is watched. Left out: by the defaults."`
}

// S2SProbe says how forwarding to a peer is watched.
type S2SProbe struct {
	Target     string `json:"target,omitempty" doc:"Address that answers echo requests behind the peer. Left out: the first of its prefixes that is a single address; where none is, it is not probed." example:"169.254.10.2"`
	IntervalMS uint32 `json:"intervalMS,omitempty" doc:"Milliseconds between probes. Left out or 0: 100 where another peer offers one of the prefixes too, else 1000." minimum:"10" maximum:"60000"`
	Fall       uint16 `json:"fall,omitempty" doc:"Probes without an answer that make it down. Left out or 0: 4." maximum:"1000"`
	Rise       uint16 `json:"rise,omitempty" doc:"Answers in a row that make it up again. Left out or 0: 20, of a peer without another way 3." maximum:"1000"`
}

// S2SConnectionList is what GET /v1/s2s-connections answers.
type S2SConnectionList struct {
	Items []S2SConnection `json:"items" doc:"The connections, sorted by tenant and name, without their secrets." nullable:"false"`
}

// Object gives the domain's object without its secrets, which the server seals. All
// malformed fields are joined into the error, a *FieldError each; none repeats a
// secret. The result need not pass Check.
func (c S2SConnection) Object() (hnv.S2SConnection, error) {
	var f fields
	out := hnv.S2SConnection{
		Tenant: f.named("tenant", "tenant", c.Tenant), Name: read(&f, "name", c.Name, parseName),
		Protocol: hnv.S2SProtocol(c.Protocol), PublicKey: optional(&f, "publicKey", c.PublicKey, hnv.ParseWGKey),
		ListenPort: c.ListenPort, MTU: int(c.MTU), InboundKbps: c.InboundKbps, OutboundKbps: c.OutboundKbps,
	}
	if c.LocalAddress != "" {
		out.LocalAddress = f.addr("localAddress", "local address", c.LocalAddress)
	}
	if c.DSCP > 63 {
		f.failf("dscp", "DSCP %d is out of range: use 0 to 63", c.DSCP)
	}
	out.DSCP = uint8(c.DSCP)
	out.Addresses = f.prefixes("addresses", "address", c.Addresses)
	out.LocalMaps, out.RemoteMaps = f.maps("localMaps", c.LocalMaps), f.maps("remoteMaps", c.RemoteMaps)
	for i, p := range c.Peers {
		part := &fields{}
		out.Peers = append(out.Peers, p.object(part, fmt.Sprintf("peers[%d].", i)))
		if p.Name != "" {
			f.within("peer "+p.Name, part)
		} else {
			f.within(fmt.Sprintf("peer number %d of the list", i+1), part)
		}
	}
	return out, f.err()
}

func (f *fields) maps(field string, in []PrefixMap) []hnv.PrefixMap {
	var out []hnv.PrefixMap
	for i, m := range in {
		at := fmt.Sprintf("%s[%d].", field, i)
		out = append(out, hnv.PrefixMap{Real: f.prefix(at+"real", "real prefix", m.Real), Mapped: f.prefix(at+"mapped", "mapped prefix", m.Mapped)})
	}
	return out
}

func (p S2SPeer) object(f *fields, at string) hnv.S2SPeer {
	out := hnv.S2SPeer{
		Name: read(f, at+"name", p.Name, parseName), FromBGP: p.FromBGP,
		Keepalive: p.Keepalive, Priority: p.Priority, Weight: int(p.Weight),
	}
	if p.PublicKey == "" {
		f.failf(at+"publicKey", "the public key is missing: give the other end's, as «wg pubkey» prints it")
	} else {
		out.PublicKey = read(f, at+"publicKey", p.PublicKey, hnv.ParseWGKey)
	}
	if p.Endpoint != "" {
		out.Endpoint = f.addrPort(at+"endpoint", "other", p.Endpoint)
	}
	out.Prefixes = f.prefixes(at+"prefixes", "prefix", p.Prefixes)
	if w := p.Probe; w != nil {
		out.Probe = hnv.S2SProbe{IntervalMS: int(w.IntervalMS), Fall: int(w.Fall), Rise: int(w.Rise)}
		if w.Target != "" {
			out.Probe.Target = f.addr(at+"probe.target", "probe's target", w.Target)
		}
	}
	return out
}

// NewS2SConnection gives the connection as the interface shows it: without its
// secrets.
func NewS2SConnection(c hnv.S2SConnection) S2SConnection {
	out := S2SConnection{
		Tenant: c.Tenant.String(), Name: c.Name.String(), Protocol: string(c.Protocol), PublicKey: c.PublicKey.String(),
		LocalAddress: addrText(c.LocalAddress), ListenPort: c.ListenPort, Addresses: texts(c.Addresses), MTU: small(c.MTU),
		InboundKbps: c.InboundKbps, OutboundKbps: c.OutboundKbps, DSCP: uint16(c.DSCP),
		LocalMaps: newMaps(c.LocalMaps), RemoteMaps: newMaps(c.RemoteMaps),
	}
	for _, p := range c.Peers {
		peer := S2SPeer{
			Name: p.Name.String(), PublicKey: p.PublicKey.String(), HasPresharedKey: p.PresharedKey != "",
			Prefixes: texts(p.Prefixes), FromBGP: p.FromBGP, Keepalive: p.Keepalive, Priority: p.Priority, Weight: small(p.Weight),
		}
		if p.Endpoint.IsValid() {
			peer.Endpoint = p.Endpoint.String()
		}
		if w := p.Probe; w != (hnv.S2SProbe{}) {
			peer.Probe = &S2SProbe{Target: addrText(w.Target), IntervalMS: uint32(w.IntervalMS), Fall: small(w.Fall), Rise: small(w.Rise)}
		}
		out.Peers = append(out.Peers, peer)
	}
	return out
}

func newMaps(in []hnv.PrefixMap) []PrefixMap {
	var out []PrefixMap
	for _, m := range in {
		out = append(out, PrefixMap{m.Real.String(), m.Mapped.String()})
	}
	return out
}

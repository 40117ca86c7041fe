package hnv

import (
	"encoding/base64"
	"net/netip"
	"slices"
)

// S2SProtocol is how a connection to a site is carried.
type S2SProtocol string

// WireGuard is the protocol of connections.
const WireGuard S2SProtocol = "wireguard"

// WGKey is a public key of WireGuard, 32 bytes. The zero value is none.
type WGKey struct{ b [32]byte }

// ParseWGKey reads a public key as wg(8) writes it.
func ParseWGKey(s string) (WGKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 32 {
		// What was given may be a private key in the wrong place: it is not repeated.
		return WGKey{}, invalidf("a WireGuard key is 32 bytes, written as 44 characters of base64, as «wg pubkey» prints it; what was given has %d characters", len(s))
	}
	k := WGKey{[32]byte(b)}
	if !k.IsValid() {
		return WGKey{}, invalidf("the WireGuard key of all zeros is nobody's")
	}
	return k, nil
}

// IsValid tells whether the key is set.
func (k WGKey) IsValid() bool { return k.b != [32]byte{} }

// Bytes gives the key.
func (k WGKey) Bytes() [32]byte { return k.b }

func (k WGKey) String() string {
	if !k.IsValid() {
		return ""
	}
	return base64.StdEncoding.EncodeToString(k.b[:])
}

// MarshalText gives String.
func (k WGKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText checks what it reads.
func (k *WGKey) UnmarshalText(b []byte) (err error) { *k, err = ParseWGKey(string(b)); return err }

// S2SConnection is an encrypted tunnel of a compartment to the tenant's own sites.
type S2SConnection struct {
	Tenant   Name        `json:"tenant"`
	Name     Name        `json:"name"`
	Protocol S2SProtocol `json:"protocol"`
	// PrivateKey of this end, sealed; PublicKey is its other half.
	PrivateKey Secret `json:"privateKey"`
	PublicKey  WGKey  `json:"publicKey"`
	// LocalAddress is the external address that the connection listens at; unset: the
	// first that the compartment has.
	LocalAddress netip.Addr `json:"localAddress,omitzero"`
	// ListenPort is the UDP port there. 0 takes a free one, which then stays.
	ListenPort uint16 `json:"listenPort"`
	// Addresses of the tunnel's link, with the length of their prefix.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// MTU of the link in bytes; 0 derives it from the path.
	MTU int `json:"mtu,omitempty"`
	// InboundKbps and OutboundKbps bound what the tunnel carries, in 1000 bit/s of
	// packets before encryption; 0: no bound.
	InboundKbps  uint64 `json:"inboundKbps,omitempty"`
	OutboundKbps uint64 `json:"outboundKbps,omitempty"`
	// DSCP of the encrypted packets, 0 to 63.
	DSCP uint8 `json:"dscp,omitempty"`
	// LocalMaps translate the tenant's prefixes into what the site sees, RemoteMaps
	// the site's into what the tenant sees, one to one.
	LocalMaps  []PrefixMap `json:"localMaps,omitempty"`
	RemoteMaps []PrefixMap `json:"remoteMaps,omitempty"`
	Peers      []S2SPeer   `json:"peers,omitempty"`
}

// PrefixMap translates a prefix into another of the same length.
type PrefixMap struct {
	Real   netip.Prefix `json:"real"`
	Mapped netip.Prefix `json:"mapped"`
}

// Translate gives what becomes of a prefix inside Real.
func (m PrefixMap) Translate(p netip.Prefix) netip.Prefix {
	from, to := p.Addr().AsSlice(), m.Mapped.Addr().AsSlice()
	if len(from) != len(to) {
		return p // refused elsewhere
	}
	for i := range to {
		keep := min(max(m.Mapped.Bits()-8*i, 0), 8)
		network := byte(0xff << (8 - keep))
		to[i] = to[i]&network | from[i]&^network
	}
	a, _ := netip.AddrFromSlice(to)
	return netip.PrefixFrom(a, p.Bits())
}

// S2SPeer is the other end of a connection.
type S2SPeer struct {
	Name         Name   `json:"name"`
	PublicKey    WGKey  `json:"publicKey"`
	PresharedKey Secret `json:"presharedKey,omitempty"` // sealed; "": none
	// Endpoint is where the peer is; unset: known when it calls.
	Endpoint netip.AddrPort `json:"endpoint,omitzero"`
	// Prefixes behind the peer.
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	// FromBGP: BGP says what else is behind it. Such a peer is its connection's only
	// one.
	FromBGP bool `json:"fromBGP,omitempty"`
	// Keepalive in seconds; 0: none.
	Keepalive uint16 `json:"keepalive,omitempty"`
	// Priority of this way to its prefixes: the lowest that is alive is taken, those
	// of one Priority share the flows by Weight, 1 to 256 (0 is 1).
	Priority uint32   `json:"priority,omitempty"`
	Weight   int      `json:"weight,omitempty"`
	Probe    S2SProbe `json:"probe,omitzero"`
}

// S2SProbe says how forwarding to a peer is watched.
type S2SProbe struct {
	// Target answers echo requests behind the peer; unset: the peer's first prefix
	// that is a single address, or the peer is not probed.
	Target netip.Addr `json:"target,omitzero"`
	// IntervalMS is between probes, in milliseconds; Fall probes without an answer
	// make the peer down, Rise answers in a row make it up. 0 is the default.
	IntervalMS int `json:"intervalMS,omitempty"`
	Fall       int `json:"fall,omitempty"`
	Rise       int `json:"rise,omitempty"`
}

// FirstListenPort is where the search for a free listen port begins on an address
// that a tenant has for itself.
const FirstListenPort = 51820

// Kind is KindS2SConnection.
func (S2SConnection) Kind() Kind { return KindS2SConnection }

// Key is TENANT/NAME.
func (c S2SConnection) Key() string { return c.Tenant.s + "/" + c.Name.s }

// Link is the name of the tunnel's link in the compartment.
func (c S2SConnection) Link() string { return linkName("wg-", c.Name) }

// Defaulted fills in what may be left out and does not depend on others.
func (c S2SConnection) Defaulted() S2SConnection {
	if c.Protocol == "" {
		c.Protocol = WireGuard
	}
	c.Addresses = unlessEmpty(c.Addresses)
	c.LocalMaps, c.RemoteMaps = unlessEmpty(c.LocalMaps), unlessEmpty(c.RemoteMaps)
	c.Peers = slices.Clone(unlessEmpty(c.Peers))
	for i := range c.Peers {
		c.Peers[i].Prefixes = unlessEmpty(c.Peers[i].Prefixes)
	}
	return c
}

// Kept gives c with what a replacement that does not say it leaves as it was: the
// key, the listen port, peers' pre-shared keys.
func (c S2SConnection) Kept(before S2SConnection) S2SConnection {
	if c.PrivateKey == "" {
		c.PrivateKey, c.PublicKey = before.PrivateKey, before.PublicKey
	}
	if c.ListenPort == 0 && c.LocalAddress == before.LocalAddress {
		c.ListenPort = before.ListenPort
	}
	return c
}

// Check holds what must be true of the connection alone. What the engine refuses
// besides, Site.Checks say.
func (c S2SConnection) Check() error {
	if !c.Tenant.IsValid() || !c.Name.IsValid() {
		return invalidf("a site-to-site connection needs a tenant and a name")
	}
	bad := func(format string, args ...any) error {
		return invalidf("site-to-site connection "+c.Key()+": "+format, args...)
	}
	if c.Protocol != WireGuard {
		return bad("protocol %q is unknown: use %s", c.Protocol, WireGuard)
	}
	if c.PrivateKey == "" || !c.PublicKey.IsValid() {
		return bad("it has no private key")
	}
	if err := c.PrivateKey.check(); err != nil {
		return bad("private key: %v", err)
	}
	if c.LocalAddress.IsValid() {
		if err := checkPlain("local address", c.LocalAddress); err != nil {
			return bad("%v", err)
		}
	}
	keys, names := map[WGKey]Name{}, map[Name]bool{}
	claims := map[netip.Prefix]Name{}
	for _, p := range c.Peers {
		if !p.Name.IsValid() {
			return bad("a peer has no name")
		}
		if names[p.Name] {
			return bad("peer %s is there twice", p.Name)
		}
		names[p.Name] = true
		switch other, taken := keys[p.PublicKey]; {
		case !p.PublicKey.IsValid():
			return bad("peer %s: its public key is missing", p.Name)
		case p.PublicKey == c.PublicKey:
			return bad("peer %s: public key %s is this end's own: give the other end's", p.Name, p.PublicKey)
		case taken:
			return bad("peer %s: public key %s is that of peer %s", p.Name, p.PublicKey, other)
		}
		keys[p.PublicKey] = p.Name
		if err := p.PresharedKey.check(); err != nil {
			return bad("peer %s: pre-shared key: %v", p.Name, err)
		}
		for _, q := range p.Prefixes {
			if !q.IsValid() || q != q.Masked() {
				return bad("peer %s: prefix %s is malformed or has host bits set", p.Name, q)
			}
			if other, taken := claims[q]; taken {
				return bad("peer %s: prefix %s is claimed by peer %s too: WireGuard sends a prefix to one peer of a connection", p.Name, q, other)
			}
			claims[q] = p.Name
		}
	}
	return nil
}

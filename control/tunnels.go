package control

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// opener gives what a sealed secret of that place holds.
type opener func(hnv.SecretPlace, hnv.Secret) (string, error)

// tunnelSpec is what the tenant's agent is to do about tunnels; nil where there are
// none.
func tunnelSpec(f *hnv.Fabric, t hnv.Tenant, open opener) (*s2s.Spec, error) {
	conns := f.Connections(t.Name)
	if len(conns) == 0 {
		return nil, nil
	}
	spec := &s2s.Spec{}
	for _, c := range conns {
		tn, err := tunnelOf(c, open)
		if err != nil {
			return nil, err
		}
		spec.Tunnels = append(spec.Tunnels, tn)
	}
	return spec, nil
}

func tunnelOf(c hnv.S2SConnection, open opener) (s2s.Tunnel, error) {
	t := plainTunnel(c)
	key, err := openKey(c.PrivateKeyPlace(), c.PrivateKey, open)
	if err != nil {
		return t, fmt.Errorf("private key of connection %s: %w", c.Name, err)
	}
	t.PrivateKey = key
	for i, p := range c.Peers {
		if p.PresharedKey == "" {
			continue
		}
		if t.Peers[i].PresharedKey, err = openKey(c.PresharedKeyPlace(p.Name), p.PresharedKey, open); err != nil {
			return t, fmt.Errorf("pre-shared key of peer %s of connection %s: %w", p.Name, c.Name, err)
		}
	}
	return t, nil
}

// errKey is all that is told of a key that is none: what stands there may be one
// with a slip of the pen.
var errKey = errors.New("it is not a key")

func openKey(at hnv.SecretPlace, sealed hnv.Secret, open opener) (s2s.Secret, error) {
	text, err := open(at, sealed)
	if err != nil {
		return s2s.Secret{}, err
	}
	key, err := s2s.ParseSecret(text)
	if err != nil {
		return s2s.Secret{}, errKey
	}
	return key, nil
}

// plainTunnel is the connection as the engine has it, without its secrets.
func plainTunnel(c hnv.S2SConnection) s2s.Tunnel {
	t := s2s.Tunnel{
		Name: c.Name.String(), Interface: c.Link(), ListenPort: c.ListenPort, Addresses: c.Addresses, MTU: c.MTU,
		InboundKbps: c.InboundKbps, OutboundKbps: c.OutboundKbps, DSCP: c.DSCP,
		LocalMaps: prefixMaps(c.LocalMaps), RemoteMaps: prefixMaps(c.RemoteMaps),
	}
	for _, p := range c.Peers {
		t.Peers = append(t.Peers, s2s.Peer{
			Name: p.Name.String(), PublicKey: s2s.Key(p.PublicKey.Bytes()), Endpoint: p.Endpoint, Prefixes: p.Prefixes,
			FromBGP: p.FromBGP, Keepalive: p.Keepalive, Priority: p.Priority, Weight: p.Weight, Probe: s2s.Probe(p.Probe),
		})
	}
	return t
}

func prefixMaps(in []hnv.PrefixMap) []s2s.Map {
	var out []s2s.Map
	for _, m := range in {
		out = append(out, s2s.Map(m))
	}
	return out
}

// tunnelEndpoints are the addresses at which the connection's peers are, as far as
// that is said.
func tunnelEndpoints(c hnv.S2SConnection) []netip.Addr {
	var out []netip.Addr
	for _, p := range c.Peers {
		if p.Endpoint.IsValid() {
			out = append(out, p.Endpoint.Addr())
		}
	}
	return out
}

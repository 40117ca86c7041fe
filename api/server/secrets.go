package server

import (
	"errors"
	"fmt"
	"slices"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// Secrets keeps keys and passwords: the state holds only what Seal made of them.
// Its errors never repeat a secret.
type Secrets interface {
	// Seal gives the form in which a secret may be stored, for the one place.
	Seal(at hnv.SecretPlace, plain string) (hnv.Secret, error)
	// Open gives the secret back, at that place.
	Open(at hnv.SecretPlace, sealed hnv.Secret) (plain string, err error)
	// Outdated tells of one that an earlier release sealed in another way.
	Outdated(sealed hnv.Secret) bool
	// NewWireGuardKey draws a key pair.
	NewWireGuardKey() (private string, public hnv.WGKey, err error)
	// PublicKey gives the public key of a private one; an error tells that it is
	// none.
	PublicKey(private string) (hnv.WGKey, error)
}

// errNoSecrets is told where there is nothing to keep secrets with.
var errNoSecrets = errors.New("this gateway has no key to keep secrets with")

// noSecrets keeps none.
type noSecrets struct{}

func (noSecrets) Seal(hnv.SecretPlace, string) (hnv.Secret, error) { return "", errNoSecrets }
func (noSecrets) Open(hnv.SecretPlace, hnv.Secret) (string, error) { return "", errNoSecrets }
func (noSecrets) Outdated(hnv.Secret) bool                         { return false }
func (noSecrets) NewWireGuardKey() (string, hnv.WGKey, error) {
	return "", hnv.WGKey{}, errNoSecrets
}
func (noSecrets) PublicKey(string) (hnv.WGKey, error) { return hnv.WGKey{}, errNoSecrets }

// maxPassword bounds a password of TCP MD5 signatures, in bytes (RFC 2385 section
// 4.5 and the kernel).
const maxPassword = 80

// sealer puts the secrets of one request into its objects. What is the same as
// before stays sealed as it was, so that writing an object again changes nothing.
type sealer struct {
	secrets Secrets
	drawn   map[string]hnv.S2SConnection // keys drawn for this request, by connection
}

// wrong names a field of an item for its refusal.
func (it *item) wrong(field string, err error) refusal {
	return refusal{at: it.at + "." + field, item: it.at, err: fmt.Errorf("%s: %w", it.label, err)}
}

// connection gives the connection with the secrets that the request says, keeps or
// leaves to be drawn.
func (s *sealer) connection(it item, o hnv.S2SConnection, old hnv.S2SConnection, exists bool) (hnv.S2SConnection, []refusal) {
	in := it.connection
	var bad []refusal
	refuse := func(field string, err error) { bad = append(bad, it.wrong(field, err)) }
	private, public, err := s.pair(o, in.PrivateKey, old, exists)
	var said *kindError
	switch {
	case errors.As(err, &said):
		field := "publicKey"
		if in.PrivateKey != "" && !o.PublicKey.IsValid() {
			field = "privateKey"
		}
		refuse(field, err)
	case err != nil:
		return o, []refusal{{at: it.at, item: it.at, err: err}}
	}
	o.PrivateKey, o.PublicKey = private, public
	o.Peers = append([]hnv.S2SPeer(nil), o.Peers...)
	for i := range o.Peers {
		p := &o.Peers[i]
		var before hnv.Secret
		for _, q := range old.Peers {
			if q.Name == p.Name {
				before = q.PresharedKey
			}
		}
		field := fmt.Sprintf("peers[%d].presharedKey", i)
		given := in.Peers[i].PresharedKey
		if given != nil && *given != "" {
			if _, err := hnv.ParseWGKey(*given); err != nil {
				refuse(field, invalidf("peer %s: pre-shared key: it is 32 bytes, written as 44 characters of base64, as «wg genpsk» prints it", p.Name))
				continue
			}
		}
		if p.PresharedKey, err = s.keep(o.PresharedKeyPlace(p.Name), given, before); err != nil {
			return o, []refusal{{at: it.at, item: it.at, err: err}}
		}
		if in.Peers[i].HasPresharedKey && p.PresharedKey == "" {
			refuse(field, invalidf("peer %s: hasPresharedKey says that there is a pre-shared key, but none is known here: give presharedKey, or leave both out", p.Name))
		}
	}
	return o, bad
}

// pair gives the private key of a connection, sealed, and its public one. What the
// request says wrongly is a *kindError.
func (s *sealer) pair(o hnv.S2SConnection, given string, old hnv.S2SConnection, exists bool) (hnv.Secret, hnv.WGKey, error) {
	if given != "" {
		public, err := s.secrets.PublicKey(given)
		switch {
		case errors.Is(err, errNoSecrets):
			return "", public, err
		case err != nil:
			return "", public, invalidf("the private key is not one of WireGuard: it is 32 bytes, written as 44 characters of base64, as «wg genkey» prints it")
		case o.PublicKey.IsValid() && o.PublicKey != public:
			return "", public, invalidf("public key %s is not that of the private key, %s: leave publicKey out, it follows from the private key", o.PublicKey, public)
		}
		var before hnv.Secret
		if exists && old.PublicKey == public {
			before = old.PrivateKey
		}
		sealed, err := s.keep(o.PrivateKeyPlace(), &given, before)
		return sealed, public, err
	}
	if exists && old.PrivateKey != "" {
		if o.PublicKey.IsValid() && o.PublicKey != old.PublicKey {
			return "", o.PublicKey, invalidf("public key %s is not that of the connection's private key, %s: leave publicKey out, or give the private key that belongs to it", o.PublicKey, old.PublicKey)
		}
		kept, err := s.keep(o.PrivateKeyPlace(), nil, old.PrivateKey)
		return kept, old.PublicKey, err
	}
	if o.PublicKey.IsValid() {
		return "", o.PublicKey, invalidf("the private key of public key %s is not known here: give privateKey («gatewayctl s2s export-key» on the gateway that has it prints it), or leave publicKey out to have a new pair drawn", o.PublicKey)
	}
	if d, ok := s.drawn[o.Key()]; ok {
		return d.PrivateKey, d.PublicKey, nil
	}
	private, public, err := s.secrets.NewWireGuardKey()
	if err != nil {
		return "", public, fmt.Errorf("draw a key: %w", err)
	}
	sealed, err := s.secrets.Seal(o.PrivateKeyPlace(), private)
	if err == nil {
		s.drawn[o.Key()] = hnv.S2SConnection{PrivateKey: sealed, PublicKey: public}
	}
	return sealed, public, err
}

// peer gives the BGP peer with the password that the request says or keeps.
func (s *sealer) peer(it item, o, old hnv.BGPPeer) (hnv.BGPPeer, []refusal) {
	in := it.peer
	if p := in.Password; p != nil && len(*p) > maxPassword {
		return o, []refusal{it.wrong("password", invalidf("the password has %d bytes: TCP MD5 takes at most %d", len(*p), maxPassword))}
	}
	var err error
	if o.Password, err = s.keep(o.PasswordPlace(), in.Password, old.Password); err != nil {
		return o, []refusal{{at: it.at, item: it.at, err: err}}
	}
	if in.HasPassword && o.Password == "" {
		return o, []refusal{it.wrong("password", invalidf("hasPassword says that there is a password, but none is known here: give password, or leave both out"))}
	}
	return o, nil
}

// keep gives the secret as it is stored then: given nil stays, empty goes. What an
// earlier release sealed is sealed anew where it can be opened.
func (s *sealer) keep(at hnv.SecretPlace, given *string, before hnv.Secret) (hnv.Secret, error) {
	switch {
	case given == nil && before != "" && s.secrets.Outdated(before):
		if plain, err := s.secrets.Open(at, before); err == nil {
			return s.secrets.Seal(at, plain)
		}
		return before, nil
	case given == nil:
		return before, nil
	case *given == "":
		return "", nil
	case before != "" && !s.secrets.Outdated(before):
		// One that cannot be opened any more is replaced.
		if plain, err := s.secrets.Open(at, before); err == nil && plain == *given {
			return before, nil
		}
	}
	return s.secrets.Seal(at, *given)
}

// stuck refuses a change that cannot be carried out, as a secret of the object cannot be
// opened any more: unless it brings at least one of those anew.
func (s *sealer) stuck(it item, old, now hnv.Object) []refusal {
	if len(lost(s.secrets, now)) == 0 || same(old, now) {
		return nil
	}
	before, after := lost(s.secrets, old), lost(s.secrets, now)
	if len(after) < len(before) {
		return nil
	}
	return []refusal{it.wrong(after[0].field, &kindError{fmt.Sprintf("%s that is kept cannot be opened (%v), so that the change would have no effect: give it anew with the change", after[0].what, after[0].err), hnv.ErrConflict})}
}

// secret is one of an object's.
type secret struct {
	at          hnv.SecretPlace
	sealed      hnv.Secret
	field, what string
	err         error // why it cannot be opened
}

func secretsOf(o hnv.Object) []secret {
	var out []secret
	switch o := o.(type) {
	case hnv.S2SConnection:
		out = append(out, secret{at: o.PrivateKeyPlace(), sealed: o.PrivateKey, field: "privateKey", what: "the private key"})
		for i, p := range o.Peers {
			out = append(out, secret{at: o.PresharedKeyPlace(p.Name), sealed: p.PresharedKey,
				field: fmt.Sprintf("peers[%d].presharedKey", i), what: "the pre-shared key of peer " + p.Name.String()})
		}
	case hnv.BGPPeer:
		out = append(out, secret{at: o.PasswordPlace(), sealed: o.Password, field: "password", what: "the password"})
	}
	return slices.DeleteFunc(out, func(x secret) bool { return x.sealed == "" })
}

// lost are those that cannot be opened.
func lost(s Secrets, o hnv.Object) (out []secret) {
	for _, x := range secretsOf(o) {
		if _, x.err = s.Open(x.at, x.sealed); x.err != nil {
			out = append(out, x)
		}
	}
	return out
}

// sealed lists the secrets of an object as they are stored, for its ETag: they
// change with the secrets, and the ETag's hash does not tell them.
func sealed(o hnv.Object) []string {
	var out []string
	for _, x := range secretsOf(o) {
		out = append(out, x.field+"="+string(x.sealed))
	}
	return out
}

// exportKey gives a secret of a connection.
func (s *Server) exportKey(tenant, name hnv.Name, in v1.S2SKeyRequest) (v1.S2SKey, error) {
	var c hnv.S2SConnection
	var ok bool
	s.store.View(func(f *hnv.Fabric) { c, ok = f.Connection(tenant, name) })
	if !ok {
		return v1.S2SKey{}, absent("site-to-site connection", tenant.String()+"/"+name.String())
	}
	if in.Peer == "" {
		plain, err := s.secrets.Open(c.PrivateKeyPlace(), c.PrivateKey)
		if err != nil {
			return v1.S2SKey{}, fmt.Errorf("open the private key of connection %s: %w", c.Key(), err)
		}
		return v1.S2SKey{PublicKey: c.PublicKey.String(), PrivateKey: plain}, nil
	}
	for _, p := range c.Peers {
		if p.Name.String() != in.Peer {
			continue
		}
		if p.PresharedKey == "" {
			return v1.S2SKey{}, &kindError{"peer " + in.Peer + " of site-to-site connection " + c.Key() + " has no pre-shared key", hnv.ErrNotFound}
		}
		plain, err := s.secrets.Open(c.PresharedKeyPlace(p.Name), p.PresharedKey)
		if err != nil {
			return v1.S2SKey{}, fmt.Errorf("open the pre-shared key of peer %s of connection %s: %w", in.Peer, c.Key(), err)
		}
		return v1.S2SKey{PublicKey: p.PublicKey.String(), PresharedKey: plain}, nil
	}
	return v1.S2SKey{}, &kindError{"site-to-site connection " + c.Key() + " has no peer " + in.Peer, hnv.ErrNotFound}
}

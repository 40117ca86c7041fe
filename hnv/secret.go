package hnv

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a key or password in the form in which it may be kept: sealed, by
// whoever holds the machine's key. It shows itself in JSON alone, which is for the
// store.
type Secret string

// SecretPlace says which secret of which object one is: sealed for one place it opens
// nowhere else, so that nobody makes it another tenant's.
type SecretPlace string

// PrivateKeyPlace is that of the connection's private key.
func (c S2SConnection) PrivateKeyPlace() SecretPlace {
	return place(KindS2SConnection, c.Key(), "privateKey")
}

// PresharedKeyPlace is that of the pre-shared key with the peer.
func (c S2SConnection) PresharedKeyPlace(peer Name) SecretPlace {
	return place(KindS2SConnection, c.Key(), "peers/"+peer.String()+"/presharedKey")
}

// PasswordPlace is that of the peer's password.
func (p BGPPeer) PasswordPlace() SecretPlace { return place(KindBGPPeer, p.Key(), "password") }

func place(k Kind, key, field string) SecretPlace {
	return SecretPlace(string(k) + "/" + key + "/" + field)
}

const hiddenSecret = "(secret)"

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hiddenSecret
}

// Format keeps any verb of package fmt from showing the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps it out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// maxSecret bounds what is kept of one, in bytes.
const maxSecret = 1024

func (s Secret) check() error {
	if len(s) > maxSecret {
		return invalidf("a sealed secret has %d bytes: at most %d are kept", len(s), maxSecret)
	}
	return nil
}

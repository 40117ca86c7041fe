package s2s

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// keyLen is the length of every WireGuard key, in bytes.
const keyLen = 32

// hidden is what a Secret shows of itself.
const hidden = "(hidden)"

// Key is a public key (Curve25519).
type Key [keyLen]byte

// ParseKey reads a public key as wg(8) writes it: 44 characters of base64.
func ParseKey(s string) (Key, error) {
	b, err := parse(s)
	return Key(b), err
}

func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// IsZero tells whether the key is not set.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText writes the key as String does; nothing if it is not set.
func (k Key) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, nil
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (k *Key) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*k = Key{}
		return nil
	}
	*k, err = ParseKey(string(b))
	return err
}

func (k Key) hex() string { return hex.EncodeToString(k[:]) }

// Secret is a private or pre-shared key. However it is printed, logged or
// marshalled, it does not show; Reveal and Encode do.
type Secret struct{ key [keyLen]byte }

// ParseSecret reads a secret as wg(8) writes it.
func ParseSecret(s string) (Secret, error) {
	b, err := parse(s)
	return Secret{b}, err
}

// NewPrivateKey makes a private key.
func NewPrivateKey() Secret {
	var s Secret
	_, _ = rand.Read(s.key[:]) // never fails
	s.key[0] &= 248
	s.key[31] = s.key[31]&127 | 64
	return s
}

// NewPresharedKey makes a pre-shared key.
func NewPresharedKey() Secret {
	var s Secret
	_, _ = rand.Read(s.key[:])
	return s
}

// Public gives the public key of a private one.
func (s Secret) Public() Key {
	private, err := ecdh.X25519().NewPrivateKey(s.key[:])
	if err != nil {
		panic("a key of 32 bytes was refused: " + err.Error())
	}
	return Key(private.PublicKey().Bytes())
}

// IsZero tells whether the secret is not set.
func (s Secret) IsZero() bool { return s == Secret{} }

// Reveal writes the secret as wg(8) does.
func (s Secret) Reveal() string { return base64.StdEncoding.EncodeToString(s.key[:]) }

func (s Secret) hex() string { return hex.EncodeToString(s.key[:]) }

func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return hidden
}

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue hides the secret from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes only what a hidden secret looks like: Decode puts the
// secrets in.
func (s *Secret) UnmarshalText(b []byte) error {
	if len(b) != 0 && string(b) != hidden {
		return errors.New("a secret does not belong here")
	}
	*s = Secret{}
	return nil
}

// parse never repeats what it was given: it may be a secret in the wrong place.
func parse(s string) ([keyLen]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return [keyLen]byte{}, errors.New("a key is 44 characters of base64")
	}
	if len(b) != keyLen {
		return [keyLen]byte{}, errors.New("a key has 32 bytes")
	}
	return [keyLen]byte(b), nil
}

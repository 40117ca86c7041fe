package servertest

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hnvgate/hnvgate/hnv"
)

// Secrets is a server.Secrets whose keys are the same in each test: the first drawn
// is of bytes 1, the second of bytes 2.
type Secrets struct {
	mu    sync.Mutex
	drawn byte
	seals int
}

const mask = 0x5a

// Seal hides the plain text, each time in another way.
func (s *Secrets) Seal(at hnv.SecretPlace, plain string) (hnv.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seals++
	b := []byte(plain)
	for i := range b {
		b[i] ^= mask
	}
	return hnv.Secret(fmt.Sprintf("sealed%d:%s:%s", s.seals, hex.EncodeToString(b), at)), nil
}

// Open gives it back.
func (s *Secrets) Open(at hnv.SecretPlace, sealed hnv.Secret) (string, error) {
	var n int
	var text string
	body, bound, _ := strings.Cut(strings.Replace(string(sealed), ":", " ", 1), ":")
	if _, err := fmt.Sscanf(body, "sealed%d %s", &n, &text); err != nil || bound != "" && bound != string(at) {
		return "", errors.New("not sealed here")
	}
	b, err := hex.DecodeString(text)
	for i := range b {
		b[i] ^= mask
	}
	return string(b), err
}

// Outdated tells of one without a place.
func (s *Secrets) Outdated(sealed hnv.Secret) bool { return strings.Count(string(sealed), ":") < 2 }

// Key is the n-th private key that is drawn, and its public one.
func Key(n byte) (private string, public hnv.WGKey) {
	b := make([]byte, 32)
	for i := range b {
		b[i] = n
	}
	b[0], b[31] = b[0]&248, b[31]&127|64
	private = base64.StdEncoding.EncodeToString(b)
	public, _ = publicKey(private)
	return private, public
}

// NewWireGuardKey gives the next one.
func (s *Secrets) NewWireGuardKey() (string, hnv.WGKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn++
	private, public := Key(s.drawn)
	return private, public, nil
}

// PublicKey gives that of a private one.
func (s *Secrets) PublicKey(private string) (hnv.WGKey, error) { return publicKey(private) }

func publicKey(private string) (hnv.WGKey, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(private)
	if err != nil {
		return hnv.WGKey{}, errors.New("not base64")
	}
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return hnv.WGKey{}, errors.New("not 32 bytes")
	}
	return hnv.ParseWGKey(base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()))
}

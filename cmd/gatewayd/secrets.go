package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/internal/seal"
	"github.com/hnvgate/hnvgate/s2s"
)

// secrets keeps keys and passwords of the desired state sealed under the machine's
// key. Its errors never repeat a secret.
type secrets struct{ key seal.Key }

// sealedBy begins a sealed secret, and tells it from one that somebody wrote into
// the store in the clear. What begins with sealedBefore is of a release that did not
// bind it to its place.
const (
	sealedBy      = "sealed2:"
	sealedBefore  = "sealed1:"
	secretContext = "secret of the desired state"
)

// openSecrets reads the key file, or makes it. From then on the key is in this
// process, so no core of it may come to a disk.
func openSecrets(c config.Config, log *slog.Logger) (secrets, error) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return secrets{}, fmt.Errorf("forbid core dumps: %w", err)
	}
	key, err := seal.ReadKey(c.SecretsKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
			return secrets{}, fmt.Errorf("state folder: %w", err)
		}
		if key, err = seal.CreateKey(c.SecretsKeyFile); err == nil {
			// It is the first one, or one is missing: then who reads this knows why
			// nothing can be opened.
			log.Warn("a new key for secrets was made; what was sealed under another cannot be opened with it", "file", c.SecretsKeyFile)
		}
	}
	return secrets{key}, err
}

// Seal gives the form in which a secret may be stored: it opens at this place only.
func (s secrets) Seal(at hnv.SecretPlace, plain string) (hnv.Secret, error) {
	sealed := s.key.Seal([]byte(plain), contextOf(at))
	return hnv.Secret(sealedBy + base64.StdEncoding.EncodeToString(sealed)), nil
}

func contextOf(at hnv.SecretPlace) string { return secretContext + ": " + string(at) }

// Outdated tells of one that is not bound to its place.
func (s secrets) Outdated(sealed hnv.Secret) bool {
	return strings.HasPrefix(string(sealed), sealedBefore)
}

// Open gives the secret back.
func (s secrets) Open(at hnv.SecretPlace, sealed hnv.Secret) (string, error) {
	context := contextOf(at)
	text, ok := strings.CutPrefix(string(sealed), sealedBy)
	if !ok {
		context = secretContext
		text, ok = strings.CutPrefix(string(sealed), sealedBefore)
	}
	if !ok {
		return "", errors.New("it is not sealed: set it anew")
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", errors.New("it is damaged: set it anew")
	}
	plain, err := s.key.Open(b, context)
	if err != nil {
		return "", fmt.Errorf("%w: bring back the key file that it was stored with, or set it anew", err)
	}
	return string(plain), nil
}

// NewWireGuardKey draws a key pair.
func (secrets) NewWireGuardKey() (string, hnv.WGKey, error) {
	k := s2s.NewPrivateKey()
	public, err := hnv.ParseWGKey(k.Public().String())
	return k.Reveal(), public, err
}

// PublicKey gives the public key of a private one.
func (secrets) PublicKey(private string) (hnv.WGKey, error) {
	k, err := s2s.ParseSecret(private)
	if err != nil {
		return hnv.WGKey{}, err
	}
	return hnv.ParseWGKey(k.Public().String())
}

package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/crypto/chacha20poly1305"
)

// magic begins what is sealed, and names the format.
const magic = "hnvseal1"

// MaxKeyFile bounds what is read of a key file.
const maxKeyFile = 256

// ErrSealed is returned for what was not sealed under the key and context, or
// was changed since.
var ErrSealed = errors.New("not sealed under this key, or damaged")

// Key seals and opens. It does not show itself when printed.
type Key struct {
	key [chacha20poly1305.KeySize]byte
}

// NewKey makes a key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k.key[:]) // never fails
	return k
}

// KeyFrom takes a key as Bytes gives it.
func KeyFrom(b []byte) (Key, error) {
	if len(b) != chacha20poly1305.KeySize {
		return Key{}, fmt.Errorf("a key has %d bytes, not %d", chacha20poly1305.KeySize, len(b))
	}
	return Key{[chacha20poly1305.KeySize]byte(b)}, nil
}

// Derive gives a key of its own for a purpose, which tells nothing of this one
// (HKDF with SHA-256, RFC 5869).
func (k Key) Derive(purpose string) Key {
	b, err := hkdf.Key(sha256.New, k.key[:], nil, purpose, chacha20poly1305.KeySize)
	if err != nil {
		panic("a key of 32 bytes cannot be derived: " + err.Error())
	}
	return Key{[chacha20poly1305.KeySize]byte(b)}
}

// Bytes gives the key itself.
func (k Key) Bytes() []byte { return k.key[:] }

// Format hides the key from fmt.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(hidden)")) }

// LogValue hides the key from logs.
func (k Key) LogValue() slog.Value { return slog.StringValue("(hidden)") }

// ReadKey reads a key file: 32 bytes in base64, on one line. A file that others
// than its owner can read or write, or that belongs to somebody else, is refused:
// its key must be taken for known.
func ReadKey(path string) (Key, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return Key{}, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("key file: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.Mode().IsRegular():
		return Key{}, fmt.Errorf("key file %s: not a file", path)
	case st.Mode().Perm()&0o077 != 0:
		return Key{}, fmt.Errorf("key file %s: mode %#o lets others at it: make a new key, with mode 0600", path, st.Mode().Perm())
	case ok && int(sys.Uid) != os.Geteuid():
		return Key{}, fmt.Errorf("key file %s: belongs to user %d", path, sys.Uid)
	}
	b := make([]byte, maxKeyFile)
	n, _ := f.Read(b)
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: not base64", path)
	}
	k, err := KeyFrom(raw)
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// CreateKey makes a key and its file, which must not be there yet. The file is there
// whole or not at all, also after a loss of power: what is sealed is worth nothing
// without it.
func CreateKey(path string) (Key, error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return Key{}, fmt.Errorf("key file: %w", err)
	}
	defer os.Remove(f.Name())
	k := NewKey()
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(k.key[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path)
	}
	if err == nil {
		err = syncFolder(dir)
	}
	if err != nil {
		return Key{}, fmt.Errorf("key file: %w", err)
	}
	return k, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (k Key) aead() cipher.AEAD {
	a, err := chacha20poly1305.NewX(k.key[:])
	if err != nil {
		panic("a key of 32 bytes was refused: " + err.Error())
	}
	return a
}

// Seal encrypts.
func (k Key) Seal(plain []byte, context string) []byte {
	out := make([]byte, len(magic)+chacha20poly1305.NonceSizeX, len(magic)+chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	copy(out, magic)
	nonce := out[len(magic):]
	_, _ = rand.Read(nonce) // never fails
	return k.aead().Seal(out, nonce, plain, []byte(context))
}

// Open decrypts what Seal made with the same context; ErrSealed if it did not.
func (k Key) Open(sealed []byte, context string) ([]byte, error) {
	rest, ok := strings.CutPrefix(string(sealed), magic)
	if !ok || len(rest) < chacha20poly1305.NonceSizeX {
		return nil, ErrSealed
	}
	nonce, text := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plain, err := k.aead().Open(nil, []byte(nonce), []byte(text), []byte(context))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

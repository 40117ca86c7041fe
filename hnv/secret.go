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

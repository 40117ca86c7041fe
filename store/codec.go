package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hnvgate/hnvgate/hnv"
)

const (
	root          = "/hnvgate/v1/"
	generationKey = root + "generation"
)

// formatVersion is that of the values. A value with another one was written by
// another release and is not guessed at.
const formatVersion = 1

type envelope struct {
	Format int             `json:"format"`
	Object json.RawMessage `json:"object,omitempty"`
}

func keyOf(k hnv.Kind, key string) string { return root + string(k) + "/" + key }

// encode gives the value of an object, or with nil that of the generation key.
func encode(o hnv.Object) (string, error) {
	e := envelope{Format: formatVersion}
	if o != nil {
		b, err := json.Marshal(o)
		if err != nil {
			return "", fmt.Errorf("encode %s %s: %w", o.Kind(), o.Key(), err)
		}
		e.Object = b
	}
	b, err := json.Marshal(e)
	return string(b), err
}

// decode reads what encode wrote under the etcd key. Nothing is forgiven: a
// field that is not known would be lost when the object is written again.
func decode(key string, value []byte) (hnv.Object, error) {
	kind, id, err := splitKey(key)
	if err != nil {
		return nil, err
	}
	var e envelope
	if err := strict(value, &e); err != nil {
		return nil, fmt.Errorf("stored object %s is unreadable: %w", key, err)
	}
	if e.Format != formatVersion {
		return nil, fmt.Errorf("stored object %s has format %d, this release reads format %d: start the release that wrote it", key, e.Format, formatVersion)
	}
	p, err := hnv.New(kind)
	if err != nil {
		return nil, fmt.Errorf("stored object %s: %w", key, err)
	}
	if err := strict(e.Object, p); err != nil {
		return nil, fmt.Errorf("stored object %s is unreadable: %w", key, err)
	}
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("stored object %s is invalid: %w", key, err)
	}
	if p.Key() != id {
		return nil, fmt.Errorf("stored object %s says of itself that it is %s", key, keyOf(kind, p.Key()))
	}
	return p, nil
}

// splitKey takes an etcd key apart.
func splitKey(key string) (hnv.Kind, string, error) {
	rest, ok := strings.CutPrefix(key, root)
	kind, id, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || kind == "" || id == "" {
		return "", "", fmt.Errorf("stored key %s is none of this release", key)
	}
	return hnv.Kind(kind), id, nil
}

func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the value")
	}
	return nil
}

package s2s

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// wire is a Spec together with the secrets that it hides: by tunnel its private
// key, by "tunnel/peer" the pre-shared key.
type wire struct {
	Spec
	Secrets map[string]string
}

// Encode writes the Spec with its secrets, for Decode. Whoever has the result
// has the keys.
func Encode(s Spec) ([]byte, error) {
	w := wire{Spec: s, Secrets: map[string]string{}}
	for _, t := range s.Tunnels {
		if !t.PrivateKey.IsZero() {
			w.Secrets[t.Name] = t.PrivateKey.Reveal()
		}
		for _, p := range t.Peers {
			if !p.PresharedKey.IsZero() {
				w.Secrets[t.Name+"/"+p.Name] = p.PresharedKey.Reveal()
			}
		}
	}
	return json.Marshal(w)
}

// Decode reads what Encode writes. What it does not know is an error; whether
// the Spec makes sense is for Check to say.
func Decode(b []byte) (Spec, error) {
	var w wire
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return Spec{}, fmt.Errorf("tunnels: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Spec{}, errors.New("tunnels: something follows the description")
	}
	used := 0
	take := func(to *Secret, name string) error {
		text, there := w.Secrets[name]
		if !there {
			return nil
		}
		used++
		var err error
		if *to, err = ParseSecret(text); err != nil {
			return fmt.Errorf("secret of %s: %w", name, err)
		}
		return nil
	}
	for i := range w.Tunnels {
		t := &w.Tunnels[i]
		if err := take(&t.PrivateKey, t.Name); err != nil {
			return Spec{}, err
		}
		for j := range t.Peers {
			if err := take(&t.Peers[j].PresharedKey, t.Name+"/"+t.Peers[j].Name); err != nil {
				return Spec{}, err
			}
		}
	}
	if used != len(w.Secrets) {
		return Spec{}, errors.New("tunnels: there are secrets that belong to nothing, or to several")
	}
	return w.Spec, nil
}

package hnv

import (
	"errors"
	"testing"
)

func TestParseOffload(t *testing.T) {
	for s, want := range map[string]Offload{"": OffloadAuto, "auto": OffloadAuto, "on": OffloadOn, "off": OffloadOff} {
		if got, err := ParseOffload(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"true", "ON", "perhaps"} {
		if got, err := ParseOffload(s); err == nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

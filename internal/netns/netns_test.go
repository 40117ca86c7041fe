//go:build linux

package netns

import (
	"errors"
	"testing"
)

func TestNamesThatAreNoFileNames(t *testing.T) {
	for _, n := range []string{"", ".", "..", "a/b", "a\x00"} {
		if Create(n) == nil || Delete(n) == nil || Exists(n) {
			t.Errorf("%q was taken", n)
		}
	}
}

func TestDoHere(t *testing.T) {
	want := errors.New("mine")
	if err := Do("", func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
	if err := Do("/etc/hostname", func() error { return nil }); err == nil {
		t.Error("entered a plain file")
	}
}

//go:build privileged && linux

package nat

import (
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/internal/netns"
)

func TestProbe(t *testing.T) {
	if err := Probe(); err != nil {
		t.Error(err)
	}
	names, err := netns.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "hnvprobe-") {
			t.Errorf("namespace %s is left", n)
		}
	}
}

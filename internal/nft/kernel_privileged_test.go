//go:build privileged && linux

package nft

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
)

func open(t *testing.T, ns string) *Conn {
	t.Helper()
	c, err := Open(netns.Path(ns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func nftCommand(t *testing.T, ns string, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", ns, "nft"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func apply(t *testing.T, c *Conn, table Table) []string {
	t.Helper()
	changes, err := c.Apply(table)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

// The nft command is the judge: what it makes of our text must be what the
// kernel shows after Apply.
func TestAppliedIsWhatTheTextSays(t *testing.T) {
	for _, table := range []Table{everything(), steering()} {
		t.Run(table.Name, func(t *testing.T) {
			ours, theirs := nstest.New(t, "ours"), nstest.New(t, "theirs")
			file := filepath.Join(t.TempDir(), "rules")
			if err := os.WriteFile(file, []byte(table.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			nftCommand(t, theirs, "-f", file)
			c := open(t, ours)
			if got := apply(t, c, table); len(got) != 1 {
				t.Errorf("first apply: %q", got)
			}
			if got := apply(t, c, table); len(got) != 0 {
				t.Errorf("second apply changed %q", got)
			}
			want := nftCommand(t, theirs, "list", "ruleset")
			got := nftCommand(t, ours, "list", "ruleset")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("nft -f (-) and Apply (+) differ:\n%s", diff)
			}
		})
	}
}

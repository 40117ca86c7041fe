//go:build linux

// Package nstest makes network namespaces for privileged tests and takes them
// away again, also those of a test run that was killed.
//
// Only tests import it.
package nstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hnvgate/hnvgate/internal/netns"
)

const prefix = "hnvtest-"

var (
	number atomic.Int64
	sweep  sync.Once
)

// New makes a namespace for the test and gives its name, which holds the word.
// It fails the test where there is no root.
func New(t testing.TB, word string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("privileged tests need root")
	}
	sweep.Do(func() { leftovers(t) })
	name := fmt.Sprintf("%s%d-%d-%s", prefix, os.Getpid(), number.Add(1), word)
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// leftovers deletes the namespaces of processes that are gone.
func leftovers(t testing.TB) {
	names, err := netns.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		rest, ours := strings.CutPrefix(n, prefix)
		if !ours {
			continue
		}
		pid, _, _ := strings.Cut(rest, "-")
		if _, err := strconv.Atoi(pid); err != nil {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
			if err := netns.Delete(n); err != nil {
				t.Error(err)
			}
		}
	}
}

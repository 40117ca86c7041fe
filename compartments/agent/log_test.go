//go:build linux

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A log that grows while its agent runs is put aside, and the agent goes on writing to
// the same file.
func TestTrimLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(trimLog(path)) // none is there yet
	log, err := openLog(path)
	check(err)
	defer log.Close()
	write := func(s string) {
		_, err := log.WriteString(s)
		check(err)
	}
	content := func(name string) string {
		b, err := os.ReadFile(name)
		check(err)
		return string(b)
	}
	write("begin")
	check(trimLog(path))
	if content(path) != "begin" {
		t.Error("a short log was trimmed")
	}
	write(strings.Repeat("x", maxLog) + "end")
	check(trimLog(path))
	write("after")
	if got := content(path); got != "after" {
		t.Errorf("the log has %d bytes", len(got))
	}
	if got := content(path + ".old"); len(got) != maxLog || !strings.HasSuffix(got, "xend") {
		t.Errorf("aside are %d bytes", len(got))
	}
}

// A child that nobody supervises any more is not taken for the tenant's.
func TestDeadChildIsNotInPlace(t *testing.T) {
	c := &child{ended: make(chan struct{})}
	if !c.inPlace() {
		t.Error("one that is about to start is not in place")
	}
	close(c.ended)
	if c.inPlace() {
		t.Error("one that has ended is in place")
	}
}

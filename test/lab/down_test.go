//go:build privileged && linux

package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDownAfterAKilledRun kills hnvlab at several moments of its work and then
// wants every trace gone, and the next run to succeed.
func TestDownAfterAKilledRun(t *testing.T) {
	l, err := New("killed"+strconv.Itoa(os.Getpid()), Options{Topology: Default(), Bin: world.opts.Bin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Down() })
	for _, after := range []int{20, 60, 120, 200, 280} {
		run := exec.Command(l.hnvlab(), "up", "--name", l.name)
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(after) * time.Millisecond)
		_ = run.Process.Kill()
		_ = run.Wait() // killed, or done already
		if err := l.Down(); err != nil {
			t.Fatalf("killed after %d ms: %v", after, err)
		}
		wantNoTrace(t, l)
	}
	if err := l.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A process that no pid file names, as gatewayd's children may be.
	stray := exec.Command("nsenter", "--net="+nsPath(l.NS("gw")), "--", "sleep", "1000")
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	waitFor(t, func() bool { return len(l.processes([]string{l.NS("gw")})) > 0 })
	// A reused pid: the file names a living process that is not the lab's.
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	self.Start--
	if err := writeJSON(filepath.Join(l.dir, "run", "reused.json"), self); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	wantNoTrace(t, l)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the stray process lives on")
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func wantNoTrace(t *testing.T, l *Lab) {
	t.Helper()
	names, err := l.namespaces()
	if err != nil || len(names) > 0 {
		t.Errorf("namespaces left: %v, %v", names, err)
	}
	if _, err := os.Stat(l.dir); err == nil {
		t.Errorf("%s is left", l.dir)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err == nil && strings.Contains(string(b), "/"+l.name+"/") {
			t.Errorf("process left: %q", b)
		}
	}
}

// TestSweep leaves a lab whose process lives alone, and removes one whose
// process is gone.
func TestSweep(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	var labs []*Lab
	for _, pid := range []int{os.Getpid(), gone.Process.Pid} {
		l, err := New("swept"+strconv.Itoa(pid), Options{Topology: Independent(), Bin: world.opts.Bin})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Down() })
		labs = append(labs, l)
	}
	if err := Sweep("swept"); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		_, dir := os.Stat(labs[i].dir)
		_, ns := os.Stat(nsPath(labs[i].NS("fab")))
		if (dir == nil) != want || (ns == nil) != want {
			t.Errorf("lab %s: folder %v, namespace %v; want it there: %v", labs[i].name, dir, ns, want)
		}
	}
}

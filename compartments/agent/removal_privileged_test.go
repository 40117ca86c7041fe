//go:build privileged && linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
)

// closed tells how the agent ended: "true" if it kept what it made.
func (r *rig) closed() string {
	b, _ := os.ReadFile(filepath.Join(r.o.RunDir, "closed-"+tenant)) // not there: it has not ended by itself
	return string(b)
}

// An agent that died together with its supervisor is started once more to clean up
// what only it knows.
func TestRemoveWhatIsDead(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	s.Close()
	must(t, unix.Kill(st.PID, unix.SIGKILL))
	await(t, "the end", func() error { return gone(st.PID) })
	s = r.supervisor()
	must(t, s.Remove(context.Background(), r.comp))
	if r.closed() != "false" {
		t.Errorf("the agent closed with keep=%q", r.closed())
	}
	if _, err := os.Stat(filepath.Join(r.o.RunDir, tenant)); !os.IsNotExist(err) {
		t.Errorf("the run folder: %v", err)
	}
	must(t, s.Remove(context.Background(), r.comp))
}

// What an agent left that does not come up any more is removed without it; not before.
func TestRemoveWithoutAgent(t *testing.T) {
	r := newRig(t)
	var swept []string
	r.o.Sweep = func(namespace string) ([]string, error) {
		swept = append(swept, namespace)
		if len(swept) == 1 {
			return nil, errors.New("not now")
		}
		return []string{"link wg-hq"}, nil
	}
	s := r.supervisor()
	st := r.apply(s, "hello")
	ip := func(args ...string) string {
		out, err := exec.Command("ip", append([]string{"-n", filepath.Base(r.comp.Namespace), "route"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	ip("add", "unreachable", "10.9.0.0/16", "proto", "203")
	ip("add", "unreachable", "10.8.0.0/16", "proto", "204")
	must(t, os.WriteFile(r.file("crash"), nil, 0o600))
	must(t, unix.Kill(st.PID, unix.SIGKILL))
	await(t, "the end", func() error { return gone(st.PID) })
	if err := s.Remove(context.Background(), r.comp); err == nil || len(swept) != 1 {
		t.Fatalf("swept %v, %v", swept, err)
	}
	if known, err := s.Known(); err != nil || len(known) != 1 {
		t.Errorf("known are %v, %v", known, err)
	}
	must(t, s.Remove(context.Background(), r.comp))
	if len(swept) != 2 || swept[1] != r.comp.Namespace {
		t.Errorf("swept %v", swept)
	}
	if left := ip(); strings.Contains(left, "10.9.0.0") || !strings.Contains(left, "10.8.0.0") {
		t.Errorf("routes are\n%s", left)
	}
	if known, err := s.Known(); err != nil || len(known) != 0 {
		t.Errorf("known are %v, %v", known, err)
	}
}

// An agent that dies while it is told to end has not been removed; the tenant can have
// one again, and have it removed.
func TestDiesWhileRemoved(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	ch, err := s.find(r.comp.Tenant)
	must(t, err)
	must(t, unix.Kill(st.PID, unix.SIGSTOP))
	removed := make(chan error, 1)
	go func() { removed <- s.Remove(context.Background(), r.comp) }()
	await(t, "the removal", func() error {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		if !ch.last {
			return errors.New("not begun")
		}
		return nil
	})
	must(t, unix.Kill(st.PID, unix.SIGKILL))
	t.Logf("the removal: %v", <-removed)
	await(t, "another agent", func() error {
		_, err := s.Apply(context.Background(), r.comp, word("again"))
		return err
	})
	must(t, s.Remove(context.Background(), r.comp))
	if known, err := s.Known(); err != nil || len(known) != 0 {
		t.Errorf("known are %v, %v", known, err)
	}
}

// Where the compartment goes, its agent is ended at once: of this supervisor or of
// an earlier one.
func TestDiscard(t *testing.T) {
	r := newRig(t)
	for _, adopted := range []bool{false, true} {
		s := r.supervisor()
		st := r.apply(s, "hello")
		if adopted {
			s.Close()
			s = r.supervisor()
		}
		must(t, s.Discard(context.Background(), r.comp.Tenant))
		if err := gone(st.PID); err != nil {
			t.Errorf("adopted %v: %v", adopted, err)
		}
		if r.closed() != "" {
			t.Errorf("adopted %v: the agent closed with keep=%q", adopted, r.closed())
		}
		if known, err := s.Known(); err != nil || len(known) != 0 {
			t.Errorf("adopted %v: known are %v, %v", adopted, known, err)
		}
		must(t, s.Discard(context.Background(), r.comp.Tenant))
		s.Close()
	}
}

// A new program in the old one's place is told, until the agent is replaced.
func TestOutdated(t *testing.T) {
	r := newRig(t)
	binary := filepath.Join(t.TempDir(), "compartmentd")
	install(t, r.o.Binary, binary)
	r.o.Binary = binary
	s := r.supervisor()
	r.apply(s, "hello")
	outdated := func() bool {
		st, ok := s.Status(r.comp.Tenant)
		if !ok {
			t.Fatal("there is no agent")
		}
		return st.Outdated
	}
	if outdated() {
		t.Error("an agent that has just been started is outdated")
	}
	install(t, "/proc/self/exe", binary)
	if !outdated() {
		t.Error("the new program is not noticed")
	}
	must(t, s.Replace(context.Background(), r.comp.Tenant))
	if outdated() {
		t.Error("the replaced agent is outdated")
	}
}

// install puts a program in place as packages do: a new file under the old name.
func install(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY, 0o700)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, errors.Join(err, out.Close(), os.Rename(to+".new", to)))
}

// What the parts offer besides is asked for by its path.
func TestAsk(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	r.apply(s, "hello")
	b, err := s.Ask(context.Background(), r.comp.Tenant, "GET", "/v1/state")
	if err != nil || !strings.Contains(string(b), `"Word":"hello"`) {
		t.Errorf("got %s, %v", b, err)
	}
	if _, err := s.Ask(context.Background(), r.comp.Tenant, "GET", "/v1/notes/none"); !errors.Is(err, ErrNotThere) {
		t.Errorf("what is not there: %v", err)
	}
}

// Each agent has a key of its own.
func TestKeysAreApart(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	r.apply(s, "hello")
	sealed, err := os.ReadFile(r.file(agentapi.DesiredName))
	must(t, err)
	if _, err := r.o.Key.Open(sealed, "desired state of "+tenant); err == nil {
		t.Error("the agent has the supervisor's key")
	}
}

// An agent says by itself that its state has changed: to the supervisor that it was
// started by, and to the one after that; and no other tenant's is meant.
func TestNews(t *testing.T) {
	r := newRig(t)
	heard := make(chan hnv.Name, 64)
	r.o.OnNews = func(n hnv.Name) { heard <- n }
	hear := func(pid int) {
		t.Helper()
		for len(heard) > 0 {
			<-heard
		}
		must(t, unix.Kill(pid, unix.SIGUSR1))
		select {
		case n := <-heard:
			if n != r.comp.Tenant {
				t.Errorf("news of %s", n)
			}
		case <-time.After(time.Minute):
			t.Fatal("no news")
		}
	}
	s := r.supervisor()
	st := r.apply(s, "hello")
	hear(st.PID)
	s.Close()
	s = r.supervisor()
	r.apply(s, "hello")
	hear(st.PID)
	// A folder that is made anew is watched too.
	must(t, s.Remove(context.Background(), r.comp))
	hear(r.apply(s, "again").PID)
}

// An agent that runs and answers nothing is ended after some patience, and the next
// one does its work.
func TestStuckAgent(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	s.readyFor = 50 * time.Millisecond
	must(t, unix.Kill(st.PID, unix.SIGSTOP))
	await(t, "the stop", func() error {
		if b, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/stat"); err != nil || !strings.Contains(string(b), ") T ") {
			return fmt.Errorf("%s, %v", b, err)
		}
		return nil
	})
	for range patience - 1 {
		if _, err := s.State(context.Background(), r.comp.Tenant); err == nil {
			t.Fatal("a stopped process answers")
		}
	}
	// Who does not wait does not count.
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, _ = s.State(short, r.comp.Tenant)
	if err := gone(st.PID); err == nil {
		t.Fatal("it is ended without patience")
	}
	if _, err := s.State(context.Background(), r.comp.Tenant); err == nil {
		t.Fatal("a stopped process answers")
	}
	await(t, "the end", func() error { return gone(st.PID) })
	s.readyFor = readyFor
	if now := r.comesUp(s, st.PID); string(now.Parts["notes"]) != `{"Word":"hello"}` {
		t.Errorf("the next one has %s", now.Parts["notes"])
	}
}

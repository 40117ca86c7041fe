//go:build privileged && linux

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/agentd"
	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/internal/nstest"
	"github.com/hnvgate/hnvgate/internal/seal"
)

// The test binary is its own agent: with a part that writes down what it is
// told, and dies at once where its folder holds a file "crash".
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "--dir" {
		if err := beAgent(os.Args[2], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beAgent(dir, tenant string) error {
	b := make([]byte, 64)
	n, err := os.NewFile(3, "key").Read(b)
	if err != nil {
		return err
	}
	key, err := seal.KeyFrom(b[:n])
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "crash")); err == nil {
		return errors.New("told to crash")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	turned := make(chan struct{}, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		for range signals {
			turned <- struct{}{}
		}
	}()
	return agentd.Run(ctx, agentd.Options{Dir: dir, Tenant: tenant, Version: "test", Key: key, Turned: turned,
		Repair: 50 * time.Millisecond, Parts: []agentd.Named{{Name: "notes", Part: notes{dir}}}}, func() error { return nil })
}

type notes struct{ dir string }

func (n notes) Check(d json.RawMessage) error {
	if bytes.Contains(d, []byte("bad")) {
		return errors.New("field Word: bad is not a word")
	}
	return nil
}

func (n notes) Apply(_ context.Context, d json.RawMessage) error {
	if bytes.Contains(d, []byte("impossible")) {
		return errors.New("cannot be done now")
	}
	return os.WriteFile(filepath.Join(n.dir, "applied"), d, 0o600)
}

func (n notes) State() (json.RawMessage, error) {
	b, _ := os.ReadFile(filepath.Join(n.dir, "applied")) // not there: nothing was applied yet
	if len(b) == 0 {
		return json.RawMessage(`null`), nil
	}
	return b, nil
}

func (n notes) Handler() http.Handler { return nil }

func (n notes) Close(keep bool) error {
	return os.WriteFile(filepath.Join(filepath.Dir(n.dir), "closed-"+filepath.Base(n.dir)), []byte(strconv.FormatBool(keep)), 0o600)
}

const tenant = "contoso"

func name(t testing.TB) hnv.Name {
	n, err := hnv.ParseName(tenant)
	must(t, err)
	return n
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

type rig struct {
	t    *testing.T
	o    Options
	comp Compartment
}

func newRig(t *testing.T) *rig {
	t.Helper()
	run, err := os.MkdirTemp("", "agents")
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	r := &rig{t: t, o: Options{Binary: self, RunDir: run, Key: seal.NewKey(), BackoffMin: 50 * time.Millisecond, BackoffMax: 100 * time.Millisecond},
		comp: Compartment{name(t), netns.Path(nstest.New(t, "agent"))}}
	t.Cleanup(func() {
		if pid, err := newClient(r.file(agentapi.SocketName)).peer(context.Background()); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		_ = os.RemoveAll(run)
	})
	return r
}

func (r *rig) file(name string) string { return filepath.Join(r.o.RunDir, tenant, name) }

func (r *rig) supervisor() *Supervisor {
	r.t.Helper()
	s, err := New(r.o)
	must(r.t, err)
	r.t.Cleanup(s.Close)
	return s
}

func word(s string) agentapi.Desired {
	return agentapi.Desired{Parts: map[string]json.RawMessage{"notes": json.RawMessage(`{"Word":"` + s + `"}`)}}
}

func (r *rig) apply(s *Supervisor, w string) agentapi.State {
	r.t.Helper()
	st, err := s.Apply(context.Background(), r.comp, word(w))
	must(r.t, err)
	if got := string(st.Parts["notes"]); got != `{"Word":"`+w+`"}` {
		r.t.Fatalf("the agent has %s for %s", got, w)
	}
	return st
}

func await(t testing.TB, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// comesUp waits for a process other than the old one that answers.
func (r *rig) comesUp(s *Supervisor, old int) agentapi.State {
	r.t.Helper()
	var st agentapi.State
	await(r.t, "another process", func() (err error) {
		if st, err = s.State(context.Background(), r.comp.Tenant); err == nil && st.PID == old {
			err = errors.New("it is still the old one")
		}
		return err
	})
	return st
}

func gone(pid int) error {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat") // not there: it is gone
	if len(b) == 0 || strings.Contains(string(b), ") Z ") {
		return nil
	}
	return fmt.Errorf("process %d is still there", pid)
}

func TestAgentLives(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	first := r.apply(s, "hello")
	if !sameNamespace(first.PID, r.comp.Namespace) {
		t.Error("the agent is not inside the compartment")
	}
	if again := r.apply(s, "hello"); again.PID != first.PID {
		t.Error("the same again started another process")
	}
	// What it was told is on the disk, and cannot be read there.
	sealed, err := os.ReadFile(r.file(agentapi.DesiredName))
	must(t, err)
	if bytes.Contains(sealed, []byte("hello")) {
		t.Error("the copy of the desired state is not sealed")
	}
	for _, f := range []string{agentapi.DesiredName, agentapi.SocketName, agentapi.LogName, agentapi.LockName} {
		if st, err := os.Stat(r.file(f)); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", f, st.Mode(), err)
		}
	}

	// Killed, it comes up by itself, and does what it was told before.
	must(t, os.Remove(r.file("applied")))
	must(t, unix.Kill(first.PID, unix.SIGKILL))
	second := r.comesUp(s, first.PID)
	if string(second.Parts["notes"]) != `{"Word":"hello"}` || second.Digest != first.Digest {
		t.Errorf("after the kill: %+v", second)
	}
	if st := s.Snapshot()[0]; st.Restarts != 1 || st.PID != second.PID || st.Adopted || !strings.Contains(st.LastError, "killed") {
		t.Errorf("status is %+v", st)
	}

	// The supervisor ends, another takes over the running agent, and minds it.
	s.Close()
	if err := gone(second.PID); err == nil {
		t.Fatal("the agent has ended with its supervisor")
	}
	s = r.supervisor()
	if third := r.apply(s, "again"); third.PID != second.PID {
		t.Error("the new supervisor has started another agent")
	}
	if st := s.Snapshot()[0]; !st.Adopted {
		t.Errorf("status is %+v", st)
	}
	must(t, unix.Kill(second.PID, unix.SIGKILL))
	fourth := r.comesUp(s, second.PID)
	if string(fourth.Parts["notes"]) != `{"Word":"again"}` {
		t.Errorf("after the second kill: %+v", fourth)
	}

	// Replaced, it leaves its work to the next.
	must(t, s.Replace(context.Background(), r.comp.Tenant))
	fifth := r.comesUp(s, fourth.PID)
	if b, err := os.ReadFile(filepath.Join(r.o.RunDir, "closed-"+tenant)); err != nil || string(b) != "true" {
		t.Errorf("the replaced agent closed with keep=%s, %v", b, err)
	}
	if st := s.Snapshot()[0]; st.Restarts != 1 {
		t.Errorf("a replacement counts as a crash: %+v", st)
	}

	// Removed, nothing is left.
	if known, err := s.Known(); err != nil || len(known) != 1 {
		t.Errorf("known are %v, %v", known, err)
	}
	must(t, s.Remove(context.Background(), r.comp))
	await(t, "the end", func() error { return gone(fifth.PID) })
	if b, err := os.ReadFile(filepath.Join(r.o.RunDir, "closed-"+tenant)); err != nil || string(b) != "false" {
		t.Errorf("the removed agent closed with keep=%s, %v", b, err)
	}
	if known, err := s.Known(); err != nil || len(known) != 0 {
		t.Errorf("known are %v, %v", known, err)
	}
	must(t, s.Remove(context.Background(), r.comp))
	if _, err := s.State(context.Background(), r.comp.Tenant); !errors.Is(err, ErrNoAgent) {
		t.Errorf("state of a removed agent: %v", err)
	}
}

func TestRefusalsAndFailures(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	for _, c := range []struct {
		d    agentapi.Desired
		want string
	}{
		{word("bad"), "agent of tenant contoso: notes: field Word: bad is not a word"},
		{agentapi.Desired{Parts: map[string]json.RawMessage{"other": json.RawMessage(`1`)}}, `no part "other"`},
	} {
		if _, err := s.Apply(context.Background(), r.comp, c.d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
		now, err := s.State(context.Background(), r.comp.Tenant)
		must(t, err)
		if now.Digest != st.Digest || string(now.Parts["notes"]) != `{"Word":"hello"}` {
			t.Errorf("a refused state changed something: %+v", now)
		}
	}
	// Where no copy can be kept, nothing changes: it would be lost with the process.
	must(t, os.Mkdir(r.file(agentapi.DesiredName+".new"), 0o700))
	if _, err := s.Apply(context.Background(), r.comp, word("lost")); err == nil || !strings.Contains(err.Error(), "keep the desired state") {
		t.Errorf("got %v", err)
	}
	if now, err := s.State(context.Background(), r.comp.Tenant); err != nil || now.Digest != st.Digest || string(now.Parts["notes"]) != `{"Word":"hello"}` {
		t.Errorf("state is %+v, %v", now, err)
	}
	must(t, os.Remove(r.file(agentapi.DesiredName+".new")))
	// What cannot be brought about is told, now and in the state.
	if _, err := s.Apply(context.Background(), r.comp, word("impossible")); err == nil || !strings.Contains(err.Error(), "notes: cannot be done now") {
		t.Errorf("got %v", err)
	}
	now, err := s.State(context.Background(), r.comp.Tenant)
	must(t, err)
	if now.Errors["notes"] != "cannot be done now" {
		t.Errorf("state is %+v", now)
	}
	r.apply(s, "possible")

	// An agent that dies at once is tried again, later each time, and whoever
	// asks is told.
	must(t, os.WriteFile(r.file("crash"), nil, 0o600))
	must(t, unix.Kill(now.PID, unix.SIGKILL))
	await(t, "several tries", func() error {
		if n := s.Snapshot()[0].Restarts; n < 3 {
			return fmt.Errorf("%d restarts", n)
		}
		return nil
	})
	await(t, "an error that says so", func() error {
		_, err := s.State(context.Background(), r.comp.Tenant)
		if err == nil || !strings.Contains(err.Error(), "it does not run: exit status 1") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	log, err := os.ReadFile(r.file(agentapi.LogName))
	must(t, err)
	if !bytes.Contains(log, []byte("told to crash")) {
		t.Errorf("the log has %q", log)
	}
	must(t, os.Remove(r.file("crash")))
	if st := r.comesUp(s, now.PID); string(st.Parts["notes"]) != `{"Word":"possible"}` {
		t.Errorf("after the crashes: %+v", st)
	}
}

// The compartment is deleted and made anew: the agent of the old one ends.
func TestCompartmentMadeAnew(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	old := r.apply(s, "hello")
	r.comp.Namespace = netns.Path(nstest.New(t, "anew"))
	now := r.apply(s, "hello again")
	if now.PID == old.PID || !sameNamespace(now.PID, r.comp.Namespace) {
		t.Errorf("process %d, then %d", old.PID, now.PID)
	}
	await(t, "the end of the old one", func() error { return gone(old.PID) })
	// Without its namespace an agent can be removed too.
	must(t, netns.Delete(filepath.Base(r.comp.Namespace)))
	must(t, s.Remove(context.Background(), r.comp))
	await(t, "the end", func() error { return gone(now.PID) })
}

// With another key the copy is of no use, and does no harm.
func TestAnotherKey(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	old := r.apply(s, "hello")
	s.Close()
	must(t, unix.Kill(old.PID, unix.SIGKILL))
	await(t, "the end", func() error { return gone(old.PID) })
	r.o.Key = seal.NewKey()
	s = r.supervisor()
	if st := r.apply(s, "hello"); st.Digest != old.Digest {
		t.Errorf("state is %+v", st)
	}
}

// Two agents in one folder would undo each other's work.
func TestOneAgentForAFolder(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	cmd := exec.Command(r.o.Binary, "--dir", filepath.Dir(r.file("x")), "--tenant", tenant, "--key-fd", "3")
	pr, pw, err := os.Pipe()
	must(t, err)
	_, err = pw.Write(r.o.Key.Bytes())
	must(t, errors.Join(err, pw.Close()))
	cmd.ExtraFiles = []*os.File{pr}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), agentd.ErrRunning.Error()) {
		t.Errorf("a second agent: %v, %s", err, out)
	}
	if now := r.apply(s, "hello"); now.PID != st.PID {
		t.Error("the first agent has suffered")
	}
}

// An agent whose folder was deleted serves nobody, and ends by itself.
func TestFolderGone(t *testing.T) {
	r := newRig(t)
	s := r.supervisor()
	st := r.apply(s, "hello")
	s.Close()
	must(t, os.RemoveAll(filepath.Dir(r.file("x"))))
	await(t, "the end", func() error { return gone(st.PID) })
}

// Each agent is in a group of its own.
func TestGroup(t *testing.T) {
	r := newRig(t)
	mnt := t.TempDir()
	must(t, unix.Mount("none", mnt, "cgroup2", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(mnt, unix.MNT_DETACH)) })
	r.o.Cgroup = filepath.Join(mnt, fmt.Sprintf("hnvtest-%d", os.Getpid()))
	must(t, os.Mkdir(r.o.Cgroup, 0o755))
	t.Cleanup(func() { must(t, os.Remove(r.o.Cgroup)) })
	s := r.supervisor()
	st := r.apply(s, "hello")
	b, err := os.ReadFile(filepath.Join(r.o.Cgroup, "agent-contoso", "cgroup.procs"))
	must(t, err)
	if strings.TrimSpace(string(b)) != strconv.Itoa(st.PID) {
		t.Errorf("the group has processes %q, the agent is %d", b, st.PID)
	}
	must(t, s.Remove(context.Background(), r.comp))
	if _, err := os.Stat(filepath.Join(r.o.Cgroup, "agent-contoso")); !os.IsNotExist(err) {
		t.Errorf("the group after the end: %v", err)
	}
}

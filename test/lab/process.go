package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// identity names one process for good: a pid may be given again, a pid with
// its start time and the boot it belongs to is not.
type identity struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
	Boot  string `json:"boot"`
}

// Process is a daemon started by Start.
type Process struct {
	Name string
	Log  string // file with its standard output and error
	id   identity
	done chan struct{} // closed when it has ended
	file string
}

// PID gives the process id.
func (p *Process) PID() int { return p.id.PID }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Output reads what the process has written so far.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Kill sends the signal and waits for the process to end.
func (p *Process) Kill(ctx context.Context, sig syscall.Signal) error {
	if err := p.id.signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop %s (pid %d) with %s: %w", p.Name, p.id.PID, sig, context.Cause(ctx))
	}
}

// Start starts a daemon on the machine. Its output goes to a log file and its
// pid to a file from which Down finds it, whoever calls Down. The name must be
// new among the running ones.
func (l *Lab) Start(machine, name string, argv ...string) (*Process, error) {
	return l.startEnv(machine, name, nil, argv...)
}

func (l *Lab) startEnv(machine, name string, env []string, argv ...string) (*Process, error) {
	p := &Process{
		Name: name,
		Log:  filepath.Join(l.dir, "log", name+".log"),
		file: filepath.Join(l.dir, "run", name+".json"),
		done: make(chan struct{}),
	}
	if _, err := os.Stat(p.file); err == nil {
		return nil, fmt.Errorf("start %s: a process of that name runs already", name)
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	argv = l.inNS(machine, argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // outlives the caller and its terminal
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.id, _, err = look(cmd.Process.Pid) // a short task may have ended on a busy machine
	if err == nil {
		err = writeJSON(p.file, p.id)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), cmd.Process.Kill(), cmd.Wait())
	}
	go func() {
		_ = cmd.Wait() // the log tells why it ended
		_ = os.Remove(p.file)
		close(p.done)
	}()
	return p, nil
}

// waitFor calls ready until it succeeds; it gives up when the process ends.
func (p *Process) waitFor(ctx context.Context, ready func() error) error {
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.Name, lastLines(p.Output(), 5))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w)", p.Name, err, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// sleeps tells, as an error, that the process has something to do.
func (p *Process) sleeps() error {
	fields, err := stat(p.id.PID)
	if err != nil {
		return err
	}
	if s := fields[0]; s != "S" {
		return fmt.Errorf("it is in state %s", s)
	}
	return nil
}

// stat reads the fields of /proc/PID/stat from the third on, the state.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The second field is the command in parentheses and may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat is malformed", pid)
	}
	return fields, nil
}

// identify finds the identity of a process that lives.
func identify(pid int) (identity, error) {
	id, state, err := look(pid)
	if err == nil && (state == "Z" || state == "X") {
		err = os.ErrProcessDone
	}
	return id, err
}

// look finds the identity and the state of a process, also of one that has ended
// and is not waited for yet.
func look(pid int) (id identity, state string, err error) {
	fields, err := stat(pid)
	if err != nil {
		return id, "", err
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return id, "", fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, "", err
	}
	return identity{pid, start, strings.TrimSpace(string(boot))}, fields[0], nil
}

// signal sends the signal if the process is still the one identified. The
// handle is taken first: it cannot come to mean another process afterwards.
func (id identity) signal(sig syscall.Signal) error {
	p, err := os.FindProcess(id.PID)
	if err != nil {
		return err
	}
	defer func() { _ = p.Release() }()
	if now, err := identify(id.PID); err != nil || now != id {
		return os.ErrProcessDone
	}
	return p.Signal(sig)
}

func (id identity) alive() bool {
	now, err := identify(id.PID)
	return err == nil && now == id
}

func writeJSON(file string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

func readJSON(file string, v any) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

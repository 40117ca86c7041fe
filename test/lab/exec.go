package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// ExitError is a command that ran and failed.
type ExitError struct {
	Argv   []string
	Code   int // -1 when a signal ended it
	Stdout string
	Stderr string
}

func (e *ExitError) Error() string {
	text := strings.TrimSpace(e.Stderr)
	if text == "" {
		text = strings.TrimSpace(e.Stdout)
	}
	return fmt.Sprintf("%s: exit code %d: %s", strings.Join(e.Argv, " "), e.Code, text)
}

// run runs a command in the caller's namespace and gives its standard output.
func run(ctx context.Context, stdin string, argv ...string) (string, error) {
	return runEnv(ctx, nil, stdin, argv...)
}

func runEnv(ctx context.Context, env []string, stdin string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = env
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// A command must not go on building a lab whose builder was killed. The
	// kernel watches the thread that started it, hence the lock.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), context.Cause(ctx), strings.TrimSpace(errs.String()))
	case errors.As(err, &exit):
		return out.String(), &ExitError{argv, exit.ExitCode(), out.String(), errs.String()}
	}
	return out.String(), fmt.Errorf("run %s: %w", strings.Join(argv, " "), err)
}

// NS gives the name of the machine's namespace.
func (l *Lab) NS(machine string) string { return l.name + "-" + machine }

// inNS puts a command into the machine's network namespace. nsenter replaces
// itself by the command, so that the process started is the command's.
func (l *Lab) inNS(machine string, argv ...string) []string {
	return append([]string{"nsenter", "--net=" + nsPath(l.NS(machine)), "--"}, argv...)
}

// Exec runs a command on the machine and gives its standard output. A command
// that fails gives an *ExitError.
func (l *Lab) Exec(ctx context.Context, machine string, argv ...string) (string, error) {
	return run(ctx, "", l.inNS(machine, argv...)...)
}

// ExecInput is Exec with the text on standard input.
func (l *Lab) ExecInput(ctx context.Context, machine, stdin string, argv ...string) (string, error) {
	return run(ctx, stdin, l.inNS(machine, argv...)...)
}

// ip runs a batch of ip(8) commands in the machine's namespace, or in no
// particular one where machine is empty.
func (l *Lab) ip(ctx context.Context, machine string, lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	argv := []string{"ip"}
	if machine != "" {
		argv = append(argv, "-n", l.NS(machine))
	}
	_, err := run(ctx, strings.Join(lines, "\n")+"\n", append(argv, "-batch", "-")...)
	var exit *ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("ip in %q: %s (%s)", machine, strings.TrimSpace(exit.Stderr), failedLine(exit.Stderr, lines))
	}
	return err
}

// failedLine finds the line that ip -batch complains about.
func failedLine(stderr string, lines []string) string {
	_, after, ok := strings.Cut(stderr, "Command failed -:")
	var n int
	if _, err := fmt.Sscan(after, &n); !ok || err != nil || n < 1 || n > len(lines) {
		return "one of: " + strings.Join(lines, "; ")
	}
	return lines[n-1]
}

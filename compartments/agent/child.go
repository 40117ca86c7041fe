//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/netns"
)

const (
	// readyFor is how long an agent may take until it answers.
	readyFor = 15 * time.Second
	// endFor is how long one that was told to end may take, before it is killed.
	endFor = 10 * time.Second
	// stable is how long an agent must have run for its next end to count as the
	// first.
	stable = time.Minute
	// patience is how many requests in a row an agent may leave without an answer,
	// each for readyFor, before it is taken for stuck and killed.
	patience = 4
	// maxLog is the size at which an agent's log is put aside.
	maxLog = 1 << 20
)

// child is one tenant's agent, over all its lives.
type child struct {
	s          *Supervisor
	comp       Compartment
	dir        string
	client     *client
	ctx        context.Context // ends the supervising of this child
	abandonNow context.CancelFunc
	ended      chan struct{} // closed when it is supervised no more

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, when what follows changes
	life    *life         // nil: it does not run
	quick   bool          // the next end is expected: start again at once
	last    bool          // the next end is the last one
	silent  int           // requests in a row that were not answered
	status  Status
}

// life is one process.
type life struct {
	pid     int
	pidfd   int
	adopted bool
	gone    chan struct{} // closed when it has ended
	why     string        // set before that

	mu     sync.Mutex // held while pidfd is used: its number can be another file's later
	closed bool
}

// end lets go of a process that has ended.
func (l *life) end() {
	l.mu.Lock()
	l.closed = true
	_ = unix.Close(l.pidfd)
	l.mu.Unlock()
	close(l.gone)
}

// keep starts or adopts the agent, again whenever it ends.
func (c *child) keep() {
	defer close(c.ended)
	wait := c.s.o.BackoffMin
	for c.ctx.Err() == nil {
		began := time.Now()
		l, err := c.begin()
		if err == nil {
			c.set(func() { c.life, c.status.NextTry = l, time.Time{} })
			select {
			case <-l.gone:
			case <-c.ctx.Done():
				return // it runs on
			}
			err = errors.New(l.why)
		}
		if time.Since(began) > stable {
			wait = c.s.o.BackoffMin
		}
		var quick, last bool
		c.set(func() {
			quick, last = c.quick, c.last
			c.quick, c.life = false, nil
			if !quick && !last {
				c.status.Restarts++
				c.status.LastError, c.status.NextTry = err.Error(), time.Now().Add(wait)
			}
		})
		if last {
			return
		}
		if quick {
			continue
		}
		c.s.o.Log.Error("agent has ended", "tenant", c.comp.Tenant.String(), "reason", err.Error(), "next start in", wait)
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
		}
		wait = min(2*wait, c.s.o.BackoffMax)
	}
}

// set changes the child and wakes whoever waits for a change.
func (c *child) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *child) look() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	st.Tenant = c.comp.Tenant
	if c.life != nil {
		st.PID, st.Adopted = c.life.pid, c.life.adopted
	}
	return st
}

// begin gives a running agent: one that is there already, if it is in the right
// namespace, or a new one.
func (c *child) begin() (*life, error) {
	if l, err := c.adopt(); err != nil || l != nil {
		return l, err
	}
	return c.start()
}

func (c *child) adopt() (*life, error) {
	pid, err := c.client.peer(c.ctx)
	if err != nil {
		return nil, nil //nolint:nilerr // nobody is there
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, nil //nolint:nilerr // it has ended meanwhile
	}
	l := &life{pid: pid, pidfd: fd, adopted: true, gone: make(chan struct{}), why: "the adopted process has ended"}
	go func() {
		awaitExit(fd)
		l.end()
	}()
	if !sameNamespace(pid, c.comp.Namespace) {
		// The compartment was made anew: this one serves nobody.
		l.kill(unix.SIGKILL)
		<-l.gone
		return nil, nil
	}
	return l, nil
}

// awaitExit waits until the process of a pidfd has ended.
func awaitExit(fd int) {
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, -1)
		if err != nil && !errors.Is(err, unix.EINTR) || n > 0 {
			return
		}
	}
}

func sameNamespace(pid int, namespace string) bool {
	a, errA := os.Stat("/proc/" + strconv.Itoa(pid) + "/ns/net")
	b, errB := os.Stat(namespace)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

func (l *life) kill(sig unix.Signal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		_ = unix.PidfdSendSignal(l.pidfd, sig, nil, 0)
	}
}

func (c *child) start() (*life, error) {
	log, err := openLog(filepath.Join(c.dir, agentapi.LogName))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	key, err := c.keyPipe()
	if err != nil {
		return nil, err
	}
	defer key.Close()
	cmd := exec.Command(c.s.o.Binary, "--dir", c.dir, "--tenant", c.comp.Tenant.String(), "--key-fd", "3")
	cmd.Env, cmd.Stderr, cmd.ExtraFiles, cmd.Dir = c.environment(), log, []*os.File{key}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	group, err := c.s.group(c.comp.Tenant)
	if err != nil {
		return nil, err
	}
	if group != nil {
		defer group.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	var fd int
	cmd.SysProcAttr.PidFD = &fd
	if err := netns.Do(c.comp.Namespace, cmd.Start); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	l := &life{pid: cmd.Process.Pid, pidfd: fd, gone: make(chan struct{})}
	go func() { // it is reaped also when the supervising has ended
		err := cmd.Wait()
		l.why = "ended: " + cmd.ProcessState.String()
		if err != nil {
			l.why = err.Error()
		}
		l.end()
	}()
	return l, nil
}

func openLog(path string) (*os.File, error) {
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// trimLog puts aside what a running agent has written, which it goes on to append to
// the same file: peers that come and go for months must not fill the machine's memory,
// where run folders are.
func trimLog(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() <= maxLog {
		return nil
	}
	if err != nil {
		return err
	}
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".old", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(to, io.NewSectionReader(from, max(0, st.Size()-maxLog), maxLog), maxLog)
	if errors.Is(err, io.EOF) {
		err = nil // shorter by now
	}
	return errors.Join(err, to.Close(), from.Truncate(0))
}

// keyPipe gives the end of a pipe from which the key can be read once.
func (c *child) keyPipe() (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(c.s.o.Key.Derive("agent of tenant " + c.comp.Tenant.String()).Bytes())
	if err = errors.Join(err, w.Close()); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// environment has the runtime know the agent's bounds.
func (c *child) environment() []string {
	var env []string
	if n := c.s.o.CPUPercent; n > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa((n+99)/100))
	}
	if n := c.s.o.MemoryMax; n > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(n*8/10, 10))
	}
	return env
}

// inPlace tells whether it is supervised, and the agent's namespace is still the
// compartment's. One that crashed when it was told to end is not supervised, although
// it has not been removed.
func (c *child) inPlace() bool {
	select {
	case <-c.ended:
		return false
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life == nil || sameNamespace(c.life.pid, c.comp.Namespace)
}

// abandon ends the supervising; whoever comes next finds the process.
func (c *child) abandon() {
	c.abandonNow()
	<-c.ended
}

// running waits until there is a process, or says why there is none.
func (c *child) running(ctx context.Context) (*life, error) {
	for {
		c.mu.Lock()
		l, changed, st := c.life, c.changed, c.status
		c.mu.Unlock()
		if l != nil {
			return l, nil
		}
		if !st.NextTry.IsZero() {
			return nil, fmt.Errorf("it does not run: %s; next start at %s", st.LastError, st.NextTry.Format(time.TimeOnly))
		}
		select {
		case <-changed:
		case <-c.ended:
			return nil, ErrNoAgent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ask makes a request of the running agent, which may be about to come up.
func (c *child) ask(ctx context.Context, request func(context.Context) error) error {
	asker := ctx
	ctx, cancel := context.WithTimeout(ctx, c.s.readyFor)
	defer cancel()
	for {
		l, err := c.running(ctx)
		if err != nil {
			return err
		}
		if err = request(ctx); !errors.Is(err, errNotThere) {
			c.hear(l, err == nil || ctx.Err() == nil, asker.Err() == nil)
			return err
		}
		select {
		case <-l.gone:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// hear counts what is not answered although whoever asks would wait on. A process that
// answers nothing any more is ended, and another is started.
func (c *child) hear(l *life, answered, waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case answered:
		c.silent = 0
	case waits && c.life == l:
		if c.silent++; c.silent >= patience {
			c.silent = 0
			c.s.o.Log.Error("agent does not answer any more and is ended", "tenant", c.comp.Tenant.String(), "pid", l.pid)
			l.kill(unix.SIGKILL)
		}
	}
}

func (c *child) put(ctx context.Context, d agentapi.Desired) (st agentapi.State, err error) {
	if err := trimLog(filepath.Join(c.dir, agentapi.LogName)); err != nil {
		c.s.o.Log.Warn("an agent's log grows", "tenant", c.comp.Tenant.String(), "err", err)
	}
	err = c.ask(ctx, func(ctx context.Context) error {
		st, err = c.client.put(ctx, d)
		return err
	})
	return st, err
}

func (c *child) state(ctx context.Context) (st agentapi.State, err error) {
	err = c.ask(ctx, func(ctx context.Context) error {
		st, err = c.client.state(ctx)
		return err
	})
	return st, err
}

func (c *child) replace(ctx context.Context) error {
	l, err := c.running(ctx)
	if err != nil {
		return err
	}
	c.set(func() { c.quick = true })
	l.kill(unix.SIGTERM)
	if err := l.await(ctx); err != nil {
		return err
	}
	_, err = c.state(ctx)
	return err
}

// await waits for the end, and makes it come.
func (l *life) await(ctx context.Context) error {
	select {
	case <-l.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(endFor):
	}
	l.kill(unix.SIGKILL)
	<-l.gone
	return nil
}

// remove ends the agent for good, with what it made.
func (c *child) remove(ctx context.Context) error {
	l, err := c.running(ctx)
	if err != nil {
		return err
	}
	c.set(func() { c.last = true })
	err = c.ask(ctx, c.client.end)
	if err == nil {
		err = l.await(ctx)
	}
	if err != nil {
		c.set(func() { c.last = false })
		return err
	}
	<-c.ended
	return nil
}

// kill ends the agent for good, and at once.
func (c *child) kill() {
	c.set(func() { c.last = true })
	c.abandon()
	c.mu.Lock()
	l := c.life
	c.mu.Unlock()
	if l != nil {
		l.kill(unix.SIGKILL)
		<-l.gone
	}
}

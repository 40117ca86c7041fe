//go:build linux

package agentd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/seal"
)

// A Part is one engine of the agent.
type Part interface {
	// Check refuses what Apply could never bring about.
	Check(desired json.RawMessage) error
	// Apply brings about the whole wanted state; nil is none.
	Apply(ctx context.Context, desired json.RawMessage) error
	// State tells what is, in JSON.
	State() (json.RawMessage, error)
	// Handler serves what is below /v1/PART/; nil for nothing.
	Handler() http.Handler
	// Close ends the part; with keep, what it made in the kernel stays.
	Close(keep bool) error
}

// Named is a part and its name, of the agent's Desired.
type Named struct {
	Name string
	Part Part
}

// Options of an agent.
type Options struct {
	Dir      string // the run folder, for this agent alone
	Tenant   string
	Version  string
	Key      seal.Key
	Parts    []Named  // in the order in which they are applied; closed in reverse
	Confined []string // what binds the process
	Log      *slog.Logger
	// Repair is how often the state is compared with what is wanted; 0 is
	// DefaultRepair.
	Repair time.Duration
	// Turned says that the state has changed by itself; nil: it is not said.
	Turned <-chan struct{}
}

// DefaultRepair is how often an agent looks for drift; retry is how soon it
// tries again what failed.
const (
	DefaultRepair = 10 * time.Second
	retry         = time.Second
	// newsGap is between two words about changes, at least.
	newsGap = 200 * time.Millisecond
)

// ErrRunning is returned where another agent has the run folder.
var ErrRunning = errors.New("another agent runs in this folder")

type agent struct {
	Options
	started time.Time
	end     chan bool // keep

	mu      sync.Mutex
	desired agentapi.Desired
	digest  string
	errs    map[string]string
}

// Run serves until ctx ends, which keeps everything in the kernel, or until it is
// told to end. ready is called when the socket is there.
func Run(ctx context.Context, o Options, ready func() error) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Repair == 0 {
		o.Repair = DefaultRepair
	}
	lock, err := acquire(filepath.Join(o.Dir, agentapi.LockName))
	if err != nil {
		return err
	}
	defer lock.Close()
	a := &agent{Options: o, started: time.Now(), end: make(chan bool, 1), errs: map[string]string{}}
	socket := filepath.Join(o.Dir, agentapi.SocketName)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", socket)
	unix.Umask(old)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	a.mu.Lock() // requests wait until what was wanted last stands
	go func() { served <- srv.Serve(l) }()
	err = a.restore()
	if err == nil {
		err = ready()
	}
	if err == nil {
		a.apply(ctx)
	}
	a.mu.Unlock()
	keep := true
	if err == nil {
		keep, err = a.loop(ctx, served)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = srv.Shutdown(stop)
	return errors.Join(err, a.close(keep))
}

func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrRunning
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// loop repairs until the end, and tells whether the kernel's state is to stay.
func (a *agent) loop(ctx context.Context, served <-chan error) (keep bool, err error) {
	last := time.Now()
	turned := a.Turned
	var gap <-chan time.Time
	for {
		a.mu.Lock()
		wait := a.Repair
		if len(a.errs) > 0 {
			wait = min(wait, retry)
		}
		a.mu.Unlock()
		select {
		case <-turned:
			a.tellNews()
			turned, gap = nil, time.After(newsGap)
			continue
		case <-gap:
			turned, gap = a.Turned, nil
			continue
		case <-ctx.Done():
			return true, nil
		case keep := <-a.end:
			return keep, nil
		case err := <-served:
			return true, err
		case <-time.After(wait - time.Since(last)):
		}
		last = time.Now()
		if _, err := os.Stat(filepath.Join(a.Dir, agentapi.LockName)); errors.Is(err, fs.ErrNotExist) {
			a.Log.Error("the run folder is gone, and with it whoever was served")
			return false, nil
		}
		a.mu.Lock()
		a.apply(ctx)
		a.mu.Unlock()
	}
}

// tellNews writes the file that whoever supervises this process watches.
func (a *agent) tellNews() {
	err := os.WriteFile(filepath.Join(a.Dir, agentapi.NewsName), nil, 0o600)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.Log.Warn("cannot tell of changes", "error", err)
	}
}

func (a *agent) close(keep bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(a.Parts) {
		if err := p.Part.Close(keep); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
		}
	}
	if !keep {
		err := os.Remove(a.file())
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.Remove(filepath.Join(a.Dir, agentapi.SocketName)))
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, fs.ErrNotExist) })...)
}

func (a *agent) file() string { return filepath.Join(a.Dir, agentapi.DesiredName) }

// context binds a sealed copy to its tenant.
func (a *agent) context() string { return "desired state of " + a.Tenant }

// restore reads the sealed copy. One that cannot be opened is somebody else's,
// or damaged: it is told, and left until a new desired state comes.
func (a *agent) restore() error {
	sealed, err := os.ReadFile(a.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b, err := a.Key.Open(sealed, a.context())
	if err == nil {
		var d agentapi.Desired
		if err = json.Unmarshal(b, &d); err == nil {
			err = a.accept(d)
		}
	}
	if err != nil {
		a.Log.Error("the desired state of before is of no use", "tenant", a.Tenant, "error", err)
	}
	return nil
}

// accept takes a desired state that all parts can do something with.
func (a *agent) accept(d agentapi.Desired) error {
	for name := range d.Parts {
		if !slices.ContainsFunc(a.Parts, func(p Named) bool { return p.Name == name }) {
			return fmt.Errorf("this agent has no part %q", name)
		}
	}
	var errs []error
	for _, p := range a.Parts {
		if raw := d.Parts[p.Name]; raw != nil {
			if err := p.Part.Check(raw); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	digest, err := d.Digest()
	if err != nil {
		return err
	}
	a.desired, a.digest = d, digest
	return nil
}

// keep writes the sealed copy, whole or not at all.
func (a *agent) keep() error {
	b, err := json.Marshal(a.desired)
	if err != nil {
		return err
	}
	next := a.file() + ".new"
	if err := os.WriteFile(next, a.Key.Seal(b, a.context()), 0o600); err != nil {
		return err
	}
	return os.Rename(next, a.file())
}

// apply has the parts bring about what is wanted.
func (a *agent) apply(ctx context.Context) {
	if a.digest == "" {
		return
	}
	for _, p := range a.Parts {
		err := p.Part.Apply(ctx, a.desired.Parts[p.Name])
		if err == nil {
			delete(a.errs, p.Name)
			continue
		}
		if a.errs[p.Name] != err.Error() {
			a.Log.Error("not as wanted", "tenant", a.Tenant, "part", p.Name, "error", err)
		}
		a.errs[p.Name] = err.Error()
	}
}

func (a *agent) state() (agentapi.State, error) {
	s := agentapi.State{Version: a.Version, Tenant: a.Tenant, PID: os.Getpid(), Started: a.started, Digest: a.digest,
		Confined: a.Confined, Parts: map[string]json.RawMessage{}, Errors: maps.Clone(a.errs)}
	for _, p := range a.Parts {
		raw, err := p.Part.State()
		if err != nil {
			return s, fmt.Errorf("%s: %w", p.Name, err)
		}
		s.Parts[p.Name] = raw
	}
	return s, nil
}

//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/seal"
)

// Options of a Supervisor.
type Options struct {
	Binary string // compartmentd
	RunDir string // absolute, of this instance of gatewayd alone
	// Key is what each agent's own is derived from.
	Key seal.Key
	Log *slog.Logger
	// Cgroup is a folder of a cgroup2 file system in which each agent gets a
	// group of its own; "" is none.
	Cgroup string
	// MemoryMax in bytes and CPUPercent of one processor bound each agent, where
	// the group has these controllers; 0 is no bound.
	MemoryMax  int64
	CPUPercent int
	// BackoffMin and BackoffMax are the times between an agent's end and the next
	// start, the first and the longest; 0 is 100 ms and 30 s.
	BackoffMin, BackoffMax time.Duration
	// Sweep removes from a namespace, by its path, what agents' tunnels leave in the
	// kernel, where no agent can be had for that; nil: nobody can. Routes of BGP are
	// known to this package by their protocol.
	Sweep func(namespace string) (removed []string, err error)
	// OnNews is called with the tenants whose agent's state has changed by itself, one
	// after the other; nil: nobody wants to know.
	OnNews func(hnv.Name)
}

// maxRunDir leaves room for the longest socket's name that unix(7) allows.
const maxRunDir = 107 - len("/") - hnv.MaxName - len("/"+agentapi.SocketName)

// Compartment is where an agent runs.
type Compartment struct {
	Tenant    hnv.Name
	Namespace string // path
}

// Status is what the supervisor knows of an agent.
type Status struct {
	Tenant   hnv.Name
	PID      int // 0: it does not run
	Adopted  bool
	Restarts int
	// LastError says why it ended, or could not be started.
	LastError string
	NextTry   time.Time // when it is started again; zero while it runs
	// Outdated: it runs another program than the one that is installed now, so it
	// should be replaced.
	Outdated bool
}

// ErrNoAgent is returned for a tenant without an agent, ErrNotThere where the agent
// does not know what it is asked for.
var (
	ErrNoAgent  = errors.New("the tenant has no agent")
	ErrNotThere = errors.New("not there")
)

// What agents are told and tell (package agentapi), for those who may not import it.
type (
	Desired = agentapi.Desired
	State   = agentapi.State
)

// The parts of an agent.
const (
	S2S = agentapi.S2S
	BGP = agentapi.BGP
)

// Supervisor keeps agents running.
type Supervisor struct {
	o    Options
	ctx  context.Context // ends the supervising, not the agents
	stop context.CancelFunc
	wg   sync.WaitGroup
	news *news
	// readyFor is the constant, but in tests.
	readyFor time.Duration

	mu       sync.Mutex
	children map[hnv.Name]*child
}

// New makes a supervisor. It starts nothing: Apply does, or adopts.
func New(o Options) (*Supervisor, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.BackoffMin == 0 {
		o.BackoffMin = 100 * time.Millisecond
	}
	if o.BackoffMax == 0 {
		o.BackoffMax = 30 * time.Second
	}
	if !filepath.IsAbs(o.RunDir) || len(o.RunDir) > maxRunDir {
		return nil, fmt.Errorf("agents: run folder %q must be absolute and have at most %d bytes, for the sockets in it", o.RunDir, maxRunDir)
	}
	if err := os.MkdirAll(o.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	s := &Supervisor{o: o, children: map[hnv.Name]*child{}, readyFor: readyFor}
	var err error
	if s.news, err = openNews(); err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Go(func() {
		if err := s.news.listen(s.heard); err != nil {
			s.o.Log.Error("no news of agents, whose state is found out later", "err", err)
		}
	})
	return s, nil
}

// Apply has an agent run in the compartment and tells it what is wanted. It is
// idempotent. What the agent refuses is an error, as is what a part could not
// bring about yet; the agent goes on trying that.
func (s *Supervisor) Apply(ctx context.Context, c Compartment, d agentapi.Desired) (agentapi.State, error) {
	ch, err := s.child(c)
	if err != nil {
		return agentapi.State{}, err
	}
	st, err := ch.put(ctx, d)
	if err != nil {
		return st, fmt.Errorf("agent of tenant %s: %w", c.Tenant, err)
	}
	var errs []error
	for part, msg := range st.Errors {
		errs = append(errs, fmt.Errorf("agent of tenant %s: %s: %s", c.Tenant, part, msg))
	}
	return st, errors.Join(errs...)
}

func (s *Supervisor) heard(t hnv.Name) {
	if s.o.OnNews != nil && s.ctx.Err() == nil {
		s.o.OnNews(t)
	}
}

// child gives the tenant's, made where there is none or its compartment is
// another now.
func (s *Supervisor) child(c Compartment) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	old := s.children[c.Tenant]
	if old != nil && old.comp == c && old.inPlace() {
		return old, nil
	}
	if old != nil {
		old.abandon()
	}
	ch := &child{s: s, comp: c, dir: s.folder(c.Tenant), ended: make(chan struct{}), changed: make(chan struct{})}
	ch.ctx, ch.abandonNow = context.WithCancel(s.ctx)
	if err := os.MkdirAll(ch.dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent of tenant %s: %w", c.Tenant, err)
	}
	if err := s.news.watch(c.Tenant, ch.dir); err != nil {
		s.o.Log.Warn("no news of an agent, whose state is found out later", "tenant", c.Tenant, "err", err)
	}
	ch.client = newClient(filepath.Join(ch.dir, agentapi.SocketName))
	s.children[c.Tenant] = ch
	s.wg.Go(ch.keep)
	return ch, nil
}

func (s *Supervisor) find(t hnv.Name) (*child, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.children[t]; ch != nil {
		return ch, nil
	}
	return nil, fmt.Errorf("%s: %w", t, ErrNoAgent)
}

// State asks the tenant's agent.
func (s *Supervisor) State(ctx context.Context, t hnv.Name) (agentapi.State, error) {
	ch, err := s.find(t)
	if err != nil {
		return agentapi.State{}, err
	}
	return ch.state(ctx)
}

// Replace ends the tenant's agent, which leaves its work in the kernel, and has
// the program that is installed now take over: an upgrade of one tenant.
func (s *Supervisor) Replace(ctx context.Context, t hnv.Name) error {
	ch, err := s.find(t)
	if err != nil {
		return err
	}
	return ch.replace(ctx)
}

// Remove ends the tenant's agent and what it made in the kernel, and deletes its
// run folder. Where none runs, but one has been, it is started for that, as an agent
// knows best what is an agent's. Where it does not come up either, what it left is
// found by its marks. A tenant that never had one is fine.
func (s *Supervisor) Remove(ctx context.Context, c Compartment) error {
	if err := s.remove(ctx, c); err != nil {
		return fmt.Errorf("remove agent of tenant %s: %w", c.Tenant, err)
	}
	return nil
}

func (s *Supervisor) remove(ctx context.Context, c Compartment) error {
	if _, err := os.Stat(s.folder(c.Tenant)); errors.Is(err, fs.ErrNotExist) {
		if _, err := s.find(c.Tenant); err != nil {
			return s.removeGroup(c.Tenant)
		}
	}
	if _, err := os.Stat(c.Namespace); err != nil {
		return s.discard(ctx, c.Tenant)
	}
	ch, err := s.child(c)
	if err != nil {
		return err
	}
	err = ch.remove(ctx)
	if err != nil {
		if ctx.Err() != nil || s.o.Sweep == nil || ch.look().PID != 0 {
			return err // it runs: the next time it may do as it is told
		}
		s.o.Log.Warn("what an agent left is removed without it", "tenant", c.Tenant.String(), "err", err)
		ch.kill()
		if err := s.sweep(c); err != nil {
			return err
		}
	}
	s.forget(ch)
	return s.clear(c.Tenant)
}

// Discard ends the tenant's agent at once and deletes its run folder. What it made
// in the kernel stays: it is for compartments that go, which an agent would keep
// from going. A tenant without an agent is fine.
func (s *Supervisor) Discard(ctx context.Context, t hnv.Name) error {
	if err := s.discard(ctx, t); err != nil {
		return fmt.Errorf("discard agent of tenant %s: %w", t, err)
	}
	return nil
}

func (s *Supervisor) discard(ctx context.Context, t hnv.Name) error {
	if ch, err := s.find(t); err == nil {
		ch.kill()
		s.forget(ch)
	}
	// One that an earlier gatewayd started.
	if pid, err := newClient(filepath.Join(s.folder(t), agentapi.SocketName)).peer(ctx); err == nil {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			awaitExit(fd)
			_ = unix.Close(fd)
		}
	}
	return s.clear(t)
}

func (s *Supervisor) folder(t hnv.Name) string { return filepath.Join(s.o.RunDir, t.String()) }

func (s *Supervisor) forget(ch *child) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.children[ch.comp.Tenant] == ch {
		delete(s.children, ch.comp.Tenant)
	}
}

// clear deletes what an ended agent has on disk.
func (s *Supervisor) clear(t hnv.Name) error {
	return errors.Join(os.RemoveAll(s.folder(t)), s.removeGroup(t))
}

// Ask makes a request of the tenant's agent, of what its parts offer below /v1/,
// and gives the answer's JSON. What is not there wraps ErrNotThere.
func (s *Supervisor) Ask(ctx context.Context, t hnv.Name, method, path string) (json.RawMessage, error) {
	ch, err := s.find(t)
	if err != nil {
		return nil, err
	}
	var out json.RawMessage
	err = ch.ask(ctx, func(ctx context.Context) error { return ch.client.do(ctx, method, path, nil, &out) })
	return out, err
}

// Known lists the tenants that have a run folder, sorted: of this supervisor or
// of one before.
func (s *Supervisor) Known() ([]hnv.Name, error) {
	entries, err := os.ReadDir(s.o.RunDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	var out []hnv.Name
	for _, e := range entries {
		if n, err := hnv.ParseName(e.Name()); err == nil && e.IsDir() {
			out = append(out, n)
		}
	}
	return out, nil
}

// Snapshot tells of all agents, sorted by tenant.
func (s *Supervisor) Snapshot() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.children))
	for _, ch := range s.children {
		out = append(out, ch.look())
	}
	s.mark(out)
	slices.SortFunc(out, func(a, b Status) int { return slices.Compare([]byte(a.Tenant.String()), []byte(b.Tenant.String())) })
	return out
}

// Status tells of one tenant's agent; false where there is none.
func (s *Supervisor) Status(t hnv.Name) (Status, bool) {
	ch, err := s.find(t)
	if err != nil {
		return Status{}, false
	}
	out := []Status{ch.look()}
	s.mark(out)
	return out[0], true
}

// mark says which agents are outdated: those whose program is another file than
// the installed one. An upgrade puts a new file in the old one's place.
func (s *Supervisor) mark(list []Status) {
	installed, err := os.Stat(s.o.Binary)
	if err != nil {
		return // there is nothing to replace them by
	}
	for i := range list {
		running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", list[i].PID))
		list[i].Outdated = err == nil && !os.SameFile(running, installed)
	}
}

// Close ends the supervising. The agents run on.
func (s *Supervisor) Close() {
	s.stop()
	s.news.close()
	s.wg.Wait()
}

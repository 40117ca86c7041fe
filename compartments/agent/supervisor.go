//go:build linux

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
	"github.com/hnvgate/hnvgate/internal/seal"
)

// Options of a Supervisor.
type Options struct {
	Binary string // compartmentd
	RunDir string // absolute, of this instance of gatewayd alone
	Key    seal.Key
	Log    *slog.Logger
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
}

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
}

// ErrNoAgent is returned for a tenant without an agent.
var ErrNoAgent = errors.New("the tenant has no agent")

// Supervisor keeps agents running.
type Supervisor struct {
	o    Options
	ctx  context.Context // ends the supervising, not the agents
	stop context.CancelFunc
	wg   sync.WaitGroup

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
	if !filepath.IsAbs(o.RunDir) || len(o.RunDir) > 80-len(agentapi.SocketName) {
		return nil, fmt.Errorf("agents: run folder %q must be absolute, and short enough for the sockets in it", o.RunDir)
	}
	if err := os.MkdirAll(o.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("agents: %w", err)
	}
	s := &Supervisor{o: o, children: map[hnv.Name]*child{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
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
	ch := &child{s: s, comp: c, dir: filepath.Join(s.o.RunDir, c.Tenant.String()), ended: make(chan struct{}), changed: make(chan struct{})}
	ch.ctx, ch.abandonNow = context.WithCancel(s.ctx)
	if err := os.MkdirAll(ch.dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent of tenant %s: %w", c.Tenant, err)
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
// run folder. A tenant without an agent is fine.
func (s *Supervisor) Remove(ctx context.Context, t hnv.Name) error {
	ch, err := s.find(t)
	if err == nil {
		if err = ch.remove(ctx); err == nil {
			s.mu.Lock()
			delete(s.children, t)
			s.mu.Unlock()
		}
	} else if errors.Is(err, ErrNoAgent) {
		err = nil
	}
	if err == nil {
		err = errors.Join(os.RemoveAll(filepath.Join(s.o.RunDir, t.String())), s.removeGroup(t))
	}
	if err != nil {
		return fmt.Errorf("remove agent of tenant %s: %w", t, err)
	}
	return nil
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
	var out []Status
	for _, ch := range s.children {
		out = append(out, ch.look())
	}
	slices.SortFunc(out, func(a, b Status) int { return slices.Compare([]byte(a.Tenant.String()), []byte(b.Tenant.String())) })
	return out
}

// Close ends the supervising. The agents run on.
func (s *Supervisor) Close() {
	s.stop()
	s.wg.Wait()
}

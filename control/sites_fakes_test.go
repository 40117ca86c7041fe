package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/forwarder"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// fakeAgents fakes agents and writes down what they were asked, by tenant.
type fakeAgents struct {
	*engines
	state map[string]*fakeAgent
	stuck map[string]bool // whose agents do not answer; constant while a test runs
}

// fakeAgent is one process.
type fakeAgent struct {
	where    agent.Compartment
	desired  agent.Desired
	pid      int
	outdated bool
	errs     map[string]string
	speaker  bgp.State
	tunnels  s2s.State
	paths    []bgp.Path
	asked    []string
}

func newFakeAgents(e *engines) *fakeAgents {
	return &fakeAgents{engines: e, state: map[string]*fakeAgent{}}
}

// with does something to the tenant's agent; false: there is none.
func (f *fakeAgents) with(tenant string, fn func(a *fakeAgent)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.state[tenant]
	if a != nil {
		fn(a)
	}
	return a != nil
}

func (f *fakeAgents) Apply(ctx context.Context, c agent.Compartment, d agent.Desired) (agent.State, error) {
	n := c.Tenant.String()
	if f.stuck[n] {
		_ = f.call("stuck agent", n)
		<-ctx.Done()
		return agent.State{}, ctx.Err()
	}
	if err := f.call("agent", n); err != nil {
		return agent.State{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.state[n]
	if a == nil || a.where.Namespace == "" {
		a = &fakeAgent{pid: 100 + len(f.state), errs: map[string]string{}}
		f.state[n] = a
	}
	a.where, a.desired = c, d
	return a.tell()
}

func (a *fakeAgent) tell() (agent.State, error) {
	b, err := json.Marshal(a.speaker)
	tunnels, err2 := json.Marshal(a.tunnels)
	if err = errors.Join(err, err2); err != nil {
		return agent.State{}, err
	}
	st := agent.State{PID: a.pid, Version: "test", Errors: maps.Clone(a.errs), Parts: map[string]json.RawMessage{agent.BGP: b, agent.S2S: tunnels}}
	for part, why := range a.errs {
		err = fmt.Errorf("%s: %s", part, why)
	}
	return st, err
}

func (f *fakeAgents) State(_ context.Context, n hnv.Name) (st agent.State, err error) {
	err = agent.ErrNoAgent
	f.with(n.String(), func(a *fakeAgent) { st, err = a.tell() })
	return st, err
}

func (f *fakeAgents) Ask(_ context.Context, n hnv.Name, method, path string) (out json.RawMessage, err error) {
	err = agent.ErrNoAgent
	f.with(n.String(), func(a *fakeAgent) {
		a.asked = append(a.asked, method+" "+path)
		if strings.Contains(path, "nobody") {
			err = agent.ErrNotThere
			return
		}
		out, err = json.Marshal(a.paths)
	})
	return out, err
}

func (f *fakeAgents) Status(n hnv.Name) (st agent.Status, ok bool) {
	ok = f.with(n.String(), func(a *fakeAgent) { st = agent.Status{Tenant: n, PID: a.pid, Outdated: a.outdated} })
	return st, ok
}

func (f *fakeAgents) Replace(_ context.Context, n hnv.Name) error {
	f.with(n.String(), func(a *fakeAgent) { a.pid, a.outdated = a.pid+1000, false })
	return f.call("replace agent", n.String())
}

func (f *fakeAgents) gone(what string, n hnv.Name) error {
	err := f.call(what, n.String())
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.state, n.String())
	}
	return err
}

func (f *fakeAgents) Remove(_ context.Context, c agent.Compartment) error {
	return f.gone("remove agent", c.Tenant)
}
func (f *fakeAgents) Discard(_ context.Context, n hnv.Name) error { return f.gone("discard agent", n) }

func (f *fakeAgents) Known() ([]hnv.Name, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []hnv.Name
	for _, n := range slices.Sorted(maps.Keys(f.state)) {
		out = append(out, must(hnv.ParseName(n)))
	}
	return out, nil
}

type fakeForwarder struct{ *engines }

func (f fakeForwarder) Apply(_ context.Context, s forwarder.Spec) (forwarder.Result, error) {
	return forwarder.Result{}, f.call(fmt.Sprintf("forward %d", len(s.Attachments)), s.Tenant.String())
}

func (f fakeForwarder) Snapshot(context.Context, hnv.Name, string) ([]forwarder.LinkState, error) {
	return []forwarder.LinkState{{Link: "fw-dc", MAC: "02:00:00:00:00:01", MTU: 1500, Counters: forwarder.Counters{RxPackets: 7}}}, nil
}

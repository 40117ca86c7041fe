package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/compartments/agent"
	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/s2s"
)

// The conditions of what an agent does. Where they do not hold, packets of other
// ways go on: the tenant is degraded.
const (
	condTunnels = "S2SReady"
	condSpeaker = "BGPReady"
)

// duty is what a tenant's agent is to do, and where.
type duty struct {
	comp    agent.Compartment
	tunnels *s2s.Spec
	speaker *bgp.Spec
}

// keeper has a tenant's agent do its duty. It works beside the tenant's reconciler,
// so that an agent that does not come up, or does not answer, holds nothing else of
// the tenant up.
type keeper struct {
	t     *tenant
	wish  wish
	news  chan struct{} // the agent's state has changed by itself
	begun sync.Once
	over  chan struct{} // closed when the tenant is gone

	work sync.Mutex // held while the agent is told or ended

	mu     sync.Mutex
	cancel context.CancelFunc // ends the step that is being made; nil: none is
	duty   *duty              // nil: no agent is wanted
	fault  error              // why the agent is not told all that is wanted
	// faultSince is when the fault came; it outlives it.
	faultSince time.Time
	where      agent.Compartment
	present    bool // there may be an agent, or what one left
	told       agent.State
	asked      uint64 // how often the agent was asked how it is
	heard      uint64 // which time gave told: answers may overtake each other
	tunnels    s2s.State
	speaker    bgp.State
	taken      uint64 // generation of the routes that were fetched last
	restart    int    // how often it had been started again then
}

func newKeeper(t *tenant) *keeper {
	return &keeper{t: t, wish: newWish(), news: make(chan struct{}, 1), over: make(chan struct{})}
}

// assign says what the agent is to do from now on; nil ends it.
func (k *keeper) assign(ctx context.Context, where agent.Compartment, d *duty) {
	if k.t.c.o.Agents == nil {
		return
	}
	k.mu.Lock()
	if d == nil && k.duty == nil && !k.present {
		k.fault = nil
		k.mu.Unlock()
		k.t.status.drop(condTunnels, condSpeaker) // what was told of a duty that never was one
		return
	}
	same := reflect.DeepEqual(k.duty, d) && k.where == where && k.fault == nil
	k.duty, k.where, k.present, k.fault = d, where, true, nil
	k.mu.Unlock()
	if !same {
		k.wish.wake()
	}
	k.begun.Do(func() {
		k.wish.wake()
		k.t.c.wg.Go(func() { k.run(ctx) })
	})
}

// withhold has nothing advertised until the next assignment.
func (k *keeper) withhold() {
	k.mu.Lock()
	if k.duty == nil || k.duty.speaker == nil || k.duty.speaker.Withhold {
		k.mu.Unlock()
		return
	}
	d := *k.duty
	speaker := *d.speaker
	speaker.Withhold = true
	d.speaker = &speaker
	k.duty = &d
	k.mu.Unlock()
	k.wish.wake()
}

// fail says why the agent is not told what is wanted, until it is.
func (k *keeper) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault == nil {
		k.faultSince = time.Now()
	}
	k.fault = err
	for _, cond := range []string{condTunnels, condSpeaker} {
		k.t.status.set(cond, false, "KeyFailed", err.Error())
	}
}

// narrow ends what the agent was told and nobody wants any more; all else it was told
// stands.
func (k *keeper) narrow(f *hnv.Fabric) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.duty == nil {
		return
	}
	d, n, less := *k.duty, k.t.name, false
	if d.tunnels != nil {
		tunnels := *d.tunnels
		tunnels.Tunnels = slices.DeleteFunc(slices.Clone(tunnels.Tunnels), func(t s2s.Tunnel) bool {
			name, err := hnv.ParseName(t.Name)
			_, wanted := f.Connection(n, name)
			return err != nil || !wanted
		})
		less = len(tunnels.Tunnels) < len(d.tunnels.Tunnels)
		d.tunnels = &tunnels
	}
	if d.speaker != nil {
		speaker := *d.speaker
		speaker.Peers = slices.DeleteFunc(slices.Clone(speaker.Peers), func(p bgp.Peer) bool {
			_, wanted := f.BGPPeer(n, p.Name)
			return !wanted
		})
		less = less || len(speaker.Peers) < len(d.speaker.Peers)
		d.speaker = &speaker
	}
	if less {
		k.duty = &d
		k.wish.wake()
	}
}

// again has the agent told its duty once more, if it has one.
func (k *keeper) again() {
	k.mu.Lock()
	has := k.duty != nil
	k.mu.Unlock()
	if has {
		k.wish.wake()
	}
}

// pending tells whether something was asked of the agent that is not done.
func (k *keeper) pending() bool { return k.wish.pending() }

// run works until ctx ends or the tenant is gone: whatever is wanted is told again at
// every interval, so that an agent that was put down is put up again.
func (k *keeper) run(ctx context.Context) {
	failures := 0
	next := time.Now()
	news, pace := k.news, newsPause
	var quiet <-chan time.Time // until then no news are heard
	for {
		timer := time.NewTimer(time.Until(next))
		heard, enough := false, false
		select {
		case <-ctx.Done():
		case <-k.over:
			timer.Stop()
			return
		case <-k.wish.woken:
		case <-news:
			heard = true
		case <-quiet:
			enough = true
		case <-timer.C:
		}
		timer.Stop()
		switch {
		case ctx.Err() != nil:
			return
		case enough:
			news, quiet = k.news, nil
			continue
		case heard:
			k.look(ctx)
			pace = nextPace(pace, k.follow(ctx))
			news, quiet = nil, time.After(pace)
			continue
		}
		asked := k.wish.asked.Load()
		err := k.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			k.t.c.o.Log.Error("the compartment's agent is not as desired", "tenant", k.t.name, "failures", failures, "err", err)
		default:
			failures = 0
			k.wish.done.Store(asked)
		}
		pause := k.t.c.o.DriftInterval
		if failures > 0 {
			pause = k.t.c.o.backoff(failures)
		}
		next = time.Now().Add(pause)
	}
}

// newsPause is between two looks at an agent that has news. A peer that flaps makes
// it longer, up to maxNewsPause: each time, the tenant's flows are decided anew.
const (
	newsPause    = 300 * time.Millisecond
	maxNewsPause = 10 * time.Second
)

func nextPace(pace time.Duration, changed bool) time.Duration {
	if changed {
		return min(2*pace, maxNewsPause)
	}
	return max(pace/2, newsPause)
}

// AgentNews says that the state of a tenant's agent has changed by itself.
func (c *Controller) AgentNews(n hnv.Name) {
	t := c.find(n)
	if t == nil {
		return
	}
	select {
	case t.keeper.news <- struct{}{}:
	default: // it will look anyway
	}
}

// step is one bounded try.
func (k *keeper) step(ctx context.Context) error {
	select {
	case k.t.c.agentSlots <- struct{}{}:
		defer func() { <-k.t.c.agentSlots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	k.work.Lock()
	defer k.work.Unlock()
	ctx, cancel := context.WithTimeout(ctx, k.t.c.o.StepTimeout)
	defer cancel()
	k.mu.Lock()
	d, where, present := k.duty, k.where, k.present
	k.cancel = cancel
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.cancel = nil
		k.mu.Unlock()
	}()
	if d == nil {
		if !present {
			return nil
		}
		return k.end(ctx, where)
	}
	desired, err := d.desired()
	if err != nil {
		return err
	}
	turn := k.turn()
	st, err := k.tell(ctx, d.comp, desired)
	k.note(turn, d, st, err)
	if err == nil {
		k.follow(ctx)
	}
	return err
}

// desired is the duty in the agent's terms. Whoever has it has the keys.
func (d *duty) desired() (agent.Desired, error) {
	out := agent.Desired{Parts: map[string]json.RawMessage{}}
	var errs []error
	if d.tunnels != nil {
		b, err := s2s.Encode(*d.tunnels)
		out.Parts[agent.S2S] = b
		errs = append(errs, err)
	}
	if d.speaker != nil {
		b, err := json.Marshal(d.speaker)
		out.Parts[agent.BGP] = b
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// tell has the agent do its duty. One that runs another program than the installed
// one is replaced first, one tenant after the other; where that failed for one, the
// others keep theirs for some time, as the program may be no good.
func (k *keeper) tell(ctx context.Context, comp agent.Compartment, d agent.Desired) (st agent.State, err error) {
	a := k.t.c.o.Agents
	st, err = a.Apply(ctx, comp, d)
	now, ok := a.Status(k.t.name)
	if !ok || !now.Outdated {
		return st, err
	}
	// Whose turn it is not is asked again at the next interval: to wait here would keep
	// a place that others' agents need, and whoever wants this one ended.
	if !k.t.c.upgrade.TryLock() {
		return st, err
	}
	defer k.t.c.upgrade.Unlock()
	if err == nil && time.Now().Before(k.t.c.upgradeHold) {
		return st, nil
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			k.t.c.o.Log.Error("the installed program does not take an agent's place; others are not replaced by it for now", "tenant", k.t.name, "for", upgradeRest, "err", err)
			k.t.c.upgradeHold = time.Now().Add(upgradeRest)
		}
	}()
	k.t.c.o.Log.Info("replacing an agent by the installed program", "tenant", k.t.name, "pid", now.PID)
	var before s2s.State
	_ = decode(st.Parts[agent.S2S], &before) // where it told nothing, nothing is waited for
	if err = a.Replace(ctx, k.t.name); err != nil {
		err = fmt.Errorf("replace the agent: %w", err)
		return st, err
	}
	st, err = a.Apply(ctx, comp, d)
	// The next tenant's turn comes when this one's tunnels are back, or seem to need
	// longer for reasons of their own.
	for end := time.Now().Add(upgradePatience); err == nil && time.Now().Before(end); sleep(ctx, upgradePatience/50, nil) {
		var now s2s.State
		if decode(st.Parts[agent.S2S], &now) != nil || alive(now) >= alive(before) || ctx.Err() != nil {
			break
		}
		st, err = a.State(ctx, k.t.name)
	}
	return st, err
}

// upgradePatience is how long a replaced agent's tunnels are waited for, upgradeRest
// how long no agent is replaced after one could not be.
const (
	upgradePatience = 5 * time.Second
	upgradeRest     = 5 * time.Minute
)

// alive counts the tunnels with a peer that is up.
func alive(s s2s.State) (n int) {
	for _, t := range s.Tunnels {
		if slices.ContainsFunc(t.Peers, peerUp) {
			n++
		}
	}
	return n
}

// end removes the agent and what it made.
func (k *keeper) end(ctx context.Context, where agent.Compartment) error {
	if err := k.t.c.o.Agents.Remove(ctx, where); err != nil {
		k.t.status.set(condTunnels, false, "RemoveFailed", err.Error())
		return err
	}
	k.forget()
	return nil
}

// discard ends the agent at once: its compartment goes.
func (k *keeper) discard(ctx context.Context) error {
	if k.t.c.o.Agents == nil {
		return nil
	}
	k.mu.Lock()
	k.duty, k.fault = nil, nil
	present := k.present
	if k.cancel != nil {
		k.cancel() // what it is being told is of no use any more
	}
	k.mu.Unlock()
	if !present {
		k.t.status.drop(condTunnels, condSpeaker)
		return nil
	}
	k.work.Lock()
	defer k.work.Unlock()
	if err := k.t.c.o.Agents.Discard(ctx, k.t.name); err != nil {
		return err
	}
	k.forget()
	k.wish.done.Store(k.wish.asked.Load())
	return nil
}

func (k *keeper) forget() {
	k.mu.Lock()
	if k.duty == nil {
		k.present = false
	}
	k.told, k.tunnels, k.speaker, k.taken = agent.State{}, s2s.State{}, bgp.State{}, 0
	k.mu.Unlock()
	k.t.status.drop(condTunnels, condSpeaker)
	k.t.teach(learned{})
}

// turn counts the times that the agent is asked.
func (k *keeper) turn() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	return k.asked
}

// note keeps what the agent told when it was asked for the turn-th time, unless it was
// asked later and has answered, and says how its parts are.
func (k *keeper) note(turn uint64, d *duty, st agent.State, err error) {
	var tunnels s2s.State
	var speaker bgp.State
	if st.PID != 0 {
		err2 := decode(st.Parts[agent.S2S], &tunnels)
		err3 := decode(st.Parts[agent.BGP], &speaker)
		if err4 := errors.Join(err2, err3); err4 != nil {
			k.t.c.o.Log.Error("an agent does not tell its state as expected", "tenant", k.t.name, "err", err4)
		}
		k.mu.Lock()
		old := turn < k.heard
		if !old {
			k.heard, k.told, k.tunnels, k.speaker = turn, st, tunnels, speaker
		}
		k.mu.Unlock()
		if old && err == nil {
			return
		}
		if !old {
			k.listen(d, tunnels)
		}
	}
	k.mu.Lock() // with fail
	defer k.mu.Unlock()
	say := func(cond, part string, wanted bool, good string) {
		switch {
		case k.fault != nil:
		case !wanted:
			k.t.status.drop(cond)
		case st.PID == 0 && err != nil:
			k.t.status.set(cond, false, "AgentFailed", err.Error())
		case st.Errors[part] != "":
			k.t.status.set(cond, false, "Failed", st.Errors[part])
		default:
			k.t.status.set(cond, true, "Applied", good)
		}
	}
	say(condTunnels, agent.S2S, d.tunnels != nil, tunnelTally(d.tunnels, tunnels).words("tunnel"))
	say(condSpeaker, agent.BGP, d.speaker != nil, sessionTally(d.speaker, speaker).words("session"))
}

// listen notes from where peers call whose endpoint nobody said, so that BGP does not
// take the way to them.
func (k *keeper) listen(d *duty, now s2s.State) {
	if d.tunnels == nil || d.speaker == nil {
		return
	}
	heard := roaming(d.tunnels, now)
	if before := k.t.heard.Load(); before == nil && len(heard) == 0 || before != nil && slices.Equal(*before, heard) {
		return
	}
	k.t.heard.Store(&heard)
	k.t.wish.wake()
}

// roaming gives the addresses at which peers without an endpoint are, sorted.
func roaming(spec *s2s.Spec, now s2s.State) []netip.Addr {
	out := []netip.Addr{}
	for _, t := range spec.Tunnels {
		i := slices.IndexFunc(now.Tunnels, func(s s2s.TunnelState) bool { return s.Name == t.Name })
		if i < 0 {
			continue
		}
		for _, p := range t.Peers {
			for _, s := range now.Tunnels[i].Peers {
				if s.Name == p.Name && !p.Endpoint.IsValid() && s.Endpoint.IsValid() {
					out = append(out, s.Endpoint.Addr().Unmap().WithZone(""))
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

func decode(b json.RawMessage, into any) error {
	if len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, into)
}

// look asks the agent how it is now, for as long as somebody waits for an answer;
// what it told last has to do where it does not answer.
func (k *keeper) look(ctx context.Context) {
	k.mu.Lock()
	d := k.duty
	k.mu.Unlock()
	if d == nil || k.t.c.o.Agents == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	turn := k.turn()
	if st, err := k.t.c.o.Agents.State(ctx, k.t.name); err == nil {
		k.note(turn, d, st, nil)
	}
}

// lookFor is how long somebody who asks for a state waits for it.
const lookFor = 2 * time.Second

// snapshot gives what is known.
func (k *keeper) snapshot() (d *duty, st agent.State, tunnels s2s.State, speaker bgp.State) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.duty, k.told, k.tunnels, k.speaker
}

// tally counts how many of something are as they should be.
type tally struct{ up, total int }

func (t tally) words(of string) string {
	if t.total != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d of %d %s up", t.up, t.total, of)
}

// tunnelTally counts tunnels: one is up while a peer of it answers, or, where
// nothing can be asked, has shaken hands lately.
func tunnelTally(spec *s2s.Spec, now s2s.State) tally {
	if spec == nil {
		return tally{}
	}
	return tally{up: alive(now), total: len(spec.Tunnels)}
}

// handshakeGood is how long a session of WireGuard lasts at most (REJECT_AFTER_TIME).
const handshakeGood = 180 * time.Second

func peerUp(p s2s.PeerState) bool {
	if p.Liveness == s2s.Unprobed {
		return !p.LastHandshake.IsZero() && time.Since(p.LastHandshake) < handshakeGood
	}
	return p.Liveness == s2s.Up
}

func sessionTally(spec *bgp.Spec, now bgp.State) tally {
	if spec == nil {
		return tally{}
	}
	var out tally
	for _, p := range spec.Peers {
		if p.Address.IsValid() && !p.Disabled {
			out.total++
		}
	}
	for _, p := range now.Peers {
		if p.Dynamic {
			out.total++
		}
		if p.Session == "established" {
			out.up++
		}
	}
	return out
}

// endStrayAgents ends what an earlier process left for tenants that are gone: it
// would keep their compartments from going.
func (c *Controller) endStrayAgents(ctx context.Context, keep []hnv.Name) {
	if c.o.Agents == nil {
		return
	}
	known, err := c.o.Agents.Known()
	if err != nil {
		c.o.Log.Error("look for agents of an earlier process", "err", err)
		return
	}
	for _, n := range known {
		if slices.Contains(keep, n) {
			c.strays[n] = true
			continue
		}
		if err := c.o.Agents.Discard(ctx, n); err != nil {
			c.o.Log.Error("end a leftover agent", "tenant", n, "err", err)
			continue
		}
		c.o.Log.Info("removed leftover", "what", "agent of tenant "+n.String())
	}
}

package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/internal/gobgp"
)

// direction of a soft reset.
type direction uint8

const (
	inward  direction = 1
	outward direction = 2
)

// Apply brings the speaker to the Spec. A Spec that Check refuses changes nothing.
// After an error, what could be done is done; the same again does the rest.
func (s *Speaker) Apply(ctx context.Context, spec bgp.Spec) error {
	if err := errors.Join(spec.Check(), checkHere(&spec)); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.srv != nil && s.whole && reflect.DeepEqual(s.spec, spec) {
		return nil
	}
	s.whole = false
	if err := s.serve(&spec); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	s.noteResets(&spec)
	s.eventMu.Lock()
	s.wanted = spec.Peers
	s.eventMu.Unlock()
	if err := s.deletePeers(ctx, &spec); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if err := s.srv.SetPolicies(ctx, &spec, s.silent); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	s.plan = planOf(&spec)
	if s.spec.ECMP != spec.ECMP {
		s.rib.touch()
	}
	s.spec = spec
	s.rib.setAggregates(spec.Aggregates)
	err := errors.Join(s.originate(s.rib.known()), s.putPeers(ctx))
	s.wakeDetect()
	if err == nil {
		err = s.doResets(ctx)
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	s.whole = true
	return nil
}

// Idle ends all sessions and takes all routes out of the FIB, until the next Apply.
func (s *Speaker) Idle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.left > 0 {
		s.eventMu.Lock()
		s.restart, s.waiting = time.Now(), map[endOfRIB]bool{}
		s.eventMu.Unlock()
		s.rib.poke()
	}
	return s.reset()
}

// reset stops gobgp, and forgets what it had.
func (s *Speaker) reset() error {
	if s.srv == nil {
		return nil
	}
	err := s.srv.Stop(false)
	s.srv = nil
	s.rib.clear()
	s.spec, s.plan, s.known, s.whole = bgp.Spec{}, plan{}, nil, false
	s.originated, s.resets = map[netip.Prefix]gobgp.Origination{}, map[string]direction{}
	s.eventMu.Lock()
	s.sessions, s.wanted = map[netip.Addr]*session{}, nil
	s.eventMu.Unlock()
	return err
}

// serve starts gobgp, anew where what a speaker is changed.
func (s *Speaker) serve(spec *bgp.Spec) error {
	same := s.spec.ASN == spec.ASN && s.spec.RouterID == spec.RouterID && s.spec.Port == spec.Port && slices.Equal(s.spec.Listen, spec.Listen)
	if s.srv != nil && same {
		return nil
	}
	if err := s.reset(); err != nil {
		return err
	}
	srv, err := gobgp.Start(spec, s.o.Log, gobgp.Handlers{Paths: s.rib.update, Peer: s.peerEvent, EndOfRIB: s.endOfRIB})
	if err != nil {
		return err
	}
	s.srv = srv
	if s.left > 0 {
		s.beginRestart(spec)
	}
	return nil
}

// deletePeers ends what is no longer wanted or must be made anew.
func (s *Speaker) deletePeers(ctx context.Context, spec *bgp.Spec) error {
	var errs []error
	for _, old := range s.srv.Known() {
		i := slices.IndexFunc(spec.Peers, func(p bgp.Peer) bool { return p.Name == old.Name })
		if i >= 0 && sameSession(old, spec.Peers[i]) {
			continue
		}
		s.o.Log.Info("ending peer", "peer", old.Name, "changed", i >= 0)
		if err := s.srv.DeletePeer(ctx, old.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.resets, old.Name)
		s.forgetSessions(old)
	}
	return errors.Join(errs...)
}

// sameSession tells whether a peer can be changed under a running session.
func sameSession(a, b bgp.Peer) bool {
	for _, p := range []*bgp.Peer{&a, &b} {
		p.Import, p.Export, p.NextHopSelf, p.DefaultOriginate, p.ReEnable, p.Limit = bgp.Policy{}, bgp.Policy{}, false, false, 0, 0
		if p.Prefix.IsValid() {
			continue // gobgp does not hand a group's changes on to its neighbours
		}
		p.MaxPrefixes, p.BFD = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// putPeers adds what is missing and changes limits.
func (s *Speaker) putPeers(ctx context.Context) error {
	known := map[string]bgp.Peer{}
	for _, p := range s.srv.Known() {
		known[p.Name] = p
	}
	var errs []error
	for _, p := range s.spec.Peers {
		old, there := known[p.Name]
		switch {
		case !there:
			errs = append(errs, s.srv.AddPeer(ctx, p, s.restarting()))
		case !reflect.DeepEqual(old.MaxPrefixes, p.MaxPrefixes) || !reflect.DeepEqual(old.BFD, p.BFD):
			errs = append(errs, s.srv.ChangeLimits(ctx, p))
			if !reflect.DeepEqual(old.MaxPrefixes, p.MaxPrefixes) {
				s.tryAgain(p.Address)
			}
		}
	}
	return errors.Join(errs...)
}

// noteResets remembers which peers' routes must meet their policies anew.
func (s *Speaker) noteResets(spec *bgp.Spec) {
	all := s.spec.Withhold != spec.Withhold || !reflect.DeepEqual(gobgp.Defaults(&s.spec), gobgp.Defaults(spec)) ||
		!reflect.DeepEqual(summaries(&s.spec), summaries(spec))
	for _, p := range spec.Peers {
		i := slices.IndexFunc(s.spec.Peers, func(o bgp.Peer) bool { return o.Name == p.Name })
		if i < 0 {
			continue
		}
		old := &s.spec.Peers[i]
		if !reflect.DeepEqual(old.Import, p.Import) {
			s.resets[p.Name] |= inward
		}
		if all || old.NextHopSelf != p.NextHopSelf || old.DefaultOriginate != p.DefaultOriginate || !reflect.DeepEqual(old.Export, p.Export) {
			s.resets[p.Name] |= outward
		}
	}
}

func summaries(spec *bgp.Spec) (out []netip.Prefix) {
	for _, a := range spec.Aggregates {
		if a.SummaryOnly {
			out = append(out, a.Prefix)
		}
	}
	return out
}

func (s *Speaker) doResets(ctx context.Context) error {
	if len(s.resets) == 0 {
		return nil
	}
	states, err := s.srv.Peers(ctx, false)
	if err != nil {
		return err
	}
	for name, d := range s.resets {
		for _, st := range states {
			if st.Name != name || st.Session != "established" {
				continue
			}
			if err := s.srv.SoftReset(ctx, st.Address, d&inward != 0, d&outward != 0); err != nil {
				return fmt.Errorf("reset peer %s softly: %w", name, err)
			}
		}
		delete(s.resets, name)
	}
	return nil
}

// originate brings own routes to the Spec: networks, aggregates that stand for
// something, default routes.
func (s *Speaker) originate(known map[netip.Prefix]bool) error {
	want := map[netip.Prefix]gobgp.Origination{}
	for _, n := range s.spec.Networks {
		want[n.Prefix] = gobgp.Origination{Prefix: n.Prefix, Attributes: n.Attributes}
	}
	for _, a := range s.spec.Aggregates {
		if known[a.Prefix] {
			want[a.Prefix] = gobgp.Origination{Prefix: a.Prefix, Attributes: a.Attributes, Aggregate: true, Aggregator: s.spec.RouterID, ASN: s.spec.ASN}
		}
	}
	for _, d := range gobgp.Defaults(&s.spec) {
		want[d] = gobgp.Origination{Prefix: d, LastResort: true}
	}
	var add, del []gobgp.Origination
	for p, o := range want {
		if old, there := s.originated[p]; !there || !reflect.DeepEqual(old, o) {
			add = append(add, o)
		}
	}
	for p, o := range s.originated {
		if _, still := want[p]; !still {
			del = append(del, o)
		}
	}
	if err := s.srv.Withdraw(del); err != nil {
		return err
	}
	for _, o := range del {
		delete(s.originated, o.Prefix)
	}
	if err := s.srv.Originate(add); err != nil {
		return err
	}
	for _, o := range add {
		s.originated[o.Prefix] = o
	}
	s.known = known
	return nil
}

// beginRestart waits, with what an earlier process left, for the neighbours that
// kept our routes meanwhile (RFC 4724, 4.1).
func (s *Speaker) beginRestart(spec *bgp.Spec) {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	var longest time.Duration
	for _, p := range spec.Peers {
		if p.GracefulRestart == nil || p.Disabled {
			continue
		}
		t := p.GracefulRestart.Time
		if t == 0 {
			t = bgp.DefaultRestartTime
		}
		longest = max(longest, t)
		for _, f := range p.Exchanged() {
			if p.Address.IsValid() {
				s.waiting[endOfRIB{p.Address, f}] = true
			}
		}
	}
	s.restart = time.Now().Add(longest)
	s.rib.poke()
}

func (s *Speaker) restarting() bool {
	s.eventMu.Lock()
	defer s.eventMu.Unlock()
	return !s.restart.IsZero() && len(s.waiting) > 0
}

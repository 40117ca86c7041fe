package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// SetSilent says which next hops do not forward now, whatever their sessions say:
// peers in these prefixes, and the prefixes that are one address.
// Paths by them go after all others; where there is no other they stay, as elsewhere
// their packets must not go. Each call replaces the last.
func (s *Speaker) SetSilent(ctx context.Context, hops []netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if slices.Equal(s.silent, hops) {
		return nil
	}
	if s.srv == nil {
		s.silent = slices.Clone(hops)
		return nil
	}
	s.o.Log.Info("next hops that do not forward changed", "silent", hops)
	states, err := s.srv.Peers(ctx, false)
	if err != nil {
		return err
	}
	if err := s.srv.SetPolicies(ctx, &s.spec, hops); err != nil {
		return err
	}
	s.silent = slices.Clone(hops)
	var errs []error
	// One that is down may have left paths, of a graceful restart.
	for _, st := range states {
		if err := s.srv.SoftReset(ctx, st.Address, true, false); err != nil {
			errs = append(errs, fmt.Errorf("reset peer %s softly: %w", st.Name, err))
		}
	}
	return errors.Join(errs...)
}

//go:build linux

package agent

import (
	"errors"
	"fmt"

	"github.com/hnvgate/hnvgate/internal/nl"
)

// sweep removes from the compartment what an agent made and cannot remove itself.
func (s *Supervisor) sweep(c Compartment) error {
	removed, err := s.o.Sweep(c.Namespace)
	n, err2 := sweepRoutes(c.Namespace)
	if n > 0 {
		removed = append(removed, fmt.Sprintf("%d routes of BGP", n))
	}
	if len(removed) > 0 {
		s.o.Log.Info("removed leftover", "tenant", c.Tenant.String(), "what", removed)
	}
	return errors.Join(err, err2)
}

// sweepRoutes removes the routes that BGP made. (Package bgp/speaker has them, which
// only agents link.)
func sweepRoutes(namespace string) (removed int, err error) {
	h, err := nl.Open(namespace)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	routes, err := h.Routes(nl.ProtocolBGP, 0)
	if err != nil {
		return 0, err
	}
	for _, r := range routes {
		if err := h.DelRoute(r); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

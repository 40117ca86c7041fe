package main

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hnvgate/hnvgate/api/credentials"
	"github.com/hnvgate/hnvgate/api/server"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/internal/config"
)

// listeners are where the API is served.
type listeners struct {
	socket net.Listener
	remote *remote // nil: for this machine only
}

func remoteAPI(l *config.Listen, log *slog.Logger) server.TLSOptions {
	return server.TLSOptions{
		Address: l.Address, Certificate: l.Certificate, Key: l.Key, ClientCA: l.ClientCA,
		Allow: l.Allow, Peers: l.Peers, ReadOnly: l.ReadOnly, Log: log,
	}
}

// checkFiles reads the files that the configuration names.
func checkFiles(c config.Config) error {
	if l := c.Listen; l != nil {
		if _, err := credentials.Open(credentials.Files{Certificate: l.Certificate, Key: l.Key, CA: l.ClientCA}); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	for _, p := range c.Peers {
		if p.Server == "" {
			continue
		}
		if _, err := credentials.Open(peerFiles(p)); err != nil {
			return fmt.Errorf("peer %s: %w", p.Name, err)
		}
	}
	return nil
}

// condRemote tells whether other machines can reach the API. The dataplane does
// not depend on it.
const condRemote = "RemoteAPIReady"

// remote is the listener for other machines and how it has been.
type remote struct {
	*server.TLSListener

	mu   sync.Mutex
	cond v1.Condition
}

// condition looks how the listener is now.
func (r *remote) condition(now time.Time) v1.Condition {
	next := v1.Condition{Type: condRemote, Status: true, Reason: "Listening", Message: "other machines reach the API at https://" + r.Addr().String()}
	ends := r.CertificateEnds()
	switch err := r.Err(); {
	case err != nil:
		next.Status, next.Reason = false, "FilesUnusable"
		next.Message = err.Error() + "; what the files held before stays in use"
	case now.After(ends):
		next.Status, next.Reason = false, "CertificateExpired"
		next.Message = "the certificate ended at " + ends.UTC().Format(time.RFC3339) + ", so no client takes it: put a new one into its file, it is read at once"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next.Since = r.cond.Since
	if r.cond.Type == "" || r.cond.Status != next.Status {
		next.Since = now
	}
	r.cond = next
	return next
}

// remoteStatus adds the state of the listener for other machines, where there
// is one.
func (g *gateway) remoteStatus(s *v1.GatewayStatus) {
	if g.remote == nil {
		return
	}
	c := g.remote.condition(time.Now())
	if !c.Status && (s.Phase == v1.PhaseReady || s.Phase == v1.PhasePending) {
		s.Phase = v1.PhaseDegraded
	}
	s.Conditions = append(s.Conditions, c)
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/credentials"
	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/control/peers"
	"github.com/hnvgate/hnvgate/internal/config"
	"github.com/hnvgate/hnvgate/store"
)

// exchange reports what this machine learns to its peers, and takes over what
// others report to it. Closing it lets go of the peers' connections.
type exchange struct {
	*peers.Exchange
	clients []*client.Client
}

func newExchange(c config.Config, st *store.Store, log *slog.Logger) (*exchange, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name of this machine: %w", err)
	}
	x := &exchange{}
	o := peers.Options{Origin: origin(c.Instance, host), Store: st, Log: log.With("component", "peers")}
	for _, p := range c.Peers {
		remote, err := dial(p)
		if err != nil {
			return nil, err
		}
		x.clients = append(x.clients, remote)
		o.Peers = append(o.Peers, peers.Peer{Name: p.Name, Target: p.Server + p.Socket, Remote: remote})
	}
	x.Exchange, err = peers.New(o)
	return x, err
}

// origin names this machine among all: instances are told apart by it on one
// machine, machines by their host names.
func origin(instance, host string) string {
	return instance + "@" + strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-'
		}
		return r
	}, host[:min(len(host), 64)])
}

// dial gives a client of a peer. Nothing is opened yet.
func dial(p config.Peer) (*client.Client, error) {
	if p.Socket != "" {
		return client.New(p.Socket), nil
	}
	c, err := client.NewTLS(p.Server, peerFiles(p))
	if err != nil {
		return nil, fmt.Errorf("peer %s: %w", p.Name, err)
	}
	return c, nil
}

func peerFiles(p config.Peer) credentials.Files {
	return credentials.Files{Certificate: p.Certificate, Key: p.Key, CA: p.CA}
}

func (x *exchange) Close() error {
	for _, c := range x.clients {
		c.Close()
	}
	return nil
}

// HeldLearned and AcceptLearned make the gateway one that others report to.
func (g *gateway) HeldLearned(ctx context.Context, pas []netip.Addr) (v1.LearnedState, error) {
	return g.exchange.HeldLearned(ctx, pas)
}

func (g *gateway) AcceptLearned(ctx context.Context, r v1.LearnedReport) (v1.LearnedResult, error) {
	return g.exchange.AcceptLearned(ctx, r)
}

// peerStatus adds what was learned, and the state of the peers. One that cannot
// be told what it lacks degrades the gateway: traffic flows, but not from there to
// what was learned here.
func (g *gateway) peerStatus(s *v1.GatewayStatus) {
	learned := g.exchange.Learned()
	s.Learned, s.Peers = &learned, g.exchange.Peers()
	for _, p := range s.Peers {
		switch {
		case p.Phase == v1.PhaseDegraded && p.Pending > 0 && (s.Phase == v1.PhaseReady || s.Phase == v1.PhasePending):
			s.Phase = v1.PhaseDegraded
		case p.Phase == v1.PhasePending && s.Phase == v1.PhaseReady:
			s.Phase = v1.PhasePending
		}
	}
}

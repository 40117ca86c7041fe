//go:build linux

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/hnvgate/hnvgate/s2s"
)

// tunnels is the agent's part for site-to-site tunnels.
type tunnels struct{ engine *s2s.Engine }

func newTunnels(log *slog.Logger, turned func()) (tunnels, error) {
	e, err := s2s.New(s2s.Options{Log: log, OnTurn: turned})
	return tunnels{e}, err
}

func (t tunnels) spec(desired json.RawMessage) (s2s.Spec, error) {
	if desired == nil {
		return s2s.Spec{}, nil
	}
	return s2s.Decode(desired)
}

func (t tunnels) Check(desired json.RawMessage) error {
	s, err := t.spec(desired)
	if err != nil {
		return err
	}
	return s.Check()
}

func (t tunnels) Apply(ctx context.Context, desired json.RawMessage) error {
	s, err := t.spec(desired)
	if err != nil {
		return err
	}
	_, err = t.engine.Apply(ctx, s)
	return err
}

func (t tunnels) State() (json.RawMessage, error) { return json.Marshal(t.engine.Snapshot()) }

func (t tunnels) Handler() http.Handler { return nil }

func (t tunnels) Close(keep bool) error { return t.engine.Close(keep) }

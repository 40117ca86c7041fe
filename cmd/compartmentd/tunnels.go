//go:build linux

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"

	"github.com/hnvgate/hnvgate/s2s"
)

// tunnels is the agent's part for site-to-site tunnels.
type tunnels struct {
	engine *s2s.Engine
	limit  int64 // of the runtime's memory, as it was given
	// moved is told that other peers may be down than before; it has room for one.
	moved chan<- struct{}
}

// deviceBuffers is what one device of wireguard-go makes of buffers and tables, in bytes:
// three times 128 buffers of 64 KiB and a few, and 2 MiB for what it merges. Hardly any of
// it is ever touched, but the runtime counts it: with a limit for what is really used, it
// would do nothing but collect garbage from some fifteen tunnels on, and half of the time
// with 200 where the tables are left out.
const deviceBuffers = 3*130<<16 + 3<<20

func newTunnels(log *slog.Logger, turned func(), moved chan<- struct{}) (t tunnels, err error) {
	t = tunnels{limit: debug.SetMemoryLimit(-1), moved: moved}
	t.engine, err = s2s.New(s2s.Options{Log: log, OnTurn: func() {
		turned()
		t.say()
	}})
	return t, err
}

func (t tunnels) say() {
	select {
	case t.moved <- struct{}{}:
	default: // it will be looked at anyway
	}
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
	if t.limit < math.MaxInt64 {
		debug.SetMemoryLimit(t.limit + int64(len(s.Tunnels))*deviceBuffers)
	}
	_, err = t.engine.Apply(ctx, s)
	t.say()
	return err
}

func (t tunnels) State() (json.RawMessage, error) { return json.Marshal(t.engine.Snapshot()) }

func (t tunnels) Handler() http.Handler { return nil }

func (t tunnels) Close(keep bool) error { return t.engine.Close(keep) }

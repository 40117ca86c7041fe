//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
	"github.com/hnvgate/hnvgate/bgp/speaker"
	"github.com/hnvgate/hnvgate/internal/agentapi"
)

// routing is the agent's part for BGP: a speaker whose routes go to the
// compartment's main table.
type routing struct{ speaker *speaker.Speaker }

func newRouting(log *slog.Logger, turned func()) (routing, error) {
	fib, err := speaker.NewKernel("")
	if err != nil {
		return routing{}, err
	}
	s, err := speaker.New(context.Background(), speaker.Options{Log: log, FIB: fib, OnChange: turned})
	return routing{s}, err
}

// spec reads a bgp.Spec in JSON; nothing is a speaker that does nothing.
func (routing) spec(desired json.RawMessage) (*bgp.Spec, error) {
	if desired == nil {
		return nil, nil
	}
	var s bgp.Spec
	d := json.NewDecoder(bytes.NewReader(desired))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("bgp: %w", err)
	}
	return &s, nil
}

func (r routing) Check(desired json.RawMessage) error {
	s, err := r.spec(desired)
	if err != nil || s == nil {
		return err
	}
	return s.Check()
}

func (r routing) Apply(ctx context.Context, desired json.RawMessage) error {
	s, err := r.spec(desired)
	switch {
	case err != nil:
		return err
	case s == nil:
		return r.speaker.Idle()
	default:
		return r.speaker.Apply(ctx, *s)
	}
}

func (r routing) State() (json.RawMessage, error) {
	s, err := r.speaker.Snapshot(context.Background())
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

// Close ends the sessions. Where others take over at once, the neighbours must hear of
// it before the tunnels end: one that did not would hold on to a dead connection.
func (r routing) Close(keep bool) error {
	err := r.speaker.Close(keep)
	if keep {
		time.Sleep(farewell)
	}
	return err
}

// farewell is how long tunnels carry the ends of connections.
const farewell = 100 * time.Millisecond

// Handler serves tables and resets:
//
//	GET  routes, received/PEER, advertised/PEER  ?within=PREFIX&best=BOOL&limit=N
//	POST soft-reset/PEER                         ?in=BOOL&out=BOOL; neither is both
func (r routing) Handler() http.Handler {
	m := http.NewServeMux()
	table := func(paths func(peer string, f speaker.Filter) ([]bgp.Path, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			f, err := filter(q)
			if err != nil {
				answer(w, http.StatusBadRequest, agentapi.Error{Message: err.Error()})
				return
			}
			list, err := paths(q.PathValue("peer"), f)
			reply(w, list, err)
		}
	}
	m.HandleFunc("GET /routes", table(func(_ string, f speaker.Filter) ([]bgp.Path, error) { return r.speaker.Routes(f) }))
	m.HandleFunc("GET /received/{peer}", table(r.speaker.Received))
	m.HandleFunc("GET /advertised/{peer}", table(r.speaker.Advertised))
	m.HandleFunc("POST /soft-reset/{peer}", func(w http.ResponseWriter, q *http.Request) {
		in, out := q.FormValue("in") == "true", q.FormValue("out") == "true"
		reply(w, struct{}{}, r.speaker.SoftReset(q.Context(), q.PathValue("peer"), in, out))
	})
	return m
}

// maxPaths bounds an answer: who asks for more gets so many.
const maxPaths = 50_000

func filter(q *http.Request) (f speaker.Filter, err error) {
	f.Limit = maxPaths
	if v := q.FormValue("within"); v != "" {
		if f.Within, err = netip.ParsePrefix(v); err != nil {
			return f, fmt.Errorf("within: %w", err)
		}
	}
	if v := q.FormValue("best"); v != "" {
		if f.Best, err = strconv.ParseBool(v); err != nil {
			return f, fmt.Errorf("best: %w", err)
		}
	}
	if v := q.FormValue("limit"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return f, fmt.Errorf("limit: %w", err)
		}
		if n > 0 {
			f.Limit = min(int(n), maxPaths)
		}
	}
	return f, nil
}

func reply(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, speaker.ErrNoPeer):
		answer(w, http.StatusNotFound, agentapi.Error{Message: err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, agentapi.Error{Message: err.Error()})
	default:
		answer(w, http.StatusOK, v)
	}
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the asker may be gone
}

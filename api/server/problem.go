package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
	"github.com/hnvgate/hnvgate/hnv"
)

// refusal is one thing that is wrong and its place in the request.
type refusal struct {
	at   string // "body.tenants[0].encap"; may be empty
	item string // place of the object, "body.tenants[0]"; may be empty
	err  error
}

// kinds of refusal, the one that decides the answer's status first.
var kinds = []struct {
	err    error
	status int
	urn    string
}{
	{hnv.ErrInvalid, http.StatusUnprocessableEntity, v1.ProblemInvalid},
	{hnv.ErrConflict, http.StatusConflict, v1.ProblemConflict},
	{hnv.ErrInUse, http.StatusConflict, v1.ProblemInUse},
	{hnv.ErrNotFound, http.StatusNotFound, v1.ProblemNotFound},
	{errChanged, http.StatusPreconditionFailed, v1.ProblemPrecondition},
}

// errChanged is the kind of refusals of conditional writes.
var errChanged = errors.New("changed meanwhile")

// problem makes the answer to refusals. It is a failure of the gateway where
// one of them is of no kind that a caller could have caused.
func (s *Server) problem(refusals []refusal) error {
	best := len(kinds)
	for _, r := range refusals {
		i := 0
		for i < len(kinds) && !errors.Is(r.err, kinds[i].err) {
			i++
		}
		if i == len(kinds) {
			return s.unavailable(r.err)
		}
		best = min(best, i)
	}
	m := &huma.ErrorModel{Type: kinds[best].urn, Title: http.StatusText(kinds[best].status), Status: kinds[best].status}
	for _, r := range refusals {
		if len(m.Errors) == maxRefusals {
			break
		}
		m.Errors = append(m.Errors, &huma.ErrorDetail{Message: r.err.Error(), Location: r.at})
	}
	if len(refusals) == 1 {
		m.Detail = refusals[0].err.Error()
	} else {
		m.Detail = fmt.Sprintf("%d things are wrong, nothing was changed", len(refusals))
	}
	return m
}

// maxRefusals bounds an answer: nobody reads more.
const maxRefusals = 200

func (s *Server) unavailable(err error) error {
	status := http.StatusServiceUnavailable
	if errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
		err = fmt.Errorf("the gateway did not finish in time: %w", err)
	}
	s.log.Error("request failed", "error", err)
	return &huma.ErrorModel{Type: v1.ProblemUnavailable, Title: http.StatusText(status), Status: status, Detail: err.Error()}
}

// refuse is problem for errors without a place.
func (s *Server) refuse(err error) error {
	var out []refusal
	for _, e := range flatten(err) {
		out = append(out, refusal{err: e})
	}
	return s.problem(out)
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

// tidy brings the errors that huma makes itself, about parameters and bodies,
// into the form of ours.
func tidy(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok || m.Type != "" {
		return v, nil
	}
	m.Type = v1.ProblemRequest
	if m.Status >= 500 {
		m.Type = v1.ProblemUnavailable
	}
	if m.Status == http.StatusUnprocessableEntity {
		m.Type = v1.ProblemInvalid
	}
	for _, e := range m.Errors {
		e.Value = nil // it can be the whole body
		if e.Location != "" && e.Location != "body" {
			e.Message = e.Location + ": " + e.Message
		}
	}
	if len(m.Errors) == 1 {
		m.Detail = m.Errors[0].Message
	}
	return m, nil
}

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// guard bounds every request in time, keeps a panic to the request that made
// it, and logs what changed something.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := requestTimeout
		switch {
		case isBulk(r):
			limit = bulkTimeout
		case r.URL.Path == capturesPath:
			limit = v1.MaxCaptureSeconds*time.Second + requestTimeout
		}
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				if !rec.wrote {
					writeProblem(rec, http.StatusInternalServerError, v1.ProblemUnavailable, "the gateway failed at this request; its log says more")
				}
			}
			level := slog.LevelInfo
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				level = slog.LevelDebug
			}
			log := s.log
			if who := caller(r.Context()); who != "" {
				log = log.With("client", who)
			}
			log.Log(r.Context(), level, "request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "took", time.Since(start))
		}()
		next.ServeHTTP(rec, r.WithContext(ctx))
	})
}

func isBulk(r *http.Request) bool {
	switch r.URL.Path {
	case "/v1/apply", "/v1/export", "/v1/lookup-records/import", "/v1/lookup-records":
		return true
	}
	return r.Method == http.MethodDelete && strings.HasPrefix(r.URL.Path, "/v1/tenants/")
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
	wrote  bool
}

func (r *recorder) WriteHeader(status int) {
	r.status, r.wrote = status, true
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = true
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// unknown answers requests that no operation takes.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		if _, pattern := s.mux.Handler(probe); pattern != "/" {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		writeProblem(w, http.StatusNotFound, v1.ProblemRequest, fmt.Sprintf("%s is no resource of this interface: GET /v1/openapi.yaml lists them", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeProblem(w, http.StatusMethodNotAllowed, v1.ProblemRequest, fmt.Sprintf("%s takes no %s: use %s", r.URL.Path, r.Method, strings.Join(allow, ", ")))
}

func writeProblem(w http.ResponseWriter, status int, urn, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	writeProblemBody(w, status, urn, detail)
}

func writeProblemBody(w io.Writer, status int, urn, detail string) {
	_ = json.NewEncoder(w).Encode(&huma.ErrorModel{Type: urn, Title: http.StatusText(status), Status: status, Detail: detail})
}

// plainJSONError says what encoding/json says in words for a person.
func plainJSONError(b []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(b[:min(int(syntax.Offset), len(b))], []byte("\n"))
		return fmt.Errorf("line %d of the body is not JSON: %w", line, err)
	case errors.As(err, &kind):
		return fmt.Errorf("field %s cannot be a %s: it is %s", kind.Field, kind.Value, wanted(kind.Type.String()))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the body ends in the middle of the JSON value")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

func wanted(goType string) string {
	switch {
	case strings.HasPrefix(goType, "uint"), strings.HasPrefix(goType, "int"):
		return "a whole number (" + goType + ")"
	case goType == "string":
		return "a string"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "an object"
}

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/net/netutil"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// The bounds of a request.
const (
	maxBody        = 1 << 20  // of one object
	maxDocument    = 16 << 20 // of POST /v1/apply
	maxImport      = 64 << 20 // of POST /v1/lookup-records/import
	requestTimeout = 30 * time.Second
	bulkTimeout    = 5 * time.Minute // apply, import, export, deletion with cascade
	maxConnections = 256
)

// Server answers the requests.
type Server struct {
	store   Store
	backend Backend
	secrets Secrets
	log     *slog.Logger
	api     huma.API
	mux     *http.ServeMux
	order   recordOrder

	ending context.Context // ends when no more requests are taken
	end    context.CancelFunc
	grace  time.Duration // what is under way when Serve ends has so long
}

// New gives a server of the desired state and the gateway at work. secrets may be
// nil: objects that have secrets are refused then. log may be nil: slog.Default.
func New(store Store, backend Backend, secrets Secrets, log *slog.Logger) *Server {
	if log == nil {
		log = slog.Default()
	}
	if secrets == nil {
		secrets = noSecrets{}
	}
	s := &Server{store: store, backend: backend, secrets: secrets, log: log.With("component", "api"), mux: http.NewServeMux(), grace: 5 * time.Second}
	s.ending, s.end = context.WithCancel(context.Background())
	s.api = humago.New(s.mux, config())
	s.registerTenants()
	s.registerACLs()
	s.registerRecords()
	s.registerLearned()
	s.registerRoutes()
	s.registerProvider()
	s.registerPorts()
	s.registerNAT()
	s.registerForwarding()
	s.registerS2S()
	s.registerBGP()
	s.registerDocuments()
	s.registerStatus()
	s.registerDiagnostics()
	s.registerSites()
	s.mux.HandleFunc("/", s.unknown)
	return s
}

func config() huma.Config {
	c := huma.DefaultConfig("hnvgate", v1.APIVersion)
	c.Info.Description = "Desired state and status of a multi-tenant network virtualization gateway. " +
		"Every refusal is a problem document (RFC 9457) that says what is wrong and what to do, and changes nothing. " +
		"Unknown fields and query parameters are refused."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.OpenAPIPath = "/v1/openapi"
	c.DocsPath, c.SchemasPath, c.CreateHooks = "", "", nil
	c.Formats = map[string]huma.Format{
		"application/json": {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: strict},
		"json":             {Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: strict},
	}
	c.NoFormatFallback = false
	c.RejectUnknownQueryParameters = true
	c.Transformers = []huma.Transformer{tidy}
	return c
}

// OpenAPI gives the interface's description as YAML.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

// strict decodes a body and forgives nothing: a field misspelt is a wish not
// fulfilled.
func strict(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return plainJSONError(b, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the JSON value")
	}
	return nil
}

// Handler gives the interface for any HTTP server; Serve is the usual one.
func (s *Server) Handler() http.Handler { return s.guard(s.mux) }

// Serve answers on the listener until ctx ends, then lets what is under way
// finish for a moment. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, s.httpServer(s.Handler()), netutil.LimitListener(l, maxConnections))
}

// httpServer bounds what one connection may take.
func (s *Server) httpServer(h http.Handler) *http.Server {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second, // and the TLS handshake
		ReadTimeout:       bulkTimeout,
		WriteTimeout:      bulkTimeout + requestTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	srv.RegisterOnShutdown(s.end)
	return srv
}

func (s *Server) serve(ctx context.Context, srv *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	<-done //nolint:errcheck // it says that it was shut down
	return nil
}

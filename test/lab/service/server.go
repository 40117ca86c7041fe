package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// The ports of the services, on every machine that runs them.
const (
	HTTPPort   = 80
	EchoPort   = 7
	StreamPort = 9000
)

// Identity is what a server says of itself and of its client.
type Identity struct {
	Name string `json:"name"` // the server's machine
	Peer string `json:"peer"` // the client's address and port as the server saw them
}

// Servers are the servers of a machine, listening.
type Servers struct {
	web, stream  net.Listener
	echo4, echo6 *net.UDPConn
}

// Listen opens the servers' ports on every address.
func Listen() (_ *Servers, err error) {
	s := &Servers{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	on := func(port int) string { return ":" + strconv.Itoa(port) }
	if s.web, err = net.Listen("tcp", on(HTTPPort)); err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	if s.stream, err = net.Listen("tcp", on(StreamPort)); err != nil {
		return nil, fmt.Errorf("serve streams: %w", err)
	}
	if s.echo4, err = listenEcho("udp4", on(EchoPort)); err != nil {
		return nil, err
	}
	if s.echo6, err = listenEcho("udp6", on(EchoPort)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Servers) close() {
	for _, l := range []net.Listener{s.web, s.stream} {
		if l != nil {
			_ = l.Close()
		}
	}
	for _, c := range []*net.UDPConn{s.echo4, s.echo6} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Serve answers under the name until ctx ends.
func (s *Servers) Serve(ctx context.Context, name string) error {
	g, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: handler(name), ReadHeaderTimeout: time.Minute}
	g.Go(func() error { return unlessDone(ctx, server.Serve(s.web)) })
	for _, c := range []*net.UDPConn{s.echo4, s.echo6} {
		g.Go(func() error { return unlessDone(ctx, serveEcho(c, name)) })
	}
	g.Go(func() error { return unlessDone(ctx, serveStreams(ctx, s.stream, name)) })
	g.Go(func() error {
		<-ctx.Done()
		_ = server.Close()
		s.close()
		return nil
	})
	return g.Wait()
}

// unlessDone forgives the error that ending a server brings about.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// handler answers / with the server's Identity, and /bytes/N with N bytes.
func handler(name string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Identity{name, r.RemoteAddr})
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "the number of bytes is malformed", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, &pattern{}, n)
	})
	return mux
}

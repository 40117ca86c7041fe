package service

import (
	"context"
	"encoding/json"
	"errors"
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

// Servers are the three servers of a machine, listening.
type Servers struct {
	web, stream net.Listener
	echo        net.PacketConn
}

// Listen opens the servers' ports on the address; "" is every address.
func Listen(addr string) (*Servers, error) {
	on := func(port int) string { return net.JoinHostPort(addr, strconv.Itoa(port)) }
	web, err := net.Listen("tcp", on(HTTPPort))
	if err != nil {
		return nil, fmt.Errorf("serve HTTP: %w", err)
	}
	echo, err := net.ListenPacket("udp", on(EchoPort))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve UDP echo: %w", err), web.Close())
	}
	stream, err := net.Listen("tcp", on(StreamPort))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serve streams: %w", err), web.Close(), echo.Close())
	}
	return &Servers{web, stream, echo}, nil
}

// Serve answers under the name until ctx ends.
func (s *Servers) Serve(ctx context.Context, name string) error {
	g, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: handler(name), ReadHeaderTimeout: time.Minute}
	g.Go(func() error { return unlessDone(ctx, server.Serve(s.web)) })
	g.Go(func() error { return unlessDone(ctx, serveEcho(s.echo, name)) })
	g.Go(func() error { return unlessDone(ctx, serveStreams(ctx, s.stream, name)) })
	g.Go(func() error {
		<-ctx.Done()
		_ = server.Close()
		_ = s.echo.Close()
		_ = s.stream.Close()
		return nil
	})
	return g.Wait()
}

func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
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

// serveEcho answers a datagram with a line of Identity and the datagram.
func serveEcho(c net.PacketConn, name string) error {
	buf := make([]byte, 1<<16)
	for {
		n, peer, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		head, err := json.Marshal(Identity{name, peer.String()})
		if err != nil {
			return err
		}
		// A peer that is gone is no reason to stop.
		_, _ = c.WriteTo(append(append(head, '\n'), buf[:n]...), peer)
	}
}

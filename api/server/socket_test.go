package server_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// shortDir is one whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hnv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "run", "gatewayd.sock")
	l, err := server.Listen(server.SocketOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if a := l.Addr(); a.Network() != "unix" || a.String() != path {
		t.Errorf("listens at %s %s, want %s", a.Network(), a, path)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode %v, want 0660", fi.Mode())
	}
	if _, err := server.Listen(server.SocketOptions{Path: path}); err == nil || !strings.Contains(err.Error(), "another gatewayd serves it") {
		t.Errorf("a second server: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close() // as a killed process leaves it
	l, err := server.Listen(server.SocketOptions{Path: path, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestSocketLeavesOthersAlone(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Listen(server.SocketOptions{Path: file}); err == nil || !strings.Contains(err.Error(), "something else at that path") {
		t.Errorf("on a file: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}

	// A server that closes late must not take its successor's socket along.
	path := filepath.Join(dir, "s")
	first, err := server.Listen(server.SocketOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := server.Listen(server.SocketOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket: %v", err)
	}

	for _, bad := range []string{"relative.sock", "/" + strings.Repeat("x", 200)} {
		if _, err := server.Listen(server.SocketOptions{Path: bad}); err == nil || !strings.Contains(err.Error(), "absolute path") {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
}

func TestSocketGroup(t *testing.T) {
	dir := shortDir(t)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	l, err := server.Listen(server.SocketOptions{Path: filepath.Join(dir, "s"), Owner: strconv.Itoa(os.Getuid()), Group: u.Gid})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for _, o := range []server.SocketOptions{{Owner: "no-such-user"}, {Group: "no-such-group"}} {
		o.Path = filepath.Join(dir, "t")
		if _, err := server.Listen(o); err == nil || !strings.Contains(err.Error(), "no-such-") {
			t.Errorf("%+v: %v", o, err)
		}
		if _, err := os.Lstat(o.Path); !os.IsNotExist(err) {
			t.Errorf("%+v left something behind", o)
		}
	}
}

func TestServe(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := server.Listen(server.SocketOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	store := servertest.NewStore(site)
	s := server.New(store, &servertest.Backend{Store: store}, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()

	c := client.New(path)
	defer c.Close()
	if v, err := c.Version(t.Context()); err != nil || v.API != v1.APIVersion {
		t.Errorf("%+v, %v", v, err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve does not end")
	}
	if _, err := c.Version(t.Context()); err == nil {
		t.Error("it still answers")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

//go:build linux

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hnvgate/hnvgate/internal/agentapi"
)

// errNotThere: nobody listens on the socket.
var errNotThere = errors.New("no agent answers")

// client speaks to one agent's socket.
type client struct {
	socket string
	http   *http.Client
}

func newClient(socket string) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &client{socket: socket, http: &http.Client{Timeout: time.Minute,
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}}}
}

// peer gives the process that listens on the socket.
func (c *client) peer(ctx context.Context) (pid int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

func (c *client) put(ctx context.Context, d agentapi.Desired) (st agentapi.State, err error) {
	b, err := json.Marshal(d)
	if err != nil {
		return st, err
	}
	return st, c.do(ctx, http.MethodPut, "/v1/desired", b, &st)
}

func (c *client) state(ctx context.Context) (st agentapi.State, err error) {
	return st, c.do(ctx, http.MethodGet, "/v1/state", nil, &st)
}

// end has the agent remove what it made, and exit.
func (c *client) end(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/v1/agent?keep=false", nil, nil)
}

func (c *client) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return errNotThere
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, agentapi.MaxBody))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		var e agentapi.Error
		if json.Unmarshal(b, &e) != nil || e.Message == "" {
			e.Message = fmt.Sprintf("it answers with status %d", resp.StatusCode)
		}
		if resp.StatusCode == http.StatusNotFound {
			return fmt.Errorf("%s: %w", e.Message, ErrNotThere)
		}
		return errors.New(e.Message)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(b, into)
}

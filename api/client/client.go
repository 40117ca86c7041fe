package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// DefaultSocket is where gatewayd serves unless configured otherwise.
const DefaultSocket = "/run/hnvgate/gatewayd.sock"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 30

// Client talks to one gateway. It may be used from several goroutines.
type Client struct {
	http   *http.Client
	base   string // "http://host" in front of every path
	target string // for people
}

// New gives a client of the gateway behind a unix socket. Nothing is opened yet.
func New(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{
		http:   &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute}},
		base:   "http://gatewayd",
		target: socket,
	}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Unreachable tells that no gateway answered.
type Unreachable struct {
	Target string // socket or URL
	Err    error
}

func (e *Unreachable) Error() string {
	if Distrust(e.Err) {
		return fmt.Sprintf("the gateway at %s and this client do not take each other's certificates: %v", e.Target, e.Err)
	}
	return fmt.Sprintf("no gateway answers at %s: %v", e.Target, e.Err)
}
func (e *Unreachable) Unwrap() error { return e.Err }

// path joins the segments of a path, escaping each.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// call makes a request. in is sent as JSON unless nil; out is filled unless nil.
func (c *Client) call(ctx context.Context, method, path string, header http.Header, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, &Unreachable{c.target, op.Err}
		}
		var request *url.Error
		if Distrust(err) && errors.As(err, &request) {
			err = request.Err
		}
		return nil, &Unreachable{c.target, err}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the gateway's answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		return nil, problem(resp, b)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return nil, fmt.Errorf("the gateway's answer to %s %s is not understood: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

func problem(resp *http.Response, body []byte) error {
	p := &v1.Problem{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(body, p) != nil || p.Detail == "" {
		return &v1.Problem{Type: v1.ProblemUnavailable, Status: resp.StatusCode, Detail: fmt.Sprintf("the gateway answered %s", resp.Status)}
	}
	return p
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	_, err := c.call(ctx, http.MethodGet, path, nil, nil, &out)
	return out, err
}

// read is get with the object's ETag.
func read[T any](ctx context.Context, c *Client, path string) (v T, etag string, err error) {
	h, err := c.call(ctx, http.MethodGet, path, nil, nil, &v)
	return v, h.Get("ETag"), err
}

func send[T any](ctx context.Context, c *Client, method, path string, in any, opts ...Option) (T, error) {
	var out T
	_, err := c.call(ctx, method, path, headers(opts), in, &out)
	return out, err
}

func (c *Client) remove(ctx context.Context, path string, opts []Option) error {
	_, err := c.call(ctx, http.MethodDelete, path, headers(opts), nil, nil)
	return err
}

// with appends the query's parameters that are not empty.
func with(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return ""
}

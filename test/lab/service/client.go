package service

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
)

// Get fetches the Identity of the web server at the address. Every call uses a
// new connection; from may be empty, or the local port to use.
func Get(ctx context.Context, addr, from string) (Identity, error) {
	body, err := get(ctx, addr, from, "/")
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := json.Unmarshal(body, &id); err != nil {
		return Identity{}, fmt.Errorf("get http://%s/: %w", addr, err)
	}
	return id, nil
}

// Fetch downloads n bytes from the web server at the address and checks them.
func Fetch(ctx context.Context, addr string, n int64) error {
	body, err := get(ctx, addr, "", fmt.Sprintf("/bytes/%d", n))
	if err != nil {
		return err
	}
	var got int64
	if err := receive(bytes.NewReader(body), func(k int) { got += int64(k) }); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("got %d bytes of %d", got, n)
	}
	return nil
}

func get(ctx context.Context, addr, from, path string) ([]byte, error) {
	var d net.Dialer
	if from != "" {
		local, err := net.ResolveTCPAddr("tcp", ":"+from)
		if err != nil {
			return nil, fmt.Errorf("local port: %w", err)
		}
		d.LocalAddr = local
	}
	client := http.Client{Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get http://%s%s: %s", addr, path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// Echo sends a datagram of the size to the echo server until one comes back
// whole, and gives the server's Identity.
func Echo(ctx context.Context, addr, from string, size int) (Identity, error) {
	var d net.Dialer
	if from != "" {
		local, err := net.ResolveUDPAddr("udp", ":"+from)
		if err != nil {
			return Identity{}, fmt.Errorf("local port: %w", err)
		}
		d.LocalAddr = local
	}
	c, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		return Identity{}, err
	}
	defer c.Close()
	out := make([]byte, size)
	_, _ = (&pattern{}).Read(out)
	in := make([]byte, 1<<16)
	var last error
	for ctx.Err() == nil {
		if _, err := c.Write(out); err != nil {
			last = err // an ICMP error of the datagram before
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			return Identity{}, err
		}
		n, err := c.Read(in)
		if err != nil {
			last = err
			continue
		}
		head, data, ok := bytes.Cut(in[:n], []byte("\n"))
		if !ok || !bytes.Equal(data, out) {
			return Identity{}, fmt.Errorf("echo from %s: the datagram came back changed", addr)
		}
		var id Identity
		if err := json.Unmarshal(head, &id); err != nil {
			return Identity{}, fmt.Errorf("echo from %s: %w", addr, err)
		}
		return id, nil
	}
	return Identity{}, fmt.Errorf("no echo from %s: %w", addr, errors.Join(context.Cause(ctx), last))
}

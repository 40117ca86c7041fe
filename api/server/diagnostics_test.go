package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/api/client"
	"github.com/hnvgate/hnvgate/api/server"
	"github.com/hnvgate/hnvgate/api/server/servertest"
	v1 "github.com/hnvgate/hnvgate/api/v1"
)

func TestDiagnosticsAnswer(t *testing.T) {
	g := newGateway(t)
	g.must("POST", "/v1/provider-addresses", `{"address":"192.168.1.1/16","interface":"eth1"}`, 201)
	g.must("POST", "/v1/tenants", contoso, 201)
	for _, r := range []string{`{"vsid":5001,"ca":"10.1.1.11","mac":"00:15:5d:00:00:01","pa":"192.168.1.10"}`, `{"vsid":5001,"ca":"10.1.1.12","mac":"00:15:5d:00:00:02","pa":"192.168.2.10"}`} {
		g.must("POST", "/v1/lookup-records", r, 201)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"GET", "/v1/next-hop?vsid=5001&srcCA=10.1.1.11&dstCA=10.1.1.12", "", 200, `"dstPAs":["192.168.2.10"]`},
		{"GET", "/v1/next-hop?vsid=5001&srcCA=10.1.1.11&dstCA=10.1.1.99", "", 200, `"dstPAs":[]`},
		{"GET", "/v1/next-hop?vsid=5001&srcCA=10.1.1.99&dstCA=10.1.1.12", "", 404, "no lookup record"},
		{"GET", "/v1/next-hop?vsid=5001&srcCA=10.1.1.11", "", 422, "dstCA"},
		{"POST", "/v1/ping", `{"vsid":5001,"srcCA":"10.1.1.11","dstCA":"10.1.1.12","seq":2}`, 200, `"rttNanoseconds":2500000`},
		{"POST", "/v1/ping", `{"vsid":5001,"srcCA":"10.1.1.11","dstCA":"10.1.1.12","sequence":2}`, 422, "sequence"},
		{"POST", "/v1/provider-ping", `{"to":"192.168.2.10"}`, 200, `"outcome":"reply"`},
		{"POST", "/v1/trace", `{"port":"vm1","frame":"AQID"}`, 200, `"frame":"AQID"`},
		{"POST", "/v1/trace", `{"packet":{"vsid":5001,"srcCA":"10.1.1.11","dstCA":"10.1.1.12","proto":"tcp","dstPort":22}}`, 200, `"outputs":[]`},
		{"GET", "/v1/compartments/contoso/inspection?flows=0", "", 200, `"flows":[]`},
		{"GET", "/v1/ports/vm1/inspection", "", 404, "vm1"},
		{"GET", "/v1/compartments/contoso/inspection?flows=10001", "", 422, "flows"},
		{"GET", "/v1/captures", "", 405, "POST"},
		{"POST", "/v1/captures", `{"reason":"no-such"}`, 422, "docs/drop-reasons.md"},
		{"POST", "/v1/captures", `{"reason":"no-buffer"}`, 503, "too many captures"},
	} {
		if r := g.call(c.method, c.path, c.body); r.code != c.code || !strings.Contains(string(r.body), c.says) {
			t.Errorf("%s %s %s: %d %s, want %d with %q", c.method, c.path, c.body, r.code, r.body, c.code, c.says)
		}
	}
	if r := g.call("POST", "/v1/captures", `{}`); r.code != 200 || r.header.Get("Content-Type") != "application/x-pcapng" || !bytes.HasPrefix(r.body, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		t.Errorf("%d %v %x", r.code, r.header, r.body)
	}
}

// streaming is a Backend whose captures do what the test says.
type streaming struct {
	servertest.Backend
	run func(ctx context.Context, w io.Writer) error
}

func (s *streaming) Capture(v1.CaptureRequest) (func(context.Context, io.Writer) error, error) {
	return s.run, nil
}

// captureFrom serves captures and reads one; serving ends with what it gives.
func captureFrom(t *testing.T, run func(ctx context.Context, w io.Writer) error) (c *client.Client, stop func()) {
	t.Helper()
	st := servertest.NewStore(site)
	s := server.New(st, &streaming{servertest.Backend{Store: st}, run}, nil, slog.New(slog.DiscardHandler))
	s.SetGrace(time.Hour) // what goes on when the server ends holds the test up
	var lc net.ListenConfig
	path := filepath.Join(t.TempDir(), "s")
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	c = client.New(path)
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(func() { c.Close(); stop() })
	return c, stop
}

// block is one of a pcapng file; packets have the type 6.
func block(typ uint32, body ...byte) []byte {
	n := uint32(12 + len(body))
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, typ), n)
	return binary.LittleEndian.AppendUint32(append(b, body...), n)
}

// blocks is the beginning of a capture: a section, an interface and n packets.
func blocks(w io.Writer, n int) error {
	all := [][]byte{block(0x0a0d0d0a, make([]byte, 16)...), block(1, make([]byte, 8)...)}
	for range n {
		all = append(all, block(6, make([]byte, 24)...))
	}
	_, err := w.Write(bytes.Join(all, nil))
	return err
}

// A client gets each packet when it comes, and is told when the rest will not.
func TestCaptureIsStreamed(t *testing.T) {
	more := make(chan struct{})
	c, _ := captureFrom(t, func(_ context.Context, w io.Writer) error {
		if err := blocks(w, 2); err != nil {
			return err
		}
		<-more
		return nil
	})
	r, w := io.Pipe()
	type result struct {
		n   uint64
		err error
	}
	ended := make(chan result, 1)
	go func() {
		n, err := c.Capture(t.Context(), v1.CaptureRequest{}, w)
		_ = w.Close()
		ended <- result{n, err}
	}()
	if _, err := io.ReadFull(r, make([]byte, 28+20+2*36)); err != nil { // before the capture is over
		t.Fatal(err)
	}
	close(more)
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("%d bytes more, %v", len(rest), err)
	}
	if e := <-ended; e.n != 2 || e.err != nil {
		t.Errorf("%+v", e)
	}
}

func TestCaptureThatBreaksOff(t *testing.T) {
	for name, run := range map[string]func(ctx context.Context, w io.Writer) error{
		"failure": func(_ context.Context, w io.Writer) error {
			return errors.Join(blocks(w, 1), errors.New("the disk is full"))
		},
		"half a block": func(_ context.Context, w io.Writer) error {
			_ = blocks(w, 1)
			_, err := w.Write([]byte{6, 0, 0, 0, 200, 0, 0, 0, 1})
			return err
		},
	} {
		c, _ := captureFrom(t, run)
		var file bytes.Buffer
		n, err := c.Capture(t.Context(), v1.CaptureRequest{}, &file)
		if err == nil || !strings.Contains(err.Error(), "broke off") || n != 1 {
			t.Errorf("%s: %d packets, %v", name, n, err)
		}
		if file.Len() != 28+20+36 { // what is there is whole
			t.Errorf("%s: %d bytes", name, file.Len())
		}
	}
	c, _ := captureFrom(t, func(context.Context, io.Writer) error { return errors.New("there are too many") })
	var p *v1.Problem
	if _, err := c.Capture(t.Context(), v1.CaptureRequest{}, io.Discard); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable || p.Detail != "there are too many" {
		t.Errorf("%v", err)
	}
}

// A capture ends when its client goes, and does not keep the server from ending.
func TestCaptureEndsWithClientAndServer(t *testing.T) {
	begun, over := make(chan struct{}, 2), make(chan struct{}, 2)
	c, stop := captureFrom(t, func(ctx context.Context, w io.Writer) error {
		err := blocks(w, 1)
		begun <- struct{}{}
		<-ctx.Done()
		over <- struct{}{}
		return err
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := c.Capture(ctx, v1.CaptureRequest{Seconds: 3600}, io.Discard)
		ended <- err
	}()
	<-begun
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("an interrupt: %v", err)
	}
	<-over
	go func() {
		_, err := c.Capture(context.Background(), v1.CaptureRequest{Seconds: 3600}, io.Discard)
		ended <- err
	}()
	<-begun
	stop()
	<-over
	<-ended
}

// The answers are those that the client's types say.
func TestDiagnosticsKeepTheirForm(t *testing.T) {
	g := newGateway(t)
	r := g.must("POST", "/v1/trace", `{"packet":{"vsid":5001,"srcCA":"10.1.1.11","dstCA":"10.1.1.12","proto":"tcp","dstPort":443}}`, 200)
	var trace v1.Trace
	d := json.NewDecoder(bytes.NewReader(r.body))
	if err := d.Decode(&trace); err != nil || trace.Verdict != "sent" || len(trace.Steps) != 4 || len(trace.Outputs) != 1 {
		t.Errorf("%+v, %v", trace, err)
	}
}

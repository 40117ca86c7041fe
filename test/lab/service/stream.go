package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Direction says who sends in a stream, seen from the client.
type Direction string

// The directions.
const (
	Down Direction = "down"
	Up   Direction = "up"
)

// StreamRequest is the first line a client sends, in JSON.
type StreamRequest struct {
	Direction Direction `json:"direction"`
	Bytes     int64     `json:"bytes"`
	Rate      int64     `json:"rate"` // bytes a second; 0: as fast as it goes
}

// StreamReport is how far a stream has come. Bytes count only once every one
// of them was checked against the pattern by the receiver.
type StreamReport struct {
	Identity
	Bytes    int64         `json:"bytes"`
	Elapsed  time.Duration `json:"elapsed"`
	Longest  time.Duration `json:"longest"` // the longest time without a byte
	Complete bool          `json:"complete"`
	Error    string        `json:"error,omitempty"`
}

// pattern is an endless reader of numbered 8-byte words: a byte lost, doubled
// or moved shows.
type pattern struct{ n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	var word [8]byte
	for i := range b {
		if i == 0 || p.n%8 == 0 {
			// Spread the number over all bytes, so that words differ everywhere.
			binary.BigEndian.PutUint64(word[:], uint64(p.n/8)*0x9e3779b97f4a7c15)
		}
		b[i] = word[p.n%8]
		p.n++
	}
	return len(b), nil
}

// send writes n bytes of pattern at the rate.
func send(w io.Writer, n, rate int64) error {
	const slice = 20 * time.Millisecond
	src := &pattern{}
	if rate == 0 {
		_, err := io.CopyN(w, src, n)
		return err
	}
	begin := time.Now()
	for src.n < n {
		due := min(n, int64(float64(rate)*(time.Since(begin)+slice).Seconds()))
		if _, err := io.CopyN(w, src, due-src.n); err != nil {
			return err
		}
		time.Sleep(slice)
	}
	return nil
}

// receive reads to the end and checks every byte; progress is called for each
// piece that was right.
func receive(r io.Reader, progress func(n int)) error {
	want := &pattern{}
	buf, ref := make([]byte, 1<<16), make([]byte, 1<<16)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_, _ = want.Read(ref[:n])
			if !bytes.Equal(buf[:n], ref[:n]) {
				return fmt.Errorf("wrong byte between offset %d and %d", want.n-int64(n), want.n)
			}
			progress(n)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// meter measures a stream as it goes.
type meter struct {
	mu     sync.Mutex
	report StreamReport
	begin  time.Time
	last   time.Time
}

func newMeter(id Identity) *meter {
	now := time.Now()
	return &meter{report: StreamReport{Identity: id}, begin: now, last: now}
}

func (m *meter) add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.report.Bytes += int64(n)
	m.report.Longest = max(m.report.Longest, now.Sub(m.last))
	m.last = now
}

func (m *meter) now() StreamReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.report
	r.Elapsed = time.Since(m.begin)
	r.Longest = max(r.Longest, time.Since(m.last))
	return r
}

func (m *meter) finish(want int64, err error) StreamReport {
	r := m.now()
	switch {
	case err != nil:
		r.Error = err.Error()
	case r.Bytes != want:
		r.Error = fmt.Sprintf("the stream ended after %d bytes of %d", r.Bytes, want)
	default:
		r.Complete = true
	}
	return r
}

func serveStreams(ctx context.Context, l net.Listener, name string) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			// What goes wrong shows at the client: the connection just ends.
			_ = serveStream(c, name)
		})
	}
}

// serveStream answers the request with a line of Identity, then carries it
// out; after receiving it sends a line of StreamReport.
func serveStream(c net.Conn, name string) error {
	r := bufio.NewReader(c)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	var req StreamRequest
	if err := json.Unmarshal(line, &req); err != nil {
		return err
	}
	id := Identity{name, c.RemoteAddr().String()}
	enc := json.NewEncoder(c)
	if err := enc.Encode(id); err != nil {
		return err
	}
	if req.Direction == Down {
		return send(c, req.Bytes, req.Rate)
	}
	m := newMeter(id)
	return enc.Encode(m.finish(req.Bytes, receive(r, m.add)))
}

// Stream runs one stream as the client and gives the receiver's report. While
// it runs, tell is called from time to time with what this side knows.
func Stream(ctx context.Context, addr string, req StreamRequest, tell func(StreamReport)) (StreamReport, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return StreamReport{}, err
	}
	c := conn.(*net.TCPConn)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := json.NewEncoder(c).Encode(req); err != nil {
		return StreamReport{}, err
	}
	r := bufio.NewReader(c)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return StreamReport{}, fmt.Errorf("the server's greeting: %w", err)
	}
	var id Identity
	if err := json.Unmarshal(line, &id); err != nil {
		return StreamReport{}, fmt.Errorf("the server's greeting: %w", err)
	}
	m := newMeter(id)
	stop := every(250*time.Millisecond, func() { tell(m.now()) })
	defer stop()
	if req.Direction == Down {
		return m.finish(req.Bytes, receive(r, m.add)), nil
	}
	if err := send(counted{c, m}, req.Bytes, req.Rate); err != nil {
		return m.finish(req.Bytes, err), nil
	}
	if err := c.CloseWrite(); err != nil {
		return m.finish(req.Bytes, err), nil
	}
	var final StreamReport
	if err := json.NewDecoder(r).Decode(&final); err != nil {
		return m.finish(req.Bytes, fmt.Errorf("the server's report: %w", err)), nil
	}
	return final, nil
}

// counted tells the meter what was written.
type counted struct {
	w io.Writer
	m *meter
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.m.add(n)
	return n, err
}

// every calls f again and again until the stop it gives is called.
func every(d time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(d)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

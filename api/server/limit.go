package server

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// sourceLimit bounds the connections from one address (IPv6: from one /64).
type sourceLimit struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[netip.Prefix]int
}

func newSourceLimit(l net.Listener, most int) *sourceLimit {
	return &sourceLimit{Listener: l, most: most, open: map[netip.Prefix]int{}}
}

func (l *sourceLimit) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := source(c.RemoteAddr())
		l.mu.Lock()
		full := l.open[from] >= l.most
		if !full {
			l.open[from]++
		}
		l.mu.Unlock()
		if !full {
			return &countedConn{Conn: c, limit: l, from: from}, nil
		}
		_ = c.Close()
	}
}

func source(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

type countedConn struct {
	net.Conn
	limit *sourceLimit
	from  netip.Prefix
	once  sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.limit.mu.Lock()
		defer c.limit.mu.Unlock()
		if c.limit.open[c.from]--; c.limit.open[c.from] == 0 {
			delete(c.limit.open, c.from)
		}
	})
	return c.Conn.Close()
}

// fewLines logs what strangers make a server say, at most so many lines a
// minute, and then how many it left out: nobody shall fill a disk from outside.
type fewLines struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time
	said    int
	leftOut int
}

const linesPerMinute = 20

func (f *fewLines) warn(msg string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.since) >= time.Minute {
		if f.leftOut > 0 {
			f.log.Warn("left out lines about clients that were refused", "lines", f.leftOut, "since", f.since)
		}
		f.since, f.said, f.leftOut = now, 0, 0
	}
	if f.said == linesPerMinute {
		f.leftOut++
		return
	}
	f.said++
	f.log.Warn(msg, args...)
}

// Write takes what net/http logs: failed handshakes.
func (f *fewLines) Write(b []byte) (int, error) {
	f.warn(strings.TrimSpace(string(b)))
	return len(b), nil
}

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab/service"
)

func (l *Lab) hnvlab() string { return filepath.Join(l.opts.Bin, "hnvlab") }

// servers gives the machines that run the services, all of them on all of
// their addresses: the VMs, the Internet, the management network's machine,
// and, to prove that tenants cannot reach them, the gateway, the fabric's
// router and the hosts.
func (l *Lab) servers() []string {
	out := []string{"fab"}
	if l.topo.Gateway != nil {
		out = append(out, l.topo.Gateway.Name, "inet", "mgmt")
	}
	for _, h := range l.topo.Hosts {
		out = append(out, h.Name)
	}
	for _, vm := range l.topo.VMs {
		out = append(out, vm.Name)
	}
	for _, s := range l.topo.Sites {
		out = append(out, s.Host())
	}
	return out
}

func (l *Lab) startServices(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, m := range l.servers() {
		g.Go(func() error {
			p, err := l.Start(m, "serve-"+m, l.hnvlab(), "serve", "--as", m)
			if err != nil {
				return err
			}
			return p.waitFor(ctx, func() error {
				if !strings.Contains(p.Output(), "ready") {
					return fmt.Errorf("no server listens yet")
				}
				return nil
			})
		})
	}
	if l.topo.Gateway != nil {
		g.Go(func() error {
			_, err := l.Start("inet", "iperf3-inet", "iperf3", "-s")
			return err
		})
	}
	return g.Wait()
}

// Get asks the web server at the address who it is and whom it sees. from is
// the local port to use, 0 for any.
func (l *Lab) Get(ctx context.Context, machine string, to netip.AddrPort, from uint16, timeout time.Duration) (service.Identity, error) {
	return l.ask(ctx, machine, "get", to, "--from", strconv.Itoa(int(from)), "--timeout", timeout.String())
}

// Echo sends a datagram of the size and wants it back.
func (l *Lab) Echo(ctx context.Context, machine string, to netip.AddrPort, from uint16, size int, timeout time.Duration) (service.Identity, error) {
	return l.ask(ctx, machine, "echo", to, "--from", strconv.Itoa(int(from)), "--size", strconv.Itoa(size), "--timeout", timeout.String())
}

func (l *Lab) ask(ctx context.Context, machine, what string, to netip.AddrPort, argv ...string) (service.Identity, error) {
	argv = append([]string{l.hnvlab(), what, to.String()}, argv...)
	out, err := l.Exec(ctx, machine, argv...)
	if err != nil {
		return service.Identity{}, err
	}
	var id service.Identity
	if err := json.Unmarshal([]byte(out), &id); err != nil {
		return service.Identity{}, fmt.Errorf("%s %s from %s: %w", what, to, machine, err)
	}
	return id, nil
}

// Ping sends echo requests until one is answered.
func (l *Lab) Ping(ctx context.Context, machine string, to netip.Addr, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for ctx.Err() == nil {
		if _, err := l.Exec(ctx, machine, "ping", "-n", "-q", "-c", "1", "-W", "1", to.String()); err == nil {
			return nil
		} else if last == nil || ctx.Err() == nil {
			last = err
		}
	}
	return fmt.Errorf("no answer from %s to %s within %v: %w", to, machine, timeout, last)
}

// Stream is a TCP transfer in progress whose every byte is checked.
type Stream struct{ proc *Process }

// StartStream starts a transfer from the machine as the client.
func (l *Lab) StartStream(machine string, to netip.Addr, req service.StreamRequest) (*Stream, error) {
	l.mu.Lock()
	l.streams++
	name := fmt.Sprintf("stream%d-%s", l.streams, machine)
	l.mu.Unlock()
	p, err := l.Start(machine, name, l.hnvlab(), "stream",
		net.JoinHostPort(to.String(), strconv.Itoa(service.StreamPort)),
		"--direction", string(req.Direction), "--bytes", strconv.FormatInt(req.Bytes, 10), "--rate", strconv.FormatInt(req.Rate, 10))
	if err != nil {
		return nil, err
	}
	return &Stream{p}, nil
}

// Progress gives the latest report.
func (s *Stream) Progress() (service.StreamReport, error) {
	var last string
	for line := range strings.Lines(s.proc.Output()) {
		if strings.HasPrefix(line, "{") && strings.HasSuffix(line, "\n") {
			last = line
		}
	}
	if last == "" {
		return service.StreamReport{}, fmt.Errorf("%s has reported nothing: %s", s.proc.Name, lastLines(s.proc.Output(), 3))
	}
	var r service.StreamReport
	err := json.Unmarshal([]byte(last), &r)
	return r, err
}

// Passed waits until more than n bytes have come.
func (s *Stream) Passed(ctx context.Context, n int64) error {
	passed := func() error {
		r, err := s.Progress()
		if err == nil && r.Bytes <= n {
			err = fmt.Errorf("the stream has %d bytes, not more than %d", r.Bytes, n)
		}
		return err
	}
	err := s.proc.waitFor(ctx, passed)
	if err != nil && passed() == nil {
		return nil // it made up for a pause so fast that it is over
	}
	return err
}

// Wait waits for the end and gives the final report.
func (s *Stream) Wait(ctx context.Context) (service.StreamReport, error) {
	select {
	case <-s.proc.Done():
	case <-ctx.Done():
		r, _ := s.Progress() // an empty report tells as much
		return r, fmt.Errorf("%s does not end: %w", s.proc.Name, context.Cause(ctx))
	}
	r, err := s.Progress()
	if err == nil && !r.Complete {
		err = fmt.Errorf("%s: %s after %d bytes", s.proc.Name, r.Error, r.Bytes)
	}
	return r, err
}

// Stop ends a transfer that is no longer of interest.
func (s *Stream) Stop() { _ = s.proc.id.signal(9) }

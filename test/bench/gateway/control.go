//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

const (
	// followPort is where the packets go that follow a record.
	followPort = 7000
	// followGap is the time between two of them: what is found out is no finer.
	followGap = 50 * time.Microsecond
	// mostMoves is how often a record is changed in one measurement.
	mostMoves = 500
)

// control measures what changing a lookup record takes: until the gateway says that
// it is done, and until the first packet goes the new way.
func control(ctx context.Context, r *rig, o Options, put put) error {
	if r.ours == nil {
		return nil
	}
	stop, err := r.stream(ctx)
	if err != nil {
		return err
	}
	answers, effects, err := r.moves(ctx, o.Time)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	putQuantiles(put, "record_answer", answers)
	putQuantiles(put, "record_effect", effects)
	return nil
}

// putQuantiles sorts the times and gives their median and 99th percentile.
func putQuantiles(put put, name string, times []time.Duration) {
	slices.Sort(times)
	put(name+"_p50", "s", quantile(times, 0.5).Seconds())
	put(name+"_p99", "s", quantile(times, 0.99).Seconds())
}

// moves gives the VM's CA another PA of the host's, and back, again and again. Both
// times count from before the request.
func (r *rig) moves(ctx context.Context, t time.Duration) (answers, effects []time.Duration, err error) {
	rec := v1.LookupRecord{VSID: r.site.tenant(0).vmVSID.Uint32(), CA: r.site.ca.String(), MAC: r.site.vmMAC.String()}
	move := func(to netip.Addr) error {
		if err := r.host.watch(to); err != nil {
			return err
		}
		rec.PA = to.String()
		begin, err := monotonic()
		if err != nil {
			return err
		}
		if _, err := r.ours.client.PutRecord(ctx, rec); err != nil {
			return err
		}
		answered, err := monotonic()
		if err != nil {
			return err
		}
		seen, err := r.host.arrival(ctx)
		if err != nil {
			return err
		}
		answers, effects = append(answers, answered-begin), append(effects, seen-begin)
		return nil
	}
	for end := time.Now().Add(t); len(answers) < 2 || time.Now().Before(end) && len(answers) < mostMoves; {
		for _, to := range []netip.Addr{r.site.otherPA, r.site.hostPA} {
			if err := move(to); err != nil {
				return nil, nil, fmt.Errorf("move %s to %s: %w", rec.CA, to, err)
			}
		}
	}
	return answers, effects, nil
}

// arrival waits for the first packet that was sent to the address being watched.
func (h *host) arrival(ctx context.Context) (time.Duration, error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		var seen uint64
		if err := h.get("seen", &seen); err != nil {
			return 0, err
		}
		if seen > 0 {
			return time.Duration(seen), nil
		}
		if err := pause(ctx, 100*time.Microsecond); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no packet took the new way within five seconds")
}

// monotonic is the clock of the host's program.
func monotonic() (time.Duration, error) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Duration(t.Nano()), err
}

// stream sends packets from the Internet to the VM, as answers to one of the VM's,
// until stop is called. The VM does not read them.
func (r *rig) stream(ctx context.Context) (stop func() error, err error) {
	var outside int
	err = r.within(inetMachine, func() error {
		if outside, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(outside, sockaddr(r.site.service, followPort)),
			unix.SetsockoptTimeval(outside, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}))
	})
	if err != nil {
		return nil, err
	}
	inside, err := r.vmSocket(unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, errors.Join(err, unix.Close(outside))
	}
	var peer unix.Sockaddr
	err = retry(ctx, func() error {
		if err := unix.Sendto(inside, []byte{0}, 0, sockaddr(r.site.service, followPort)); err != nil {
			return err
		}
		var b [1]byte
		_, peer, err = unix.Recvfrom(outside, b[:], 0)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, unix.Close(outside), unix.Close(inside))
	}
	var over atomic.Bool
	ended := make(chan error, 1)
	go func() {
		gap := unix.NsecToTimespec(followGap.Nanoseconds())
		for !over.Load() {
			if err := unix.Sendto(outside, []byte{0}, 0, peer); err != nil {
				ended <- err
				return
			}
			_ = unix.Nanosleep(&gap, nil) // a signal shortens it
		}
		ended <- nil
	}()
	return func() error {
		over.Store(true)
		return errors.Join(<-ended, unix.Close(outside), unix.Close(inside))
	}, nil
}

//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// udp64 measures how many of the smallest packets a second get through the gateway,
// and what one of them costs, for different numbers of flows. All flows have been
// answered before, so that the gateway knows them as well as it can, but for those
// of the last number, of which none ever is.
func udp64(ctx context.Context, r *rig, o Options, put put) error {
	return r.withGenerator(ctx, func() error {
		for _, flows := range o.Flows {
			c, err := r.packets(ctx, flows, o.Time)
			if err != nil {
				return err
			}
			c.put(put, "udp64_"+flowsText(flows))
		}
		if err := r.forget(ctx); err != nil {
			return err
		}
		c, err := r.flood(ctx, oneWayFlows, o.Time, false)
		if err != nil {
			return err
		}
		c.put(put, "udp64_unanswered")
		return r.forget(ctx)
	})
}

// oneWayFlows is how many flows are measured that nobody answers.
const oneWayFlows = 256

func (c count) put(put put, metric string) {
	put(metric, "packet/s", c.rate())
	put(metric+"_cpu", "ns/packet", c.cost())
}

func flowsText(n uint32) string {
	if n%1024 == 0 {
		return fmt.Sprintf("%dk", n/1024)
	}
	return fmt.Sprint(n)
}

// count is what passed the gateway in a time.
type count struct {
	time, work   time.Duration
	right, wrong uint64
}

func (c count) rate() float64 { return float64(c.right) / c.time.Seconds() }

// cost is in nanoseconds of processor time.
func (c count) cost() float64 { return float64(c.work.Nanoseconds()) / float64(c.right) }

// mark is how far the packets have come at a time.
type mark struct {
	at           time.Time
	work         time.Duration
	right, wrong uint64
}

func (r *rig) mark() (m mark, err error) {
	if m.work, err = r.work(); err != nil {
		return m, err
	}
	m.right, m.wrong, err = r.sink.taken()
	m.at = time.Now()
	return m, err
}

// since counts from a mark on. Packets from a wrong address, or none at all, are an
// error: then the gateway does not do what is measured.
func (r *rig) since(a mark) (c count, err error) {
	b, err := r.mark()
	if err != nil {
		return c, err
	}
	c = count{b.at.Sub(a.at), b.work - a.work, b.right - a.right, b.wrong - a.wrong}
	if c.right == 0 || c.wrong > 0 {
		err = fmt.Errorf("%d packets arrived outside from %s, and %d from other addresses", c.right, r.source(r.site), c.wrong)
	}
	return c, err
}

// withGenerator runs f with the gateway's NIC ready for the generator's frames: a
// veth takes them only while it puts packets together (GRO).
func (r *rig) withGenerator(ctx context.Context, f func() error) (err error) {
	if !r.plainFabric {
		return f()
	}
	gro := func(state string) error {
		_, err := r.lab.Exec(ctx, gwMachine, "ethtool", "-K", "pa0", "gro", state)
		return err
	}
	if err := gro("on"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gro("off")) }()
	return f()
}

const (
	// settling is how long a flood goes on before it is measured.
	settling = 100 * time.Millisecond
	// primingRate is how many packets a second open flows: few, so that none of
	// them is lost.
	primingRate = 50_000
)

// packets floods the gateway with packets of so many flows, which were answered.
func (r *rig) packets(ctx context.Context, flows uint32, t time.Duration) (count, error) {
	return r.flood(ctx, flows, t, true)
}

func (r *rig) flood(ctx context.Context, flows uint32, t time.Duration, answered bool) (c count, err error) {
	g, err := r.newGenerator(flows, r.site.service)
	if err != nil {
		return c, err
	}
	defer g.close()
	if answered {
		if err := r.prime(ctx, g, flows); err != nil {
			return c, err
		}
	}
	stop, err := g.start(0)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := pause(ctx, settling); err != nil {
		return c, err
	}
	from, err := r.mark()
	if err != nil {
		return c, err
	}
	if err := pause(ctx, t); err != nil {
		return c, err
	}
	return r.since(from)
}

// prime sends every flow's first packets, and has them answered.
func (r *rig) prime(ctx context.Context, g *generator, flows uint32) error {
	if err := r.sink.reflect(true); err != nil {
		return err
	}
	stop, err := g.start(primingRate)
	if err != nil {
		return err
	}
	twice := time.Duration(2*float64(flows)/primingRate*float64(time.Second)) + settling
	return errors.Join(pause(ctx, twice), stop(), r.sink.reflect(false))
}

// pause sleeps, unless ctx ends.
func pause(ctx context.Context, t time.Duration) error {
	select {
	case <-time.After(t):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

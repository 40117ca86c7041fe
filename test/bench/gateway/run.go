//go:build linux

package gateway

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/bench"
)

// Options say what a run measures.
type Options struct {
	Bin      string // folder of gatewayd and gatewayctl
	Cases    []Case
	Measures []string // by name; all if empty
	Rounds   int
	// Tenants and Records are further sizes in which cases are measured, each in
	// so many rounds.
	Tenants, Records []int
	SizeRounds       int
	// Most is how long a run may take before no further size is begun; 0: however
	// long.
	Most    time.Duration
	Time    time.Duration // of each measurement
	Streams []int         // of TCP
	Flows   []uint32      // of small packets
	Log     func(format string, args ...any)
}

// put takes a number that was measured.
type put func(metric, unit string, value float64)

// measure is something to do on a rig, which gives numbers.
type measure struct {
	name, what string
	run        func(ctx context.Context, r *rig, o Options, put put) error
	sized      bool // it says something about sizes
}

func measures() []measure {
	return []measure{
		{"tcp", "throughput of TCP streams both ways, and processor time for it", tcp, true},
		{"udp64", "smallest packets a second by number of flows, and processor time for each", udp64, true},
		{"connect", "new TCP connections and new UDP flows a second", connect, false},
		{"control", "from a request to change a lookup record to its answer, and to the first packet that goes the new way", control, true},
		{"latency", "round trips of UDP and ping at half of what udp64 found", latency, false},
	}
}

// Measures lists the measures, each with what it is in a line.
func Measures() [][2]string {
	var out [][2]string
	for _, m := range measures() {
		out = append(out, [2]string{m.name, m.what})
	}
	return out
}

func (o Options) measures() ([]measure, error) {
	all := measures()
	for _, n := range o.Measures {
		if !slices.ContainsFunc(all, func(m measure) bool { return m.name == n }) {
			return nil, fmt.Errorf("no measure %q", n)
		}
	}
	return slices.DeleteFunc(all, func(m measure) bool { return len(o.Measures) > 0 && !slices.Contains(o.Measures, m.name) }), nil
}

// Run measures, and gives what it found even where it fails. Whatever it made is
// gone when it returns.
func Run(ctx context.Context, o Options) (results []bench.Result, absent []bench.Absent, err error) {
	all, err := o.measures()
	if err != nil {
		return nil, nil, err
	}
	if err := Sweep(); err != nil {
		return nil, nil, fmt.Errorf("remove what a killed run left: %w", err)
	}
	// Threads that wait in the kernel must not wait for each other when they return.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4 * clients))
	b := &run{Options: o, measures: all, began: time.Now()}
	defer func() { err = errors.Join(err, b.down()) }()
	if err := b.up(ctx); err != nil {
		return nil, nil, err
	}
	err = b.rounds(ctx)
	return bench.Compare(b.samples, Against()...), b.absent, err
}

// run is a run in progress.
type run struct {
	Options
	measures []measure
	began    time.Time
	rigs     []*rig
	samples  [][]bench.Sample // by round
	absent   []bench.Absent
}

// up makes the rigs of all cases. Cases that this machine does not have are noted.
func (b *run) up(ctx context.Context) error {
	for i, c := range b.Cases {
		b.Log("setting up %s", c.Name)
		r, err := newRig(c, Size{1, 1}, i, b.Bin)
		if err != nil {
			return err
		}
		err = r.up(ctx)
		var not *NotThere
		switch {
		case errors.As(err, &not):
			b.missing(r.name, "", not)
		case err != nil:
			return err
		default:
			b.rigs = append(b.rigs, r)
		}
	}
	return nil
}

func (b *run) down() error {
	var errs []error
	for _, r := range b.rigs {
		errs = append(errs, r.down())
	}
	return errors.Join(errs...)
}

func (b *run) missing(name, metric string, why error) {
	b.Log("%s: no %s: %v", name, strings.TrimSpace("result "+metric), why)
	a := bench.Absent{Case: name, Metric: metric, Why: why.Error()}
	if !slices.Contains(b.absent, a) {
		b.absent = append(b.absent, a)
	}
}

func (b *run) rounds(ctx context.Context) error {
	for n := range b.Rounds {
		b.Log("round %d of %d", n+1, b.Rounds)
		b.samples = append(b.samples, nil)
		for _, m := range b.measures {
			for i := range b.rigs {
				if err := b.one(ctx, m, b.rigs[(i+n)%len(b.rigs)], n, b.Options); err != nil {
					return err
				}
			}
		}
		b.samples[n] = derive(b.samples[n])
	}
	for _, n := range b.Tenants {
		if err := b.bigger(ctx, Size{Tenants: n, Records: 1}); err != nil {
			return err
		}
	}
	for _, n := range b.Records {
		if err := b.bigger(ctx, Size{Tenants: 1, Records: n}); err != nil {
			return err
		}
	}
	return nil
}

// one measures one thing on one rig. That it fails is noted, and no reason to end the
// run.
func (b *run) one(ctx context.Context, m measure, r *rig, round int, o Options) error {
	b.Log("%s of %s", m.name, r.name)
	err := m.run(ctx, r, o, func(metric, unit string, v float64) { b.put(round, r, metric, unit, v) })
	if err != nil && ctx.Err() == nil {
		b.missing(r.name, m.name, err)
	}
	return context.Cause(ctx)
}

func (b *run) put(round int, r *rig, metric, unit string, v float64) {
	b.samples[round] = append(b.samples[round], bench.Sample{
		Case: r.name, Metric: metric, Unit: unit, Value: v, Alone: strings.HasSuffix(metric, lost),
	})
}

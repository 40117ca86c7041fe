//go:build linux

package s2s

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hnvgate/hnvgate/test/bench"
)

// Options say what a run measures.
type Options struct {
	Bin string // folder of the programs
	// WireGuard is the wireguard-go of all ends of tunnels that are not the gateway's.
	WireGuard string
	Measures  []string // by name; all if empty
	Rounds    int      // of tunnel and routes
	Time      time.Duration
	Tunnels   []int // sizes of tunnel
	Tenants   int
	Routes    []int // sizes of routes
	Cuts      int
	Log       func(format string, args ...any)
}

// run collects what was found.
type run struct {
	Options
	rounds [][]bench.Sample
	absent []bench.Absent
}

// measure is something to measure.
type measure struct {
	name, what string
	run        func(r *run, ctx context.Context) error
}

func measures() []measure {
	return []measure{
		{"tunnel", "TCP from a VM through the gateway to a site, beside the same wireguard-go alone", (*run).tunnel},
		{"failover", "how long nothing comes after the active of two tunnels is cut without a sign", (*run).failover},
		{"tenants", "time until tenants with a tunnel, a BGP peer and routes each all have the routes in the kernel and an answer through the tunnel, and their memory", (*run).tenants},
		{"routes", "time until a neighbour's routes are in the kernel, and the memory that takes", (*run).routes},
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

// Against are the cases that others are compared with.
func Against() []string { return []string{"bare", "routed", "frr", "bird"} }

// Run measures, and gives what it found even where it fails. Whatever it made is gone
// when it returns.
func Run(ctx context.Context, o Options) (results []bench.Result, absent []bench.Absent, err error) {
	for _, n := range o.Measures {
		if !slices.ContainsFunc(measures(), func(m measure) bool { return m.name == n }) {
			return nil, nil, fmt.Errorf("no measure %q", n)
		}
	}
	if err := Sweep(); err != nil {
		return nil, nil, fmt.Errorf("remove what a killed run left: %w", err)
	}
	r := &run{Options: o}
	for _, m := range measures() {
		if len(o.Measures) > 0 && !slices.Contains(o.Measures, m.name) {
			continue
		}
		r.Log("%s: %s", m.name, m.what)
		if e := m.run(r, ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", m.name, e))
			r.absent = append(r.absent, bench.Absent{Case: m.name, Why: e.Error()})
		}
		if ctx.Err() != nil {
			break
		}
	}
	return bench.Compare(r.rounds, Against()...), r.absent, err
}

// put takes a sample of a round of a case.
func (r *run) put(round int, name string) func(metric, unit string, v float64) {
	for len(r.rounds) <= round {
		r.rounds = append(r.rounds, nil)
	}
	return func(metric, unit string, v float64) {
		r.Log("  %s %s %.4g %s", name, metric, v, unit)
		r.rounds[round] = append(r.rounds[round], bench.Sample{Case: name, Metric: metric, Unit: unit, Value: v})
	}
}

func (r *run) routes(ctx context.Context) error {
	for round := range r.Rounds {
		for _, n := range r.Routes {
			for _, x := range receivers() {
				put := r.put(round, x.name)
				err := routes(ctx, r.Bin, x, n, func(metric, unit string, v float64) {
					put(fmt.Sprintf("%s_%d", metric, n), unit, v) // what has another size is not to be compared
				})
				if err != nil {
					return fmt.Errorf("%s, %d routes: %w", x.name, n, err)
				}
			}
		}
	}
	return nil
}

//go:build linux

package gateway

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hnvgate/hnvgate/test/bench"
)

func TestDerive(t *testing.T) {
	got := derive([]bench.Sample{
		{Case: limit, Metric: "udp64_1_cpu", Unit: "ns/packet", Value: 500},
		{Case: Plain, Metric: "udp64_1_cpu", Unit: "ns/packet", Value: 1500},
		{Case: "ours", Metric: "udp64_1_cpu", Unit: "ns/packet", Value: 1800},
		{Case: "ours", Metric: "udp64_256_cpu", Unit: "ns/packet", Value: 1900}, // there is no limit for it
		{Case: "ours", Metric: "tcp_up_1_cpu", Unit: "s/Gbit", Value: 1},
		{Case: limit, Metric: "ping_p50", Unit: "s", Value: 0.5},
		{Case: Plain, Metric: "ping_p50", Unit: "s", Value: 0.75},
		{Case: "ours", Metric: "ping_p50", Unit: "s", Value: 0.5},
		{Case: "ours", Metric: "ping_p99", Unit: "s", Value: 2},
	})
	var added []bench.Sample
	for _, s := range got {
		if s.Metric == "udp64_1_gateway" || s.Metric == "ping_p50_added" {
			added = append(added, s)
		}
	}
	want := []bench.Sample{
		{Case: Plain, Metric: "udp64_1_gateway", Unit: "ns/packet", Value: 1000},
		{Case: "ours", Metric: "udp64_1_gateway", Unit: "ns/packet", Value: 1300},
		{Case: "ours", Metric: "ping_p50_added", Unit: "s", Value: -0.25, Alone: true},
	}
	if d := cmp.Diff(want, added); d != "" || len(got) != 9+len(want) {
		t.Errorf("%d samples: %s", len(got), d)
	}
}

func TestQuantile(t *testing.T) {
	var sorted []time.Duration
	for i := range 100 {
		sorted = append(sorted, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("%v: got %d, want %d", q, got, want)
		}
	}
	if got := quantile(sorted[7:8], 0.99); got != 7 {
		t.Errorf("of one: got %d", got)
	}
}

// TestWorkGrows holds that the work of this process is counted.
func TestWorkGrows(t *testing.T) {
	r := &rig{}
	before, err := r.work()
	if err != nil {
		t.Fatal(err)
	}
	for end := before + 20*time.Millisecond; ; {
		now, err := r.work()
		if err != nil {
			t.Fatal(err)
		}
		if now >= end {
			return
		}
	}
}

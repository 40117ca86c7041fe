//go:build privileged && linux

package gateway

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/internal/netns"
	"github.com/hnvgate/hnvgate/test/bench"
	"github.com/hnvgate/hnvgate/test/lab"
)

// TestOneRound measures two cases once, for a moment. It says nothing about speed:
// only that whatever is measured gives a number for either case, that these can be
// compared, and that nothing is left.
func TestOneRound(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	results := measured(ctx, t, Options{Streams: []int{1}, Flows: []uint32{256}}, Plain, ours)
	found := map[string]int{}
	for _, r := range results {
		found[r.Metric]++
		isDifference := strings.HasSuffix(r.Metric, "_added") || strings.HasSuffix(r.Metric, "_lost")
		if r.Rounds != 1 || r.Value <= 0 && !isDifference {
			t.Errorf("%+v", r)
		}
		control := strings.HasPrefix(r.Metric, "record_") // of ours only
		if _, ok := r.Ratio[Plain]; ok == (r.Case == Plain) && !isDifference && !control {
			t.Errorf("compared with %s: %v in %+v", Plain, ok, r)
		}
	}
	for _, metric := range []string{
		"tcp_up_1", "tcp_down_1", "tcp_up_1_cpu", "udp64_256", "udp64_256_cpu", "udp64_unanswered", "tcp_new", "tcp_new_cpu", "udp_new", "udp_new_cpu",
		"udp_echo_p50", "udp_echo_p99", "udp_echo_lost", "ping_p50", "ping_p99",
	} {
		if found[metric] != 2 {
			t.Errorf("%s: %d results, want one for each case", metric, found[metric])
		}
	}
	for _, metric := range []string{"record_answer_p50", "record_effect_p50", "record_effect_p99"} {
		if found[metric] != 1 {
			t.Errorf("%s: %d results, want one of %s", metric, found[metric], ours)
		}
	}
}

// TestSizes measures what comes with having several tenants and records.
func TestSizes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	results := measured(ctx, t, Options{
		Measures: []string{"control", "udp64"}, Streams: []int{1}, Flows: []uint32{1}, Tenants: []int{3}, Records: []int{300}, SizeRounds: 1,
	}, ours)
	want := map[[2]string]bool{}
	for _, metric := range []string{"apply", "adoption", "adoption_cpu", "start_up", "start_up_cpu", "udp64_16k", "record_effect_p50", "tenant_memory_daemon", "tenant_memory_kernel"} {
		want[[2]string{ours + "/tenants=3", metric}] = true
	}
	for _, metric := range []string{"record_import", "adoption", "start_up", "udp64_16k", "record_memory_daemon"} {
		want[[2]string{ours + "/records=300", metric}] = true
	}
	for _, r := range results {
		delete(want, [2]string{r.Case, r.Metric})
		if _, ok := r.Ratio[ours]; r.Metric == "udp64_16k" && r.Case != ours && !ok {
			t.Errorf("%+v is not compared with the first size", r)
		}
	}
	for w := range want {
		t.Errorf("%v is missing", w)
	}
}

const ours = "ours-go-nvgre"

// measured makes a run of one round, in which nothing may be absent and of which
// nothing may be left.
func measured(ctx context.Context, t *testing.T, o Options, cases ...string) []bench.Result {
	t.Helper()
	var err error
	if o.Bin, err = lab.Programs(ctx, t.TempDir(), []string{"./cmd/gatewayd", "./cmd/gatewayctl"}); err != nil {
		t.Fatal(err)
	}
	if o.Cases, err = Choose(cases); err != nil {
		t.Fatal(err)
	}
	o.Rounds, o.Time, o.Log = 1, 200*time.Millisecond, t.Logf
	results, absent, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range absent {
		t.Errorf("absent: %+v", a)
	}
	nothingLeft(t)
	return results
}

func nothingLeft(t *testing.T) {
	t.Helper()
	names, err := netns.List()
	if err != nil {
		t.Fatal(err)
	}
	if dirs, err := os.ReadDir("/run/hnvlab"); err == nil {
		for _, d := range dirs {
			names = append(names, d.Name())
		}
	}
	for _, n := range names {
		if strings.HasPrefix(n, rigPrefix) && strings.Contains(n, strconv.Itoa(os.Getpid())) {
			t.Errorf("%s is left", n)
		}
	}
}

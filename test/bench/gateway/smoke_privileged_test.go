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
	"github.com/hnvgate/hnvgate/test/lab"
)

// TestOneRound measures two cases once, for a moment. It says nothing about speed:
// only that whatever is measured gives a number for either case, that these can be
// compared, and that nothing is left.
func TestOneRound(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bin, err := lab.Programs(ctx, t.TempDir(), []string{"./cmd/gatewayd", "./cmd/gatewayctl"})
	if err != nil {
		t.Fatal(err)
	}
	cases, err := Choose([]string{Plain, "ours-go-nvgre"})
	if err != nil {
		t.Fatal(err)
	}
	results, absent, err := Run(ctx, Options{
		Bin: bin, Cases: cases, Rounds: 1, Time: 200 * time.Millisecond, Streams: []int{1}, Flows: []uint32{256}, Log: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range absent {
		t.Errorf("absent: %+v", a)
	}
	found := map[string]int{}
	for _, r := range results {
		found[r.Metric]++
		isDifference := strings.HasSuffix(r.Metric, "_added") || strings.HasSuffix(r.Metric, "_lost")
		if r.Rounds != 1 || r.Value <= 0 && !isDifference {
			t.Errorf("%+v", r)
		}
		if _, ok := r.Ratio[Plain]; ok == (r.Case == Plain) && !isDifference {
			t.Errorf("compared with %s: %v in %+v", Plain, ok, r)
		}
	}
	for _, metric := range []string{
		"tcp_up_1", "tcp_down_1", "tcp_up_1_cpu", "udp64_256", "udp64_256_cpu", "tcp_new", "tcp_new_cpu", "udp_new", "udp_new_cpu",
		"udp_echo_p50", "udp_echo_p99", "udp_echo_lost", "ping_p50", "ping_p99",
	} {
		if found[metric] != len(cases) {
			t.Errorf("%s: %d results, want one for each case", metric, found[metric])
		}
	}
	nothingLeft(t)
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

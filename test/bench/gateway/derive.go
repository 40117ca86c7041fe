//go:build linux

package gateway

import (
	"slices"
	"strings"

	"github.com/hnvgate/hnvgate/test/bench"
)

// derive adds what follows from the samples of one round: what a packet costs in the
// gateway alone, which is what it costs without the limit's part, and what the gateway
// adds to a round trip through the plain one.
func derive(samples []bench.Sample) []bench.Sample {
	find := func(name, metric string) (float64, bool) {
		i := slices.IndexFunc(samples, func(s bench.Sample) bool { return s.Case == name && s.Metric == metric })
		if i < 0 {
			return 0, false
		}
		return samples[i].Value, true
	}
	var out []bench.Sample
	for _, s := range samples {
		out = append(out, s)
		flows, isCost := strings.CutSuffix(s.Metric, "_cpu")
		switch {
		case isCost && strings.HasPrefix(flows, "udp64_") && s.Case != limit:
			if floor, ok := find(limit, s.Metric); ok {
				out = append(out, bench.Sample{Case: s.Case, Metric: flows + "_gateway", Unit: s.Unit, Value: s.Value - floor})
			}
		case strings.HasSuffix(s.Metric, "_p50") && s.Case != limit && s.Case != Plain:
			if base, ok := find(Plain, s.Metric); ok {
				out = append(out, bench.Sample{Case: s.Case, Metric: s.Metric + "_added", Unit: s.Unit, Value: s.Value - base, Alone: true})
			}
		}
	}
	return out
}

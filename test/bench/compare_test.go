package bench

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two rounds of two gateways, one of them in two sizes; the machine was slow in the
// second round, and something failed in it.
var gateways = [][]Sample{
	{
		{"plain", "tcp", "bit/s", 8e9, false}, {"plain", "connect", "connection/s", 20_000, false},
		{"ours", "tcp", "bit/s", 6e9, false}, {"ours", "connect", "connection/s", 22_000, false},
		{"ours/tenants=100", "tcp", "bit/s", 5.4e9, false},
	},
	{
		{"ours", "tcp", "bit/s", 2e9, false},
		{"plain", "tcp", "bit/s", 4e9, false}, {"plain", "connect", "connection/s", 10_000, false},
		{"ours/tenants=100", "tcp", "bit/s", 2e9, false},
		{"plain", "lost", "of all", 0.5, true}, {"ours", "lost", "of all", 0.25, true},
	},
}

func TestCompare(t *testing.T) {
	want := []Result{
		{Case: "plain", Metric: "tcp", Value: 6e9, Unit: "bit/s", Min: 4e9, Max: 8e9, Rounds: 2},
		// The median of .75 and .5, not the ratio of the medians.
		{Case: "ours", Metric: "tcp", Value: 4e9, Unit: "bit/s", Min: 2e9, Max: 6e9, Rounds: 2, Ratio: map[string]float64{"plain": 0.625}},
		{Case: "ours/tenants=100", Metric: "tcp", Value: 3.7e9, Unit: "bit/s", Min: 2e9, Max: 5.4e9, Rounds: 2,
			Ratio: map[string]float64{"plain": 0.5875, "ours": 0.95}},
		{Case: "plain", Metric: "connect", Value: 15_000, Unit: "connection/s", Min: 10_000, Max: 20_000, Rounds: 2},
		{Case: "ours", Metric: "connect", Value: 22_000, Unit: "connection/s", Min: 22_000, Max: 22_000, Rounds: 1, Ratio: map[string]float64{"plain": 1.1}},
		{Case: "plain", Metric: "lost", Value: 0.5, Unit: "of all", Min: 0.5, Max: 0.5, Rounds: 1},
		{Case: "ours", Metric: "lost", Value: 0.25, Unit: "of all", Min: 0.25, Max: 0.25, Rounds: 1},
	}
	if d := cmp.Diff(want, Compare(gateways, "plain", "nobody")); d != "" {
		t.Error(d)
	}
}

func TestCompareTable(t *testing.T) {
	var b strings.Builder
	if err := CompareTable(&b, Compare(gateways, "plain", "nobody"), "plain", "nobody"); err != nil {
		t.Fatal(err)
	}
	want := `tcp                 median      least to greatest  of plain
  plain             6 Gbit/s    4 to 8
  ours              4 Gbit/s    2 to 6             0.62
  ours/tenants=100  3.7 Gbit/s  2 to 5.4           0.59  0.95 of ours

connect  median              least to greatest  of plain
  plain  15000 connection/s  10000 to 20000
  ours   22000 connection/s  22000 to 22000     1.10

lost     median       least to greatest  of plain
  plain  0.5 of all   0.5 to 0.5
  ours   0.25 of all  0.25 to 0.25
`
	if d := cmp.Diff(trimmed(want), trimmed(b.String())); d != "" {
		t.Error(d)
	}
}

func trimmed(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		out = append(out, strings.TrimRight(line, " \n"))
	}
	return strings.Join(out, "\n")
}

func TestAbsentIsNotZero(t *testing.T) {
	r := Report{Results: Compare(gateways, "plain"), Absent: []Absent{{Case: "ebpf", Why: "not built in"}}}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Results []struct{ Case string }
		Absent  []Absent
	}
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil {
		t.Fatal(err)
	}
	for _, x := range back.Results {
		if x.Case == "ebpf" {
			t.Error("what is absent is among the results")
		}
	}
	if d := cmp.Diff(r.Absent, back.Absent); d != "" {
		t.Error(d)
	}
}

func TestPrefixOf(t *testing.T) {
	for _, c := range []struct {
		unit   string
		v      float64
		scale  float64
		prefix string
	}{
		{"bit/s", 9.12e9, 1e9, "G"}, {"bit/s", 512e6, 1e6, "M"}, {"packet/s", 812_000, 1e3, "k"}, {"packet/s", 8120, 1, ""}, {"packet/s", 1.2e7, 1e6, "M"}, {"connection/s", 1e6, 1, ""},
		{"s", 0.0012, 1e-3, "m"}, {"s", 12e-6, 1e-6, "u"}, {"s", 3e-8, 1e-9, "n"}, {"s", 2, 1, ""}, {"s", 0, 1, ""}, {"s", -4e-6, 1e-6, "u"},
		{"s/Gbit", 0.002, 1, ""}, {"B", 4.2e6, 1e6, "M"}, {"record/s", 0.5, 1, ""},
	} {
		if scale, prefix := prefixOf(c.unit, c.v); scale != c.scale || prefix != c.prefix {
			t.Errorf("%v %s: got %v %q", c.v, c.unit, scale, prefix)
		}
	}
}

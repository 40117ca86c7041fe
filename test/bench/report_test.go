package bench

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func line(name string, v ...Value) Line { return Line{name, v} }

// Three rounds, in one of which the machine had something else to do.
var three = [][]Line{
	{line("Path/n=1/path=hit", Value{100, "cpu-ns/packet"}, Value{0, "allocs/packet"}), line("Path/n=1/path=first", Value{400, "cpu-ns/packet"})},
	{line("Path/n=1/path=hit", Value{900, "cpu-ns/packet"}, Value{0, "allocs/packet"}), line("Path/n=1/path=first", Value{1800, "cpu-ns/packet"})},
	{line("Path/n=1/path=hit", Value{120, "cpu-ns/packet"}, Value{0, "allocs/packet"}), line("Path/n=1/path=first", Value{300, "cpu-ns/packet"}), line("Path/n=2/path=hit", Value{7, "ns/op"})},
}

func TestCollect(t *testing.T) {
	want := []Result{
		{Case: "Path/n=1/path=hit", Metric: "cpu", Value: 120, Unit: "ns/packet", Min: 100, Max: 900, Rounds: 3, Ratio: map[string]float64{"first": 0.4}},
		{Case: "Path/n=1/path=hit", Metric: "allocations", Unit: "allocs/packet", Rounds: 3},
		{Case: "Path/n=1/path=first", Metric: "cpu", Value: 400, Unit: "ns/packet", Min: 300, Max: 1800, Rounds: 3, Ratio: map[string]float64{"hit": 2.5}},
		{Case: "Path/n=2/path=hit", Metric: "time", Value: 7, Unit: "ns/op", Min: 7, Max: 7, Rounds: 1, Ratio: map[string]float64{}},
	}
	if d := cmp.Diff(want, Collect(three, "path", "table")); d != "" {
		t.Error(d)
	}
}

func TestReportIsJSON(t *testing.T) {
	r := Report{Machine: Machine{CPU: "a", Cores: 2, Load: [2]string{"1.00", "2.00"}}, Commit: "abc", Results: Collect(three, "path")}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil {
		t.Fatal(err)
	}
	first := back["results"].([]any)[0]
	want := map[string]any{
		"case": "Path/n=1/path=hit", "metric": "cpu", "value": 120.0, "unit": "ns/packet", "min": 100.0, "max": 900.0, "rounds": 3.0,
		"ratio": map[string]any{"first": 0.4},
	}
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
}

func TestMetricOf(t *testing.T) {
	for unit, want := range map[string][2]string{
		"ns/op": {"time", "ns/op"}, "cpu-ns/packet": {"cpu", "ns/packet"}, "B/record": {"memory", "B/record"},
		"allocs/op": {"allocations", "allocs/op"}, "ms/GC": {"pause", "ms/GC"}, "rules": {"rules", "rules"}, "x/y": {"x/y", "x/y"},
	} {
		if m, u := metricOf(unit); m != want[0] || u != want[1] {
			t.Errorf("%s: got %s in %s, want %v", unit, m, u, want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		of   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{math.NaN(), 5}, 5}} {
		if got := median(c.of); got != c.want {
			t.Errorf("%v: got %v, want %v", c.of, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("nothing: got %v", got)
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 123456: 123500, 0.0123456: 0.01235, 1.5: 1.5, -98765: -98770, 441_873_902: 441_900_000} {
		if got := round(v); got != want {
			t.Errorf("%v: got %v, want %v", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	rounds := [][]Line{{
		line("a/path=hit", Value{0, "allocs/packet"}, Value{244.4, "cpu-ns/packet"}, Value{561, "ns/packet"}),
		line("a/path=first", Value{3, "allocs/packet"}, Value{977.6, "cpu-ns/packet"}, Value{999, "ns/packet"}),
		line("load", Value{1.5e9, "ns/op"}, Value{106, "B/record"}),
	}}
	var b strings.Builder
	if err := Table(&b, Collect(rounds, "path")); err != nil {
		t.Fatal(err)
	}
	want := `case          median (least to greatest)  allocations  else          of what others need
a/path=hit    244 ns/packet (244 to 244)  0                          first 0.25
a/path=first  978 ns/packet (978 to 978)  3                          hit 4.00
load          1500 ms/op (1500 to 1500)                106 B/record  
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestCPUModel(t *testing.T) {
	if got := cpuModel("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n"); got != "AMD EPYC" {
		t.Errorf("got %q", got)
	}
}

package bench

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strings"
)

// Report is what a `make bench` target writes.
type Report struct {
	Machine Machine  `json:"machine"`
	Commit  string   `json:"commit"`
	Results []Result `json:"results"`
	// Absent is what could not be measured, or not on this machine.
	Absent []Absent `json:"absent,omitempty"`
}

// Result is one number about one case.
type Result struct {
	Case   string  `json:"case"`
	Metric string  `json:"metric"`
	Value  float64 `json:"value"` // the median of the rounds
	Unit   string  `json:"unit"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
	// Ratio is what this case needs of what another one does that differs in one
	// part of its name, by the value of that part.
	Ratio map[string]float64 `json:"ratio,omitempty"`
}

// metrics are the names of what is measured, by the first part of Go's units.
var metrics = map[string]struct{ metric, unit string }{
	"ns":     {"time", "ns"},
	"cpu-ns": {"cpu", "ns"},
	"allocs": {"allocations", "allocs"},
	"B":      {"memory", "B"},
	"ms":     {"pause", "ms"},
	"MB":     {"throughput", "MB"},
}

func metricOf(unit string) (metric, plain string) {
	what, per, cut := strings.Cut(unit, "/")
	m, known := metrics[what]
	if !cut || !known {
		return unit, unit
	}
	return m.metric, m.unit + "/" + per
}

// series are the values of one metric of one case, by round.
type series struct {
	name, metric, unit string
	values             []float64 // NaN where a round has none
	alone              bool      // has no ratios
}

// Collect makes results of rounds. compare has the keys in names by whose values
// cases are compared.
func Collect(rounds [][]Line, compare ...string) []Result {
	all, index := gather(rounds)
	out := make([]Result, len(all))
	for i, s := range all {
		out[i] = s.result()
		if s.metric == "time" || s.metric == "cpu" {
			out[i].Ratio = ratios(s, all, index, compare)
		}
	}
	return out
}

func gather(rounds [][]Line) (all []*series, index map[[2]string]*series) {
	index = map[[2]string]*series{}
	for r, lines := range rounds {
		for _, l := range lines {
			for _, v := range l.Values {
				key := [2]string{l.Case, v.Unit}
				s := index[key]
				if s == nil {
					s = &series{name: l.Case, values: slices.Repeat([]float64{math.NaN()}, len(rounds))}
					s.metric, s.unit = metricOf(v.Unit)
					all, index[key] = append(all, s), s
				}
				s.values[r] = v.Value
			}
		}
	}
	return all, index
}

func (s *series) result() Result {
	r := Result{Case: s.name, Metric: s.metric, Unit: s.unit, Value: round(median(s.values))}
	sorted := sorted(s.values)
	r.Rounds, r.Min, r.Max = len(sorted), round(sorted[0]), round(sorted[len(sorted)-1])
	return r
}

// ratios compares a case with all that differ from it in the value of one key.
func ratios(s *series, all []*series, index map[[2]string]*series, compare []string) map[string]float64 {
	out := map[string]float64{}
	for _, key := range compare {
		own, ok := part(s.name, key)
		if !ok {
			continue
		}
		for _, o := range all {
			other, ok := part(o.name, key)
			if !ok || other == own || o.metric != s.metric || o.unit != s.unit || with(o.name, key, own) != s.name {
				continue
			}
			if m := median(divide(s.values, o.values)); !math.IsNaN(m) && !math.IsInf(m, 0) {
				out[other] = round(m)
			}
		}
	}
	return out
}

// sorted gives the values that are there.
func sorted(values []float64) []float64 {
	out := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(out)
	return out
}

// median of those values that are there; NaN if there are none.
func median(values []float64) float64 {
	v := sorted(values)
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// round keeps four digits: no measurement has more to say.
func round(v float64) float64 {
	if v == 0 {
		return 0
	}
	digits := 3 - math.Floor(math.Log10(math.Abs(v)))
	scale := math.Pow(10, math.Abs(digits)) // a whole number, so that nothing is lost by it
	switch {
	case math.IsInf(scale, 0):
		return v
	case digits < 0:
		return math.Round(v/scale) * scale
	}
	return math.Round(v*scale) / scale
}

// Write writes the report as JSON, one result a line.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}

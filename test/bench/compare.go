package bench

import (
	"math"
	"slices"
	"strings"
)

// Sample is one number that one round found about one case. A case that differs
// from another one in its size only has that one's name, a slash and the
// difference: ours-go-nvgre/tenants=100.
type Sample struct {
	Case   string
	Metric string
	Unit   string
	Value  float64
	// Alone tells that the number has no ratios: it is a difference, or may be zero.
	Alone bool
}

// Absent is what has no number, and why: a case, or one metric of it.
type Absent struct {
	Case   string `json:"case"`
	Metric string `json:"metric,omitempty"`
	Why    string `json:"why"`
}

// Compare makes results of rounds, sorted by metric and then by case, both as they
// first occurred. Each result has its ratios to the cases named, and to the case
// that it is a size of. A ratio is the median of the ratios of each round in which
// both were measured.
func Compare(rounds [][]Sample, against ...string) []Result {
	all, index := table(rounds)
	out := make([]Result, len(all))
	for i, s := range all {
		out[i] = s.result()
		base, _, _ := strings.Cut(s.name, "/")
		ratio := map[string]float64{}
		for _, other := range append(slices.Clone(against), base) {
			o := index[[2]string{other, s.metric}]
			if other == s.name || o == nil || o.unit != s.unit || s.alone {
				continue
			}
			if m := median(divide(s.values, o.values)); !math.IsNaN(m) && !math.IsInf(m, 0) {
				ratio[other] = round(m)
			}
		}
		if len(ratio) > 0 {
			out[i].Ratio = ratio
		}
	}
	return out
}

// table brings the samples of all rounds together. Of several samples of one
// metric of one case in one round the last one counts.
func table(rounds [][]Sample) (all []*series, index map[[2]string]*series) {
	index = map[[2]string]*series{}
	var metrics, cases []string
	for r, samples := range rounds {
		for _, x := range samples {
			key := [2]string{x.Case, x.Metric}
			s := index[key]
			if s == nil {
				s = &series{name: x.Case, metric: x.Metric, unit: x.Unit, alone: x.Alone, values: slices.Repeat([]float64{math.NaN()}, len(rounds))}
				all, index[key] = append(all, s), s
				metrics, cases = add(metrics, x.Metric), add(cases, x.Case)
			}
			s.values[r] = x.Value
		}
	}
	slices.SortStableFunc(all, func(a, b *series) int {
		if d := slices.Index(metrics, a.metric) - slices.Index(metrics, b.metric); d != 0 {
			return d
		}
		return slices.Index(cases, a.name) - slices.Index(cases, b.name)
	})
	return all, index
}

func add(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func divide(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] / b[i]
	}
	return out
}

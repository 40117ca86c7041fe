package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// CompareTable writes the results of Compare for people, a block for each metric,
// with the ratios to those of the cases named that were measured, and to the case
// that a line is a size of.
//
//	tcp_up_1            median       least to greatest  of plain  of kernel-vxlan
//	  plain             9.12 Gbit/s  9.01 to 9.30                 1.05
//	  ours-go-nvgre     4.05 Gbit/s  3.98 to 4.21       0.44      0.47
func CompareTable(w io.Writer, results []Result, against ...string) error {
	against = slices.DeleteFunc(slices.Clone(against), func(name string) bool {
		return !slices.ContainsFunc(results, func(r Result) bool { return ratioOf(r, name) != "" })
	})
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	last := ""
	for _, r := range results {
		if r.Metric != last {
			head(t, r.Metric, last == "", against)
			last = r.Metric
		}
		scale, prefix := prefixOf(r.Unit, r.Value)
		fmt.Fprintf(t, "  %s\t%s %s%s\t%s to %s", r.Case, number(r.Value/scale), prefix, r.Unit, number(r.Min/scale), number(r.Max/scale))
		for _, a := range against {
			fmt.Fprintf(t, "\t%s", ratioOf(r, a))
		}
		base, _, sized := strings.Cut(r.Case, "/")
		if v := ratioOf(r, base); sized && v != "" {
			fmt.Fprintf(t, "\t%s of %s", v, base)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

func head(w io.Writer, metric string, first bool, against []string) {
	if !first {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s\tmedian\tleast to greatest", metric)
	for _, a := range against {
		fmt.Fprintf(w, "\tof %s", a)
	}
	fmt.Fprintln(w)
}

func ratioOf(r Result, name string) string {
	if v, ok := r.Ratio[name]; ok {
		return fmt.Sprintf("%.2f", v)
	}
	return ""
}

// prefixes are the prefixes of a unit, each from a least value on, the greatest
// first.
type prefixes []struct {
	from, scale float64
	prefix      string
}

// prefixOf chooses the prefix by which a value has few digits before the point, for
// units that are commonly used with one.
func prefixOf(unit string, v float64) (scale float64, prefix string) {
	var of prefixes
	switch unit {
	case "bit/s", "packet/s", "B":
		of = prefixes{{1e9, 1e9, "G"}, {1e6, 1e6, "M"}, {1e4, 1e3, "k"}}
	case "s":
		of = prefixes{{1, 1, ""}, {1e-3, 1e-3, "m"}, {1e-6, 1e-6, "u"}, {1e-12, 1e-9, "n"}}
	}
	for _, p := range of {
		if math.Abs(v) >= p.from {
			return p.scale, p.prefix
		}
	}
	return 1, ""
}

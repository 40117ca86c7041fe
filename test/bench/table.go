package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Table writes the results for people: a line for each case.
//
//	case                          cpu ns/packet         allocations   else
//	Path/way=encap/path=hit       244 (239 to 260)      0             first 0.26
//
// Where processor time was measured it stands for the time on the clock, which
// has that of others in it.
func Table(w io.Writer, results []Result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "case\tmedian (least to greatest)\tallocations\telse\tof what others need")
	for len(results) > 0 {
		n := 1
		for n < len(results) && results[n].Case == results[0].Case {
			n++
		}
		row(t, results[:n])
		results = results[n:]
	}
	return t.Flush()
}

func row(t io.Writer, of []Result) {
	lead := slices.IndexFunc(of, func(r Result) bool { return r.Metric == "cpu" })
	if lead < 0 {
		lead = max(0, slices.IndexFunc(of, func(r Result) bool { return r.Metric == "time" }))
	}
	allocs, more := "", []string{}
	for i, r := range of {
		switch {
		case i == lead || r.Metric == "time" && of[lead].Metric == "cpu" && r.Unit == of[lead].Unit:
		case r.Metric == "allocations":
			allocs = number(r.Value)
		default:
			more = append(more, quantity(r.Unit, r.Value))
		}
	}
	r := of[lead]
	fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.Case, quantity(r.Unit, r.Value, r.Min, r.Max), allocs, strings.Join(more, ", "), ratioText(r.Ratio))
}

func ratioText(ratio map[string]float64) string {
	var out []string
	for name, v := range ratio {
		out = append(out, fmt.Sprintf("%s %.2f", name, v))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// quantity shows a value with its unit, and the least and greatest if they are
// given. Long times are in longer units.
func quantity(unit string, v ...float64) string {
	if per, ok := strings.CutPrefix(unit, "ns/"); ok {
		scale := 1.0
		for _, u := range []string{"us/", "ms/", "s/"} {
			if v[0]/scale < 10_000 {
				break
			}
			scale, unit = scale*1000, u+per
		}
		v = slices.Clone(v)
		for i := range v {
			v[i] /= scale
		}
	}
	if len(v) == 1 {
		return number(v[0]) + " " + unit
	}
	return fmt.Sprintf("%s %s (%s to %s)", number(v[0]), unit, number(v[1]), number(v[2]))
}

// number shows a value with as many digits as matter.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

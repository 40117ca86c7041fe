package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	results := Compare([][]Sample{{
		{"limit", "tcp", "bit/s", 30e9, false}, {"plain", "tcp", "bit/s", 10e9, false}, {"ours", "tcp", "bit/s", 5e9, false}, {"ours/tenants=9", "tcp", "bit/s", 1, false},
		{"plain", "echo", "s", 1e-4, false}, {"ours", "echo", "s", 1e-4, false},
		{"ours", "alone", "s", 1, false},
	}}, "plain")
	c := Chart{
		Title: "Fast & <slow>", Against: "plain", Note: "a note",
		Groups: []Metric{{"tcp", "TCP"}, {"echo", "round trip"}, {"alone", "nobody to compare with"}, {"absent", "not measured"}},
	}
	var b strings.Builder
	if err := c.Write(&b, results); err != nil {
		t.Fatal(err)
	}
	texts, bars := elements(t, b.String())
	all := strings.Join(texts, "\n")
	for _, want := range []string{"Fast & <slow>", "TCP", "round trip", "a note", "» 3.00 (30.0 Gbit/s)", "0.50 (5 Gbit/s)", "1.00 (100 us)"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in the chart: %s", want, all)
		}
	}
	for _, not := range []string{"nobody", "not measured", "tenants"} {
		if strings.Contains(all, not) {
			t.Errorf("%q is in the chart", not)
		}
	}
	// limit is cut off, ours has a quarter of the width, and half of it where it equals.
	if want := []float64{chartBars, chartBars / 4, chartBars / 2}; len(bars) != len(want) || bars[0] != want[0] || bars[1] != want[1] || bars[2] != want[2] {
		t.Errorf("bars %v, want %v", bars, want)
	}
}

// elements reads the texts and the widths of the bars.
func elements(t *testing.T, svg string) (texts []string, bars []float64) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, bars
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		switch e := token.(type) {
		case xml.CharData:
			texts = append(texts, string(e))
		case xml.StartElement:
			for _, a := range e.Attr {
				width, err := strconv.ParseFloat(a.Value, 64)
				if e.Name.Local == "rect" && a.Name.Local == "width" && err == nil {
					bars = append(bars, width)
				}
			}
		}
	}
}

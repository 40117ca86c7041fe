package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Chart is a drawing of how cases compare with one of them.
type Chart struct {
	Title   string
	Against string   // the case that is 1
	Groups  []Metric // in their order; those without any ratio are left out
	Note    string   // below
}

// Metric is a metric with its name for people.
type Metric struct{ Name, Text string }

// Measures of the drawing, in pixels.
const (
	chartWidth  = 760
	chartNames  = 190 // left of the bars
	chartBars   = 380 // for the greatest ratio that is drawn whole
	chartLine   = 17
	chartHead   = 26 // above the bars of a metric
	chartMargin = 14
)

// longest is the greatest ratio that is drawn whole: a few times worse or better is
// all that a look should tell.
const longest = 2.0

// palette has a colour for each case, by its place in the first group.
var palette = []string{"#8c8c8c", "#c28f2c", "#7b6fb0", "#2c7fb8", "#41b6c4", "#1b7837", "#5aae61", "#b2182b", "#ef8a62"}

// Write draws the results as SVG: for each metric a bar for each case, as long as
// its ratio to the case they are compared with, whose place is a line.
func (c Chart) Write(w io.Writer, results []Result) error {
	var b bytes.Buffer
	var cases []string
	y := 2*chartMargin + chartLine
	top := y
	for _, g := range c.Groups {
		y = c.group(&b, y, g, results, &cases)
	}
	x := chartNames + int(chartBars/longest)
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", chartWidth, y+2*chartMargin)
	fmt.Fprintf(&out, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	fmt.Fprintf(&out, `<text x="%d" y="%d" font-size="15" fill="#222222">%s</text>`+"\n", chartMargin, chartMargin+chartLine/2+4, escape(c.Title))
	fmt.Fprintf(&out, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#555555" stroke-dasharray="3 3"/>`+"\n", x, top, x, y)
	out.Write(b.Bytes())
	fmt.Fprintf(&out, `<text x="%d" y="%d" font-size="10" fill="#777777">%s</text>`+"\n</svg>\n", chartMargin, y+chartMargin, escape(c.Note))
	_, err := out.WriteTo(w)
	return err
}

// group draws the bars of one metric from y on, and gives where the next group goes.
func (c Chart) group(w io.Writer, y int, g Metric, results []Result, cases *[]string) int {
	bars := 0
	for _, r := range results {
		ratio, ok := r.Ratio[c.Against]
		if r.Metric != g.Name || !ok || strings.Contains(r.Case, "/") {
			continue
		}
		if bars == 0 {
			fmt.Fprintf(w, `<text x="%d" y="%d" font-weight="bold" fill="#222222">%s</text>`+"\n", chartMargin, y+chartHead-8, escape(g.Text))
		}
		*cases = add(*cases, r.Case)
		bar(w, y+chartHead+bars*chartLine, r, ratio, colour(*cases, r.Case))
		bars++
	}
	if bars == 0 {
		return y
	}
	return y + chartHead + bars*chartLine
}

func bar(w io.Writer, y int, r Result, ratio float64, colour string) {
	length, more := ratio/longest*chartBars, ""
	if ratio > longest {
		length, more = chartBars, "» "
	}
	scale, prefix := prefixOf(r.Unit, r.Value)
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end" fill="#444444">%s</text>`, chartNames-6, y+chartLine-5, escape(r.Case))
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, chartNames, y+2, max(length, 0.5), chartLine-4, colour)
	fmt.Fprintf(w, `<text x="%.1f" y="%d" fill="#444444">%s%.2f (%s %s)</text>`+"\n",
		chartNames+max(length, 0)+5, y+chartLine-5, more, ratio, number(r.Value/scale), escape(prefix+r.Unit))
}

// colour is the same for a case in all groups.
func colour(cases []string, name string) string {
	for i, c := range cases {
		if c == name {
			return palette[i%len(palette)]
		}
	}
	return palette[0]
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

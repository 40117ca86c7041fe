package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// row is one thing that was tried.
type row struct {
	what, tenant, encap, from, to string
	result, rate                  string
	err                           error
}

// table is what the demonstration ends with.
type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func (t *table) failed() int {
	n := 0
	for _, r := range t.rows {
		if r.err != nil {
			n++
		}
	}
	return n
}

func (t *table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tTENANT\tENCAP\tFROM\tTO\tRESULT\tRATE")
	for _, r := range t.rows {
		if r.err != nil {
			r.result = "FAILED"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.what, dash(r.tenant), dash(r.encap), r.from, r.to, r.result, dash(r.rate))
	}
	_ = w.Flush() // a terminal that is gone is nothing to report
	for _, r := range t.rows {
		if r.err != nil {
			fmt.Fprintf(out, "failed: %s from %s to %s: %v\n", r.what, r.from, r.to, r.err)
		}
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hnvgate/hnvgate/api/document"
)

// shows gives a command the flag -o.
func (c *cli) shows(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVarP(&c.format, "output", "o", "table", "output format: table, json or yaml")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// show writes v in the format asked for; table writes it for people.
func (c *cli) show(v any, table func(w io.Writer)) error {
	switch c.format {
	case "json":
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case "yaml":
		b, err := document.Marshal(v)
		if err != nil {
			return err
		}
		_, err = c.out.Write(b)
		return err
	}
	table(c.out)
	return nil
}

// table is rows of cells under a header, each column as wide as it must be.
type table struct {
	header []string
	rows   [][]string
	none   string // said instead where there are no rows
	width  []int  // of the columns so far; nil: nothing was written yet
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the rows there are, and the header once.
func (t *table) write(w io.Writer) {
	rows := t.rows
	t.rows = nil
	if t.width == nil {
		if len(rows) == 0 {
			if t.none != "" {
				fmt.Fprintln(w, t.none)
			}
			return
		}
		t.width = make([]int, len(t.header))
		rows = append([][]string{t.header}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			t.width[i] = max(t.width[i], utf8.RuneCountInString(dash(cell)))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			cell = dash(cell)
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}

// dash stands for nothing, so that columns stay columns for awk too.
func dash(cell string) string {
	if cell == "" {
		return "-"
	}
	return plain(cell)
}

// plain keeps what others wrote from steering the terminal or the table.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// facts is a list of names and values.
type facts struct {
	names, values []string
}

func (f *facts) add(name, value string) {
	f.names = append(f.names, name)
	f.values = append(f.values, value)
}

func (f *facts) write(w io.Writer) {
	width := 0
	for _, n := range f.names {
		width = max(width, len(n))
	}
	for i, n := range f.names {
		fmt.Fprintf(w, "%-*s  %s\n", width+1, n+":", dash(f.values[i]))
	}
}

func number[T ~uint16 | ~uint32 | ~uint64 | ~int | ~int64](n T) string {
	return strconv.FormatInt(int64(n), 10)
}

// count is a number that is not worth saying when 0.
func count[T ~uint16 | ~uint32 | ~uint64 | ~int | ~int64](n T) string {
	if n == 0 {
		return ""
	}
	return number(n)
}

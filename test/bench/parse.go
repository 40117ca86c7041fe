package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Line is one result of a benchmark: a line in the format of the Go project's
// proposal 14313.
//
//	BenchmarkPath/way=encap/path=hit-2   364   0 allocs/packet   244.4 ns/packet
type Line struct {
	Case   string  // Path/way=encap/path=hit
	Values []Value // in their order
}

// Value is one number with its unit.
type Value struct {
	Value float64
	Unit  string
}

// Parse reads the results in what a test binary printed, and skips the rest. It
// fails if a benchmark or test failed.
func Parse(r io.Reader) (lines []Line, err error) {
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		text := in.Text()
		if strings.HasPrefix(text, "--- FAIL") || text == "FAIL" || strings.HasPrefix(text, "panic:") {
			return nil, fmt.Errorf("line %d: %s", n, text)
		}
		fields := strings.Fields(text)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		l, err := parseLine(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		lines = append(lines, l)
	}
	return lines, in.Err()
}

func parseLine(fields []string) (Line, error) {
	l := Line{Case: nameOf(fields[0])}
	if l.Case == "" {
		return l, fmt.Errorf("benchmark %q has no name", fields[0])
	}
	if _, err := strconv.ParseUint(fields[1], 10, 63); err != nil || len(fields)%2 != 0 {
		return l, fmt.Errorf("benchmark %s: want a count, then values and units", fields[0])
	}
	for i := 2; i < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return l, fmt.Errorf("benchmark %s: %q is no value", fields[0], fields[i])
		}
		l.Values = append(l.Values, Value{v, fields[i+1]})
	}
	return l, nil
}

// nameOf takes off what testing puts around the name: the word before it, and
// the number of processors behind it.
func nameOf(s string) string {
	s = strings.TrimPrefix(s, "Benchmark")
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		if _, err := strconv.ParseUint(s[i+1:], 10, 16); err == nil {
			s = s[:i]
		}
	}
	return s
}

// part gives the value of a key=value part of a case's name.
func part(name, key string) (value string, ok bool) {
	for p := range strings.SplitSeq(name, "/") {
		if v, is := strings.CutPrefix(p, key+"="); is {
			return v, true
		}
	}
	return "", false
}

// with gives the name with another value of the key.
func with(name, key, value string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, key+"=") {
			parts[i] = key + "=" + value
		}
	}
	return strings.Join(parts, "/")
}

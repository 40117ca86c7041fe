package bench

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const printed = `goos: linux
goarch: amd64
pkg: github.com/hnvgate/hnvgate/test/bench/dataplane
cpu: AMD EPYC
BenchmarkPath/way=encap/path=hit-2         	     364	         0 allocs/packet	       244.4 cpu-ns/packet	       561.0 ns/packet
BenchmarkPath/way=encap/path=first-2       	     109	         3.232 allocs/packet	       922.8 cpu-ns/packet	       909.9 ns/packet
BenchmarkPush/nvgre4
BenchmarkPush/nvgre4-2   	50000000	        26.7 ns/op	 0 B/op	 0 allocs/op
BenchmarkLoad/cas=dense4-2  	 1	 1.5e+09 ns/op
PASS
ok  	github.com/hnvgate/hnvgate/test/bench/dataplane	5.292s
`

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader(printed))
	if err != nil {
		t.Fatal(err)
	}
	want := []Line{
		{"Path/way=encap/path=hit", []Value{{0, "allocs/packet"}, {244.4, "cpu-ns/packet"}, {561, "ns/packet"}}},
		{"Path/way=encap/path=first", []Value{{3.232, "allocs/packet"}, {922.8, "cpu-ns/packet"}, {909.9, "ns/packet"}}},
		{"Push/nvgre4", []Value{{26.7, "ns/op"}, {0, "B/op"}, {0, "allocs/op"}}},
		{"Load/cas=dense4", []Value{{1.5e9, "ns/op"}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{
		"--- FAIL: BenchmarkPath/way=encap\n    rig_test.go:1: wrong",
		"FAIL",
		"panic: runtime error",
		"BenchmarkX-2 1 fast ns/op",
		"BenchmarkX-2 1 NaN ns/op",
		"BenchmarkX-2 one 1 ns/op",
		"BenchmarkX-2 1 1 ns/op 2",
		"Benchmark-2 1 1 ns/op",
	} {
		if got, err := Parse(strings.NewReader(s)); err == nil {
			t.Errorf("%q: got %v, want an error", s, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(printed)
	f.Add("BenchmarkX-2 1 1 ns/op")
	f.Fuzz(func(t *testing.T, s string) {
		lines, err := Parse(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, l := range lines {
			if l.Case == "" || len(l.Values) == 0 {
				t.Errorf("a result without a name or values: %+v", l)
			}
		}
		for _, r := range Collect([][]Line{lines, lines}, "path") {
			if r.Min > r.Value || r.Value > r.Max || r.Rounds < 1 || r.Rounds > 2 {
				t.Errorf("%+v", r)
			}
		}
	})
}

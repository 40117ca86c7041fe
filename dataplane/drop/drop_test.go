package drop_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/drop/internal/gen"
)

func readReasons(t *testing.T) []gen.Reason {
	t.Helper()
	f, err := os.Open("reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reasons, err := gen.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return reasons
}

func TestGeneratedFilesAreCurrent(t *testing.T) {
	reasons := readReasons(t)
	src, err := gen.Go(reasons)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		"drop_gen.go":                src,
		"../offload/bpf/reasons.h":   gen.C(reasons),
		"../../docs/drop-reasons.md": gen.Markdown(reasons),
	} {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what reasons.txt makes: run go generate ./dataplane/drop", path)
		}
	}
}

func TestTableAgreesWithList(t *testing.T) {
	reasons := readReasons(t)
	if len(reasons) != drop.Count-1 || len(drop.All()) != len(reasons) {
		t.Fatalf("list has %d reasons, Count is %d, All gives %d", len(reasons), drop.Count, len(drop.All()))
	}
	for i, r := range drop.All() {
		want := reasons[i]
		if int(r) != want.Number || r.String() != want.Name || r.Meaning() != want.Meaning || r.Source() != want.Source {
			t.Errorf("reason %d is %s, %q, %q; the list has %+v", r, r, r.Meaning(), r.Source(), want)
		}
		if back, ok := drop.Parse(r.String()); !ok || back != r {
			t.Errorf("Parse(%q) = %d, %v; want %d", r.String(), back, ok, r)
		}
	}
}

// The numbers are kept in pinned maps: these may never move.
func TestNumbersAreStable(t *testing.T) {
	for r, n := range map[drop.Reason]int{
		drop.None: 0, drop.OuterMalformed: 1, drop.InnerTruncated: 16, drop.VSIDUnknown: 21,
		drop.DestinationUnknown: 29, drop.ARPMalformed: 38, drop.NoPort: 46, drop.ECNInvalid: 53,
	} {
		if int(r) != n {
			t.Errorf("%s has number %d, want %d", r, r, n)
		}
	}
}

func TestOutsideTheTable(t *testing.T) {
	if s := drop.Reason(255).String(); s != "unknown" {
		t.Errorf("String of an unused number is %q", s)
	}
	if drop.Reason(255).Meaning() != "" || drop.Reason(255).Source() != "" || drop.None.String() != "none" {
		t.Error("unused number or None has a wrong text")
	}
	if _, ok := drop.Parse("no-such-reason"); ok {
		t.Error("Parse finds a name that is not there")
	}
}

func TestListIsChecked(t *testing.T) {
	for name, c := range map[string]struct{ list, want string }{
		"columns":   {"1 | a | -", "columns"},
		"number":    {"x | a | - | A.", "number"},
		"gap":       {"2 | a | - | A.", "out of order"},
		"twice":     {"1 | a | - | A.\n2 | a | - | A.", "twice"},
		"name":      {"1 | A_b | - | A.", "lower-case"},
		"taken":     {"1 | none | - | A.", "lower-case"},
		"source":    {"1 | a | | A.", "source"},
		"sentence":  {"1 | a | - | A", "sentence"},
		"both told": {"1 | a | | A.\n1 | b | - | B", "line 2"},
	} {
		if _, err := gen.Parse(strings.NewReader(c.list)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, c.want)
		}
	}
}

func TestStringDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = drop.TooBig.String() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

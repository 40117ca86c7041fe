// Command bench runs the benchmarks of the dataplane in rounds and writes what
// they come to: JSON, the text that benchstat reads, and a table.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/bench"
)

// suite is a package and those of its benchmarks that belong to the report.
type suite struct{ pkg, bench string }

var suites = []suite{
	{"./test/bench/dataplane", "."},
	{"./dataplane/encap", "^Benchmark(Parse|Push)$"},
	{"./dataplane/flow", "^Benchmark(Packet|Insert|Memory)$"},
	{"./dataplane/lookup", "^Benchmark(Load|Lookup|Routes|UpdateOne|Mapping|Station)$"},
	{"./dataplane/vfp", "^Benchmark(Evaluate|Compile|Apply|Take)$"},
}

func main() {
	var r runner
	flag.StringVar(&r.out, "out", "out/bench-dataplane", "`path` of the files, without extension")
	flag.StringVar(&r.commit, "commit", "unknown", "`commit` that is measured")
	flag.IntVar(&r.rounds, "rounds", 5, "`number` of rounds")
	flag.DurationVar(&r.time, "time", 100*time.Millisecond, "least `duration` of each benchmark in each round")
	flag.StringVar(&r.only, "only", "", "`regexp` of the benchmarks to run instead of all, as go test -bench takes it")
	flag.Parse()
	if err := r.run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type runner struct {
	out, commit, only string
	rounds            int
	time              time.Duration
}

func (r *runner) run() error {
	if r.rounds < 1 {
		return errors.New("there must be at least one round")
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.build(dir); err != nil {
		return err
	}
	report := bench.Report{Machine: bench.ThisMachine(), Commit: r.commit}
	report.Machine.Load[0] = bench.Load()
	var text bytes.Buffer
	var rounds [][]bench.Line
	for n := range r.rounds {
		lines, err := r.round(n, dir, &text)
		if err != nil {
			return err
		}
		rounds = append(rounds, lines)
	}
	report.Machine.Load[1] = bench.Load()
	report.Results = bench.Collect(rounds, "path", "table")
	return r.write(&report, text.Bytes())
}

// build compiles the test binaries.
func (r *runner) build(dir string) error {
	for i, s := range suites {
		c := exec.Command("go", "test", "-c", "-o", binary(dir, i), s.pkg)
		c.Stderr = os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("build the benchmarks of %s: %w", s.pkg, err)
		}
	}
	return nil
}

func binary(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i, ".test")) }

// round runs all benchmarks once, and adds what they printed to text.
func (r *runner) round(n int, dir string, text io.Writer) (all []bench.Line, err error) {
	for i, s := range suites {
		fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", n+1, r.rounds, s.pkg)
		which := s.bench
		if r.only != "" {
			which = r.only
		}
		c := exec.Command(binary(dir, i), "-test.run=^$", "-test.bench="+which, "-test.benchtime="+r.time.String(), "-test.timeout=1h")
		var out bytes.Buffer
		c.Dir, c.Stdout, c.Stderr = s.pkg, io.MultiWriter(&out, text), os.Stderr
		if err := c.Run(); err != nil {
			os.Stderr.Write(out.Bytes())
			return nil, fmt.Errorf("run the benchmarks of %s: %w", s.pkg, err)
		}
		lines, err := bench.Parse(&out)
		if err != nil {
			return nil, fmt.Errorf("results of %s: %w", s.pkg, err)
		}
		for i := range lines {
			lines[i].Case = filepath.Base(s.pkg) + "/" + lines[i].Case
		}
		all = append(all, lines...)
	}
	return all, nil
}

func (r *runner) write(report *bench.Report, text []byte) error {
	var js, table bytes.Buffer
	if err := report.Write(&js); err != nil {
		return err
	}
	if err := bench.Table(&table, report.Results); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.out), 0o777); err != nil {
		return err
	}
	for ext, b := range map[string][]byte{".json": js.Bytes(), ".txt": text, ".table": table.Bytes()} {
		if err := os.WriteFile(r.out+ext, b, 0o666); err != nil {
			return err
		}
	}
	m := report.Machine
	fmt.Printf("%s, %d cores, Linux %s, %s, commit %s, load %s\n\n", m.CPU, m.Cores, m.Kernel, m.Go, report.Commit, strings.Join(m.Load[:], " to "))
	_, err := table.WriteTo(os.Stdout)
	return err
}

//go:build linux

// Command benchgateway measures the gateway beside what an operator would pick
// instead, in namespaces of its own, and writes what it finds: JSON,
// a table and a chart.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hnvgate/hnvgate/test/bench"
	"github.com/hnvgate/hnvgate/test/bench/gateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// knobs are the command line.
type knobs struct {
	bin, out, commit string
	cases, measures  string
	tenants, records string
	rounds           int
	time, most       time.Duration
	quick, list      bool
}

func parse(args []string) (knobs, error) {
	var k knobs
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&k.bin, "bin", "bin", "`folder` of gatewayd and gatewayctl")
	f.StringVar(&k.out, "out", "out/bench", "`path` of the files, without extension")
	f.StringVar(&k.commit, "commit", "unknown", "`commit` that is measured")
	f.StringVar(&k.cases, "cases", "", "`names` of the cases to measure, with commas between them, instead of all")
	f.StringVar(&k.measures, "measures", "", "`names` of what to measure instead of everything")
	f.IntVar(&k.rounds, "rounds", 0, "`number` of rounds (5, or 2 with -quick)")
	f.DurationVar(&k.time, "time", 0, "`duration` of each measurement in each round (2s, or 1s with -quick)")
	f.StringVar(&k.tenants, "tenants", "", "`numbers` of tenants to measure besides one, or none (100,1000, or 100 with -quick)")
	f.StringVar(&k.records, "records", "", "`numbers` of lookup records to measure besides one, or none (1000,100000,1000000, or 1000 with -quick)")
	f.DurationVar(&k.most, "most", 40*time.Minute, "`duration` after which no further number of tenants or records is begun")
	f.BoolVar(&k.quick, "quick", false, "measure less of everything, in about three minutes")
	f.BoolVar(&k.list, "list", false, "list the cases and measures, and measure nothing")
	if err := f.Parse(args); err != nil {
		return k, err
	}
	if f.NArg() > 0 {
		return k, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	def := func(full, quick time.Duration) time.Duration {
		if k.quick {
			return quick
		}
		return full
	}
	if k.rounds == 0 {
		k.rounds = int(def(5, 2))
	}
	if k.time == 0 {
		k.time = def(2*time.Second, time.Second)
	}
	if k.tenants == "" {
		k.tenants = "100,1000"
		if k.quick {
			k.tenants = "100"
		}
	}
	if k.records == "" {
		k.records = "1000,100000,1000000"
		if k.quick {
			k.records = "1000"
		}
	}
	if k.rounds < 1 || k.time < 0 || k.most < 0 {
		return k, errors.New("rounds and time must be positive")
	}
	return k, nil
}

func (k knobs) options() (gateway.Options, error) {
	o := gateway.Options{
		Measures: words(k.measures), Rounds: k.rounds, Time: k.time, Most: k.most, Streams: []int{1, 4, 16}, Flows: []uint32{1, 256, 16384},
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	if k.quick {
		o.Streams = []int{1, 4}
	}
	o.SizeRounds = (k.rounds + 1) / 2
	var err error
	if o.Tenants, err = numbers(k.tenants); err != nil {
		return o, err
	}
	if o.Records, err = numbers(k.records); err != nil {
		return o, err
	}
	if o.Bin, err = filepath.Abs(k.bin); err != nil {
		return o, err
	}
	o.Cases, err = gateway.Choose(words(k.cases))
	return o, err
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

// numbers reads a list of sizes, greater than one.
func numbers(list string) (out []int, err error) {
	if list == "none" {
		return nil, nil
	}
	for _, w := range words(list) {
		n, err := strconv.Atoi(w)
		if err != nil || n < 2 || n > 1e6 {
			return nil, fmt.Errorf("%q is no size: use numbers from 2 to 1000000, or none", w)
		}
		out = append(out, n)
	}
	return out, nil
}

func command(ctx context.Context, args []string) error {
	k, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.list {
		list()
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("making network namespaces needs root: run it with sudo")
	}
	o, err := k.options()
	if err != nil {
		return err
	}
	report := bench.Report{Machine: bench.ThisMachine(), Commit: k.commit}
	report.Machine.Load[0] = bench.Load()
	report.Results, report.Absent, err = gateway.Run(ctx, o)
	report.Machine.Load[1] = bench.Load()
	if len(report.Results) > 0 {
		err = errors.Join(err, k.write(&report))
	}
	return err
}

func list() {
	fmt.Println("Cases:")
	for _, c := range gateway.Cases() {
		fmt.Printf("  %-22s %s\n", c.Name, c.What)
	}
	fmt.Println("\nMeasures:")
	for _, m := range gateway.Measures() {
		fmt.Printf("  %-22s %s\n", m[0], m[1])
	}
}

func (k knobs) write(report *bench.Report) error {
	var js, table, chart bytes.Buffer
	if err := report.Write(&js); err != nil {
		return err
	}
	m := report.Machine
	machine := fmt.Sprintf("%s, %d cores, Linux %s, %s, commit %s, load %s", m.CPU, m.Cores, m.Kernel, m.Go, report.Commit, strings.Join(m.Load[:], " to "))
	if err := gateway.Chart(machine).Write(&chart, report.Results); err != nil {
		return err
	}
	if err := bench.CompareTable(&table, report.Results, gateway.Against()...); err != nil {
		return err
	}
	for _, a := range report.Absent {
		fmt.Fprintf(&table, "absent: %s: %s\n", strings.TrimSpace(a.Case+" "+a.Metric), a.Why)
	}
	if err := os.MkdirAll(filepath.Dir(k.out), 0o777); err != nil {
		return err
	}
	for ext, b := range map[string][]byte{".json": js.Bytes(), ".table": table.Bytes(), ".svg": chart.Bytes()} {
		if err := os.WriteFile(k.out+ext, b, 0o666); err != nil {
			return err
		}
	}
	fmt.Println(machine + "\n")
	_, err := table.WriteTo(os.Stdout)
	return err
}

//go:build linux

// Command benchs2s measures tunnels to sites and BGP beside what an operator would
// use instead, in namespaces of its own, and writes what it finds: JSON and a table.
package main

import (
	"bytes"
	"cmp"
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
	"github.com/hnvgate/hnvgate/test/bench/s2s"
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
	bin, out, commit, measures string
	wireguard                  string
	tunnels, routes            string
	rounds, tenants, cuts      int
	time                       time.Duration
	quick, list                bool
}

func parse(args []string) (knobs, error) {
	var k knobs
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&k.bin, "bin", "bin", "`folder` of the programs")
	f.StringVar(&k.wireguard, "wireguard", "", "`program` at all ends of tunnels but the gateway's (wireguard in the folder of the programs: the same code as the gateway's; wireguard-go: Debian's)")
	f.StringVar(&k.out, "out", "out/bench-s2s", "`path` of the files, without extension")
	f.StringVar(&k.commit, "commit", "unknown", "`commit` that is measured")
	f.StringVar(&k.measures, "measures", "", "`names` of what to measure, with commas between them, instead of everything")
	f.IntVar(&k.rounds, "rounds", 0, "`number` of rounds (3, or 1 with -quick)")
	f.DurationVar(&k.time, "time", 0, "`duration` of each TCP measurement (3s, or 1s with -quick)")
	f.StringVar(&k.tunnels, "tunnels", "", "`numbers` of tunnels (1,10,200, or 1,10 with -quick)")
	f.StringVar(&k.routes, "routes", "", "`numbers` of routes (100000,1000000, or 10000 with -quick)")
	f.IntVar(&k.tenants, "tenants", 0, "`number` of tenants (200, or 10 with -quick)")
	f.IntVar(&k.cuts, "cuts", 0, "`number` of cuts (20, or 3 with -quick)")
	f.BoolVar(&k.quick, "quick", false, "measure less of everything")
	f.BoolVar(&k.list, "list", false, "list the measures, and measure nothing")
	if err := f.Parse(args); err != nil {
		return k, err
	}
	if f.NArg() > 0 {
		return k, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if k.quick {
		k.def(1, time.Second, "1,10", "10000", 10, 3)
	} else {
		k.def(3, 3*time.Second, "1,10,200", "100000,1000000", 200, 20)
	}
	if k.rounds < 1 || k.time < 0 || k.tenants < 1 || k.cuts < 1 {
		return k, errors.New("numbers must be positive")
	}
	return k, nil
}

// def sets what was not given.
func (k *knobs) def(rounds int, t time.Duration, tunnels, routes string, tenants, cuts int) {
	for _, x := range []struct {
		given *int
		def   int
	}{{&k.rounds, rounds}, {&k.tenants, tenants}, {&k.cuts, cuts}} {
		if *x.given == 0 {
			*x.given = x.def
		}
	}
	for _, x := range []struct {
		given *string
		def   string
	}{{&k.tunnels, tunnels}, {&k.routes, routes}} {
		if *x.given == "" {
			*x.given = x.def
		}
	}
	if k.time == 0 {
		k.time = t
	}
}

func (k knobs) options() (s2s.Options, error) {
	o := s2s.Options{
		Measures: words(k.measures), Rounds: k.rounds, Time: k.time, Tenants: k.tenants, Cuts: k.cuts,
		Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	}
	var err error
	if o.Tunnels, err = numbers(k.tunnels); err != nil {
		return o, err
	}
	if o.Routes, err = numbers(k.routes); err != nil {
		return o, err
	}
	o.Bin, err = filepath.Abs(k.bin)
	o.WireGuard = cmp.Or(k.wireguard, filepath.Join(o.Bin, "wireguard"))
	return o, err
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' })
}

// numbers reads a list of sizes.
func numbers(list string) (out []int, err error) {
	for _, w := range words(list) {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > 4e6 {
			return nil, fmt.Errorf("%q is no size: use numbers from 1 to 4000000", w)
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no number", list)
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
		for _, m := range s2s.Measures() {
			fmt.Printf("%-10s %s\n", m[0], m[1])
		}
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
	report.Results, report.Absent, err = s2s.Run(ctx, o)
	report.Machine.Load[1] = bench.Load()
	if len(report.Results) > 0 {
		err = errors.Join(err, k.write(&report))
	}
	return err
}

func (k knobs) write(report *bench.Report) error {
	var js, table bytes.Buffer
	if err := report.Write(&js); err != nil {
		return err
	}
	m := report.Machine
	fmt.Fprintf(&table, "%s, %d cores, Linux %s, %s, commit %s, load %s\n\n", m.CPU, m.Cores, m.Kernel, m.Go, report.Commit, strings.Join(m.Load[:], " to "))
	if err := bench.CompareTable(&table, report.Results, s2s.Against()...); err != nil {
		return err
	}
	for _, a := range report.Absent {
		fmt.Fprintf(&table, "absent: %s: %s\n", strings.TrimSpace(a.Case+" "+a.Metric), a.Why)
	}
	if err := os.MkdirAll(filepath.Dir(k.out), 0o777); err != nil {
		return err
	}
	for ext, b := range map[string][]byte{".json": js.Bytes(), ".table": table.Bytes()} {
		if err := os.WriteFile(k.out+ext, b, 0o666); err != nil {
			return err
		}
	}
	_, err := table.WriteTo(os.Stdout)
	return err
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/hnv"
)

// childEnv makes the test binary a writer on the directory that it names.
const childEnv = "HNVGATE_STORE_TEST_CHILD"

// childMain writes record after record and says each only once it is stored.
func childMain(dir string) {
	s, err := Open(context.Background(), Options{Dir: dir, Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if _, err := s.Update(context.Background(), put(twoTenants()...)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		r := record(5001, fmt.Sprintf("10.1.%d.%d", 100+i/200, i%200+2), fmt.Sprintf("00:15:5d:03:%02x:%02x", i>>8&0xff, i&0xff), hnv.RuleNVGRE)
		if _, err := s.Update(context.Background(), put(r)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(r.Key())
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := range 2 {
		cmd := exec.CommandContext(t.Context(), exe)
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		guard := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
			if n == 60+37*round {
				_ = cmd.Process.Kill() // SIGKILL, in the middle of writing
			}
		}
		guard.Stop()
		_ = cmd.Wait()
	}
	if len(acknowledged) < 90 {
		t.Fatalf("the child wrote %d records only", len(acknowledged))
	}
	s := open(t, dir)
	defer s.Close()
	have := contents(s)
	for key := range acknowledged {
		if _, ok := have[keyOf(hnv.KindRecord, key)]; !ok {
			t.Errorf("record %s was acknowledged and is gone", key)
		}
	}
	for _, o := range twoTenants() {
		if _, ok := have[keyOf(o.Kind(), o.Key())]; !ok {
			t.Errorf("%s %s is gone", o.Kind(), o.Key())
		}
	}
}

func TestImportInBoundedTransactions(t *testing.T) {
	s := fresh(t)
	if _, err := s.Update(t.Context(), put(twoTenants()...)); err != nil {
		t.Fatal(err)
	}
	before := contents(s)
	n := 3*importBatch + 7
	records := manyRecords(1, n)
	bad := append(manyRecords(1, n), record(5001, "10.9.9.9", "00:15:5d:00:00:09", hnv.RuleNVGRE))
	if _, err := importAll(t.Context(), s, bad); err == nil {
		t.Fatal("an import with a bad record went through")
	}
	if len(contents(s)) != len(before) || len(inEtcd(t, s)) != len(before)+1 {
		t.Fatal("a refused import left something behind")
	}
	start := s.Revision()
	rev, err := importAll(t.Context(), s, records)
	if err != nil {
		t.Fatal(err)
	}
	if rev-start != 4 {
		t.Errorf("%d transactions, want 4", rev-start)
	}
	if got := len(contents(s)); got != len(before)+n {
		t.Errorf("%d objects, want %d", got, len(before)+n)
	}
}

func TestTooLargeForOneTransaction(t *testing.T) {
	r := record(5001, "10.1.0.2", "00:15:5d:00:00:01", hnv.RuleNVGRE)
	long := r
	long.VMName = strings.Repeat("x", 256)
	for name, st := range map[string]*staged{
		"objects": {applied: slices.Repeat([]Applied{{Old: r}}, maxTxnOps+1)},
		"bytes":   {applied: slices.Repeat([]Applied{{Object: long}}, maxTxnOps*3/4)},
	} {
		if _, err := st.ops(); !errors.Is(err, hnv.ErrInvalid) || !strings.Contains(err.Error(), "split") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// BenchmarkUpdate is one record in one transaction.
func BenchmarkUpdate(b *testing.B) {
	s := forBench(b)
	for i := 0; b.Loop(); i++ {
		r := record(5001, "10.1.200.1", fmt.Sprintf("00:15:5d:%02x:%02x:%02x", i>>16&0xff, i>>8&0xff, i&0xff), hnv.RuleNVGRE)
		if _, err := s.Update(b.Context(), put(r)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApply is a transaction of 10000 records, BenchmarkImport an import
// of 30000, each time with all of them changed.
func BenchmarkApply(b *testing.B) {
	s := forBench(b)
	for i := 0; b.Loop(); i++ {
		var objects []hnv.Object
		for _, r := range manyRecords(byte(2*i+1), 10_000) {
			objects = append(objects, r)
		}
		if _, err := s.Update(b.Context(), put(objects...)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImport(b *testing.B) {
	s := forBench(b)
	for i := 0; b.Loop(); i++ {
		if _, err := importAll(b.Context(), s, manyRecords(byte(2*i+1), 30_000)); err != nil {
			b.Fatal(err)
		}
	}
}

func forBench(b *testing.B) *Store {
	s, err := Open(b.Context(), Options{Dir: b.TempDir(), Site: site, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	if _, err := s.Update(b.Context(), put(twoTenants()...)); err != nil {
		b.Fatal(err)
	}
	return s
}

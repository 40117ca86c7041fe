package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/server/servertest"
	"github.com/hnvgate/hnvgate/hnv"
)

var people = []string{
	"gatewayctl provider-address add 192.168.1.1/24 --interface eth1",
	"gatewayctl tenant add contoso --encap nvgre --rdid 5b1c6a3e-0d0c-1f55-9a5e-1f3c2f0a7b11 --subnet 5001=10.1.0.0/16,fd00:1::/64",
	"gatewayctl tenant add fabrikam --encap vxlan --rdid 7c1c6a3e-0d0c-1f55-9a5e-1f3c2f0a7b22 --subnet 6001=10.1.0.0/16",
}

func populate(t *testing.T, socket string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if out := call(t, socket, line); strings.Contains(out, "[exit") {
			t.Fatalf("%s\n%s", line, out)
		}
	}
}

func writeTemp(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func recordsOf(store *servertest.Store) (out []hnv.Object) {
	for _, o := range store.Objects() {
		if o.Kind() == hnv.KindRecord {
			out = append(out, o)
		}
	}
	return out
}

// What one gateway exports, another imports, in both forms, whatever the type,
// and makes the same of it.
func TestExportedRecordsAreImported(t *testing.T) {
	socket, store := gateway(t)
	populate(t, socket, people...)
	populate(t, socket,
		"gatewayctl record add --vsid 5001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.10 --team-pa 192.168.1.11,192.168.1.12 --vm-name 'a, \"b\"'",
		"gatewayctl record add --vsid 6001 --ca 10.1.1.11 --mac 00:15:5d:00:00:01 --pa 192.168.1.10 --type dynamic --use-vm-mac",
		"gatewayctl record add --vsid 5001 --ca fd00:1::12 --mac 00:15:5d:00:00:02 --pa 192.168.1.10 --rule vxlan --type gateway-wildcard",
		"gatewayctl record add --vsid 5001 --ca 10.1.1.13 --mac 00:15:5d:00:00:03 --pa 192.168.1.30 --rule rewrite --context 'moved here'",
		"gatewayctl record add --vsid 6001 --mac 00:15:5d:00:00:04 --pa 192.168.1.10 --type l2only")
	for _, name := range []string{"records.csv", "records.json"} {
		file := filepath.Join(t.TempDir(), name)
		if out := call(t, socket, "gatewayctl record export "+file); !strings.HasPrefix(out, "5 lookup records written to ") {
			t.Fatal(out)
		}
		other, otherStore := gateway(t)
		populate(t, other, people...)
		if out := call(t, other, "gatewayctl record import "+file); !strings.Contains(out, "5 lookup records imported: 5 created") {
			t.Fatal(out)
		}
		if got, want := fmt.Sprint(recordsOf(otherStore)), fmt.Sprint(recordsOf(store)); got != want {
			t.Errorf("%s: got %s\nwant %s", name, got, want)
		}
	}
}

// An export that fails leaves the file that was there.
func TestFailedExportLeavesTheFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "records.csv")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := call(t, filepath.Join(dir, "none"), "gatewayctl record export "+file); !strings.Contains(out, "[exit 3]") {
		t.Error(out)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "before" {
		t.Errorf("%q, %v", b, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// A long list comes in pages, in every form, and is one list all the same.
func TestLongListOfRecords(t *testing.T) {
	socket, _ := gateway(t)
	populate(t, socket, people...)
	const n = 12_345
	var csv bytes.Buffer
	fmt.Fprintln(&csv, "vsid,ca,mac,pa")
	for i := range n {
		fmt.Fprintf(&csv, "5001,10.1.%d.%d,02155D%06X,192.168.1.10\n", 1+i/250, 1+i%250, i)
	}
	file := filepath.Join(t.TempDir(), "many.csv")
	if err := os.WriteFile(file, csv.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	populate(t, socket, "gatewayctl record import "+file)
	for format, pattern := range map[string]string{"table": "configured", "json": `"vsid": 5001`, "yaml": "- vsid: 5001"} {
		out := call(t, socket, "gatewayctl record list --vsid 5001 --origin configured -o "+format)
		if got := strings.Count(out, pattern); got != n {
			t.Errorf("%s: %d records, want %d", format, got, n)
		}
		if heads := strings.Count(out, "TENANT") + strings.Count(out, "items"); heads != 1 {
			t.Errorf("%s: %d lists in one", format, heads)
		}
		if format != "json" {
			continue
		}
		// What is printed can be imported.
		again := filepath.Join(t.TempDir(), "again.json")
		if err := os.WriteFile(again, []byte(out), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := call(t, socket, "gatewayctl record import "+again); !strings.Contains(out, "0 created, 0 updated, 12345 unchanged") {
			t.Error(out)
		}
	}
}

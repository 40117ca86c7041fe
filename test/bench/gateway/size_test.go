//go:build linux

package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/api/recordfile"
)

func TestRecordsFile(t *testing.T) {
	r := &rig{site: newSite(), size: Size{1, 1000}}
	file := filepath.Join(t.TempDir(), "records.csv")
	if err := r.writeRecords(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := recordfile.Parse(file, b)
	if err != nil {
		t.Fatal(err)
	}
	first, last := f.Records[0], f.Records[len(f.Records)-1]
	if len(f.Records) != 1000 || first.CA != "10.2.0.0" || last.CA != "10.2.3.231" || last.VSID != r.site.tenant(0).vmVSID.Uint32() || first.MAC == last.MAC {
		t.Errorf("%d records from %+v to %+v", len(f.Records), first, last)
	}
}

func TestKilobytes(t *testing.T) {
	text := "Rss:  9 kB\nPss:                 1000 kB\nPss_Dirty:   7 kB\nSlab: 24 kB\nHugePages_Total: 3\n"
	if got := kilobytes(text, "Pss", "Slab", "Percpu"); got != 1024*1024 {
		t.Errorf("got %v", got)
	}
	if got := kilobytes(strings.Repeat("x", 10), "Pss"); got != 0 {
		t.Errorf("of nothing: got %v", got)
	}
}

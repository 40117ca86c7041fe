package nft

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestText(t *testing.T) {
	file := filepath.Join("testdata", "everything.nft")
	got := everything().String()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-golden +built)\n%s", diff)
	}
}

func TestIntervals(t *testing.T) {
	for prefix, want := range map[string][]elem{
		"10.1.0.0/16":        {{key: "\x0a\x01\x00\x00"}, {key: "\x0a\x02\x00\x00", end: true}},
		"10.1.255.255/32":    {{key: "\x0a\x01\xff\xff"}, {key: "\x0a\x02\x00\x00", end: true}},
		"255.255.255.255/32": {{key: "\xff\xff\xff\xff"}},
		"0.0.0.0/0":          {{key: "\x00\x00\x00\x00"}},
	} {
		p := netip.MustParsePrefix(prefix)
		got := mustCompile(t, Table{Family: Inet, Name: "t", Sets: []Set{{
			Name: "s", Key: []Type{IPv4Addr}, Interval: true, Elements: []Element{E(Prefix(p))}}}}).sets[0].elems
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(elem{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", prefix, diff)
		}
	}
}

func TestRegisters(t *testing.T) {
	// NFT_REG_1 to 4 are the 16-byte ones, NFT_REG32_00 (8) and on the quarters.
	for n, want := range []uint32{1, 9, 10, 11, 2, 13, 14, 15, 3} {
		if got := slot(n); got != want {
			t.Errorf("slot %d is register %d, want %d", n, got, want)
		}
	}
}

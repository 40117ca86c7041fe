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

// What is read back of a range of addresses is a prefix, or nothing of ours.
func TestPrefixesReadBack(t *testing.T) {
	for _, s := range []string{"10.1.0.0/16", "10.3.3.3/32", "0.0.0.0/0", "10.0.0.0/7", "fd00:1::/64", "fd00::1/128"} {
		p := netip.MustParsePrefix(s)
		typ := IPv4Addr
		if p.Addr().Is6() {
			typ = IPv6Addr
		}
		v := Prefix(p)
		got, err := typ.value(v.lo, v.hi)
		if lo, _ := got.Bounds(); err != nil || got.Bits() != p.Bits() || string(lo) != string(p.Addr().AsSlice()) {
			t.Errorf("%s became %v, %v", p, got, err)
		}
	}
	for lo, hi := range map[string]string{"\x0a\x00\x00\x00": "\x0a\x00\x00\x02", "\x0a\x00\x00\x01": "\x0a\x00\x00\x02", "\x0a\x00\x00\x02": "\x0a\x00\x00\x00"} {
		if got, err := IPv4Addr.value([]byte(lo), []byte(hi)); err == nil {
			t.Errorf("%x to %x became %v", lo, hi, got)
		}
	}
}

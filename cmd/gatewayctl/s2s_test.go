package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/s2s"
)

// The key is put into the file as gatewayd writes it, once, and where wg-quick looks
// for it.
func TestPresharedKeyIsPutIn(t *testing.T) {
	far := s2s.FarEnd{
		Tunnel: s2s.Tunnel{Name: "hq", Addresses: []netip.Prefix{netip.MustParsePrefix("169.254.10.1/30")}},
		Peer:   s2s.Peer{Name: "edge", Prefixes: []netip.Prefix{netip.MustParsePrefix("169.254.10.2/32")}},
	}
	far.PublicKey, _ = s2s.ParseKey("pOCSkrZRwniL0GNBGdC5ZlmNNmPb8zsUHgLiaD3h+To=")
	for _, said := range []bool{true, false} {
		far.PresharedElsewhere = said
		out := withPresharedKey(far.Quick(), "KEY=")
		_, peer, ok := strings.Cut(out, "[Peer]\n")
		if !ok || !strings.HasPrefix(peer, "PublicKey = "+far.PublicKey.String()+"\nPresharedKey = KEY=\n") || strings.Count(out, "PresharedKey") != 1 || strings.Contains(peer, "# put the pre-shared") {
			t.Errorf("said %v:\n%s", said, out)
		}
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		age(0): "0s", age(59): "59s", age(60): "1m00s", age(3599): "59m59s", age(3600): "1h00m", age(86399): "23h59m", age(90000): "1d01h",
		bytesWords(0): "0B", bytesWords(999): "999B", bytesWords(1000): "1.00kB", bytesWords(99_960): "100kB", bytesWords(999_499): "999kB", bytesWords(999_500): "1.00MB",
		bytesWords(1<<64 - 1): "18.4EB", rttWords(0): "", rttWords(820_000): "0.82ms", percent(0.5): "0.5%", percent(93.65079365079364): "93.7%", percent(0): "0%", percent(100): "100%",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

package encap_test

import (
	"testing"

	"github.com/hnvgate/hnvgate/dataplane/drop"
	"github.com/hnvgate/hnvgate/dataplane/encap"
	"github.com/hnvgate/hnvgate/dataplane/packet"
)

func entropyOf(t *testing.T, srcPort uint16, n int) encap.Header {
	t.Helper()
	b := inner(t, n)
	b[34], b[35] = byte(srcPort>>8), byte(srcPort)
	var h packet.Headers
	if r := h.DecodeEthernet(b); r != drop.None {
		t.Fatal(r)
	}
	var e encap.Header
	e.SetEntropy(h.FlowHash())
	return e
}

func TestEntropyStaysWithTheFlow(t *testing.T) {
	for port := range uint16(200) {
		first, later := entropyOf(t, port, 0), entropyOf(t, port, 1000)
		if first != later {
			t.Errorf("port %d: %+v, then %+v", port, first, later)
		}
	}
}

// 16384 flows over 256 FlowIDs and over 256 paths chosen by source port: the
// statistic has mean 255 and deviation 22.6.
func TestEntropySpreadsFlows(t *testing.T) {
	var flowIDs, high, low [256]int
	for port := range uint16(16384) {
		e := entropyOf(t, port, 0)
		if e.SrcPort < 49152 {
			t.Fatalf("source port %d is not a dynamic one", e.SrcPort)
		}
		flowIDs[e.FlowID]++
		high[(e.SrcPort-49152)>>6]++
		low[e.SrcPort&255]++
	}
	for name, counts := range map[string][256]int{"FlowID": flowIDs, "port, high bits": high, "port, low bits": low} {
		want, chi := 16384.0/256, 0.0
		for _, n := range counts {
			chi += (float64(n) - want) * (float64(n) - want) / want
		}
		if chi < 255-4*22.6 || chi > 255+4*22.6 {
			t.Errorf("%s: chi-square %.0f, want about 255", name, chi)
		}
	}
}

func TestEntropyCoversTheWholeRange(t *testing.T) {
	var lo, hi encap.Header
	lo.SetEntropy(0)
	hi.SetEntropy(1<<32 - 1)
	if lo.SrcPort != 49152 || hi.SrcPort != 65535 || lo.FlowID != 0 || hi.FlowID != 255 {
		t.Errorf("%+v to %+v", lo, hi)
	}
}

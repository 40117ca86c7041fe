//go:build privileged && linux

package nat

import (
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	if err := Probe(); err != nil {
		t.Error(err)
	}
}

// Every feature is tried by rules of its own, and the rules that are programmed
// use no statement that is not tried.
func TestProbeTriesWhatIsUsed(t *testing.T) {
	var tried strings.Builder
	for _, f := range features() {
		tried.WriteString(f.table.String())
	}
	for _, word := range []string{"ct state", "snat ip", "dnat ip", "jhash", "numgen", "ct count", "limit rate", "maxseg", "counter name", "flags interval", "flags dynamic", "fib ", "ct zone set", "notrack", "saddr set"} {
		used := false
		for _, table := range goldenTables(t) {
			used = used || strings.Contains(table.String(), word)
		}
		large := testSpec(t)
		large.ConnectionLimit = 100000
		used = used || strings.Contains(Ruleset(large).String(), word)
		if !used {
			t.Errorf("%q is not used", word)
		}
		if !strings.Contains(tried.String(), word) {
			t.Errorf("%q is used and not tried", word)
		}
	}
}

package dataplane

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that tests compare with")

// The hostile packets are in a file too, for those who must refuse them likewise:
// the fast path.
func TestHostileFileIsCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What the fabric should never carry, for a gateway at " + paGate + " as exampleLab has it:\n# packet | tenant | reason | what. Written by go test -run HostileFile -update ./dataplane\n")
	for _, h := range hostilePackets(t) {
		fmt.Fprintf(&b, "%x | %s | %s | %s\n", h.packet, h.tenant, h.want, h.what)
	}
	const path = "testdata/hostile.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("%s is not what the tests have: run go test -run HostileFile -update ./dataplane", path)
	}
}

//go:build privileged && linux

package scenario

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestFabricLost takes the gateway's interface on the fabric down while both
// tenants transfer. What the gateway then has for the hosts, tunnel packets
// whose only other way is the default route, is not seen outside; gatewayd
// takes the interface up again, and the transfers go on.
func TestFabricLost(t *testing.T) {
	streams := map[string]*lab.Stream{}
	for _, name := range []string{"c11", "c12", "f11", "f12"} {
		streams[name+" down"] = paced(t, name, lab.VM{}, service.Down)
		streams[name+" up"] = paced(t, name, lab.VM{}, service.Up)
	}
	flowing(t, streams)
	before := tunnelsAway(t)
	file := capturing(t, "inet", "gw0", "ip proto 47 or ip6 proto 47 or udp port 4789", func() {
		if _, err := world.Exec(t.Context(), "gw", "ip", "link", "set", "pa0", "down"); err != nil {
			t.Fatal(err)
		}
		backUp(t, "gw", "pa0")
		flowing(t, streams)
	})
	for _, r := range dissect(t, file, "", "ip.src", "ip.dst", "frame.protocols") {
		t.Errorf("the Internet sees a tunnel packet: %v", r)
	}
	// The transfer to the VMs was under way: without the rule they would have. The
	// programs of the fast path name the interface that they send by.
	if pathOf(t, "gw") == "go" && tunnelsAway(t) == before {
		t.Error("the gateway had no tunnel packet to keep in: the test tests nothing")
	}
	whole(t, streams)
}

// backUp waits until gatewayd has taken the interface up.
func backUp(t *testing.T, machine, iface string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		out, err := world.Exec(ctx, machine, "ip", "-o", "link", "show", "dev", iface, "up")
		if err != nil {
			t.Fatalf("%s of %s does not come up again: %v", iface, machine, err)
		}
		if strings.Contains(out, iface) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

var awayCounter = regexp.MustCompile(`counter tunnel-away \{\s+packets (\d+)`)

// tunnelsAway is how many tunnel packets the gateway's rules kept from leaving
// by another way than the fabric.
func tunnelsAway(t *testing.T) int {
	t.Helper()
	out, err := world.Exec(t.Context(), "gw", "nft", "list", "counters")
	if err != nil {
		t.Fatal(err)
	}
	m := awayCounter.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("nothing counts tunnel packets that leave:\n%s", out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

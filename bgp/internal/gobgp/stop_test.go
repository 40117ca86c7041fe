package gobgp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/bgp"
)

// A speaker with many peers, with BFD and without, stops, and leaves no goroutine
// behind. It has a process of its own: starting one writes globals of the library
// that another test's speakers read.
func TestStop(t *testing.T) {
	const alone = "HNVGATE_TEST_ALONE"
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStop$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	before := goroutines()
	for range 3 {
		ports, err := freePorts(addr("127.0.0.4"))
		if err != nil {
			t.Fatal(err)
		}
		quiet := Handlers{Paths: func([]BestPath) {}, Peer: func(PeerEvent) {}, EndOfRIB: func(netip.Addr, bgp.Family) {}}
		s, err := Start(&bgp.Spec{ASN: own, RouterID: addr("127.0.0.4"), Port: ports[0], Listen: []netip.Addr{addr("127.0.0.4")}}, slog.New(slog.DiscardHandler), quiet)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			p := bgp.Peer{Name: fmt.Sprint("p", i), Address: addr(fmt.Sprintf("127.0.1.%d", 1+i)), ASN: 65001, Passive: true}
			if i%2 == 0 {
				p.BFD = &bgp.BFD{Interval: 10 * time.Millisecond}
			}
			if err := s.AddPeer(t.Context(), p, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Stop(false); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(time.Minute); goroutines() > before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", goroutines(), before, b[:runtime.Stack(b, true)])
		}
	}
}

// goroutines counts those of the library.
func goroutines() int {
	b := make([]byte, 1<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "created by github.com/osrg/gobgp")
}

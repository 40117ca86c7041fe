//go:build privileged && linux

package scenario

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// paced starts a transfer that takes some twenty seconds.
func paced(t *testing.T, from string, to lab.VM, d service.Direction) *lab.Stream {
	t.Helper()
	dst := internet()
	if to.CA.IsValid() {
		dst = to.CA
	}
	s, err := world.StartStream(from, dst, service.StreamRequest{Direction: d, Bytes: 20 << 20, Rate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// endless starts a transfer that goes on until the test is over.
func endless(t *testing.T, from string, to lab.VM, d service.Direction) *lab.Stream {
	t.Helper()
	dst := internet()
	if to.CA.IsValid() {
		dst = to.CA
	}
	s, err := world.StartStream(from, dst, service.StreamRequest{Direction: d, Bytes: 1 << 40, Rate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// flowing waits until the streams have moved on by a megabyte from where they
// are.
func flowing(t *testing.T, streams map[string]*lab.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	from := map[string]int64{}
	for name, s := range streams {
		r, _ := s.Progress() // nothing reported yet is 0 bytes
		from[name] = r.Bytes
	}
	for name, s := range streams {
		if err := s.Passed(ctx, from[name]+1<<20); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// whole waits for the streams' ends and wants every byte of them.
func whole(t *testing.T, streams map[string]*lab.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for name, s := range streams {
		r, err := s.Wait(ctx)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Logf("%s: %d bytes in %v, longest pause %v", name, r.Bytes, r.Elapsed.Round(time.Millisecond), r.Longest.Round(time.Millisecond))
	}
}

// TestLiveMigration moves VMs of both tenants, from and to hosts of every kind,
// while they transfer through the gateway and from a neighbour. Their lookup
// records change, their connections do not.
func TestLiveMigration(t *testing.T) {
	type move struct {
		vm, neighbour string
		hosts         []string // the last one is where it began
	}
	for _, moves := range [][]move{
		{{"c11", "c12", []string{"h2", "h3", "h1"}}, {"f11", "f12", []string{"h2", "h4", "h1"}}},
		{{"c12", "c11", []string{"h1", "h2", "h3"}}, {"f12", "f11", []string{"h1", "h2", "h4"}}},
	} {
		t.Run(moves[0].vm+" and "+moves[1].vm, func(t *testing.T) {
			streams := map[string]*lab.Stream{}
			for _, m := range moves {
				home := world.Where(m.vm)
				t.Cleanup(func() { _ = world.Migrate(context.WithoutCancel(t.Context()), m.vm, home) })
				streams[m.vm+" from the Internet"] = paced(t, m.vm, lab.VM{}, service.Down)
				streams[m.vm+" to the Internet"] = paced(t, m.vm, lab.VM{}, service.Up)
				streams[m.vm+" from its neighbour"] = paced(t, m.vm, vm(t, m.neighbour), service.Down)
			}
			for i := range moves[0].hosts {
				flowing(t, streams)
				for _, m := range moves {
					if err := world.Migrate(t.Context(), m.vm, m.hosts[i]); err != nil {
						t.Fatal(err)
					}
				}
			}
			whole(t, streams)
			for name, s := range streams {
				r, err := s.Progress()
				who, where, _ := strings.Cut(name, " ")
				if want := tenant(t, vm(t, who).Tenant).External.String(); err == nil && strings.HasSuffix(where, "Internet") && peerAddr(r.Identity) != want {
					t.Errorf("%s: seen as %s, want %s", name, r.Peer, want)
				}
			}
		})
	}
}

// TestGatewaydKilled kills gatewayd without warning, on the gateway and on a
// host, during transfers, and starts it again. The configuration is as it was,
// and the transfers go on.
func TestGatewaydKilled(t *testing.T) {
	for _, machine := range []string{"gw", "h1"} {
		t.Run(machine, func(t *testing.T) {
			before, err := world.Ctl(t.Context(), machine, "export")
			if err != nil || !strings.Contains(before, "contoso") {
				t.Fatalf("export: %v\n%s", err, before)
			}
			streams := map[string]*lab.Stream{}
			for _, name := range []string{"c11", "c12", "f11", "f12"} {
				streams[name+" down"] = paced(t, name, lab.VM{}, service.Down)
				streams[name+" up"] = paced(t, name, lab.VM{}, service.Up)
			}
			for range 2 {
				flowing(t, streams)
				if err := world.KillGatewayd(t.Context(), machine); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				if _, err := world.StartGatewayd(t.Context(), machine); err != nil {
					t.Fatal(err)
				}
				if err := world.Ready(t.Context(), machine); err != nil {
					t.Fatal(err)
				}
			}
			after, err := world.Ctl(t.Context(), machine, "export")
			if err != nil || after != before {
				t.Errorf("the configuration differs: %v\nbefore:\n%s\nafter:\n%s", err, before, after)
			}
			whole(t, streams)
			// Nothing was repaired: what the kernel had was right.
			s, err := world.Status(t.Context(), machine)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range s.Tenants {
				if x.Repairs > 0 {
					t.Errorf("tenant %s was repaired: %+v", x.Name, x.LastRepair)
				}
			}
		})
	}
}

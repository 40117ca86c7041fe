//go:build privileged && linux

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// TestPathsSwitched has gatewayd, on the gateway and on a host, take packets by
// itself and by programs in the kernel in turn, while both tenants transfer both
// ways. From the programs to gatewayd, from one gatewayd to the next, and while it
// is killed under load, no packet of what is under way is lost. What becomes of
// packets when gatewayd that took them itself has ended, nobody can tell.
func TestPathsSwitched(t *testing.T) {
	for _, machine := range []string{"gw", "h1"} {
		t.Run(machine, func(t *testing.T) {
			began := pathOf(t, machine)
			t.Cleanup(func() {
				world.SetPath(machine, "")
				restart(t, machine, syscall.SIGTERM, began)
			})
			streams := map[string]*lab.Stream{}
			for _, name := range []string{"c11", "f11"} {
				streams[name+" down"] = endless(t, name, lab.VM{}, service.Down)
				streams[name+" up"] = endless(t, name, lab.VM{}, service.Up)
				streams[name+" to its neighbour"] = endless(t, name, vm(t, name[:1]+"21"), service.Up)
			}
			flowing(t, streams)
			world.SetPath(machine, "go")
			restart(t, machine, syscall.SIGTERM, "go")
			flowing(t, streams)
			world.SetPath(machine, "ebpf")
			restart(t, machine, syscall.SIGTERM, "ebpf")
			flowing(t, streams)
			for _, how := range []struct {
				to  string
				sig syscall.Signal
			}{{"ebpf", syscall.SIGKILL}, {"ebpf", syscall.SIGTERM}, {"go", syscall.SIGKILL}} {
				lossless(t, fmt.Sprintf("ended by %s, and started by path %s", how.sig, how.to), func() {
					world.SetPath(machine, how.to)
					restart(t, machine, how.sig, how.to)
					flowing(t, streams)
				})
			}
			for name, s := range streams {
				r, err := s.Progress()
				if err != nil || r.Error != "" {
					t.Errorf("%s: %v, %+v", name, err, r)
				}
			}
			unprogrammed(t, machine)
		})
	}
}

// unprogrammed waits until the machine has no programs at its interfaces.
func unprogrammed(t *testing.T, machine string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		out, err := world.Exec(t.Context(), machine, "tc", "qdisc", "show")
		if err != nil {
			t.Fatal(err)
		}
		if !clsact.MatchString(out) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("programs are left:\n%s", out)
		}
	}
}

var clsact = regexp.MustCompile(`clsact`)

// restart ends gatewayd, starts it again, and waits until it takes packets by the
// path.
func restart(t *testing.T, machine string, sig syscall.Signal, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(later(t), patience)
	defer cancel()
	if err := world.Daemon(machine).Kill(ctx, sig); err != nil {
		t.Fatal(err)
	}
	if _, err := world.StartGatewayd(ctx, machine); err != nil {
		t.Fatal(err)
	}
	if err := world.Ready(ctx, machine); err != nil {
		t.Fatal(err)
	}
	onPath(t, machine, path)
}

// onPath checks that the path of all packets is this one, on one machine.
func onPath(t *testing.T, machine, path string) {
	t.Helper()
	s, err := world.Status(later(t), machine)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range s.ProviderAddresses {
		if l.Path != path {
			t.Errorf("%s: provider address %s has path %q (%s), want %s", machine, l.Name, l.Path, l.PathReason, path)
		}
	}
	for _, l := range s.Ports {
		if l.Path != path {
			t.Errorf("%s: port %s has path %q (%s), want %s", machine, l.Name, l.Path, l.PathReason, path)
		}
	}
	for _, x := range s.Tenants {
		if x.Compartment != "" && x.Path != path {
			t.Errorf("%s: the compartment of %s has path %q (%s), want %s", machine, x.Name, x.Path, x.PathReason, path)
		}
	}
}

var answered = regexp.MustCompile(`icmp_seq=(\d+) ttl=`)

// lossless has VMs of both tenants ping what is outside and next to them, a hundred
// times a second each, from before f runs until after it, and wants every answer.
func lossless(t *testing.T, what string, f func()) {
	t.Helper()
	type ends struct {
		from string
		to   netip.Addr
	}
	var g errgroup.Group
	running := make(chan struct{})
	var all []ends
	for _, name := range []string{"c11", "f11"} {
		// VMs on hosts of gatewayd: Open vSwitch in user space drops some under load.
		all = append(all, ends{name, internet()}, ends{name, vm(t, name[:1]+"13").CA}, ends{name, vm(t, name[:1]+"22").CA})
	}
	for _, e := range all {
		// The way is known before it is tried.
		if err := world.Ping(t.Context(), e.from, e.to, patience); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range all {
		g.Go(func() error {
			p, err := world.Start(e.from, fmt.Sprintf("ping-%s-%s", e.from, e.to), "ping", "-n", "-i", "0.01", e.to.String())
			if err != nil {
				return err
			}
			<-running
			if err := p.Kill(later(t), syscall.SIGINT); err != nil {
				return err
			}
			seen, last := map[int]bool{}, 0
			for _, m := range answered.FindAllStringSubmatch(p.Output(), -1) {
				n, err := strconv.Atoi(m[1])
				if err != nil {
					return err
				}
				seen[n], last = true, max(last, n)
			}
			if last < 100 || len(seen) < last { // what came after the last answer may be under way
				return fmt.Errorf("%s: of %d packets from %s to %s, %d were answered", what, last, e.from, e.to, len(seen))
			}
			return nil
		})
	}
	f()
	close(running)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// TestUninstall removes what the fast path has in a host's kernel: nothing of it is
// left, and nothing else is touched. While gatewayd runs, it is refused.
func TestUninstall(t *testing.T) {
	const machine = "h2"
	began := pathOf(t, machine)
	links := func() []string {
		t.Helper()
		out, err := world.Exec(t.Context(), machine, "ip", "-br", "link")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for l := range strings.Lines(out) {
			name, _, _ := strings.Cut(l, " ")
			name, _, _ = strings.Cut(name, "@")
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	uninstall := func() (string, error) {
		return world.Exec(t.Context(), machine, filepath.Join(world.Bin(), "gatewayd"), "--config",
			filepath.Join(world.Dir(), machine, "gatewayd.yaml"), "--uninstall")
	}
	t.Cleanup(func() {
		world.SetPath(machine, "")
		restart(t, machine, syscall.SIGTERM, began)
	})
	world.SetPath(machine, "go")
	restart(t, machine, syscall.SIGTERM, "go")
	unprogrammed(t, machine)
	before := links()

	world.SetPath(machine, "ebpf")
	restart(t, machine, syscall.SIGTERM, "ebpf")
	if out, err := uninstall(); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("while gatewayd runs: %v\n%s", err, out)
	}
	if slices.Equal(links(), before) {
		t.Error("the fast path has no link: the test tests nothing")
	}
	if err := world.Daemon(machine).Kill(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"removed:", "there was nothing to remove"} {
		if out, err := uninstall(); err != nil || !strings.Contains(out, says) {
			t.Errorf("want %q: %v\n%s", says, err, out)
		}
		if after := links(); !slices.Equal(after, before) {
			t.Errorf("interfaces %v, want %v", after, before)
		}
		if out, err := world.Exec(t.Context(), machine, "tc", "qdisc", "show"); err != nil || clsact.MatchString(out) {
			t.Errorf("programs are left: %v\n%s", err, out)
		}
	}
}

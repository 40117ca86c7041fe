//go:build privileged && linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
	"github.com/hnvgate/hnvgate/test/lab/service"
)

// patience is how long something that must happen may take on a busy machine;
// silence is how long something that must not happen is waited for.
const (
	patience = 60 * time.Second
	silence  = 2 * time.Second
)

// labPrefix is what the labs of scenario runs are called, before their pid.
const labPrefix = "scn"

// world is the lab that all tests share.
var world *lab.Lab

func TestMain(m *testing.M) { os.Exit(withWorld(m)) }

func withWorld(m *testing.M) int {
	tmp, err := os.MkdirTemp("", "hnvgate")
	if err != nil {
		return complain(err)
	}
	defer os.RemoveAll(tmp)
	// A test runs gatewayd as somebody else.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return complain(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	bin, err := lab.Programs(ctx, tmp, lab.AllPrograms)
	if err != nil {
		return complain(err)
	}
	if err := lab.Sweep(labPrefix); err != nil {
		return complain(err)
	}
	world, err = lab.New(labPrefix+strconv.Itoa(os.Getpid()), lab.Options{Bin: bin, Path: os.Getenv("HNVGATE_PATH"), NATOffload: os.Getenv("HNVGATE_NAT_OFFLOAD")})
	if err != nil {
		return complain(err)
	}
	if err := bringUp(ctx); err != nil {
		return complain(err, saveLogs(), world.Down())
	}
	code := m.Run()
	if code != 0 {
		_ = complain(saveLogs())
	}
	if err := world.Down(); err != nil {
		return complain(err)
	}
	return code
}

func bringUp(ctx context.Context) error {
	if err := world.Up(ctx); err != nil {
		return err
	}
	if _, err := world.StartGatewayd(ctx, "gw"); err != nil {
		return err
	}
	if err := world.ConfigureGateway(ctx); err != nil {
		return err
	}
	return world.StartHosts(ctx)
}

func complain(errs ...error) int {
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
	}
	return 1
}

// saveLogs keeps the daemons' logs of a run that failed: Down removes them.
func saveLogs() error {
	to := filepath.Join(os.TempDir(), "hnvgate-"+world.Name())
	if err := os.CopyFS(to, os.DirFS(filepath.Join(world.Dir(), "log"))); err != nil {
		return err
	}
	return fmt.Errorf("the logs of the lab are kept in %s", to)
}

// ctl is one command of the machine's operator, which must be accepted.
func ctl(t *testing.T, machine string, argv ...string) string {
	t.Helper()
	out, err := world.Ctl(t.Context(), machine, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// settled waits until the machines have carried out what they were told.
func settled(t *testing.T, machines ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, m := range machines {
		if err := world.Ready(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
}

// pathOf tells who forwards packets on the machine: ebpf or go.
func pathOf(t *testing.T, machine string) string {
	t.Helper()
	s, err := world.Status(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.Features {
		if f.Name == "dataplane" {
			return f.Path
		}
	}
	t.Fatalf("%s does not tell the path of packets: %+v", machine, s.Features)
	return ""
}

// later is a context for what must be put back after a test.
func later(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

// undo runs a command when the test is over.
func undo(t *testing.T, machine string, argv ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := world.Ctl(later(t), machine, argv...); err != nil {
			t.Error(err)
		}
	})
}

func vm(t *testing.T, name string) lab.VM {
	t.Helper()
	v, err := world.Topology().VM(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func tenant(t *testing.T, name string) lab.Tenant {
	t.Helper()
	x, err := world.Topology().Tenant(name)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func service80(a netip.Addr) netip.AddrPort   { return netip.AddrPortFrom(a, service.HTTPPort) }
func serviceEcho(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, service.EchoPort) }

func addr4(b [4]byte) netip.Addr { return netip.AddrFrom4(b) }

func internet() netip.Addr { return world.Topology().Gateway.Service }

// peerAddr is the address part of what a server saw.
func peerAddr(id service.Identity) string {
	ap, err := netip.ParseAddrPort(id.Peer)
	if err != nil {
		return id.Peer
	}
	return ap.Addr().Unmap().String()
}

// capturing records what passes an interface while f runs.
func capturing(t *testing.T, machine, iface, filter string, f func()) string {
	t.Helper()
	c, err := world.Capture(t.Context(), machine, iface, filter)
	if err != nil {
		t.Fatal(err)
	}
	f()
	file, err := c.Stop(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func dissect(t *testing.T, file, filter string, fields ...string) [][]string {
	t.Helper()
	rows, err := world.Dissect(t.Context(), file, filter, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// unreached wants the machine to fail to reach the address by ping, TCP and
// UDP. Whether anything arrived is for a capture to tell.
func unreached(t *testing.T, from string, to netip.Addr) {
	t.Helper()
	if err := world.Ping(t.Context(), from, to, silence); err == nil {
		t.Errorf("%s: %s answers echo requests", from, to)
	}
	if id, err := world.Get(t.Context(), from, service80(to), 0, silence); err == nil {
		t.Errorf("%s: %s answers on TCP as %s, to %s", from, to, id.Name, id.Peer)
	}
	if id, err := world.Echo(t.Context(), from, serviceEcho(to), 0, 32, silence); err == nil {
		t.Errorf("%s: %s answers on UDP as %s, to %s", from, to, id.Name, id.Peer)
	}
}

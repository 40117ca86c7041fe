//go:build linux

package s2s

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hnvgate/hnvgate/test/lab"
)

// prefix begins the names of the labs of a run; its process ID ends them, and a
// letter between tells them apart.
const prefix = "bs"

// Sweep removes what killed runs left.
func Sweep() error {
	var errs []error
	for letter := 'a'; letter <= 'z'; letter++ {
		errs = append(errs, lab.Sweep(prefix+string(letter)))
	}
	return errors.Join(errs...)
}

func labName(letter rune) string { return prefix + string(letter) + strconv.Itoa(os.Getpid()) }

// ground is machines without the lab's topology.
type ground struct{ *lab.Lab }

// newGround makes the machines, each with an empty namespace.
func newGround(ctx context.Context, bin string, letter rune, machines ...string) (ground, error) {
	l, err := lab.New(labName(letter), lab.Options{Bin: bin})
	if err != nil {
		return ground{}, err
	}
	g := ground{l}
	if err := l.Down(); err != nil {
		return g, err
	}
	for _, d := range []string{"run", "log"} {
		if err := os.MkdirAll(filepath.Join(l.Dir(), d), 0o755); err != nil {
			return g, err
		}
	}
	for _, m := range machines {
		if _, err := host(ctx, "ip", "netns", "add", l.NS(m)); err != nil {
			return g, err
		}
		if err := g.ip(ctx, m, "link set lo up"); err != nil {
			return g, err
		}
		if _, err := l.Exec(ctx, m, "sysctl", "-qw", "net.ipv4.ip_forward=1"); err != nil {
			return g, err
		}
	}
	return g, nil
}

// ip runs ip(8) on the machine, a line each.
func (g ground) ip(ctx context.Context, machine string, lines ...string) error {
	for _, l := range lines {
		if _, err := g.Exec(ctx, machine, append([]string{"ip"}, strings.Fields(l)...)...); err != nil {
			return err
		}
	}
	return nil
}

// wire joins two machines by a link of the same name at both ends.
func (g ground) wire(ctx context.Context, link, a, addrA, b, addrB string) error {
	if err := g.ip(ctx, a, fmt.Sprintf("link add name %s type veth peer name %s netns %s", link, link, g.NS(b))); err != nil {
		return err
	}
	for machine, addr := range map[string]string{a: addrA, b: addrB} {
		if err := g.ip(ctx, machine, fmt.Sprintf("addr add %s dev %s", addr, link), fmt.Sprintf("link set %s up", link)); err != nil {
			return err
		}
	}
	return nil
}

// poll calls done until it says so.
func poll(ctx context.Context, every time.Duration, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-time.After(every):
		}
	}
}

// pss is the memory of the processes in bytes, of what they share each its part.
func pss(pids ...int) (float64, error) {
	sum := 0.0
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		_, rest, ok := strings.Cut(string(b), "\nPss:")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			return 0, fmt.Errorf("process %d does not tell its memory", pid)
		}
		kb, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, err
		}
		sum += kb * 1024
	}
	return sum, nil
}

//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Console is what the guest's first process writes round a program's output, and
// at the end.
const (
	Begin = "=== GUEST RUNS "
	End   = "=== GUEST RAN "
	Done  = "=== GUEST DONE"
)

// Preloaded are the modules that the guest has from the beginning.
var Preloaded = []string{"veth", "bridge", "8021q", "macvlan", "tun", "wireguard", "nf_tables", "nft_meta_bridge"}

// Result is what a program in the guest came to.
type Result struct {
	Name   string
	Exit   int // -1: it did not run to its end
	Output string
}

// Boot runs a kernel with an initial RAM file system until the guest powers off,
// and gives what its programs said.
func Boot(ctx context.Context, kernel, initrd string) ([]Result, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("the guest needs QEMU: install qemu-system-x86: %w", err)
	}
	console := filepath.Join(filepath.Dir(initrd), "console.log")
	cmd := exec.CommandContext(ctx, qemu, "-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "1024", "-M", "q35", "-nodefaults",
		"-no-reboot", "-display", "none", "-device", "virtio-rng-pci", "-serial", "file:"+console,
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	said, _ := os.ReadFile(console)
	results, whole := parse(string(said))
	if err != nil || !whole {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return results, errors.Join(fmt.Errorf("the guest did not come to its end: %s\n%s", out, tail(string(said))), err)
	}
	return results, nil
}

// parse reads the console; whole tells whether the guest came to its end.
func parse(console string) (results []Result, whole bool) {
	var now *Result
	for line := range strings.Lines(strings.ReplaceAll(console, "\r", "")) {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(text, Begin):
			results = append(results, Result{Name: strings.TrimPrefix(text, Begin), Exit: -1})
			now = &results[len(results)-1]
		case strings.HasPrefix(text, End) && now != nil:
			if n, err := strconv.Atoi(strings.TrimPrefix(text, End)); err == nil {
				now.Exit = n
			}
			now = nil
		case strings.HasPrefix(text, Done):
			whole = true
		case now != nil:
			now.Output += line
		}
	}
	return results, whole
}

func tail(s string) string {
	const most = 4000
	return s[max(0, len(s)-most):]
}

//go:build privileged && linux && amd64

package guest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// kernelDir is where fetch puts the guest's kernel.
const kernelDir = "/var/cache/hnvgate/guest"

// build makes a static program, or of a package's tests, one that runs them.
func build(t *testing.T, out string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append(args, "-o", out)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %v: %v: %s", args, err, b)
	}
	return out
}

var passed = regexp.MustCompile(`(?m)^--- PASS: (\w+)`)

// Attachments of kind vlan, and the other kinds, on an older kernel; and tunnels of
// the kernel's own WireGuard.
func TestGuest(t *testing.T) {
	dir := t.TempDir()
	tests := func(pkg string) string {
		return build(t, filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".test"), "test", "-c", "-tags", "privileged", "./"+pkg)
	}
	runs := []struct {
		pkg   string
		tests []string
		env   map[string]string
	}{
		{"forwarder", []string{"TestVLAN", "TestTwoTenantsAlike", "TestExplain", "TestExplainRefused"}, map[string]string{"HNV_TEST_VLAN": "1"}},
		{"s2s", []string{"TestTwoTenantsWithTheSameAddresses", "TestImplementationIsChosen", "TestKernelGoesOnAlone"},
			map[string]string{"HNV_TEST_KERNEL_WIREGUARD": "1", "HNV_TEST_WIREGUARD": "kernel"}},
	}
	im := Image{
		Init:       filepath.Join(dir, "init"),
		Binaries:   map[string]string{},
		Programs:   []string{"ip", "nsenter", "ping", "sysctl", "nft", "wg", "modprobe"},
		Modules:    filepath.Join(kernelDir, "modules"),
		ModuleDirs: []string{"kernel/net", "kernel/drivers/net", "kernel/lib", "kernel/crypto", "kernel/arch/x86/crypto"},
	}
	cmd := exec.Command("go", "build", "-o", im.Init, "./cmd/guestinit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	for _, r := range runs {
		path := "/tests/" + r.pkg
		im.Binaries[path] = tests(r.pkg)
		im.Runs = append(im.Runs, Run{Name: r.pkg, Env: r.env,
			Args: []string{path, "-test.v", "-test.timeout=480s", "-test.parallel=1", "-test.run=^(" + strings.Join(r.tests, "|") + ")$"}})
	}
	var image bytes.Buffer
	if err := im.Write(&image); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, image.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("the initial RAM file system has %d MB", image.Len()>>20)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	begin := time.Now()
	results, err := Boot(ctx, filepath.Join(kernelDir, "vmlinuz"), initrd)
	t.Logf("the guest ran for %s", time.Since(begin).Round(time.Second))
	for _, r := range results {
		t.Logf("%s:\n%s", r.Name, r.Output)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(runs) {
		t.Fatalf("%d programs ran, not %d", len(results), len(runs))
	}
	for i, r := range runs {
		if results[i].Exit != 0 {
			t.Errorf("%s: exit status %d", r.pkg, results[i].Exit)
		}
		ran := map[string]bool{}
		for _, m := range passed.FindAllStringSubmatch(results[i].Output, -1) {
			ran[m[1]] = true
		}
		for _, name := range r.tests {
			if !ran[name] {
				t.Errorf("%s: %s did not pass", r.pkg, name)
			}
		}
	}
}

//go:build privileged && linux

package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hnvgate/hnvgate/test/lab"
)

// TestRefusals gives the running gateway, and a host, every kind of input that
// must be refused: with a sentence that says what is wrong, a failing exit
// code, and the configuration as it was.
func TestRefusals(t *testing.T) {
	newTenant := func(flags ...string) []string {
		return append([]string{"tenant", "add", "tailspin", "--encap", "nvgre", "--subnet", "7001=10.1.1.0/24",
			"--gateway-subnet", "7000=10.254.254.0/29", "--gateway-ca", "10.254.254.2", "--uplink", "internet"}, flags...)
	}
	record := func(vsid, ca, pa string) []string {
		return []string{"record", "add", "--vsid", vsid, "--ca", ca, "--mac", "00:15:5d:00:00:99", "--pa", pa}
	}
	mapping := func(tenant, external, internal string) []string {
		return []string{"nat", "mapping", "add", tenant, "--proto", "tcp", "--external", external, "--internal", internal}
	}
	yaml := func(text string) []string {
		file := filepath.Join(t.TempDir(), "document.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"apply", "-f", file}
	}
	for _, c := range []struct {
		name, machine string
		argv          []string
		says          []string
	}{
		{"VSID too low", "gw", record("4095", "10.1.1.50", "192.168.1.11"), []string{"4095", "4096"}},
		{"VSID too high", "gw", record("16777215", "10.1.1.50", "192.168.1.11"), []string{"16777215", "16777214"}},
		{"VSID of another tenant", "gw", []string{"tenant", "add", "tailspin", "--encap", "nvgre", "--subnet", "5001=10.7.1.0/24"}, []string{"5001", "contoso"}},
		{"VSID of nobody", "gw", record("7777", "10.1.1.50", "192.168.1.11"), []string{"7777", "no tenant"}},
		{"CA outside the subnet", "gw", record("5001", "10.9.9.9", "192.168.1.11"), []string{"10.9.9.9", "10.1.1.0/24"}},
		{"CA of another subnet", "gw", record("5001", "10.1.2.50", "192.168.1.11"), []string{"10.1.2.50", "5001"}},
		{"CA twice in a VSID", "gw", record("5001", "10.1.1.11", "192.168.1.11"), []string{"10.1.1.11", "exists"}},
		{"the router's CA", "gw", record("5001", "10.1.1.1", "192.168.1.11"), []string{"10.1.1.1", "router"}},
		{"the compartment's CA", "gw", record("5000", "10.254.254.2", "192.168.1.11"), []string{"10.254.254.2", "compartment"}},
		{"PA off the fabric", "gw", record("5001", "10.1.1.50", "172.16.0.1"), []string{"172.16.0.1", "fabric"}},
		{"malformed MAC address", "gw", []string{"record", "add", "--vsid", "5001", "--ca", "10.1.1.50", "--mac", "00:15:5d", "--pa", "192.168.1.11"}, []string{"00:15:5d"}},
		{"malformed prefix", "gw", []string{"tenant", "add", "tailspin", "--encap", "nvgre", "--subnet", "7001=10.7.1.1/24"}, []string{"10.7.1.1/24", "10.7.1.0/24"}},
		{"unknown encapsulation", "gw", []string{"tenant", "add", "tailspin", "--encap", "stt", "--subnet", "7001=10.7.1.0/24"}, []string{"stt", "nvgre"}},
		{"external address of another tenant", "gw", newTenant("--nat", "203.0.113.10"), []string{"203.0.113.10", "contoso"}},
		{"ports of another tenant's external address", "gw", newTenant("--nat", "203.0.113.20:2000-2999"), []string{"203.0.113.20", "fabrikam"}},
		{"external address on the fabric", "gw", newTenant("--nat", "192.168.1.77"), []string{"192.168.1.77", "fabric"}},
		{"gateway CA outside its subnet", "gw", []string{"tenant", "add", "tailspin", "--encap", "nvgre", "--gateway-subnet", "7000=10.254.254.0/29",
			"--gateway-ca", "10.254.253.2", "--uplink", "internet", "--nat", "203.0.113.30"}, []string{"10.254.253.2", "7000"}},
		{"unknown uplink", "gw", []string{"tenant", "add", "tailspin", "--encap", "nvgre", "--gateway-subnet", "7000=10.254.254.0/29",
			"--gateway-ca", "10.254.254.2", "--uplink", "moon", "--nat", "203.0.113.30"}, []string{"moon", "internet"}},
		{"overlapping subnets", "gw", []string{"tenant", "add", "tailspin", "--encap", "nvgre", "--subnet", "7001=10.7.0.0/16", "--subnet", "7002=10.7.1.0/24"}, []string{"10.7.1.0/24", "overlaps"}},
		{"mapping on an external port in use", "gw", mapping("contoso", "203.0.113.10:8080", "10.1.1.11:80"), []string{"8080", "contoso"}},
		{"mapping on another tenant's address", "gw", mapping("contoso", "203.0.113.20:8000", "10.1.1.11:80"), []string{"203.0.113.20", "contoso"}},
		{"mapping to a stranger", "gw", mapping("contoso", "203.0.113.10:8000", "192.168.2.13:80"), []string{"192.168.2.13"}},
		{"mapping of an unknown protocol", "gw", []string{"nat", "mapping", "add", "contoso", "--proto", "sctp", "--external", "203.0.113.10:8000", "--internal", "10.1.1.11:80"}, []string{"sctp"}},
		{"interface that is not on the fabric", "gw", []string{"provider-address", "add", "192.168.7.1/24", "--interface", "ext0"}, []string{"ext0", "pa0"}},
		{"next hop that is not on-link", "gw", []string{"provider-route", "add", "172.16.0.0/12", "--next-hop", "192.168.9.9"}, []string{"192.168.9.9"}},
		{"tenant in use", "gw", []string{"tenant", "delete", "contoso"}, []string{"contoso"}},
		{"unknown tenant", "gw", []string{"tenant", "show", "tailspin"}, []string{"tailspin"}},
		{"unknown field in YAML", "gw", yaml("tenants:\n  - name: tailspin\n    encap: nvgre\n    subnetz: []\n"), []string{"subnetz", "4"}},
		{"wrong type in YAML", "gw", yaml("lookupRecords:\n  - vsid: many\n    ca: 10.1.1.50\n"), []string{"2"}},
		{"one bad object among good ones", "gw", yaml("lookupRecords:\n" +
			"  - {vsid: 5001, ca: 10.1.1.51, mac: '00:15:5d:00:00:51', pa: 192.168.1.11}\n" +
			"  - {vsid: 5001, ca: 10.9.9.9, mac: '00:15:5d:00:00:52', pa: 192.168.1.11}\n"), []string{"10.9.9.9"}},
		{"port in use", "h1", []string{"port", "add", "--interface", "v-c11", "--vsid", "5001", "--mac", "00:15:5d:00:00:99"}, []string{"v-c11", "exists"}},
		{"port on the fabric's interface", "h1", []string{"port", "add", "--interface", "pa0", "--vsid", "5001", "--mac", "00:15:5d:00:00:99"}, []string{"pa0"}},
		{"unknown command", "gw", []string{"tenat", "list"}, []string{"tenat"}},
		{"unknown flag", "gw", []string{"tenant", "list", "--colour"}, []string{"--colour"}},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.machine, c.argv, c.says) })
	}
}

// refused wants gatewayctl to fail with words that hold all of says, and the
// configuration to stay.
func refused(t *testing.T, machine string, argv, says []string) {
	t.Helper()
	before, err := world.Ctl(t.Context(), machine, "export")
	if err != nil {
		t.Fatal(err)
	}
	_, err = world.Ctl(t.Context(), machine, argv...)
	var exit *lab.ExitError
	switch {
	case err == nil:
		t.Errorf("%v was not refused", argv)
	case !errors.As(err, &exit) || exit.Code <= 0:
		t.Errorf("%v: %v", argv, err)
	default:
		for _, s := range says {
			if !strings.Contains(exit.Stderr, s) {
				t.Errorf("%v: the refusal does not say %q: %s", argv, s, exit.Stderr)
			}
		}
		if strings.Contains(exit.Stderr, "goroutine ") {
			t.Errorf("%v: a stack trace instead of a refusal: %s", argv, exit.Stderr)
		}
	}
	after, err := world.Ctl(t.Context(), machine, "export")
	if err != nil || after != before {
		t.Errorf("%v: the configuration changed (%v):\nbefore:\n%s\nafter:\n%s", argv, err, before, after)
	}
}

// TestGatewaydRefusesToStart starts gatewayd where it cannot work.
func TestGatewaydRefusesToStart(t *testing.T) {
	gatewayd := filepath.Join(world.Bin(), "gatewayd")
	// In reach of those who are not root too.
	dir, err := os.MkdirTemp("", "hnvgate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files := 0
	config := func(text string) string {
		files++
		file := filepath.Join(dir, fmt.Sprintf("gatewayd%d.yaml", files))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := "instance: other\nstateDir: " + dir + "/state\nsocket: " + dir + "/s.sock\npaInterfaces: [pa0]\n"
	for name, c := range map[string]struct {
		argv []string
		says []string
	}{
		"not root":                {[]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", gatewayd, "--config", config(good)}, []string{"root"}},
		"no right to the network": {[]string{"setpriv", "--bounding-set=-net_admin,-net_raw,-sys_admin", "--inh-caps=-all", gatewayd, "--config", config(good)}, []string{"CAP_"}},
		"no configuration file":   {[]string{gatewayd, "--config", dir + "/none.yaml"}, []string{"none.yaml"}},
		"unknown field":           {[]string{gatewayd, "--config", config(good + "uplink: []\n")}, []string{"uplink", "5"}},
		"unknown PA interface":    {[]string{gatewayd, "--config", config(strings.Replace(good, "pa0", "pa7", 1))}, []string{"pa7"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := world.Exec(t.Context(), "rogue", append([]string{"timeout", "30"}, c.argv...)...)
			var exit *lab.ExitError
			if !errors.As(err, &exit) || exit.Code == 124 || exit.Code <= 0 {
				t.Fatalf("it did not refuse: %v", err)
			}
			for _, s := range c.says {
				if !strings.Contains(exit.Stderr, s) {
					t.Errorf("the refusal does not say %q: %s", s, exit.Stderr)
				}
			}
		})
	}
}

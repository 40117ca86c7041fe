package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const full = `
instance: gw1
stateDir: /var/lib/gw1
socket: /run/gw1.sock
socketGroup: netadmin
log: {level: debug, format: json}
paInterfaces: [pa0, pa1]
path: ebpf
agents: {binary: /opt/compartmentd, cgroup: /sys/fs/cgroup/hnv, memoryMiB: 64, wireguard: kernel}
uplinks:
  - name: internet
    interface: ext0
`

func TestParse(t *testing.T) {
	got, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Instance: "gw1", StateDir: "/var/lib/gw1", Socket: "/run/gw1.sock", SocketGroup: "netadmin",
		Log: Log{"debug", "json"}, PAInterfaces: []string{"pa0", "pa1"},
		Uplinks: []Uplink{{"internet", KindRouted, "ext0"}}, ACLDefault: "allow", Path: PathEBPF, NATOffload: OffloadAll,
		SecretsKeyFile: "/var/lib/gw1/secrets.key",
		Agents:         Agents{Binary: "/opt/compartmentd", RunDir: "/run/agents", Cgroup: "/sys/fs/cgroup/hnv", MemoryMiB: 64, CPUPercent: defaultAgentCPU, WireGuard: WireGuardKernel},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte("paInterfaces: [pa0]"))
	if err != nil || c.Instance != "hnv" || c.StateDir != "/var/lib/hnvgate" || c.Log.Level != "info" || c.Path != PathAuto ||
		c.SecretsKeyFile != "/var/lib/hnvgate/secrets.key" || c.Agents.RunDir != "/run/hnvgate/agents" || filepath.Base(c.Agents.Binary) != "compartmentd" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestWireGuard(t *testing.T) {
	for text, want := range map[string]WireGuard{"": WireGuardAuto, "agents: {wireguard: embedded}": WireGuardEmbedded, "agents: {wireguard: auto}": WireGuardAuto} {
		if c, err := Parse([]byte("paInterfaces: [pa0]\n" + text)); err != nil || c.Agents.WireGuard != want {
			t.Errorf("%q: %q, %v; want %q", text, c.Agents.WireGuard, err, want)
		}
	}
	if _, err := Parse([]byte("paInterfaces: [pa0]\nagents: {wireguard: both}")); err == nil || !strings.Contains(err.Error(), "agents.wireguard") {
		t.Error(err)
	}
}

func TestNATOffload(t *testing.T) {
	for text, want := range map[string]NATOffload{
		"": OffloadAll, "natOffload: true": OffloadAll, "natOffload: false": OffloadNone, "natOffload: tenants": OffloadAsked, `natOffload: "true"`: OffloadAll,
	} {
		if c, err := Parse([]byte("paInterfaces: [pa0]\n" + text)); err != nil || c.NATOffload != want || want.Possible() != (want != OffloadNone) {
			t.Errorf("%q: %q, %v; want %q", text, c.NATOffload, err, want)
		}
	}
	for _, text := range []string{"natOffload: perhaps", "natOffload: [true]", "natOffload: 1"} {
		if _, err := Parse([]byte("paInterfaces: [pa0]\n" + text)); err == nil || !strings.Contains(err.Error(), "natOffload") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUplinkKinds(t *testing.T) {
	c, err := Parse([]byte(`
paInterfaces: [pa0]
uplinks:
- {name: internet, interface: ext0}
- {name: trunk, kind: vlan, interface: ext0}
- {name: dc, kind: macvlan, interface: dc0}
- {name: lan, kind: bridge, interface: br0}
- {name: rack, kind: vlan, interface: dc0}
`))
	want := []Uplink{{"internet", KindRouted, "ext0"}, {"trunk", KindVLAN, "ext0"}, {"dc", KindMACVLAN, "dc0"}, {"lan", KindBridge, "br0"}, {"rack", KindVLAN, "dc0"}}
	if err != nil || !reflect.DeepEqual(c.Uplinks, want) {
		t.Errorf("got %+v, %v", c.Uplinks, err)
	}
}

// A socket far down has its agents elsewhere, where their sockets can have names.
func TestRunDirOfLongSocket(t *testing.T) {
	c, err := Parse([]byte("instance: gw1\npaInterfaces: [pa0]\nsocket: /run/" + strings.Repeat("x", 60) + "/s"))
	if err != nil || c.Agents.RunDir != "/run/hnvgate/gw1-agents" {
		t.Errorf("run folder %q, %v", c.Agents.RunDir, err)
	}
	if _, err := Parse([]byte("paInterfaces: [pa0]\nagents: {runDir: /run/" + strings.Repeat("x", 60) + "}")); err == nil || !strings.Contains(err.Error(), "agents.runDir") {
		t.Errorf("a run folder that is too long: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for doc, says := range map[string][]string{
		"":                                   {"paInterfaces: name at least one"},
		"paInterfaces: [pa0]\nuplink: x\n":   {"uplink", "2"},
		"paInterfaces: [pa0, pa0]":           {"pa0 is taken by paInterfaces[0]"},
		"paInterfaces: [pa0]\ninstance: A\n": {"instance"},
		"paInterfaces: [p/0]\nlog: {level: loud}":                                                                                         {"not an interface name", "log.level"},
		"stateDir: x\nsocket: y":                                                                                                          {"stateDir", "socket", "paInterfaces"},
		"paInterfaces: [a]\nuplinks: [{name: i, kind: moon, interface: a}]":                                                               {"kind", "routed, vlan, macvlan, bridge", "taken by paInterfaces[0]"},
		"paInterfaces: [a]\nuplinks: [{name: i, kind: vlan, interface: a}]":                                                               {"uplinks[0].interface", "taken by paInterfaces[0]"},
		"paInterfaces: [a]\nuplinks: [{name: i, kind: vlan, interface: b}, {name: j, kind: vlan, interface: b}]":                          {"uplinks[1].interface", "taken by uplinks[0].interface"},
		"paInterfaces: [a]\nuplinks: [{name: i, interface: b}, {name: j, kind: vlan, interface: b}, {name: k, kind: vlan, interface: b}]": {"uplinks[1].interface", "taken by uplinks[0].interface"},
		"paInterfaces: [a]\nuplinks: [{name: i, kind: bridge, interface: b}, {name: j, kind: vlan, interface: b}]":                        {"uplinks[1].interface", "taken by uplinks[0].interface"},
		"paInterfaces: [a]\nuplinks: [{name: i, kind: macvlan, interface: b}, {name: j, kind: routed, interface: b}]":                     {"uplinks[1].interface", "taken by uplinks[0].interface"},
		"paInterfaces: [a]\naclDefault: drop":                                                                                             {"aclDefault", "allow or deny"},
		"paInterfaces: [a]\npath: xdp":                                                                                                    {"path", "auto, ebpf or go"},
		"paInterfaces: [a]\nsecretsKeyFile: k\nagents: {binary: b, runDir: r, cgroup: c, memoryMiB: 1, cpuPercent: -1}": {
			"secretsKeyFile", "agents.binary", "agents.runDir", "agents.cgroup", "agents.memoryMiB", "agents.cpuPercent",
		},
		"paInterfaces: {": {"1"},
	} {
		_, err := Parse([]byte(doc))
		if err == nil {
			t.Errorf("%q was taken", doc)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: error %q does not name %q", doc, err, s)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Parse(b); err == nil && len(c.PAInterfaces) == 0 {
			t.Error("a configuration without PA interface was taken")
		}
	})
}

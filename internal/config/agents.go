package config

import (
	"os"
	"path/filepath"

	"github.com/hnvgate/hnvgate/hnv"
	"github.com/hnvgate/hnvgate/internal/agentapi"
)

// Agents says how the compartments' agents (compartmentd) are run, which have the
// tenants' tunnels and BGP.
type Agents struct {
	// Binary is the program; by default compartmentd beside gatewayd's own.
	Binary string `yaml:"binary"`
	// RunDir holds the agents' sockets, logs and sealed states; by default agents
	// beside the API's socket, or where that is too long a name for sockets,
	// /run/hnvgate/INSTANCE-agents.
	RunDir string `yaml:"runDir"`
	// Cgroup is a folder of a cgroup2 file system in which each agent gets a group;
	// "" is none.
	Cgroup string `yaml:"cgroup"`
	// MemoryMiB bounds an agent's memory, in units of 2^20 bytes, CPUPercent its
	// processor time, in hundredths of one processor.
	MemoryMiB  int `yaml:"memoryMiB"`
	CPUPercent int `yaml:"cpuPercent"`
	// WireGuard is what site-to-site tunnels are to be of.
	WireGuard WireGuard `yaml:"wireguard"`
}

// WireGuard chooses an implementation of it.
type WireGuard string

// The choices.
const (
	WireGuardAuto     WireGuard = "auto"     // for each tunnel what suits it, the kernel's if that does
	WireGuardKernel   WireGuard = "kernel"   // the kernel's own, or none
	WireGuardEmbedded WireGuard = "embedded" // wireguard-go in the agents
)

// What an agent may take where nothing is said: a hundred thousand routes fit.
const (
	defaultAgentMemory = 512
	defaultAgentCPU    = 200
)

// maxRunDir leaves room for the longest socket's name that unix(7) allows.
const maxRunDir = 107 - len("/") - hnv.MaxName - len("/"+agentapi.SocketName)

// secretsFile is the key file's name in the state folder.
const secretsFile = "secrets.key"

func (c *Config) defaultAgents() error {
	a := &c.Agents
	if c.SecretsKeyFile == "" {
		c.SecretsKeyFile = filepath.Join(c.StateDir, secretsFile)
	}
	if a.RunDir == "" {
		a.RunDir = filepath.Join(filepath.Dir(c.Socket), "agents")
		if len(a.RunDir) > maxRunDir {
			a.RunDir = filepath.Join("/run/hnvgate", c.Instance+"-agents")
		}
	}
	if a.MemoryMiB == 0 {
		a.MemoryMiB = defaultAgentMemory
	}
	if a.CPUPercent == 0 {
		a.CPUPercent = defaultAgentCPU
	}
	if a.WireGuard == "" {
		a.WireGuard = WireGuardAuto
	}
	if a.Binary != "" {
		return nil
	}
	self, err := os.Executable()
	a.Binary = filepath.Join(filepath.Dir(self), "compartmentd")
	return err
}

func (c *Config) checkAgents(bad complain) {
	a := c.Agents
	for field, p := range map[string]string{"secretsKeyFile": c.SecretsKeyFile, "agents.binary": a.Binary, "agents.runDir": a.RunDir} {
		if !filepath.IsAbs(p) {
			bad("%s: %q must be an absolute path", field, p)
		}
	}
	if len(a.RunDir) > maxRunDir {
		bad("agents.runDir: %q has %d bytes; for the sockets in it at most %d are allowed", a.RunDir, len(a.RunDir), maxRunDir)
	}
	if a.Cgroup != "" && !filepath.IsAbs(a.Cgroup) {
		bad("agents.cgroup: %q must be an absolute path", a.Cgroup)
	}
	switch a.WireGuard {
	case WireGuardAuto, WireGuardKernel, WireGuardEmbedded:
	default:
		bad("agents.wireguard: %q is unknown: use %s, %s or %s", a.WireGuard, WireGuardAuto, WireGuardKernel, WireGuardEmbedded)
	}
	if a.MemoryMiB < 32 || a.MemoryMiB > 1<<20 {
		bad("agents.memoryMiB: %d is out of range: use 32 to 1048576", a.MemoryMiB)
	}
	if a.CPUPercent < 10 || a.CPUPercent > 100_000 {
		bad("agents.cpuPercent: %d is out of range: use 10 to 100000", a.CPUPercent)
	}
}
